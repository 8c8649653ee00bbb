"""Readouts: the definition of devices.md, both forms of it and on both libraries, what reads take, parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neuromorphic_llm.devices.cells import Array, Cell
from neuromorphic_llm.devices.exact import Exact
from neuromorphic_llm.devices.readout import READOUTS, ConvertedReads, Drive, Readout, get_readout
from neuromorphic_llm.errors import SimulationError, UsageError


@dataclass(frozen=True)
class Offset(ConvertedReads):
    """Converters of 3 bits with a step and an offset: nothing of a read that did not happen may enter."""

    name: ClassVar[str] = "offset"
    step: int = 2

    def convert(self, sums: Array) -> Array:
        return ((sums + 1) // self.step).clip(-4, 3) * self.step + 1


@st.composite
def sites(draw: st.DrawFn, largest_digit: int = 1) -> tuple[dict[str, int], np.ndarray, np.ndarray, int]:
    """Parameters of a readout, digits [phases, tokens, inputs], weights [inputs, outputs] and a Horner shift."""
    bits = draw(st.integers(1, 8))
    geometry = {"rows": draw(st.integers(1, 9)), "active_rows": draw(st.integers(1, 5)), "cell_bits": bits, "slices": -(-7 // bits)}
    inputs = draw(st.integers(1, 20))
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, 3)), inputs)
    digits = draw(hnp.arrays(np.int8, shape, elements=st.integers(-largest_digit, largest_digit)))
    weights = draw(hnp.arrays(np.int8, (inputs, draw(st.integers(1, 4))), elements=st.integers(-127, 127)))
    return geometry, digits, weights, draw(st.integers(0, 2))


def product(digits: np.ndarray, weights: np.ndarray, horner_shift: int) -> np.ndarray:
    a = sum(phase.astype(np.int64) << horner_shift * (len(digits) - 1 - t) for t, phase in enumerate(digits))
    return a @ weights.astype(np.int64)


def driven(digits: np.ndarray, horner_shift: int) -> Drive:
    return Drive(np.full(digits.shape[1], len(digits)), horner_shift)


def definition(out: Readout, digits: np.ndarray, weights: np.ndarray, horner_shift: int) -> np.ndarray:
    """devices.md read literally, for one token's digits [phases, inputs]: an accumulator at a time, in Python's integers."""
    result = []
    for column in weights.T.tolist():
        total = 0
        for phase in digits.tolist():
            total = total * 2**horner_shift
            for first in range(0, len(column), out.rows):
                spiking = [i for i in range(first, min(first + out.rows, len(column))) if phase[i]]
                while spiking:
                    driven, spiking = spiking[: out.active_rows], spiking[out.active_rows :]
                    for s in range(out.slices):
                        bits = [abs(column[i]) // 2 ** (out.cell_bits * s) % 2**out.cell_bits for i in driven]
                        level = sum(b * phase[i] * (1 if column[i] > 0 else -1) for b, i in zip(bits, driven, strict=True))
                        total += 2 ** (out.cell_bits * s) * int(out.convert(np.array(level)))
        result.append(total)
    return np.array(result)


@given(sites())
@settings(max_examples=200)
def test_exact_reads_are_the_integer_product(site: tuple[dict[str, int], np.ndarray, np.ndarray, int]) -> None:
    geometry, digits, weights, shift = site
    out = Exact(**geometry)
    levels = out.cell.levels(weights)
    expected = product(digits, weights, shift)
    np.testing.assert_array_equal(out.accumulate(digits, levels, driven(digits, shift), np).accumulators, expected)
    for token in range(digits.shape[1]):
        np.testing.assert_array_equal(
            out.accumulate_events(digits[:, token], levels, driven(digits, shift)).accumulators[0], expected[token]
        )


@given(sites(largest_digit=3))
@settings(max_examples=200)
def test_reads_are_converted_one_by_one(site: tuple[dict[str, int], np.ndarray, np.ndarray, int]) -> None:
    """Side by side in numpy and torch, and event by event: what the definition says."""
    geometry, digits, weights, shift = site
    out = Offset(**geometry)
    levels = out.cell.levels(weights)
    expected = np.stack([definition(out, digits[:, token], weights, shift) for token in range(digits.shape[1])])
    found = out.accumulate(digits, levels, driven(digits, shift), np).accumulators
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, expected)
    for token in range(digits.shape[1]):
        np.testing.assert_array_equal(
            out.accumulate_events(digits[:, token], levels, driven(digits, shift)).accumulators[0], expected[token]
        )
        np.testing.assert_array_equal(
            Readout.accumulate_events(out, digits[:, token], levels, driven(digits, shift)).accumulators[0], expected[token]
        )
    tensors = out.accumulate(torch.from_numpy(digits), torch.from_numpy(levels), driven(digits, shift), torch).accumulators
    assert tensors.dtype == torch.int64
    np.testing.assert_array_equal(tensors.numpy(), expected)


@given(sites())
def test_no_sum_of_a_read_leaves_the_exact_converter(site: tuple[dict[str, int], np.ndarray, np.ndarray, int]) -> None:
    geometry, digits, weights, shift = site
    out, seen = Exact(**geometry), []

    class Watched(Exact):
        def convert(self, sums: Array) -> Array:
            seen.append(int(np.abs(sums).max()))
            return sums

    Watched(**geometry).accumulate(digits, out.cell.levels(weights), driven(digits, shift), np)
    assert all(value < 1 << out.converter_bits - 1 for value in seen)


@pytest.mark.parametrize(("active_rows", "cell_bits", "slices"), [(32, 4, 2), (16, 4, 2), (1, 7, 1), (5, 3, 3), (128, 1, 7)])
def test_the_exact_converter_has_no_bit_too_many(active_rows: int, cell_bits: int, slices: int) -> None:
    out = Exact(active_rows=active_rows, cell_bits=cell_bits, slices=slices)
    largest = active_rows * (2**cell_bits - 1)
    assert 1 << out.converter_bits - 2 <= largest < 1 << out.converter_bits - 1
    assert out.exact_bits == out.converter_bits
    assert out == replace(out, converter_bits=0)
    wider = replace(out, converter_bits=out.exact_bits + 1)
    assert wider.rtl_parameters() == {}
    needed = (
        f"converter_bits is {out.exact_bits - 1}, and an exact read of {active_rows} rows of {cell_bits}-bit cells needs {out.exact_bits}"
    )
    with pytest.raises(UsageError, match=needed):
        replace(out, converter_bits=out.exact_bits - 1)


def test_nc1_reads_out_exactly_with_10_bits() -> None:
    assert Exact().converter_bits == 10
    assert Exact.exact
    assert not Offset.exact


def test_reads_conversions_and_cycles_follow_events() -> None:
    # tokens 1, sites 2, phases 3, row blocks 2
    events = np.array([[[[0, 0], [1, 4], [5, 9]], [[4, 0], [0, 0], [0, 1]]]])
    out = Exact(rows=9, active_rows=4, cell_bits=4, slices=2)
    assert out.reads(events).tolist() == [[[[0, 0], [1, 1], [2, 3]], [[1, 0], [0, 0], [0, 1]]]]
    assert out.conversions(events).tolist() == [14, 4]
    assert out.phase_cycles(events, np.array([[3, 3]]), read_latency=2, mux_cycles=8, in_order=True).tolist() == [
        [[1, 10, 26], [10, 1, 10]]
    ]
    twice = np.concatenate([events, events])
    assert out.conversions(twice).tolist() == [28, 8]


def test_a_readout_is_made_by_name() -> None:
    assert get_readout("exact", rows=64, active_rows=16) == Exact(rows=64, active_rows=16)
    with READOUTS.temporary("offset", Offset):
        out = get_readout("offset", step=5, converter_bits=3)
        assert out == Offset(step=5, converter_bits=3) != Offset(step=5)
        geometry = {"rows": 256, "active_rows": 32, "cell_bits": 4, "slices": 2}
        assert out.to_json() == {"name": "offset", **geometry, "converter_bits": 3, "step": 5}
        assert get_readout(**out.to_json()) == out


def test_a_wrong_readout_says_what_is_wrong() -> None:
    with pytest.raises(UsageError, match=r"unknown readout 'exakt'; did you mean 'exact'\?"):
        get_readout("exakt")
    with pytest.raises(UsageError, match=r"readout 'exact' has no parameter 'row'; did you mean 'rows'\?"):
        get_readout("exact", row=3)
    for value in (0, -1, (1 << 20) + 1, True, 2.0, "4"):
        with pytest.raises(UsageError, match="readout 'exact': active_rows must be an integer in 1"):
            get_readout("exact", active_rows=value)
    for name, least, most in (("cell_bits", 1, 16), ("slices", 1, 16), ("converter_bits", 0, 32)):
        for value in (least - 1, most + 1):
            with pytest.raises(UsageError, match=f"{name} must be an integer in {least}..{most}, not {value}"):
                get_readout("exact", **{name: value})
    assert get_readout("exact", active_rows=1 << 20).converter_bits == 25
    with pytest.raises(UsageError, match="2 slices of 3 bits hold weights up to 63, not 127; raise slices or cell_bits"):
        get_readout("exact", cell_bits=3)


def test_a_class_that_is_no_readout_is_refused() -> None:
    with READOUTS.temporary("cell", Cell), pytest.raises(UsageError, match="is not a subclass of Readout"):
        get_readout("cell")
    with READOUTS.temporary("other", Offset), pytest.raises(UsageError, match="calls itself 'offset'"):
        get_readout("other")


def test_the_rtl_has_no_other_readout() -> None:
    with pytest.raises(SimulationError, match="the RTL has no readout 'offset', only 'exact', 'reread', 'membrane' and 'membrane-decay'"):
        Offset().rtl_parameters()
