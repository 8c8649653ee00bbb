"""Rereads: exact with narrow converters, and every read, conversion and cycle of the halves counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parity import tokens_of, with_membranes

from neuromorphic_llm.area import chip_area, load_areas
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.devices.readout import Drive, get_readout
from neuromorphic_llm.devices.reread import Reread
from neuromorphic_llm.energy.constants import converter_energy, load_constants
from neuromorphic_llm.energy.memories import chip_memories
from neuromorphic_llm.energy.prices import chip_prices
from neuromorphic_llm.errors import CompileError, UsageError
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.rereads import Rereads
from neuromorphic_llm.simulation.timing import simulate_timing

EXACT = load_spec("nano").with_fields({"synapse.rows": 12, "synapse.columns": 20, "synapse.crossbars": 48, "readout.active_rows": 7})
CHIP = EXACT.with_fields({"readout.kind": "reread", "readout.converter_bits": 6, "readout.high_bits": 5})
CIRCUIT = CHIP.readout_circuit
assert isinstance(CIRCUIT, Reread)
WEIGHTS = random_decoder(0)
PROGRAM = compile_network(WEIGHTS, CHIP)
REREADS = Rereads(PROGRAM, CIRCUIT)


def halves(rows: list[int], levels: np.ndarray, digits: np.ndarray, bits: int, node: int = 1) -> dict[int, list[int]]:
    """devices.md read literally for one column: number in the tree -> rows of every half that is read."""
    if -(2 ** (bits - 1)) <= sum(int(levels[row]) * int(digits[row]) for row in rows) < 2 ** (bits - 1):
        return {}
    middle, found = -(-len(rows) // 2), {}
    for number, part in ((2 * node, rows[:middle]), (2 * node + 1, rows[middle:])):
        found |= {number: part, **halves(part, levels, digits, bits, number)}
    return found


def expected(site: int, digits: np.ndarray) -> tuple[list[list[int]], list[int], int]:
    """Halves of each region and phase, work and conversions of a site, macro by macro in Python."""
    steps, work, conversions = [], np.zeros(3, np.int64), 0
    levels = CIRCUIT.cell.levels(PROGRAM.weights_t[site])
    if SMALL_CONFIG.sites[site].epilogue == "gate":  # column 2 i of a tile holds the gate, column 2 i + 1 the up of output i
        levels = np.stack(np.split(levels, 2, axis=2), axis=3).reshape(levels.shape)
    regions = [region for stage in PROGRAM.stages for own in stage.regions for region in own if region.site == site]
    firsts = np.cumsum([0, *(region.columns for region in regions)])
    for phase in digits:
        blocks = [[i for i in range(b, min(b + 12, len(phase))) if phase[i]] for b in range(0, len(phase), 12)]
        waits = []
        for region, first in zip(regions, firsts, strict=False):
            seen = set()
            for macro in range(0, region.columns, 20):
                width = min(20, region.columns - macro)
                for block in blocks:
                    for start in range(0, len(block), 7):
                        for s, bits in enumerate((6, 5)):
                            read: dict[int, list[int]] = {}
                            for j in range(first + macro, first + macro + width):
                                own = halves(block[start : start + 7], levels[s, :, j], phase, bits)
                                conversions += len(own)
                                read |= own
                            seen |= {(start, node) for node in read}
                            work += [len(read), sum(map(len, read.values())), width * sum(map(len, read.values()))]
            waits.append(len(seen))
        steps.append(waits)
    return np.transpose(steps).tolist(), work.tolist(), conversions


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_halves_are_those_of_the_definition(data: st.DataObject) -> None:
    site = data.draw(st.integers(0, len(SMALL_CONFIG.sites) - 1))
    elements = st.sampled_from([0, 1, -1, 1, -1])
    digits = data.draw(hnp.arrays(np.int8, (data.draw(st.integers(1, 3)), SMALL_CONFIG.sites[site].inputs), elements=elements))
    found = REREADS.count(site, digits)
    assert (found.steps.tolist(), found.work.tolist(), found.conversions) == expected(site, digits)


def test_strong_weights_of_one_sign_are_halved_to_single_rows() -> None:
    """Seven rows of level 15 in a slice: 4 and 3, of these 2 and 2, 2 and 1, and rows where two times 15 saturate 5 bits."""
    levels, digits = np.full(7, 15), np.ones(7, np.int8)
    assert {number: len(part) for number, part in halves([*range(7)], levels, digits, 5).items()} == {
        2: 4,
        3: 3,
        4: 2,
        5: 2,
        6: 2,
        7: 1,
        **{number: 1 for node in (4, 5, 6) for number in (2 * node, 2 * node + 1)},
    }


def test_tokens_are_exact_and_halves_are_counted_and_waited_for() -> None:
    """Logits are the reference's; beside an exact chip there are the work of the halves and its cycles."""
    tokens = tokens_of(SMALL_CONFIG, 6)
    chip, plain = EventDecoder(PROGRAM), EventDecoder(compile_network(WEIGHTS, EXACT))
    logits = np.stack([chip.step(token) for token in tokens])
    assert np.array_equal(logits, np.stack([plain.step(token) for token in tokens]))
    assert np.array_equal(logits, IntegerDecoder(WEIGHTS).forward(tokens))
    trace, without = chip.trace(2), plain.trace(2)
    assert np.array_equal(trace.events, without.events) and without.halves.sum() == without.rereads.sum() == 0
    ours, exact = (count(each.program, own, simulate_timing(each.program, own)) for each, own in ((chip, trace), (plain, without)))
    repeated = ours.repeated_conversions
    assert repeated == trace.repeats.sum() > 0
    assert ours.conversions == exact.conversions + repeated
    assert ours.accumulations == exact.accumulations + repeated // 2
    for column, name in enumerate(("crossbar_reads", "row_drives", "cell_reads")):
        assert getattr(ours, name) == getattr(exact, name) + trace.rereads[..., column].sum()
    assert exact.cycles < ours.cycles <= exact.cycles + int(trace.halves.sum()) * (2 + 4)


