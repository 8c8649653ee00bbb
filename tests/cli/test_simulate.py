"""`nmllm simulate` on a small compiled program."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import save_program
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.cli.token_stream import TokenStream
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.reference.random_decoder import random_decoder


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random integer weights with the tokenizer and the shape of random-tiny."""
    checkpoint = load_checkpoint("random-tiny")
    folder = tmp_path_factory.mktemp("simulate") / "program"
    weights = random_decoder(0, config=checkpoint.config)
    save_program(compile_network(weights, load_spec("nano"), tokenizer_files=checkpoint.tokenizer_files), folder)
    return folder


def run(program: Path, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    result = tmp_path / "result.json"
    assert run_command_line(["simulate", str(program), "--prompt", "A river", "--json", str(result), *arguments]) == 0
    content: dict[str, Any] = json.loads(result.read_text())
    return content


def test_both_backends_give_the_same_tokens(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cycle = run(program, tmp_path, "--max-new-tokens", "6", "--threads", "1")
    printed = capsys.readouterr().out
    assert "chip energy per token" in printed
    functional = run(program, tmp_path, "--max-new-tokens", "6", "--backend", "functional")
    assert cycle["token_ids"] == functional["token_ids"]
    assert cycle["text"] == functional["text"]
    assert cycle["prompt_tokens"] == 7
    assert cycle["clock_hz"] > 0
    assert cycle["cycles_total"] > cycle["cycles_per_token"] > 0
    energy = cycle["chip_energy_j_per_token"]
    assert 0 < energy["low"] < energy["nominal"] < energy["high"]
    rivals = cycle["rival_energy_j_per_token"]
    assert list(rivals) == ["int8", "int8_improved", "int8_sram", "fp16", "bit_serial_crossbar"]
    assert all(0 < rival["low"] < rival["nominal"] < rival["high"] for rival in rivals.values())
    assert rivals["int8"] == cycle["int8_reference_energy_j_per_token"]
    assert cycle["counters"]["prefill"]["prompt_tokens"] == 7
    assert cycle["wall_tokens_per_s"] > 0 and cycle["compile_s"] >= 0
    assert "kernels compiled or loaded first" in printed
    assert functional["cycles_total"] is None
    assert "use --backend cycle" in functional["cycles_total_reason"]
    assert functional["spikes_per_activation"] > 0
    # Every key of the cycle backend is there: with a figure, or null with the reason.
    assert set(cycle) <= set(functional)
    assert {key for key in functional if functional[key] is None} - {"bos_token"} == {
        key.removesuffix("_reason") for key in set(functional) - set(cycle)
    }


def test_both_backends_count_the_same_spikes(program: Path, tmp_path: Path) -> None:
    """With one new token the counted tokens are those of the prompt on either."""
    cycle = run(program, tmp_path, "--max-new-tokens", "1")
    functional = run(program, tmp_path, "--max-new-tokens", "1", "--backend", "functional")
    assert cycle["counted_phase"] == "prefill"
    assert functional["spikes_per_token_by_site"] == cycle["spikes_per_token_by_site"]
    assert functional["spikes_per_activation"] == cycle["spikes_per_activation"]


def test_prompt_file(program: Path, tmp_path: Path) -> None:
    (tmp_path / "prompt.txt").write_text("A river", encoding="utf-8")
    result = tmp_path / "file.json"
    arguments = ["simulate", str(program), "--prompt-file", str(tmp_path / "prompt.txt"), "--max-new-tokens", "2", "--json", str(result)]
    assert run_command_line(arguments) == 0
    assert json.loads(result.read_text())["token_ids"] == run(program, tmp_path, "--max-new-tokens", "2")["token_ids"]


def test_several_sequences(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line of the file for each sequence, whose text is that of its prompt alone; figures at that load."""
    file = tmp_path / "prompts.txt"
    file.write_text("A river\nThe town\n", encoding="utf-8")
    several = tmp_path / "several.json"
    arguments = ["simulate", str(program), "--prompts-file", str(file), "--sequences", "2", "--max-new-tokens", "4", "--json", str(several)]
    assert run_command_line(arguments) == 0
    content, printed = json.loads(several.read_text()), capsys.readouterr().out
    alone = run(program, tmp_path, "--max-new-tokens", "4")
    assert content["sequences"] == 2 and alone["sequences"] == 1
    assert content["generated"][0] == alone["generated"][0] == {name: alone[name] for name in ("prompt_tokens", "token_ids", "text")}
    assert content["token_ids"] == alone["token_ids"] and content["generated"][1]["token_ids"] != alone["token_ids"]
    assert all(each["text"] in printed for each in content["generated"]) and "sequences in flight" in printed
    assert content["chip_tokens_per_s"] > 1.8 * alone["chip_tokens_per_s"]
    assert content["latency_s_per_token"] == pytest.approx(2 / content["chip_tokens_per_s"])
    assert alone["latency_s_per_token"] == pytest.approx(1 / alone["chip_tokens_per_s"])
    leakage = [each["energy_breakdown_j"]["leakage"]["nominal"] for each in (content, alone)]
    assert leakage[0] < 0.6 * leakage[1]
    for name, rival in content["rival_energy_j_per_token"].items():
        assert rival["nominal"] < alone["rival_energy_j_per_token"][name]["nominal"], name
    assert alone["conversions_per_token"] == alone["counters"]["decode"]["conversions"] / 3
    assert alone["repeated_conversions_per_token"] == 0
    assert content["counters"]["decode"]["decoded_tokens"] == 6 and content["counters"]["tail"] is None


@pytest.mark.parametrize(
    ("lines", "message"), [("a\nb\nc\n", "has 3 lines, one per sequence; give --sequences 3"), ("a\n \n", "line 2: the prompt is empty")]
)
def test_prompts_that_are_not_one_for_each(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], lines: str, message: str
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text(lines, encoding="utf-8")
    assert run_command_line(["simulate", str(program), "--prompts-file", str(file), "--sequences", "2"]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--prompt", "  "], 2, "the prompt is empty"),
        (["--prompt", "caf\udce9"], 2, "--prompt is not UTF-8 text (character 3)"),
        (["--prompt", "a", "--max-new-tokens", "100000"], 1, "ask for fewer new ones"),
        ([], 2, "--prompt TEXT or with --prompt-file FILE"),
        (["--prompt", "a", "--prompt-file", "b"], 2, "--prompt TEXT or with --prompt-file FILE"),
        (["--prompt-file", "missing.txt"], 1, "missing.txt cannot be read"),
        (["--prompt", "a", "--chat"], 2, "no chat template"),
        (["--prompt", "a", "--max-new-tokens", "100000"], 1, "exceed the program's context"),
        (["--prompt", "a", "--backend", "exact"], 2, "exact"),
        (["--prompt", "a", "--backend", "functional", "--threads", "1"], 2, "--threads is for --backend cycle"),
        (["--prompt", "a", "--sequences", "0"], 2, "greater than or equal to 1"),
        (["--prompt", "a", "--sequences", "10000"], 1, "10000 sequences do not fit a key/value memory of chip nano"),
        (["--prompt", "a", "--sequences", "80", "--max-new-tokens", "32"], 1, "the context of 16 that each of 80 sequences has"),
        (["--prompt", "a", "--sequences", "65", "--max-new-tokens", "2", "--backend", "rtl"], 1, "64 sequences in flight at most, got 65"),
        (["--prompts-file", "missing.txt"], 1, "missing.txt cannot be read"),
        (["--prompt", "a", "--prompts-file", "b"], 2, "--prompts-file has all prompts; leave --prompt and --prompt-file out"),
    ],
)
def test_bad_input_is_one_line(program: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str) -> None:
    assert run_command_line(["simulate", str(program), *arguments]) == code
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.splitlines()[-1].startswith("nmllm: error:")


def test_no_program(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["simulate", str(tmp_path / "nowhere"), "--prompt", "a"]) == 1
    assert "nowhere is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["cycle", "functional"])
def test_text_appears_token_by_token_on_a_terminal(program: Path, monkeypatch: pytest.MonkeyPatch, backend: str) -> None:
    file = io.StringIO()
    monkeypatch.setattr("neuromorphic_llm.cli.simulate.console", Console(file=file, force_terminal=True, width=200))
    seen, show = [], TokenStream.show

    def spy(stream: TokenStream, token: int) -> None:
        show(stream, token)
        seen.append(file.getvalue())

    monkeypatch.setattr(TokenStream, "show", spy)
    arguments = ["simulate", str(program), "--prompt", "A river", "--max-new-tokens", "6", "--backend", backend]
    assert run_command_line([*arguments, "--json", str(program.parent / "shown.json")]) == 0
    text = json.loads((program.parent / "shown.json").read_text())["text"]
    assert len(seen) == 6 and file.getvalue().startswith(f"{text}\n")
    assert len(set(seen)) > 2 and all(text.startswith(part) for part in seen)


def test_progress_is_told_in_lines_without_a_terminal(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["simulate", str(program), "--prompt", "A river", "--max-new-tokens", "3"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [re.sub(r"[\d.]+ s$", "T s", line) for line in lines] == [f"loading {program}: T s", "tokens: 9 of 9, T s"]


@pytest.mark.slow
def test_the_first_run_is_as_fast_as_the_second(program: Path, tmp_path: Path) -> None:
    """Kernels are compiled in the first one."""
    results = []
    for name in ("first", "second"):
        path = tmp_path / f"{name}.json"
        command = [sys.executable, "-m", "neuromorphic_llm.cli", "simulate", str(program), "--prompt", "A river", "--json", str(path)]
        subprocess.run(command, env=os.environ | {"NMLLM_CACHE": str(tmp_path / "cache")}, check=True, capture_output=True)
        results.append(json.loads(path.read_text()))
    first, second = results
    assert first["compile_s"] > 3 * second["compile_s"]
    assert first["wall_tokens_per_s"] > second["wall_tokens_per_s"] / 3
