"""`python -m neuromorphic_llm.rtl.lint`: Verilator's warnings for every module under rtl/, each on its own, and of chips with membranes."""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.build import source_files, verilator
from neuromorphic_llm.rtl.package import PACKAGE_FILE, RTL_FOLDER, package_text

_FLAGS = ["--lint-only", "-Wall", "--assert", "--no-timing", "--quiet-stats"]


def lint() -> list[str]:
    """Messages of the modules that are not clean."""
    messages = []
    with TemporaryDirectory() as folder:
        others = [Path(folder) / kind / PACKAGE_FILE.name for kind in ("membrane", "membrane-decay")]
        for other in others:
            other.parent.mkdir()
            other.write_text(package_text(load_spec("nano2").with_fields({"readout.kind": other.parent.name})), encoding="utf-8")
        modules = [*sorted(RTL_FOLDER.glob("*.sv")), *sorted(RTL_FOLDER.glob("tb/*.sv"))]
        chips = ((other, RTL_FOLDER / "nmllm_chip.sv") for other in others)
        for package, path in [*((PACKAGE_FILE, path) for path in modules), *chips]:
            files = [str(package), *(str(file) for file in source_files(path.stem))]
            try:
                verilator([*_FLAGS, "--top-module", path.stem, *files])
            except SimulationError as error:
                messages.append(f"{path.name}: {error}")
    return messages


if __name__ == "__main__":
    sys.exit("\n".join(lint()) or 0)
