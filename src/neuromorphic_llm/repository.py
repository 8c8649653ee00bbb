"""Files of the repository that do not lie under src: in a checkout beside it, in an installed package inside it (setup.py copies them).

`python -m neuromorphic_llm.repository` prints their folder, so that the commands of the documentation work with both.
"""

from __future__ import annotations

from pathlib import Path

_INSTALLED = Path(__file__).with_name("repository_files")
_CHECKOUT = Path(__file__).resolve().parents[2]

REPOSITORY = _INSTALLED if _INSTALLED.is_dir() else _CHECKOUT
"""The folder that holds rtl, examples, benchmarks and training."""

IS_CHECKOUT = REPOSITORY == _CHECKOUT
"""True if the package runs from a checkout of the repository, whose files may be written."""

if __name__ == "__main__":
    print(REPOSITORY)
