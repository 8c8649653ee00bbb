"""The package as it is installed: its archives hold what the repository holds, and it works away from the checkout."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from neuromorphic_llm.rtl.build import missing_tools

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
ASKED_FOR_BY_OTHERS = {"datasets": "lm-eval", "llvmlite": "numba", "pyarrow": "lm-eval", "triton": "torch"}
"""Module -> the distribution named in pyproject.toml that brings it."""
BESIDE_SRC = {
    "rtl": "*.sv",
    "examples": "*.txt",
    "benchmarks": "*.py",
    "benchmarks/membrane": "*.*",
    "training": "*.py",
    "tests/models": "story.txt",
    "docs/reference": "*.md",
}
"""Folder of the repository -> what an installed package holds of it."""

needs_rtl_tools = pytest.mark.skipif(missing_tools() is not None, reason=missing_tools() or "")


def repository_files() -> set[str]:
    """Files that are in the repository, or about to be: what git does not ignore. Without git this is an unpacked source archive."""
    command = ["git", "-C", str(ROOT), "ls-files", "-co", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout")
    return {name for name in listed if (ROOT / name).is_file()}


@dataclass(frozen=True)
class Archives:
    """Source archive, and the wheel that was built from it alone."""

    source: Path
    wheel: Path

    def in_source(self) -> set[str]:
        """Files of the source archive, without its top folder."""
        with tarfile.open(self.source) as archive:
            return {name.partition("/")[2] for name in archive.getnames() if archive.getmember(name).isfile()}

    def in_wheel(self) -> set[str]:
        """Files of the wheel."""
        with zipfile.ZipFile(self.wheel) as archive:
            return set(archive.namelist())


def build(folder: Path, hook: str, target: Path) -> Path:
    """Archive that a hook of the build backend makes of a source folder."""
    program = f"from setuptools import build_meta; build_meta.{hook}({str(target)!r})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], cwd=folder, check=True, capture_output=True)
    (path,) = target.iterdir()
    return path


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    copy = tmp_path_factory.mktemp("repository")
    for name in repository_files():
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((ROOT / name).read_bytes())
    # Left by an earlier build of files that are gone since.
    stale = copy / "build" / "lib" / "neuromorphic_llm" / "repository_files" / "rtl" / "nmllm_gone.sv"
    stale.parent.mkdir(parents=True)
    stale.write_text("module nmllm_gone; endmodule\n")
    source = build(copy, "build_sdist", tmp_path_factory.mktemp("source"))
    unpacked = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(source) as archive:
        archive.extractall(unpacked, filter="data")
    (top,) = unpacked.iterdir()
    (top / stale.relative_to(copy).parent).mkdir(parents=True)
    (top / stale.relative_to(copy)).write_bytes(stale.read_bytes())
    return Archives(source, build(top, "build_wheel", tmp_path_factory.mktemp("wheel")))


def test_the_source_archive_is_the_repository(archives: Archives) -> None:
    found = {name for name in archives.in_source() if not name.startswith("src/neuromorphic_llm.egg-info/")}
    assert found == repository_files() | {"PKG-INFO", "setup.cfg"}


def test_the_wheel_holds_the_package_and_what_lies_beside_it(archives: Archives) -> None:
    files = repository_files()
    package = {name.removeprefix("src/") for name in files if name.startswith("src/")}
    beside = {str(path.relative_to(ROOT)) for folder, pattern in BESIDE_SRC.items() for path in (ROOT / folder).rglob(pattern)} & files
    assert {"rtl/nmllm_chip.sv", "rtl/tb/nmllm_chip_tb.sv", "rtl/generated/nmllm_pkg.sv", "examples/article.txt"} <= beside
    found = {name for name in archives.in_wheel() if ".dist-info/" not in name}
    assert found == package | {f"neuromorphic_llm/repository_files/{name}" for name in beside}


def test_what_the_package_imports_is_what_it_asks_for() -> None:
    asked = [*PROJECT["dependencies"], *(each for extra in PROJECT["optional-dependencies"].values() for each in extra)]
    names = {normal(re.match(r"[\w.-]+", each)[0]) for each in asked}  # type: ignore[index]
    owners = metadata.packages_distributions()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            imported = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                imported = [node.module or ""]
            for module in {name.partition(".")[0] for name in imported} - {"neuromorphic_llm", *sys.stdlib_module_names}:
                owner = {ASKED_FOR_BY_OTHERS.get(module), *(normal(name) for name in owners.get(module, []))}
                assert owner & names, f"{path.relative_to(ROOT)} imports {module}, of no distribution that pyproject.toml names"


def normal(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@dataclass(frozen=True)
class Installed:
    """An environment of its own with the wheel, and a folder to work in; the libraries are those of the tests."""

    environment: Path
    folder: Path

    def run(self, command: str) -> str:
        """Standard output of a command line of this environment."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        kept["PATH"] = f"{self.environment / 'bin'}{os.pathsep}{kept['PATH']}"
        result = subprocess.run(shlex.split(command), cwd=self.folder, env=kept, capture_output=True, text=True, check=False)
        assert result.returncode == 0, f"{command}: {result.stderr}"
        return result.stdout


