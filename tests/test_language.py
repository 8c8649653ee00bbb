"""Language of the package: a first line of a docstring stands alone, and a class name has one meaning."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import neuromorphic_llm

_PACKAGE = Path(neuromorphic_llm.__file__).parent
_LEANS = re.compile(r"(What|Which|Those|How|Who|Whom|Whose|Whether|Where|When|Why|By|Of|As|To|All|That|These|This|They|It|So|Such) ")
"""Openings that need the code before them, or a main clause, to be a sentence."""


def _docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of every docstring, and of every string after an assignment."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        body = getattr(node, "body", [])
        for before, statement in zip([node, *body], body, strict=False) if isinstance(body, list) else ():
            opens = before is node and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            if not opens and not isinstance(before, ast.Assign | ast.AnnAssign):
                continue
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    yield statement.lineno, text


def test_docstrings_stand_alone() -> None:
    leaning = [
        f"{path.relative_to(_PACKAGE)}:{line}: {text.splitlines()[0]}"
        for path in sorted(_PACKAGE.rglob("*.py"))
        for line, text in _docstrings(path)
        if _LEANS.match(text)
    ]
    assert not leaning, "open these docstrings with a verb or a noun of the field:\n" + "\n".join(leaning)


def test_a_class_name_has_one_meaning() -> None:
    places: dict[str, list[str]] = {}
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.parent.name == "synthesis":  # the terms of liberty files and netlists: cell, group, table
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(str(path.relative_to(_PACKAGE)))
    assert not {name: found for name, found in places.items() if len(found) > 1}
