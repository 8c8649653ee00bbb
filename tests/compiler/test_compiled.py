"""Compiled modules of small networks in full: places, routes, programs, memory; every shortage with its message."""

# ruff: noqa: E501 - lines of a program are as long as they are

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuromorphic_llm.chip.instructions import Send, SendToken
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.choose_slices import ChooseSlices
from neuromorphic_llm.compiler.fold import Fold
from neuromorphic_llm.compiler.legalise import Legalise
from neuromorphic_llm.compiler.module import CompilerPass, Module, print_module
from neuromorphic_llm.compiler.partition import Partition
from neuromorphic_llm.compiler.pipeline import compile_network, default_pipeline, run_passes
from neuromorphic_llm.compiler.place import _Placement
from neuromorphic_llm.compiler.shortage import ShortageError
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights

TINY = replace(
    SMALL_CONFIG, vocab_size=70, hidden_size=8, intermediate_size=100, layers=1, heads=2, kv_heads=1, head_dim=4, max_positions=16
)
WEIGHTS = random_decoder(0, config=TINY)
NANO = load_spec("nano")


def folded(weights: DecoderWeights) -> Module:
    """The module with fused steps."""
    return run_passes(Module(build_graph(weights), weights, NANO), (Legalise(), Fold()))


COMPILED = """\
routes {
  spike layers.0.qkv: 3 -> 1
  spike layers.0.output: 3 -> 5
  spike layers.0.gate_up: 3 -> 4
  spike layers.0.down: 3 -> 2
  spike head: 9 -> 10
  value layers.0.qkv.0: 1 -> 3
  value layers.0.output.0: 5 -> 3
  value layers.0.gate_up.0: 4 -> 3
  value layers.0.down.0: 2 -> 3
  value head.0: 10 -> 9
  residual 0: 0 -> 3
  residual 1: 3 -> 9
  credit 0: 3 -> 0
  credit 1: 9 -> 3
  token next: 9 -> 0
  logits head.0: 10 -> 0
}
programs {
  stage 0: receive residual 8; norm 8; encode qkv 8; receive qkv 16; rope 12; kv-write 8; attend; encode output 8; receive output 8; add 8; norm 8; encode gate_up 8; receive gate_up 100; encode down 100; receive down 8; add 8; send 8
  stage 1: receive residual 8; norm 8; encode head 8; receive head 2; send-token
}
memory {
  context 16
  stage 0 %layers.0.attention.norm: 692..723
  stage 0 %layers.0.qkv: 692..755
  stage 0 %layers.0.qkv.rotated: 756..819
  stage 0 %layers.0.mixed: 692..723
  stage 0 %layers.0.output: 692..723
  stage 0 %layers.0.attended: 724..755
  stage 0 %layers.0.feed_forward.norm: 692..723
  stage 0 %layers.0.hidden: 756..1155
  stage 0 %layers.0.down: 692..723
  stage 0 %layers.0.residual: 756..787
  stage 1 %final.norm: 160..191
  stage 1 %next: 160..163
}
"""


def test_compiled() -> None:
    """Constants of stage 0 take 96 + 64 + 496 + 36 bytes: residuals, gains, prices, attention."""
    text = print_module(run_passes(Module(build_graph(WEIGHTS), WEIGHTS, NANO), default_pipeline()))
    assert text[text.index("routes {") :] == COMPILED


@pytest.mark.parametrize(
    ("seed", "tiles"),
    [
        (0, [(3, [[4], [5], [2], [1]]), (9, [[8], [7], [15], [10]]), (13, [[12]])]),
        (1, [(3, [[4], [5], [2], [1]]), (9, [[15], [7], [8], [10]]), (13, [[14]])]),
    ],
)
def test_places(seed: int, tiles: list[tuple[int, list[list[int]]]]) -> None:
    program = compile_network(random_decoder(0), NANO, seed=seed)
    assert [(stage.vector_tile, [[region.tile for region in site] for site in stage.regions]) for stage in program.stages] == tiles