@pytest.fixture(scope="module")
def installed(archives: Archives, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    environment = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    python = environment / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", str(python)]
    subprocess.run([*command, "install", "--no-deps", "--no-index", str(archives.wheel)], check=True)
    (site,) = environment.glob("lib/*/site-packages")
    # Folders named in such a file are searched, but their own .pth files are not followed: the checkout stays out of sight.
    (site / "libraries.pth").write_text("\n".join({str(metadata.distribution(name).locate_file("")) for name in ("torch", "numpy")}))
    return Installed(environment, tmp_path_factory.mktemp("work"))


def test_an_installed_package_knows_its_files(installed: Installed) -> None:
    folder = Path(installed.run("python -m neuromorphic_llm.repository").strip())
    assert folder.is_relative_to(installed.environment)
    for name in ("rtl/nmllm_chip.sv", "examples/article.txt", "benchmarks/functional_speed.py", "training/nano.py"):
        assert (folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert installed.run("nmllm --version").strip() == metadata.version("neuromorphic-llm")
    found = installed.run("python -c 'from neuromorphic_llm.pipeline.options import EXAMPLE; print(EXAMPLE)'").strip()
    assert Path(found) == folder / "examples" / "article.txt"


def test_an_installed_package_keeps_its_released_sources(installed: Installed) -> None:
    with pytest.raises(AssertionError, match="in a checkout only"):
        installed.run("python -m neuromorphic_llm.rtl.package")


@needs_rtl_tools
def test_an_installed_package_builds_rtl(installed: Installed) -> None:
    program = """
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.build import source_files
print(len(source_files("nmllm_chip_tb", observe=True)), "clk" in Bench("nmllm_isqrt").ports)
"""
    expected = len([*ROOT.glob("rtl/nmllm_*.sv"), *ROOT.glob("rtl/tb/nmllm_observe_*.sv")]) + 1
    assert installed.run(f"python -c {shlex.quote(program)}").split() == [str(expected), "True"]


def steps_of_the_readme(*, model: str, chip: str) -> list[str]:
    """Its commands for a model that needs no fetching."""
    steps = re.findall(r"^    (nmllm .*)$", README, re.MULTILINE)
    return [re.sub(r"\bnc1\b", chip, step.replace("smollm2-135m", model)) for step in steps if "fetch" not in step]


@pytest.mark.slow
def test_the_steps_of_the_readme_run_when_installed(installed: Installed) -> None:
    for step in steps_of_the_readme(model="nano", chip="nano"):
        installed.run(step)
    installed.run("nmllm run random-tiny --chip nano --max-new-tokens 8")
    assert (installed.folder / "runs" / "random-tiny" / "report.html").is_file()
    folder = installed.run("python -m neuromorphic_llm.repository").strip()
    installed.run(f"python {folder}/benchmarks/functional_speed.py random-tiny --tokens 2 --runs 1")


@pytest.mark.slow
@needs_rtl_tools
def test_rtl_runs_when_installed(installed: Installed) -> None:
    convert, compile_, simulate, _ = steps_of_the_readme(model="nano", chip="nano")
    installed.run(convert)
    installed.run(compile_)
    by_backend = [installed.run(f"{simulate} --backend {backend}").splitlines() for backend in ("cycle", "rtl")]
    assert by_backend[0][0] == by_backend[1][0]
    installed.run("nmllm cosim runs/program --prompt 'The capital of France is' --max-new-tokens 2")
    installed.run("python -m neuromorphic_llm.rtl.lint")
