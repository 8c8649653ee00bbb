"""Imports run one way: what each package may use, and that importing the package is cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "neuromorphic_llm"
BASE = {
    "errors",
    "units",
    "registry",
    "options",
    "artefact",
    "text_file",
    "places",
    "repository",
    "kernel_time",
    "kernel_cache",
    "terminal",
    "display",
    "confined",
    "cache",
}
ALLOWED = {
    "errors": set(),
    "units": set(),
    "registry": {"errors"},
    "options": set(),
    "artefact": {"errors", "places", "text_file"},
    "text_file": {"errors", "places"},
    "places": {"errors"},
    "repository": set(),
    "kernel_time": set(),
    "kernel_cache": {"cache"},
    "terminal": set(),
    "display": set(),
    "confined": set(),
    "cache": {"errors"},
    "spikes": set(),
    "devices": set(),
    "graph": set(),
    "reference": {"devices", "graph", "spikes"},
    "models": {"reference"},
    "arithmetic": {"reference"},
    "generation": {"reference"},
    "network": {"arithmetic", "devices", "graph", "spikes", "reference", "models", "generation"},
    "conversion": {"graph", "devices", "spikes", "reference", "models", "network", "generation"},
    "chip": {"devices", "graph", "reference", "network"},
    "rtl": {"chip", "devices", "reference", "spikes"},
    "compiler": {"graph", "chip", "network", "reference", "spikes"},
    "simulation": {"arithmetic", "chip", "devices", "graph", "spikes", "reference", "generation"},
    "energy": {"chip", "graph", "simulation", "reference"},
    "area": {"chip", "devices", "energy"},
    "evaluation": {"area", "generation", "network", "rtl", "simulation", "energy", "models", "chip", "reference", "spikes"},
    "pipeline": {"area", "evaluation", "energy", "simulation", "compiler", "chip", "conversion", "network", "models", "reference"},
    "ssa": {"evaluation", "energy", "simulation", "chip", "conversion", "network", "models", "reference", "spikes"},
    "report": {"compiler"},
    "interchange": {"network", "reference", "spikes"},
}
"""Package -> packages it may import, besides itself and, for all but those of BASE, BASE. api and cli may import all."""

MODULES = sorted(SOURCE.rglob("*.py"))


def imports(path: Path) -> list[tuple[int, str]]:
    """(line, module) of every import, wherever in the file, as absolute names."""
    found = []
    package = ("neuromorphic_llm", *path.relative_to(SOURCE).with_suffix("").parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            prefix = ".".join(package[: -node.level]) if node.level else ""
            module = ".".join(part for part in (prefix, node.module) if part)
            # `from neuromorphic_llm import chip` imports the package chip.
            found += [(node.lineno, f"{module}.{alias.name}" if module == "neuromorphic_llm" else module) for alias in node.names]
    return found


def test_every_package_has_its_rule() -> None:
    packages = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert packages == set(ALLOWED) - BASE | {"cli"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    if own in ("__init__", "api", "cli"):
        return
    allowed = ALLOWED[own] | {own} | (set() if own in BASE else BASE)
    for line, module in imports(path):
        parts = module.split(".")
        if parts[0] == "neuromorphic_llm" and len(parts) > 1 and not parts[1].startswith("__"):
            assert parts[1] in allowed, f"{path.name}:{line}: {own} must not import {parts[1]}"


def test_energy_sees_only_the_trace_and_counters_of_a_simulation() -> None:
    for path in (SOURCE / "energy").glob("*.py"):
        for line, module in imports(path):
            if module.startswith("neuromorphic_llm.simulation"):
                assert module.split(".")[2:] in (["trace"], ["counters"]), f"{path.name}:{line}: {module}"


def test_every_kernel_is_cached_by_its_sources() -> None:
    for path in set(MODULES) - {SOURCE / "kernel_cache.py"}:
        names = {node.id for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.Name)}
        assert not names & {"njit", "jit", "vectorize", "guvectorize"}, f"{path}: decorate with kernel_cache.kernel"


def test_importing_the_package_loads_no_torch() -> None:
    heavy = "{'torch', 'transformers', 'numba', 'matplotlib'}"
    program = f"import sys, neuromorphic_llm; neuromorphic_llm.__version__; sys.exit(str({heavy} & set(sys.modules) or ''))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "", f"loaded: {result.stderr}"


def test_the_lazy_names_exist() -> None:
    import neuromorphic_llm

    # A package of the same name would hide it once imported.
    assert not set(neuromorphic_llm.__all__) & set(ALLOWED)
    for name in neuromorphic_llm.__all__:
        assert getattr(neuromorphic_llm, name) is not None
    assert set(neuromorphic_llm.__all__) <= set(dir(neuromorphic_llm))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = neuromorphic_llm.nothing