def test_costs_of_places() -> None:
    """Flit-hops expected of each stage: two words or four events in a flit, 1.5 spikes an input; residuals and credits at both ends."""
    module = run_passes(Module(build_graph(random_decoder(0)), random_decoder(0), NANO), default_pipeline()[:4])
    placement, mesh = _Placement(module), NANO.topology
    chain = [0, *placement.vector, 0]
    for stage, vector in enumerate(placement.vector):
        last = stage == len(placement.vector) - 1
        sites = [(32, [1])] if last else [(32, [64 / 2]), (32, [32 / 2]), (32, [48 / 2]), (48, [32 / 2])]
        cost = (32 / 2 + 1) * mesh.distance(chain[stage], vector) + (1 if last else 32 / 2 + 1) * mesh.distance(vector, chain[stage + 2])
        for (inputs, flits), tiles in zip(sites, placement.tiles[4 * stage : 4 * stage + 4], strict=True):
            cost += inputs * 1.5 / 4 * mesh.tree_links(vector, tiles)
            cost += sum(number * mesh.distance(tile, vector) for number, tile in zip(flits, tiles, strict=True))
        assert placement.stage_cost(stage) == cost


def test_logits_are_wanted_of_the_last_stage_only() -> None:
    programs = run_passes(Module(build_graph(random_decoder(0)), random_decoder(0), NANO), default_pipeline()).programs
    assert [program[-1] for program in programs] == [Send(32, wanted=False), Send(32, wanted=True), SendToken()]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (
            random_decoder(0, config=TINY, code="burst"),
            "the network's spike code is burst, and the chip's encoders have signed-digit, rate, first-spike and bit-planes; convert "
            "with one of these, or run this network on the functional backend",
        ),
        (
            random_decoder(0, config=TINY, parts="feed-forward"),
            "4 parts of the network do not spike (first: layers.0.qkv) and the chip runs spiking parts only; convert with all parts "
            "spiking, or run this network on the functional backend",
        ),
        (
            random_decoder(0, config=replace(TINY, gated=False, learned_positions=True)),
            "the chip has no unit for learned positions and a feed-forward without a gate; run this network in the functional simulation "
            "(nmllm eval, SpikingNetwork.functional), or convert a model of the Llama, Mistral or Qwen2 family",
        ),
    ],
)
def test_what_the_chip_has_not(weights: DecoderWeights, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        compile_network(weights, NANO)
    assert str(caught.value) == message


def test_places_of_several_regions() -> None:
    config = replace(SMALL_CONFIG, intermediate_size=100, layers=3, vocab_size=400)
    spec = NANO.with_fields({"synapse.crossbars": 8, "synapse.columns": 32, "mesh.width": 9, "mesh.height": 7})
    program = compile_network(random_decoder(0, config=config), spec, seed=5)
    assert [(stage.vector_tile, [[region.tile for region in site] for site in stage.regions]) for stage in program.stages] == [
        (3, [[12], [6], [4, 5], [2]]),
        (8, [[7], [26], [16, 25], [17]]),
        (18, [[9], [27], [10, 20], [19]]),
        (23, [[24, 32, 22, 14]]),
    ]


@pytest.mark.parametrize(
    ("config", "bias", "sram", "vector_memory", "embedding"),
    [
        (
            TINY,
            False,
            {
                "vector_memory": 1156 + 192,
                "event_banks": 2 * 25 + 2 * 2,
                "key_value": (2 * 4 + 1) * 16,
                "attention_scores": (3 * 2 + 2) * 16,
                "rotary_tables": 2 * 4 * 16,
                "axon": 4 * 28 + 350,
                "accumulators": 4 * (16 + 8 + 200 + 8 + 70),
                "output_parameters": 2 * (16 + 8 + 200 + 8 + 70),
                "routing_tables": 59,  # 47 entries of 10 bits
            },
            (1156, 192),
            70 * 8 * 2,
        ),
        (
            None,
            True,
            {
                "vector_memory": 1860 + 1860 + 768,
                "event_banks": 24 + 24 + 16,
                "key_value": 2 * 2 * (2 * 8 + 1) * 64,
                "attention_scores": 2 * 2 * (3 * 2 + 2) * 64,
                "rotary_tables": 2 * 2 * 8 * 64,
                "axon": 2 * (3 * 112 + 168) + 112,
                "accumulators": 4 * (2 * 224 + 61),
                "output_parameters": 6 * 2 * 224 + 2 * 61,
                "routing_tables": 87,  # 69 entries of 10 bits
            },
            (1860, 1860, 768),
            61 * 32 * 2,
        ),
    ],
)
def test_memory_plan(
    config: DecoderConfig | None, bias: bool, sram: dict[str, int], vector_memory: tuple[int, ...], embedding: int
) -> None:
    weights = random_decoder(0, config=config, bias=bias)
    memory = run_passes(Module(build_graph(weights), weights, NANO), default_pipeline()).memory
    assert memory is not None
    assert (memory.sram, memory.vector_memory, memory.dram) == (sram, vector_memory, {"embedding": embedding})


def test_offsets_of_keys_are_constants() -> None:
    weights = random_decoder(0, key_offset=True)
    memory = run_passes(Module(build_graph(weights), weights, NANO), default_pipeline()).memory
    assert memory is not None
    assert memory.vector_memory[0] == memory.vector_memory[1] + 4 * 2 * 8


@pytest.mark.parametrize(
    ("fields", "code", "passes", "message", "changes"),
    [
        (
            {"synapse.max_phases": 13},
            "signed-digit",
            (Legalise(),),
            "the network's signed-digit code has 14 phases, chip tight counts to 13; convert with at most 13 phases or raise "
            "synapse.max_phases",
            {"synapse.max_phases": 14},
        ),
        (
            {"synapse.crossbars": 3},
            "signed-digit",
            (Legalise(), Fold(), ChooseSlices(), Partition()),
            "layers.0.down has too many inputs for chip tight: one column needs 4 crossbars (2 row blocks x 2 slices), a tile has 3, "
            "and more chips do not help; raise synapse.rows or synapse.crossbars",
            {"synapse.crossbars": 4},
        ),
        (
            {"synapse.columns": 1, "readout.column_mux": 1},
            "signed-digit",
            (Legalise(), Fold(), ChooseSlices(), Partition()),
            "chip tight has crossbars of 1 column; gate and up need 2 side by side; raise synapse.columns",
            {"synapse.columns": 2},
        ),
        (
            {"synapse.crossbars": 2, "synapse.columns": 2, "readout.column_mux": 2},
            "signed-digit",
            (Legalise(), Fold(), ChooseSlices(), Partition()),
            "layers.0.gate_up has 100 outputs and a tile of chip tight holds 1 of them; a flit carries 2, and more chips do not help; "
            "raise synapse.columns or synapse.crossbars, or lower noc.flit_bits",
            {"synapse.crossbars": 4},
        ),
        (
            {"mesh.vector_period": 24, "mesh.vector_offset": 0},
            "signed-digit",
            (Legalise(), Fold(), ChooseSlices(), Partition()),
            "chip tight has 23 synapse tiles and 0 vector tiles, and needs both kinds; change mesh.vector_period, mesh.vector_offset "
            "or the mesh",
            {"mesh.width": 3, "mesh.height": 3, "mesh.vector_period": 4, "mesh.vector_offset": 2},
        ),
        (
            {"mesh.width": 3, "mesh.height": 2},
            "signed-digit",
            (Legalise(), Fold(), ChooseSlices(), Partition()),
            "the network does not fit chip tight: it needs 5 synapse tiles (the chip has 4) and 2 vector tiles (the chip has 1); 2 such "
            "chips would hold it, but running on several is not offered: use a larger chip",
            {"mesh.width": 3, "mesh.height": 3},
        ),
    ],
)
def test_shortages(fields: dict[str, int], code: str, passes: tuple[CompilerPass, ...], message: str, changes: dict[str, int]) -> None:
    weights = random_decoder(0, config=TINY, code=code)
    with pytest.raises(ShortageError) as caught:
        run_passes(Module(build_graph(weights), weights, NANO.with_fields({"name": "tight", **fields})), passes)
    assert (str(caught.value), caught.value.changes) == (message, changes)


@pytest.mark.parametrize(
    ("value", "bits", "message"),
    [
        (
            -128,
            32,
            "head has a weight of magnitude 128, chip nano holds up to 127 (2 slices of 4 bits); use more slices or convert again",
        ),
        (
            127,
            8,
            "a column of head may sum to {sum}, more than 8 accumulator bits hold; use wider accumulators or a code with fewer phases",
        ),
    ],
)
def test_weights_beyond_cells_and_accumulators(value: int, bits: int, message: str) -> None:
    """One column of the head has the largest weights of the network: eight of the same magnitude."""
    weight = WEIGHTS.head.weight.copy()
    weight[3] = value
    weights = replace(WEIGHTS, head=replace(WEIGHTS.head, weight=weight))
    weights = weights.with_sites(lambda site, own: own if site.name == "head" else replace(own, weight=own.weight // 16))
    largest_sum = 8 * abs(value) * WEIGHTS.code.spike_code().largest_value
    with pytest.raises(CompileError) as caught:
        ChooseSlices().apply(replace(folded(weights), spec=NANO.with_fields({"synapse.accumulator_bits": bits})))
    assert str(caught.value) == message.format(sum=largest_sum)
    if bits == 8:
        assert isinstance(caught.value, ShortageError)
        assert caught.value.changes == {"synapse.accumulator_bits": largest_sum.bit_length() + 1}


def test_accumulators_that_just_hold_a_sum() -> None:
    largest = max(
        int(abs(WEIGHTS.site(site.name).weight.astype(int)).sum(axis=1).max()) * WEIGHTS.code.spike_code().largest_value
        for site in TINY.sites
    )
    bits = largest.bit_length() + 1
    ChooseSlices().apply(replace(folded(WEIGHTS), spec=NANO.with_fields({"synapse.accumulator_bits": bits})))
    with pytest.raises(ShortageError):
        ChooseSlices().apply(replace(folded(WEIGHTS), spec=NANO.with_fields({"synapse.accumulator_bits": bits - 1})))


def test_observer_sees_every_pass() -> None:
    seen: list[tuple[str, bool]] = []
    times: list[float] = []

    def observe(name: str, module: Module | None, seconds: float) -> None:
        seen.append((name, module is None))
        times.append(seconds)

    program = compile_network(WEIGHTS, NANO, network_hash="a hash", tokenizer_files={"tokenizer.json": b"{}"}, observer=observe)
    names = ["build", "legalise", "fold", "choose-slices", "partition", "place", "route", "schedule", "allocate", "generate"]
    assert seen == [(name, name == "generate") for name in names]
    assert all(0 <= seconds < 10 for seconds in times)
    assert (program.network_hash, program.tokenizer_files) == ("a hash", {"tokenizer.json": b"{}"})
    assert program.route_sources.tolist() == [3, 3, 3, 3, 9, 1, 5, 4, 2, 10, 0, 3, 3, 9, 9, 10]
    assert program.route_sources.dtype == np.int32
    plain = compile_network(WEIGHTS, NANO)
    assert (plain.network_hash, plain.tokenizer_files) == ("", {})


def test_a_pass_that_breaks_the_graph_is_named() -> None:
    class Breaks:
        name = "breaks"

        def apply(self, module: Module) -> Module:
            return replace(module, graph=replace(module.graph, result="nothing"))

    module = folded(WEIGHTS)
    fault = "its result %nothing is not defined"
    with pytest.raises(CompileError) as caught:
        run_passes(module, (Breaks(),))
    assert str(caught.value) == f"graph is not valid after breaks: {fault}"
    with pytest.raises(CompileError) as caught:
        run_passes(Breaks().apply(module), ())
    assert str(caught.value) == f"graph is not valid before the first pass: {fault}"


def test_a_product_of_another_shape_is_named() -> None:
    nodes = [
        replace(node, operands=("layers.0.output.spikes",)) if node.name == "layers.0.down" else node
        for node in folded(WEIGHTS).graph.nodes
    ]
    with pytest.raises(CompileError) as caught:
        run_passes(replace(folded(WEIGHTS), graph=folded(WEIGHTS).graph.with_nodes(nodes)), ())
    assert str(caught.value) == (
        "graph is not valid before the first pass: %layers.0.down is a product of 8 inputs and 8 columns, which site layers.0.down of the "
        "network is not"
    )
