"""`nmllm codes`, and codes with parameters on the way from convert to compile."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuromorphic_llm.chip.codes import CHIP_CODES, STAMPED_CODE
from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.registry import installed
from neuromorphic_llm.simulation.encoder_kernels import BIT_PLANES, CODES, FIRST_SPIKE, RATE, SIGNED_DIGIT
from neuromorphic_llm.spikes.registry import ENTRY_POINTS, SPIKE_CODES


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def result(*arguments: str) -> dict[str, Any]:
    assert run_command_line([*arguments, "--json", "result.json"]) == 0
    content: dict[str, Any] = json.loads(Path("result.json").read_text())
    return content


def test_all_codes_are_listed_at_equal_phases(capsys: pytest.CaptureFixture[str]) -> None:
    codes = result("codes", "--phases", "5")["codes"]
    assert [code["name"] for code in codes] == list(SPIKE_CODES)
    assert {code["phases"] for code in codes} == {5}
    for code in codes:
        assert code["gaussian"]["spikes"] > 0 and 0 < code["gaussian"]["rms_error"] <= code["gaussian"]["worst_case_error"]
        assert code["on_chip"] == (code["name"] in (*CHIP_CODES, STAMPED_CODE))
    assert "multi-threshold" in capsys.readouterr().out


BROKEN = """
from dataclasses import replace
import numpy as np
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.rate import Rate

class Raises(Rate):
    name = "raises"
    def encode(self, x, stop):
        raise RuntimeError("boom\\nand more")

class Nothing(Rate):
    name = "nothing"
    def encode(self, x, stop):
        return None

class Shorter(Rate):
    name = "shorter"
    def encode(self, x, stop):
        train = super().encode(x, stop)
        return replace(train, digits=train.digits[:, :, :1])

class Large(Rate):
    name = "large"
    largest_value = 1

class Mute(Rate):
    name = "mute"
    summary = None

class Abstract(SpikeCode):
    name = "abstract"
    default_phases = largest_phases = 1

class Other:
    name = "other"
"""
REASONS = {
    "raises": "RuntimeError: boom and more",
    "nothing": "TypeError: encode returns NoneType",
    "shorter": "ValueError: encode gives digits as int8",
    "large": "ValueError: encode gives |a| of",
    "mute": "TypeError: summary is None",
    "abstract": "TypeError: Can't instantiate abstract class",
    "other": "is not a subclass of SpikeCode",
    "absent": "cannot be loaded (AttributeError",
}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A distribution whose codes are all broken."""
    (tmp_path / "broken_module.py").write_text(BROKEN)
    folder = tmp_path / "broken_codes-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-codes\nVersion: 1.0\n")
    points = "\n".join(f"{name} = broken_module:{name.capitalize()}" for name in REASONS)
    (folder / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{points}\n")
    monkeypatch.syspath_prepend(tmp_path)
    installed.cache_clear()
    yield
    installed.cache_clear()
    sys.modules.pop("broken_module", None)


@pytest.mark.usefixtures("broken")
def test_broken_codes_leave_the_others_listed(capsys: pytest.CaptureFixture[str]) -> None:
    found = result("codes", "--phases", "5")
    assert [code["name"] for code in found["codes"]] == [name for name in SPIKE_CODES if name not in REASONS]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not listed: ")]
    assert len(lines) == len(found["broken"]) == len(REASONS)
    for name, reason in REASONS.items():
        (line,) = (line for line in lines if f"spike code {name!r}: broken_module:{name.capitalize()} of broken-codes 1.0" in line)
        assert reason in line
        assert reason in next(each["reason"] for each in found["broken"] if each["name"] == name)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize("name", REASONS)
def test_a_broken_code_is_one_clear_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["codes", name]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "internal error" not in error
    assert f"{name!r}: broken_module:{name.capitalize()} of broken-codes 1.0" in error and REASONS[name] in error


def test_the_figures_follow_the_seed() -> None:
    spikes = [result("codes", "rate", "--seed", seed)["codes"][0]["gaussian"]["spikes"] for seed in ("1", "1", "2")]
    assert spikes[0] == spikes[1] != spikes[2]


def test_more_phases_than_a_code_takes_are_its_most() -> None:
    phases = {code["name"]: code["phases"] for code in result("codes", "--phases", "14")["codes"]}
    assert (phases["signed-digit"], phases["sign-magnitude"], phases["burst"], phases["rate"]) == (14, 13, 6, 14)


def test_one_code_is_shown_with_its_trains() -> None:
    (code,) = result("codes", "burst", "--code-option", "gamma=7", "--code-option", "shift=3")["codes"]
    assert [each["value"] for each in code["parameters"]] == [True, 0, 7, 3]
    for example in code["examples"]:
        total = 0
        for digit in example["digits"]:
            total = (total << code["horner_shift"]) + digit
        assert example["value"] == total << example["exponent"] and abs(example["value"] - example["x"]) <= 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["codes", "bursts"], "did you mean 'burst'"),
        (["codes", "--code-option", "gamma=7"], "name it"),
        (["codes", "burst", "--code-option", "gama=7"], "did you mean 'gamma'"),
        (["codes", "burst", "--phases", "9"], "use fewer phases"),
        (["convert", "random-tiny", "-o", "n", "--code", "burst", "--code-option", "gama=7"], "did you mean 'gamma'"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_parameters_go_from_convert_into_the_network_and_the_chip_refuses_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.txt").write_text("A river runs to the sea. " * 12)
    line = ["convert", "random-tiny", "-o", "network", "--calibration", "text.txt", "--code", "multi-threshold", "--phases", "2"]
    content = result(*line, "--code-option", "thresholds=5")
    assert content["code"] == {
        "name": "multi-threshold", "phases": 2, "query_phases": 10, "probability_bits": 10, "parameters": {"thresholds": 5},
    }  # fmt: skip
    network = SpikingNetwork.load("network")
    assert network.weights.code.spike_code().largest_value == 32
    assert network.provenance["options"]["code_parameters"] == [["thresholds", 5]]
    assert run_command_line(["compile", "network", "-o", "program", "--chip", "nano"]) == 1
    assert "the chip's encoders have signed-digit, rate, first-spike and bit-planes" in capsys.readouterr().err


def test_a_code_without_parameters_is_stored_as_before() -> None:
    Path("text.txt").write_text("A river runs to the sea. " * 12)
    content = result("convert", "random-tiny", "-o", "network", "--calibration", "text.txt", "--code", "burst")
    assert "parameters" not in content["code"]
    assert "code_parameters" not in SpikingNetwork.load("network").provenance["options"]


def test_the_chip_has_the_codes_of_its_simulators() -> None:
    assert set(CHIP_CODES) == set(CODES)
    assert [CODES[name] for name in ("signed-digit", "rate", "first-spike", "bit-planes")] == [SIGNED_DIGIT, RATE, FIRST_SPIKE, BIT_PLANES]
    assert [CHIP_CODES.index(name) for name in CODES] == list(CODES.values())
