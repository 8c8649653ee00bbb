"""docs/tutorial.ipynb, made of docs/tutorial.md: text, commands and Python in cells. `python tests/tutorial_notebook.py` writes it."""

from __future__ import annotations

import json
import re
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1] / "docs"
NOTEBOOK = DOCS / "tutorial.ipynb"
_CODE = re.compile(r"^```python\n(.*?)^```\n|((?:^    nmllm [^\n]*\n)+)", re.MULTILINE | re.DOTALL)


def _cell(number: int, kind: str, text: str) -> dict[str, object]:
    source = text.strip("\n").splitlines(keepends=True)
    cell: dict[str, object] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def notebook(page: str) -> str:
    """Text of the notebook; commands become cells of `!nmllm`."""
    cells: list[tuple[str, str]] = []
    start = 0
    for found in _CODE.finditer(page):
        python, commands = found.groups()
        cells += [("markdown", page[start : found.start()]), ("code", python or re.sub(r"^    ", "!", commands, flags=re.MULTILINE))]
        start = found.end()
    cells.append(("markdown", page[start:]))
    kernel = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    shown = [_cell(number, *cell) for number, cell in enumerate(cell for cell in cells if cell[1].strip())]
    return json.dumps({"cells": shown, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook((DOCS / "tutorial.md").read_text(encoding="utf-8")), encoding="utf-8")