def test_reads_are_exact_read_by_read() -> None:
    rng = np.random.default_rng(1)
    digits, weights = rng.integers(-1, 2, (3, 2, 30)).astype(np.int8), rng.integers(-127, 128, (30, 5)).astype(np.int8)
    found = CIRCUIT.accumulate(digits, CIRCUIT.cell.levels(weights), Drive(np.array([3, 3]), 1), np)
    values = sum(phase.astype(np.int64) << (2 - t) for t, phase in enumerate(digits))
    assert np.array_equal(found.accumulators, values @ weights.astype(np.int64))


def test_conversions_and_converters_of_both_widths() -> None:
    constants, areas = load_constants(), load_areas()
    spec = CHIP.with_fields({"readout.converter_bits": 8, "readout.high_bits": 6})
    rate = spec.clock_hz
    both = [converter_energy(constants, bits, rate).nominal for bits in (8, 6)]
    assert chip_prices(spec, chip_memories(PROGRAM), constants)["conversion"].nominal == pytest.approx(sum(both) / 2)
    found = chip_area(replace(PROGRAM, spec=spec)).parts["converters"].nominal * 1e-6
    widths = [areas[f"converter_{bits}bit"].value.nominal for bits in (8, 6)]
    each = (5 * sum(widths) / 2 + 20 * areas["sample_hold"].value.nominal) * areas["macro_spread"].value.nominal
    assert found == pytest.approx(18 * 48 * each)
    assert Reread().converter_widths == (8, 6)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"high_bits": 4}, "high_bits is 4, and a row of 4-bit cells that is read alone needs 5; raise high_bits"),
        ({"converter_bits": 3}, "converter_bits is 3, and a row of 4-bit cells that is read alone needs 5; raise converter_bits"),
        ({"high_bits": 33}, r"high_bits must be an integer in 1\.\.32, not 33"),
    ],
)
def test_converters_that_one_row_saturates_are_refused(parameters: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_readout("reread", **parameters)


def test_networks_and_the_rtl() -> None:
    """An exact network runs on the chip, one with membranes does not; the RTL has it."""
    with pytest.raises(CompileError, match=r"the network is for the readout membrane .*chip nano has reread \("):
        compile_network(with_membranes(WEIGHTS), CHIP)
    assert CIRCUIT.rtl_parameters() == {"REREAD": 1}
