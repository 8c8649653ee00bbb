"""`nmllm cosim` on the model nano: equal, different, and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.rtl import chip
from neuromorphic_llm.rtl.build import missing_tools
from neuromorphic_llm.rtl.loader import Writes, load_writes

needs_tools = pytest.mark.skipif(missing_tools() is not None, reason=str(missing_tools()))


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    checkpoint = load_checkpoint("nano")
    folder = tmp_path_factory.mktemp("cosim") / "program"
    network = convert(checkpoint, ConvertConfig(), calibration_windows(checkpoint.tokenizer(), count=2))
    save_program(compile_network(network.weights, load_spec("nano"), tokenizer_files=checkpoint.tokenizer_files), folder)
    return folder


def run(program: Path, result: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    code = run_command_line(["cosim", str(program), "--prompt", "A", "--max-new-tokens", "1", "--json", str(result), *arguments])
    return code, json.loads(result.read_text())


@needs_tools
def test_equal(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, result = run(program, tmp_path / "result.json")
    assert code == 0 and result["difference"] is None
    assert result["compared"]["token"] == len(result["token_ids"]) == 1
    assert result["cycles_total"] > 0 and min(result["compared"].values()) > 0
    assert "RTL and simulators are equal" in capsys.readouterr().out


@needs_tools
def test_equal_in_several_sequences(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, file = tmp_path / "prompts.txt", tmp_path / "result.json"
    prompts.write_text("A\nOnce upon\nA\n", encoding="utf-8")
    arguments = ["--prompts-file", str(prompts), "--sequences", "3", "--max-new-tokens", "2", "--json", str(file)]
    assert run_command_line(["cosim", str(program), *arguments]) == 0
    result = json.loads(file.read_text())
    assert result["difference"] is None and result["sequences"] == 3 and result["compared"]["token"] == 6
    first, second, third = result["generated"]
    assert first == third != second and first["token_ids"] == result["token_ids"] and len(second["token_ids"]) == 2
    assert f"2: {second['text']}" in capsys.readouterr().out


@needs_tools
def test_a_difference_is_exit_code_1_with_one_line_and_a_report(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tile = load_program(program).stages[0].regions[0][0].tile

    def wrong(loaded: Program) -> Writes:
        writes = load_writes(loaded)
        place = np.flatnonzero((writes[:, 0] == tile) & (writes[:, 1] == 2))[7]
        writes[place, 3] ^= np.uint64(1 << 8)  # the multiplier of column 7
        return writes

    monkeypatch.setattr(chip, "load_writes", wrong)
    code, result = run(program, tmp_path / "result.json")
    printed = capsys.readouterr()
    difference = result["difference"]
    assert code == 1
    assert (difference["tile"], difference["signal"], difference["site"]) == (tile, "inject", "layers.0.qkv")
    assert f"first difference in cycle {difference['cycle']:,}" in printed.out and "element 6" in printed.out
    line = printed.err.splitlines()[-1]  # after lines of the steps, if they took long
    assert line.startswith(
        f"nmllm: error: the RTL differs in cycle {difference['cycle']:,}: tile {tile} (synapse tile of layers.0.qkv, region 0)"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--prompt TEXT or with --prompt-file FILE"),
        (["--prompt", "a", "--trace-cycles", "1:2"], 2, "are for --trace FILE"),
        (["--prompt", "a", "--trace-tile", "1"], 2, "are for --trace FILE"),
        (["--prompt", "a", "--trace", "wave.vcd", "--trace-cycles", "20:10"], 2, "give two cycles"),
        (["--prompt", "a", "--trace", "wave.vcd", "--trace-cycles", "ten"], 2, "give two cycles"),
        (["--prompt", "a", "--trace", "nowhere/wave.vcd"], 2, "does not exist"),
        (["--prompt", "a", "--trace", "wave.vcd", "--json", "wave.vcd"], 2, "choose another file"),
        (["--prompt", "a", "--trace", "wave.vcd", "--trace-tile", "24"], 2, "the tiles of nano are 0 to 23"),
        (["--prompt", "a", "--max-new-tokens", "1", "--trace", "wave.vcd", "--trace-cycles", "900000:900001"], 2, "begin before its end"),
        (["--prompt", "a", "--max-new-tokens", "100000"], 1, "exceed the program's context"),
        (["--prompt", "a", "--sequences", "65", "--max-new-tokens", "2"], 1, "64 sequences in flight at most, got 65; run fewer"),
        (["--prompt", "a", "--sequences", "60", "--max-new-tokens", "90"], 1, "the context of 32 that each of 60 sequences has"),
        (["--prompt", "a", "--prompts-file", "b"], 2, "--prompts-file has all prompts; leave --prompt and --prompt-file out"),
    ],
)
def test_bad_input_is_one_line(
    program: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command_line(["cosim", str(program), *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert message in error and error.splitlines()[-1].startswith("nmllm: error:")
    assert not list(tmp_path.iterdir())
