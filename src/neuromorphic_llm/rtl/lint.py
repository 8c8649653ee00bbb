"""`python -m neuromorphic_llm.rtl.lint`: Verilator's warnings for every module under rtl/, each on its own."""

from __future__ import annotations

import sys

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.build import source_files, verilator
from neuromorphic_llm.rtl.package import PACKAGE_FILE, RTL_FOLDER

_FLAGS = ["--lint-only", "-Wall", "--assert", "--no-timing", "--quiet-stats"]


def lint() -> list[str]:
    """Messages of the modules that are not clean."""
    messages = []
    for path in [*sorted(RTL_FOLDER.glob("*.sv")), *sorted(RTL_FOLDER.glob("tb/*.sv"))]:
        files = [str(PACKAGE_FILE), *(str(file) for file in source_files(path.stem))]
        try:
            verilator([*_FLAGS, "--top-module", path.stem, *files])
        except SimulationError as error:
            messages.append(f"{path.name}: {error}")
    return messages


if __name__ == "__main__":
    sys.exit("\n".join(lint()) or 0)
