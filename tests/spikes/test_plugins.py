"""Codes of other distributions: found by entry points, converted with, and refused clearly."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.registry import installed
from neuromorphic_llm.spikes.registry import ENTRY_POINTS, SPIKE_CODES, get_code

COARSE = '''
from dataclasses import dataclass

import numpy as np

from neuromorphic_llm.spikes.code import SpikeCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.parameters import parameter


@dataclass(frozen=True)
class Coarse(SpikeCode):
    """One spike for every input of at least half of the largest, or of its share."""

    share: int = parameter(2, "part of the largest", least=1, most=8)

    name = "coarse"
    default_phases = 1
    largest_phases = 1

    @property
    def largest_value(self):
        return 1

    def _exponent(self, x):
        return np.maximum(np.ceil(np.log2(np.maximum(np.abs(x).max(axis=1), 1))).astype(np.int64) - 1, 0)

    def encode(self, x, stop):
        x = as_vectors(x)
        fires = (self.share * np.abs(x) >= np.abs(x).max(axis=1, keepdims=True)) & (x * x > np.asarray(stop, np.int64))
        digits = (np.sign(x) * fires).astype(np.int8)[None]
        return SpikeTrain(digits, 1, self._exponent(x).astype(np.int32), np.ones(len(x), np.int32))

    def worst_case_error(self, x, stop):
        return np.abs(as_vectors(x)) + (1 << self._exponent(as_vectors(x)))[:, None]
'''

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a distribution with a module and entry points on sys.path; forgotten again after the test."""
    monkeypatch.syspath_prepend(tmp_path)
    modules = []

    def put(distribution: str, module: str, source: str, points: str) -> None:
        modules.append(module)
        (tmp_path / f"{module}.py").write_text(source)
        folder = tmp_path / f"{distribution}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{points}\n")
        installed.cache_clear()

    yield put
    installed.cache_clear()
    for module in modules:
        sys.modules.pop(module, None)


def test_nano_is_converted_with_a_code_from_outside(install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install("coarse_codes", "coarse_codes", COARSE, "coarse = coarse_codes:Coarse")
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text("The dog ran to the river and saw a big boat. " * 6)
    assert "coarse" in SPIKE_CODES
    line = ["convert", "nano", "-o", "network", "--calibration", "text.txt", "--code", "coarse", "--code-option", "share=4"]
    assert run_command_line(line) == 0
    network = SpikingNetwork.load("network")
    assert network.weights.code.to_json()["parameters"] == {"share": 4}
    decoder = network.functional()
    assert len(decoder.generate([[1, 2, 3]], 2, eos_token_ids=())[0]) == 2
    assert 0 < decoder.statistics.spikes_per_activation() < 1
    coarse = get_code("coarse", share=4)
    assert coarse.quantise([[8, -2, 1, 0]], np.zeros(4)).a.tolist() == [[1, -1, 0, 0]]


def test_a_name_of_ours_is_a_collision(install: Install) -> None:
    install("second_rate", "second_rate", COARSE, "rate = second_rate:Coarse")
    with pytest.raises(UsageError, match=r"'rate' of second.rate 1.0 has the name of neuromorphic_llm.spikes.rate:Rate; uninstall"):
        get_code("signed-digit")


def test_a_name_of_two_distributions_is_a_collision(install: Install) -> None:
    install("one_code", "one_code", COARSE, "coarse = one_code:Coarse")
    install("other_code", "other_code", COARSE, "coarse = other_code:Coarse")
    with pytest.raises(UsageError, match=r"'coarse' comes with both (one|other).code 1.0 and (one|other).code 1.0; uninstall one"):
        list(SPIKE_CODES)


@pytest.mark.parametrize(
    ("source", "points", "message"),
    [
        (
            "raise RuntimeError('no key')",
            "coarse = broken_code:Coarse",
            "cannot be loaded .RuntimeError: no key.; repair or uninstall",
        ),
        ("", "coarse = broken_code:Coarse", "cannot be loaded .AttributeError"),
        ("Coarse = int", "coarse = broken_code:Coarse", "is not a subclass of SpikeCode"),
        (COARSE, "coarser = broken_code:Coarse", "calls itself 'coarse'; give both the same name"),
    ],
)
def test_a_broken_code_names_its_distribution(install: Install, source: str, points: str, message: str) -> None:
    install("broken_code", "broken_code", source, points)
    assert get_code("rate").name == "rate"
    with pytest.raises(UsageError, match=rf"broken.code 1.0 {message}"):
        get_code(points.split(" = ")[0])
