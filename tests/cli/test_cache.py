"""`nmllm cache`, and the bound of RTL builds."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from neuromorphic_llm import cache
from neuromorphic_llm.cache import bound_builds, entries, size_in_bytes
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.rtl import build

BUILDS = [f"{name}-{digit * 20}" for name, digit in (("nmllm_chip_tb", "a"), ("nmllm_norm", "b"), ("runtime", "c"))]
KERNELS = f"network.kernels-{'d' * 20}"
HOUR = 3600.0


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache with everything in it: builds of 1000 bytes each, of which the first was used the longest ago."""
    root = tmp_path / "cache"
    monkeypatch.setenv("NMLLM_CACHE", str(root))
    monkeypatch.delenv("NMLLM_RTL_CACHE", raising=False)

    def fill(name: str, size: int, age: float = 0.0) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
        os.utime(path.parent, (time.time() - age,) * 2)

    fill("smollm2-135m/model.gguf", 300)
    fill("smollm2-135m/.lock", 0)
    fill("hub/models--someone--model/blob", 200)
    fill("data/lambada.jsonl", 40)
    fill("neurobench/module.py", 50)
    fill(f"kernels/{KERNELS}/norm.nbc", 70)
    for number, name in enumerate(BUILDS):
        fill(f"rtl/{name}/module.so", 1000, (9 - number) * HOUR)
    return root


def run(root: Path, *arguments: str) -> dict[str, Any]:
    path = root.parent / "result.json"
    assert run_command_line(["cache", *arguments, "--json", str(path)]) == 0
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def names(listed: Sequence[dict[str, Any]]) -> list[str]:
    return [entry["name"] for entry in listed]


def test_sizes_and_kinds(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(root)
    kinds = {entry["name"]: (entry["kind"], entry["bytes"]) for entry in result["entries"]}
    assert kinds == {
        "smollm2-135m": ("checkpoint", 300),
        "someone/model": ("hub", 200),
        "data": ("data", 40),
        "neurobench": ("other", 50),
        KERNELS: ("kernels", 70),
        **dict.fromkeys(BUILDS, ("rtl", 1000)),
    }
    assert result["bytes"] == 3660 and result["rtl_limit_bytes"] == 1 << 30 and result["removed"] == []
    printed = capsys.readouterr().out
    assert "smollm2-135m" in printed and "2.9 KiB of 1.0 GiB" in printed and "3.6 KiB in" in printed


def test_an_empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_CACHE", str(tmp_path / "absent"))
    assert run(tmp_path / "absent")["entries"] == [] and not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("arguments", "gone"),
    [
        (["rtl"], BUILDS),
        (["kernels"], [KERNELS]),
        (["checkpoint"], ["smollm2-135m"]),
        (["someone/model"], ["someone/model"]),
        ([BUILDS[1], "smollm2-135m"], [BUILDS[1], "smollm2-135m"]),
        (["all"], [*BUILDS, "smollm2-135m", "someone/model", "data", KERNELS]),
    ],
)
def test_clean(root: Path, arguments: list[str], gone: list[str]) -> None:
    before = names(run(root)["entries"])
    result = run(root, *(word for name in arguments for word in ("--clean", name)))
    assert sorted(names(result["removed"])) == sorted(gone)
    assert names(result["entries"]) == [name for name in before if name not in gone]
    # What the cache did not make stays whatever is cleaned: the folder may be somebody's home.
    assert (root / "neurobench" / "module.py").is_file()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--clean", "smollm"], 2, "--clean smollm: did you mean 'smollm2-135m'?"),
        (["--clean", "neurobench"], 2, "--clean neurobench"),
        (["--clean", "../outside"], 2, "--clean ../outside"),
        (["--limit", "much"], 2, "--limit is 'much', not a size"),
        (["--limit", "-1"], 2, "--limit is '-1', not a size"),
    ],
)
def test_bad_options_are_one_line(root: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    before = entries()
    assert run_command_line(["cache", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and entries() == before


def test_a_link_is_not_followed(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "notes.txt").write_text("kept")
    (root / "hub" / "models--a--link").symlink_to(outside)
    assert run_command_line(["cache", "--clean", "a/link"]) == 1
    assert "in use or cannot be removed" in capsys.readouterr().err and (outside / "notes.txt").is_file()


def test_what_is_being_made_stays(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (root / "rtl" / f"{BUILDS[0]}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run_command_line(["cache", "--clean", BUILDS[0]]) == 1
    assert "in use" in capsys.readouterr().err and (root / "rtl" / BUILDS[0]).is_dir()


def test_limit_removes_the_least_recently_used(root: Path) -> None:
    assert names(run(root, "--limit", "2000")["removed"]) == BUILDS[:1]
    assert names(run(root, "--limit", "0")["removed"]) == BUILDS[1:]


def test_builds_in_use_and_kept_ones_stay(root: Path) -> None:
    cache.touch(root / "rtl" / BUILDS[0])
    assert [entry.name for entry in bound_builds(0, keep=[root / "rtl" / BUILDS[1]])] == [BUILDS[2]]
    assert bound_builds(0, keep=[root / "rtl" / BUILDS[1]]) == []


def made(name: str, size: int = 1000) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).write_bytes(bytes(size))

    return make


def test_a_new_build_makes_room(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_RTL_CACHE", "2500")
    new = f"nmllm_add-{'d' * 20}"
    build._cached(BUILDS[0], made("unused"))  # used again: now the second was used the longest ago
    build._cached(new, made("module.so"))
    assert {path.name for path in (root / "rtl").iterdir()} == {BUILDS[0], new}


def test_a_bound_that_is_no_size_is_wrong_usage(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_RTL_CACHE", "big")
    with pytest.raises(UsageError, match="NMLLM_RTL_CACHE is 'big', not a size; give one such as 500M or 2G"):
        build._cached(BUILDS[0], made("unused"))


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("1000", 1000), ("1K", 1024), ("1.5m", 3 << 19), ("2 GiB", 2 << 30), ("2GB", 2 << 30), ("1T", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    assert size_in_bytes(text, "limit") == size
