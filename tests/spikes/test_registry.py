"""Codes by name."""

import subprocess
import sys
from pathlib import Path

import pytest

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code, register_code


def test_all_codes_are_there_with_their_defaults() -> None:
    phases = {"signed-digit": 14, "rate": 32, "first-spike": 14, "bit-planes": 8, "sign-magnitude": 7, "burst": 4, "first-spike-log": 10}
    phases |= {"multi-threshold": 3, "st-bif": 32, "qcfs": 16}
    assert {name: get_code(name).phases for name in SPIKE_CODES} == phases
    assert all(get_code(name).name == name for name in SPIKE_CODES)


def test_a_wrong_name_gets_the_nearest_one() -> None:
    with pytest.raises(UsageError, match="did you mean 'signed-digit'"):
        get_code("signed-digits")
    with pytest.raises(UsageError, match="choose one of signed-digit, rate"):
        get_code("morse")


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(UsageError, match="registered already"):
        register_code("rate", "somewhere:Else")


def test_codes_are_imported_when_asked_for() -> None:
    program = "import sys, neuromorphic_llm.spikes.registry; print('neuromorphic_llm.spikes.rate' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip() == "False"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("neuromorphic_llm.spikes.rate:Missing", "cannot be loaded .AttributeError.*Missing"),
        ("nocolon", "nocolon cannot be loaded .ModuleNotFoundError"),
        ("json", "json is not a subclass of SpikeCode"),
        ("nowhere.at.all:Code", "cannot be loaded .ModuleNotFoundError"),
        ("json:dumps", "is not a subclass of SpikeCode"),
        ("", "cannot be loaded"),
        ("leaving:Code", "cannot be loaded .SystemExit: 7"),
    ],
)
def test_a_broken_location_is_named(location: str, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "leaving.py").write_text("raise SystemExit(7)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with SPIKE_CODES.temporary("morse", location), pytest.raises(UsageError, match=f"spike code 'morse': .*{reason}"):
        get_code("morse")


def test_what_a_code_raises_names_it() -> None:
    message = r"'rate': neuromorphic_llm.spikes.rate:Rate fails .RuntimeError: no key.; repair"
    with pytest.raises(UsageError, match=message) as caught, SPIKE_CODES.failures_of("rate"):
        raise RuntimeError("no\nkey")
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(UsageError, match=r"^as it is$"), SPIKE_CODES.failures_of("rate"):
        raise UsageError("as it is")
