"""Membrane readout: its definition, equal in every engine, what it takes, its calibration, and networks and chips that do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from parity import FAMILIES, MEMBRANES, tokens_of, with_membranes

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.parameter import FieldError
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.ranges import calibrate_ranges
from neuromorphic_llm.devices.cells import Array, Library
from neuromorphic_llm.devices.membrane import Membrane, MembraneEnergy
from neuromorphic_llm.devices.readout import Drive, get_readout
from neuromorphic_llm.errors import ArtefactError, CompileError, SimulationError, UsageError
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.cpu_operations import CpuOperations
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows, Operations, SiteTensors, row_blocks
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.activity import trace_fields
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.timing import simulate_timing

CHIP = load_spec("nano").with_fields(
    {"synapse.rows": 16, "readout.kind": "membrane", "readout.active_rows": 4, "readout.converter_bits": 5, "readout.read_latency": 3}
)


ENERGY = MembraneEnergy(rows=16, active_rows=4, converter_bits=5)


def definition(readout: Membrane, a: list[int], halvings: int, weights: np.ndarray, ranges: np.ndarray) -> tuple[list[int], int]:
    """devices.md read literally, a column at a time in Python's integers: accumulators and repeated conversions."""
    most, accumulators, repeats = 2 ** (readout.converter_bits - 1) - 1, [], 0
    for j, column in enumerate(weights.T.tolist()):
        total = 0
        size = readout.rows * readout.joined
        for b in range(0, len(a), size):
            s = sum(x * w for x, w in zip(a[b : b + size], column[b : b + size], strict=True))
            e = (sum(x * x for x in a[b : b + size]).bit_length() - 1) >> 1 if readout.squares else halvings
            k = min(max(e + int(ranges[b // size, j]), 0), 29)
            q, left = (s + 2**k // 2) // 2**k, readout.repeats
            while not -most - 1 <= q <= most and left:
                k, left, repeats = k + 2, left - 1, repeats + 1
                q = (s + 2**k // 2) // 2**k
            total += min(max(q, -most - 1), most) * 2**k
        accumulators.append(total)
    return accumulators, repeats


@given(st.data())
@settings(max_examples=150)
def test_readings_are_those_of_the_definition(data: st.DataObject) -> None:
    drawn = {"rows": (1, 9), "converter_bits": (2, 9), "repeats": (1, 3), "joined": (1, 3)}
    readout = data.draw(st.sampled_from([Membrane, MembraneEnergy]))(
        **{name: data.draw(st.integers(*bounds)) for name, bounds in drawn.items()}
    )
    inputs, outputs, tokens, phases = (data.draw(st.integers(1, most)) for most in (20, 4, 3, 14))
    digits = data.draw(hnp.arrays(np.int8, (phases, tokens, inputs), elements=st.integers(-1, 1)))
    weights = data.draw(hnp.arrays(np.int8, (inputs, outputs), elements=st.integers(-127, 127)))
    ranges = data.draw(hnp.arrays(np.int8, (-(-inputs // (readout.rows * readout.joined)), outputs), elements=st.integers(-29, 29)))
    shift, used = data.draw(st.integers(0, 1)), data.draw(hnp.arrays(np.int64, tokens, elements=st.integers(1, phases)))
    for token, length in enumerate(used):
        digits[: phases - length, token] = 0  # a shorter train has empty phases in front
    drive, levels = Drive(used, shift, ranges), readout.cell.levels(weights)
    found = readout.accumulate(digits, levels, drive, np)
    a = sum(phase.astype(np.int64) << shift * (phases - 1 - t) for t, phase in enumerate(digits))
    for token in range(tokens):
        expected = definition(readout, a[token].tolist(), shift * (int(used[token]) - 1), weights, ranges)
        assert (found.accumulators[token].tolist(), int(found.repeats[token])) == expected
    tensors = Drive(*(torch.from_numpy(array) if isinstance(array, np.ndarray) else array for array in (used, shift, ranges)))
    read = readout.accumulate(torch.from_numpy(digits), torch.from_numpy(levels), tensors, torch)
    assert np.array_equal(read.accumulators.numpy(), found.accumulators)
    assert np.array_equal(read.repeats.numpy(), found.repeats)


@pytest.mark.parametrize(
    ("config", "readout"), [*((each, MEMBRANES) for each in (SMALL_CONFIG, *FAMILIES.values())), (SMALL_CONFIG, ENERGY)]
)
def test_functional_simulation_equals_the_reference(config: DecoderConfig, readout: Membrane) -> None:
    weights = with_membranes(random_decoder(5, config=config, bias=True), readout)
    tokens = tokens_of(config, 20)
    expected = IntegerDecoder(weights).forward(tokens)
    for operations in (None, Operations("cpu")):
        logits = FunctionalDecoder(weights, operations=operations).forward(torch.tensor([tokens]))
        assert isinstance(logits, torch.Tensor)
        assert np.array_equal(logits[0].numpy(), expected)


@pytest.mark.parametrize(
    ("code", "readout"),
    [*((code, MEMBRANES) for code in ("signed-digit", "rate", "first-spike", "bit-planes")), ("signed-digit", ENERGY), ("rate", ENERGY)],
)
def test_every_engine_is_equal(code: str, readout: Membrane) -> None:
    """Logits, spikes and repeated conversions of the event simulation are the reference's; so are those of the functional simulation."""
    weights = with_membranes(random_decoder(3, code=code, bias=True), readout)
    tokens = tokens_of(SMALL_CONFIG, 12)
    decoder = IntegerDecoder(weights)
    cache = decoder.new_cache()
    steps = [decoder.step([token], cache, full=True) for token in tokens]
    chip = EventDecoder(compile_network(weights, CHIP.with_fields({"readout.kind": readout.name})))
    for token, expected in zip(tokens, steps, strict=True):
        logits = chip.step(token)
        assert logits is not None
        assert np.array_equal(logits, expected.logits[-1])
    trace = chip.trace(len(tokens))
    fields = trace_fields(SMALL_CONFIG, [step.record for step in steps], MEMBRANES.rows)
    for name in ("phases", "repeats"):
        assert np.array_equal(getattr(trace, name), fields[name])
    assert np.array_equal(trace.events[:, :, : fields["events"].shape[2]], fields["events"])
    assert trace.repeats.sum() > 0
    functional = FunctionalDecoder(weights).forward(torch.tensor([tokens]))
    assert np.array_equal(functional[0].numpy(), np.concatenate([step.logits for step in steps]))


def test_energies_are_counted_once_per_input_and_converted_for() -> None:
    """A network is converted for the chip, whose counters have the squares of every site that ran; no other chip takes it, nor the RTL."""
    spec = load_spec("nano2").with_fields({"readout.kind": "membrane-energy", "readout.converter_bits": None})
    assert (
        spec.readout_circuit
        == MembraneEnergy(rows=64, active_rows=64, converter_bits=8)
        != Membrane(rows=64, active_rows=64, converter_bits=8)
    )
    parameters = spec.readout_circuit.to_json()
    options = ConvertConfig(spikes=0.8, readout=parameters.pop("name"), readout_parameters=tuple(parameters.items()))
    weights = convert(load_checkpoint("random-tiny"), options, [list(range(3, 35))]).weights
    program, config = compile_network(weights, spec), weights.config
    decoder = EventDecoder(program)
    for token in (1, 2, 3):
        decoder.step(token, logits_wanted=token > 1)
    trace = decoder.trace(2)
    counters = count(program, trace, simulate_timing(program, trace))
    assert counters.squared_elements == 3 * sum(site.inputs for site in config.sites[:-1]) + 2 * config.sites[-1].inputs
    with pytest.raises(CompileError, match=r"for the readout membrane-energy .*chip nano2 has membrane \("):
        compile_network(weights, load_spec("nano2"))
    with pytest.raises(SimulationError, match="the RTL has no readout 'membrane-energy'"):
        spec.readout_circuit.rtl_parameters()


@pytest.mark.parametrize("joined", [2, 100])
def test_joined_blocks_are_equal_in_every_engine_and_save_conversions(joined: int) -> None:
    """Blocks of two macros, and a whole column as one."""
    readout = replace(MEMBRANES, joined=joined)
    weights = with_membranes(random_decoder(3, bias=True), readout)
    tokens = tokens_of(SMALL_CONFIG, 8)
    expected = IntegerDecoder(weights).forward(tokens)
    for operations in (None, Operations("cpu")):
        logits = FunctionalDecoder(weights, operations=operations).forward(torch.tensor([tokens]))
        assert isinstance(logits, torch.Tensor) and np.array_equal(logits[0].numpy(), expected)
    program = compile_network(weights, CHIP.with_fields({"readout.joined": joined}))
    chip = EventDecoder(program)
    assert np.array_equal(np.stack([chip.step(token) for token in tokens]), expected)
    trace = chip.trace(1)
    counters, apart = count(program, trace, simulate_timing(program, trace)), MEMBRANES.conversions(trace.events.astype(np.int64))
    blocks = [-(-len(range(0, site.inputs, 16)) // joined) for site in SMALL_CONFIG.sites]
    spiking = trace.events.sum(axis=2) > 0  # [tokens, sites, row_blocks]
    first = sum(
        site.outputs * int(spiking[:, site.index, b * joined : (b + 1) * joined].any(axis=1).sum())
        for site in SMALL_CONFIG.sites
        for b in range(blocks[site.index])
    )
    assert counters.accumulations == first < sum(int(apart[site.index]) * site.outputs for site in SMALL_CONFIG.sites)


def test_hybrids_convert_the_sites_that_spike() -> None:
    weights = with_membranes(random_decoder(3, parts="feed-forward"))
    tokens = tokens_of(SMALL_CONFIG, 9)
    logits = FunctionalDecoder(weights).forward(torch.tensor([tokens]))
    assert np.array_equal(logits[0].numpy(), IntegerDecoder(weights).forward(tokens))


def test_conversions_integrations_halvings_and_cycles_follow_events() -> None:
    # tokens 2, sites 2, phases 3, row blocks 2; the second token has no spike at the first site
    events = np.array([[[[0, 0], [1, 4], [5, 9]], [[4, 0], [0, 0], [0, 0]]], [[[0, 0]] * 3, [[0, 0], [0, 9], [0, 0]]]])
    phases = np.array([[3, 2], [1, 2]])
    out = Membrane(rows=9, active_rows=4, converter_bits=9, repeats=3)
    assert out.conversions(events).tolist() == [2, 2]
    assert out.integrations(events).tolist() == [2 * (1 + 1 + 2 + 3), 2 * (1 + 3)]
    assert out.halvings(events, phases - 1).tolist() == [2 * 2 * 2, 2 * (1 + 1)]
    last = 2 * (1 + 3) + 3 + 4 * 8
    assert out.phase_cycles(events, phases, read_latency=2, mux_cycles=8, in_order=False).tolist() == [
        [[1, 1, last], [1, 2 * 1 + 2 + 32, 1]],
        [[1, 1, 1], [1, 2 * 3 + 2 + 32, 1]],
    ]
    assert out.phase_cycles(events, phases, read_latency=2, mux_cycles=8, in_order=True).tolist() == [
        [[1, 2 * 1 + 1, 2 * 3 + 1 + 32], [2 * 1 + 1, 1 + 32, 1]],
        [[1, 1, 1], [1, 2 * 3 + 1 + 32, 1]],
    ]


def test_counters_of_a_run_follow_its_trace() -> None:
    program = compile_network(with_membranes(random_decoder(3)), CHIP)
    decoder = EventDecoder(program)
    for token in (1, 2, 3, 4):
        decoder.step(token)
    trace = decoder.trace(1)
    counters = count(program, trace, simulate_timing(program, trace))
    first = integrations = halvings = 0
    for site, shape in enumerate(each.shape for each in SMALL_CONFIG.sites):
        for token in range(4):
            blocks = trace.events[token, site].T.tolist()
            spiking = sum(any(block) for block in blocks)
            first += shape[1] * spiking
            integrations += 2 * shape[1] * sum(-(-events // 4) for block in blocks for events in block)
            halvings += 2 * shape[1] * spiking * (int(trace.phases[token, site]) - 1)
    repeated = int(trace.repeats.sum())
    assert (counters.accumulations, counters.repeated_conversions, counters.conversions) == (first, repeated, first + repeated)
    assert (counters.integrations, counters.halvings) == (integrations, halvings)
    assert np.array_equal(trace.without_logits([0]).repeats[0], [*trace.repeats[0, :-1], 0])


@pytest.mark.parametrize(
    ("grain", "joined", "kind"),
    [("column", 1, Membrane), ("block", 1, Membrane), ("site", 1, Membrane), ("column", 2, Membrane), ("column", 1, MembraneEnergy)],
)
def test_calibrated_ranges_have_the_least_error(grain: str, joined: int, kind: type[Membrane]) -> None:
    """Ranges that are coarser or finer have larger squared errors in the sums that the text makes, without repeated conversions."""
    exact, readout = random_decoder(4), kind(rows=16 // joined, active_rows=4, converter_bits=4, joined=joined)
    once = replace(readout, repeats=0)
    tokens = tokens_of(SMALL_CONFIG, 40)
    weights = calibrate_ranges(exact, readout, [tokens], "cpu", grain)
    record = IntegerDecoder(exact).step(tokens, IntegerDecoder(exact).new_cache(), full=True).record
    axes = {"column": (), "block": (1,), "site": (0, 1)}[grain]
    for site in SMALL_CONFIG.sites:
        linear, coded = weights.site(site.name), record.sites[site.index].coded
        assert linear.ranges is not None
        low, high = int(linear.ranges.min()), int(linear.ranges.max())
        assert high - low <= readout.largest_range
        energies = readout.energies(coded.a.astype(np.int64), np)
        exponents = readout.exponents(Drive(coded.phases.astype(np.int64), 1, energies=energies), np)
        unit = 4.0**-exponents  # every token counts alike
        sums = np.stack(
            [coded.a[:, b : b + 16].astype(np.int64) @ linear.weight.T.astype(np.int64)[b : b + 16] for b in range(0, site.inputs, 16)]
        )
        chosen, coarser, finer = (
            ((once.convert(sums, exponents, (linear.ranges + step).astype(np.int8), np)[0] - sums) ** 2 * unit[..., None]).sum()
            for step in (0, 2, -2)
        )
        assert chosen <= 1.01 * min(coarser, finer)  # of rounding and clipping, means are taken
        if axes:
            assert (linear.ranges == linear.ranges.max(axes, keepdims=True)).all()


def test_a_network_is_converted_for_a_chip_saved_and_compiled(tmp_path: Path) -> None:
    spec = load_spec("nano2")
    text = [list(range(3, 35)), list(range(40, 72))]
    parameters = spec.readout_circuit.to_json()
    options = ConvertConfig(spikes=0.8, readout=parameters.pop("name"), readout_parameters=tuple(parameters.items()))
    network = convert(load_checkpoint("random-tiny"), options, text)
    assert network.weights.readout == spec.readout_circuit
    network.save(tmp_path / "net")
    loaded = SpikingNetwork.load(tmp_path / "net")
    assert loaded.content_hash == network.content_hash
    site = network.weights.config.sites[0].name
    assert np.array_equal(loaded.weights.site(site).ranges, network.weights.site(site).ranges)
    program = compile_network(loaded.weights, spec)
    assert program.weights.readout == spec.readout_circuit
    with pytest.raises(CompileError, match=r"the network is for the readout membrane \(rows 64, .*chip nano has exact"):
        compile_network(loaded.weights, load_spec("nano"))
    with pytest.raises(CompileError, match=r"the network is for the readout membrane .*chip nano2 has membrane .*converter_bits 8"):
        compile_network(loaded.weights, spec.with_fields({"readout.converter_bits": 8}))


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (None, "tensor layers.0.qkv.ranges is missing"),
        (np.zeros((1, 64), np.int8), r"tensor layers.0.qkv.ranges is int8 \(1, 64\), expected int8 \(2, 64\)"),
        (np.full((2, 64), 30, np.int8), r"tensor layers.0.qkv.ranges holds 30\.\.30, expected -29\.\.29"),
        (np.arange(128, dtype=np.int8).reshape(2, 64) % 9, "tensor layers.0.qkv.ranges differs by more than 7 within the site"),
    ],
)
def test_wrong_ranges_are_refused(tmp_path: Path, ranges: np.ndarray | None, message: str) -> None:
    weights = with_membranes(random_decoder(0))
    layer = weights.layers[0]
    damaged = replace(weights, layers=(layer.replaced(qkv=replace(layer.qkv, ranges=ranges)), *weights.layers[1:]))
    SpikingNetwork(damaged).save(tmp_path / "net")
    with pytest.raises(ArtefactError, match=message):
        SpikingNetwork.load(tmp_path / "net")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"converter_bits": 1}, "converter_bits must be an integer in 2..32, not 1"),
        ({"repeats": 9}, "repeats must be an integer in 0..8, not 9"),
        ({"range_bits": 0}, "range_bits must be an integer in 1..6, not 0"),
        ({"joined": 0}, "joined must be an integer in 1..1048576, not 0"),
        ({"range": 3}, "has no parameter 'range'; did you mean 'range_bits'"),
    ],
)
def test_impossible_parameters_are_refused(parameters: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        get_readout("membrane", **parameters)


def test_a_chip_states_the_parameters_of_its_readout() -> None:
    spec = load_spec("nano2").with_fields({"readout.repeats": 1, "readout.range_bits": 2})
    assert spec.readout_circuit == Membrane(rows=64, active_rows=64, converter_bits=9, repeats=1, range_bits=2)
    events, phases = np.ones((1, 1, 2, 1), np.int64), np.array([[2]])
    cycles = [each.readout_circuit.phase_cycles(events, phases, 5, 4, in_order=False)[0, 0, 1] for each in (spec, load_spec("nano2"))]
    assert cycles == [2 * 5 + 2 + 4 * 2, 2 * 5 + 2 + 4 * 4]
    with pytest.raises(FieldError, match="readout 'exact' has no parameter 'repeats'"):
        load_spec("nano").with_fields({"readout.repeats": 1})


def test_parameters_of_the_rtl() -> None:
    spec = load_spec("nano2").with_fields({"readout.repeats": 1, "readout.range_bits": 2})
    assert spec.readout_circuit.rtl_parameters() == {"MEMBRANE": 1, "REPEATS": 1, "RANGE_BITS": 2}


@pytest.mark.parametrize("kind", [Membrane, MembraneEnergy])
@pytest.mark.parametrize(
    ("rows", "inputs", "outputs", "block", "bits", "repeats"),
    [
        (1, 64, 10, 64, 9, 3),
        (17, 100, 70, 32, 4, 3),
        (5, 40, 64, 16, 9, 0),
        (70, 300, 33, 256, 6, 8),
        (3, 7, 5, 4, 2, 1),
        (150, 96, 200, 32, 9, 3),
    ],
)
def test_kernel_of_the_cpu_equals_the_operations(
    kind: type[Membrane], rows: int, inputs: int, outputs: int, block: int, bits: int, repeats: int
) -> None:
    """All bytes as planes and weights of all magnitudes; ranges that saturate and that lose everything; rows beyond a part of the cache."""
    generator = torch.Generator().manual_seed(rows)

    def draw(low: int, high: int, *shape: int) -> torch.Tensor:
        return torch.randint(low, high, shape, dtype=torch.int8, generator=generator)

    readout = kind(rows=block, active_rows=block, converter_bits=bits, repeats=repeats)
    weight, planes = draw(-127, 128, outputs, inputs), draw(-128, 128, 2, rows, inputs)
    ranges, phases = draw(-5, 12, readout.row_blocks(inputs), outputs), draw(1, 15, rows).long()
    none = torch.zeros(0)
    site = SiteTensors(weight, none, none, none, None, True, ranges, row_blocks(weight, block))
    coded = CodedRows(planes, none, none)
    expected, found = (each.read_blocks(coded, phases, 1, site, readout) for each in (Operations(), CpuOperations()))
    assert torch.equal(found, expected) and len(found.unique()) > 2


class Silent(Membrane):
    """Membranes whose converters give nothing."""

    def convert(self, sums: Array, exponents: Array, ranges: Array, xp: Library) -> tuple[Array, Array]:
        """See BlockReadout.convert."""
        converted, repeats = super().convert(sums, exponents, ranges, xp)
        return 0 * converted, repeats


def test_a_derived_class_keeps_its_conversion() -> None:
    """The kernel of the CPU is that of Membrane alone."""
    generator = torch.Generator().manual_seed(0)
    weight, planes = (torch.randint(-100, 100, shape, dtype=torch.int8, generator=generator) for shape in ((8, 16), (2, 3, 16)))
    none = torch.zeros(0)
    site = SiteTensors(weight, none, none, none, None, True, torch.zeros(1, 8, dtype=torch.int8), (weight,))
    coded, phases = CodedRows(planes, none, none), torch.tensor([1, 7, 14])
    own, other = (
        CpuOperations().read_blocks(coded, phases, 1, site, kind(rows=16, active_rows=16, converter_bits=9)) for kind in (Membrane, Silent)
    )
    assert own.any() and not other.any()
