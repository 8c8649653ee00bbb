"""Compiled kernels on disk: they follow every file that they are made of, and processes may share them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuromorphic_llm import cache
from neuromorphic_llm.kernel_cache import kernel_sources

SOURCE = Path(__file__).resolve().parents[1] / "src" / "neuromorphic_llm"
ROTATE = """
import numpy as np
from neuromorphic_llm.arithmetic import vectors as arithmetic
vectors = np.array([[3000, -1001]], np.int32)
arithmetic.rotate(vectors, np.array([10000], np.int16), np.array([9000], np.int16))
print(*vectors[0], "compiled" if arithmetic.rotate.stats.cache_misses else "loaded")
"""


def start(program: str, root: Path, package: Path = SOURCE) -> subprocess.Popen[str]:
    environment = os.environ | {"NMLLM_CACHE": str(root), "PYTHONPATH": str(package.parent)}
    return subprocess.Popen([sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def output(process: subprocess.Popen[str]) -> list[str]:
    printed, error = process.communicate()
    assert process.returncode == 0, error
    return printed.split()


def test_kernels_follow_the_files_that_they_import(tmp_path: Path) -> None:
    package = shutil.copytree(SOURCE, tmp_path / "neuromorphic_llm", ignore=shutil.ignore_patterns("__pycache__"))
    imported = package / "arithmetic" / "scalars.py"
    right = imported.read_text(encoding="utf-8")
    broken = right.replace("return (value + (np.int64(1) << (places - 1))) >> places", "return value >> places")
    assert broken != right
    seen = []
    for text in (right, right, broken, right):
        imported.write_text(text, encoding="utf-8")
        seen.append(output(start(ROTATE, tmp_path / "cache", package)))
    # (3000 * 10000 + 1001 * 9000) / 2^14 = 2380.92, (-1001 * 10000 + 3000 * 9000) / 2^14 = 1036.99
    assert seen == [["2381", "1037", "compiled"], ["2381", "1037", "loaded"], ["2380", "1036", "compiled"], ["2381", "1037", "loaded"]]
    assert not list(package.rglob("*.nb*"))


def test_damaged_files_are_replaced(tmp_path: Path) -> None:
    assert output(start(ROTATE, tmp_path)) == ["2381", "1037", "compiled"]
    for number, path in enumerate(sorted(tmp_path.rglob("*.nb?"))):
        path.write_bytes(b"nothing"[: 7 * (number % 2)])
    assert output(start(ROTATE, tmp_path)) == ["2381", "1037", "compiled"]
    assert output(start(ROTATE, tmp_path)) == ["2381", "1037", "loaded"]


def test_processes_that_begin_together_compile_or_load(tmp_path: Path) -> None:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "twice.py").write_text(
        "from neuromorphic_llm.kernel_cache import kernel\n@kernel\ndef twice(x):\n    return x + x\n", encoding="utf-8"
    )
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); from twice import twice; print(twice({{}}), len(twice.stats.cache_misses))"
    together = [start(program.format(argument), tmp_path / "cache") for argument in ("1", "1.5", "2j")]
    assert [output(process) for process in together] == [["2", "1"], ["3.0", "1"], ["4j", "1"]]
    again = start(program.format("1), twice(1.5), twice(2j"), tmp_path / "cache")
    assert output(again) == ["2", "3.0", "4j", "0"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert output(start(ROTATE, tmp_path / "file")) == ["2381", "1037", "compiled"]


def test_sources_are_what_is_imported_to_run() -> None:
    sources = {str(path.relative_to(SOURCE)) for path in kernel_sources(SOURCE / "network" / "kernels.py")}
    assert {"network/kernels.py", "kernel_cache.py", "reference/fixed_point.py", "spikes/integers.py"} <= sources
    assert "arithmetic/scalars.py" in sources and "network/format.py" not in sources


@pytest.mark.parametrize(("age_days", "left"), [(0.5, "abcde"), (2, "cde")])
def test_old_kernels_of_a_module_go(tmp_path: Path, age_days: float, left: str) -> None:
    folders = {letter: tmp_path / f"network.kernels-{letter * 20}" for letter in "abcde"} | {"other": tmp_path / f"noc-{'a' * 20}"}
    for age, path in enumerate(reversed(folders.values())):
        path.mkdir()
        os.utime(path, (time.time() - age_days * 86400 - age,) * 2)
    cache.drop_old_kernels(keep=folders["e"])
    assert {name for name, path in folders.items() if path.is_dir()} == {*left, "other"}
