"""Each pass, text in and text out."""

# ruff: noqa: E501 - lines of a graph are as long as they are

import re
from dataclasses import replace

import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.allocate import Allocate, place_buffers
from neuromorphic_llm.compiler.choose_slices import ChooseSlices
from neuromorphic_llm.compiler.fold import Fold
from neuromorphic_llm.compiler.generate import generate_program
from neuromorphic_llm.compiler.legalise import Legalise
from neuromorphic_llm.compiler.module import CompilerPass, Module, print_module
from neuromorphic_llm.compiler.partition import Partition, split_evenly
from neuromorphic_llm.compiler.pipeline import default_pipeline, run_passes
from neuromorphic_llm.compiler.place import Place
from neuromorphic_llm.compiler.route import RoutePass
from neuromorphic_llm.compiler.schedule import Schedule
from neuromorphic_llm.compiler.shortage import ShortageError
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.text import parse_graph, print_graph
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import random_decoder

TINY = DecoderConfig(
    vocab_size=70,
    hidden_size=8,
    intermediate_size=100,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=4,
    max_positions=16,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    tie_embeddings=False,
)
WEIGHTS = random_decoder(0, config=TINY)
NANO = load_spec("nano")

BUILT = """\
graph {
host:
  %token: i32<0>[1] = token()
  %row: i16<12>[8] = embedding(%token) {vocab=70}
  %residual: i32<14>[8] = shift(%row) {left=2}
stage 0:
  %layers.0.attention.normalised: i32<24>[8] = normalise(%residual)
  %layers.0.attention.norm: i32<12>[8] = gain(%layers.0.attention.normalised) {gain="layers.0.attention_gain"}
  %layers.0.qkv.sums: acc<12>[16] = matmul(%layers.0.attention.norm) {site="layers.0.qkv"}
  %layers.0.qkv: i32<14>[16] = scale(%layers.0.qkv.sums) {site="layers.0.qkv"}
  %layers.0.q: i32<14>[8] = slice(%layers.0.qkv) {start=0}
  %layers.0.k: i32<14>[4] = slice(%layers.0.qkv) {start=8}
  %layers.0.v: i32<14>[4] = slice(%layers.0.qkv) {start=12}
  %layers.0.q.rotated: i32<14>[8] = rope(%layers.0.q) {head_dim=4, rotated=8}
  %layers.0.k.rotated: i32<14>[4] = rope(%layers.0.k) {head_dim=4, rotated=4}
  %layers.0.cache: cache<14>[1x4] = kv_write(%layers.0.k.rotated, %layers.0.v) {kv_heads=1, head_dim=4, base="layers.0.value_base"}
  %layers.0.mixed: i32<14>[8] = attention(%layers.0.q.rotated, %layers.0.cache) {heads=2, stop="layers.0.query_stop", base="layers.0.value_base"}
  %layers.0.output.sums: acc<14>[8] = matmul(%layers.0.mixed) {site="layers.0.output"}
  %layers.0.output: i32<14>[8] = scale(%layers.0.output.sums) {site="layers.0.output"}
  %layers.0.attended: i32<14>[8] = add(%residual, %layers.0.output)
  %layers.0.feed_forward.normalised: i32<24>[8] = normalise(%layers.0.attended)
  %layers.0.feed_forward.norm: i32<12>[8] = gain(%layers.0.feed_forward.normalised) {gain="layers.0.feed_forward_gain"}
  %layers.0.gate_up.sums: acc<12>[200] = matmul(%layers.0.feed_forward.norm) {site="layers.0.gate_up"}
  %layers.0.gate_up: i32<14>[200] = scale(%layers.0.gate_up.sums) {site="layers.0.gate_up"}
  %layers.0.hidden: i32<16>[100] = gate(%layers.0.gate_up) {activation="silu"}
  %layers.0.down.sums: acc<16>[8] = matmul(%layers.0.hidden) {site="layers.0.down"}
  %layers.0.down: i32<14>[8] = scale(%layers.0.down.sums) {site="layers.0.down"}
  %layers.0.residual: i32<14>[8] = add(%layers.0.attended, %layers.0.down)
stage 1:
  %final.normalised: i32<24>[8] = normalise(%layers.0.residual)
  %final.norm: i32<12>[8] = gain(%final.normalised) {gain="final_gain"}
  %head.sums: acc<12>[70] = matmul(%final.norm) {site="head"}
  %head: i32<16>[70] = scale(%head.sums) {site="head"}
  %next: i32<0>[1] = argmax(%head)
  return %next
}
"""

FOLDED = """\
graph {
host:
  %token: i32<0>[1] = token()
  %residual: i32<14>[8] = embedding(%token) {vocab=70, left=2}
stage 0:
  %layers.0.attention.norm: i32<12>[8] = norm(%residual) {gain="layers.0.attention_gain"}
  %layers.0.qkv.spikes: spikes<12>[8] = encode(%layers.0.attention.norm) {site="layers.0.qkv", code="signed-digit", phases=14}
  %layers.0.qkv: i32<14>[16] = linear(%layers.0.qkv.spikes) {site="layers.0.qkv", columns=16}
  %layers.0.qkv.rotated: i32<14>[16] = rope(%layers.0.qkv) {head_dim=4, rotated=12}
  %layers.0.cache: cache<14>[1x4] = kv_write(%layers.0.qkv.rotated) {kv_heads=1, head_dim=4, base="layers.0.value_base"}
  %layers.0.mixed: i32<14>[8] = attention(%layers.0.qkv.rotated, %layers.0.cache) {heads=2, stop="layers.0.query_stop", base="layers.0.value_base"}
  %layers.0.output.spikes: spikes<14>[8] = encode(%layers.0.mixed) {site="layers.0.output", code="signed-digit", phases=14}
  %layers.0.output: i32<14>[8] = linear(%layers.0.output.spikes) {site="layers.0.output", columns=8}
  %layers.0.attended: i32<14>[8] = add(%residual, %layers.0.output)
  %layers.0.feed_forward.norm: i32<12>[8] = norm(%layers.0.attended) {gain="layers.0.feed_forward_gain"}
  %layers.0.gate_up.spikes: spikes<12>[8] = encode(%layers.0.feed_forward.norm) {site="layers.0.gate_up", code="signed-digit", phases=14}
  %layers.0.hidden: i32<16>[100] = linear(%layers.0.gate_up.spikes) {site="layers.0.gate_up", columns=200, activation="silu", epilogue="gate"}
  %layers.0.down.spikes: spikes<16>[100] = encode(%layers.0.hidden) {site="layers.0.down", code="signed-digit", phases=14}
  %layers.0.down: i32<14>[8] = linear(%layers.0.down.spikes) {site="layers.0.down", columns=8}
  %layers.0.residual: i32<14>[8] = add(%layers.0.attended, %layers.0.down)
stage 1:
  %final.norm: i32<12>[8] = norm(%layers.0.residual) {gain="final_gain"}
  %head.spikes: spikes<12>[8] = encode(%final.norm) {site="head", code="signed-digit", phases=14}
  %next: i32<0>[1] = linear(%head.spikes) {site="head", columns=70, epilogue="argmax"}
  return %next
}
"""


def run(text: str, *passes: CompilerPass) -> str:
    """Text of the module after some passes."""
    return print_module(run_passes(Module(parse_graph(text), WEIGHTS, NANO), passes))


def test_built_graph() -> None:
    assert print_graph(build_graph(WEIGHTS)) == BUILT


def test_names_are_kebab_case_and_distinct() -> None:
    names = [step.name for step in default_pipeline()]
    assert names == ["legalise", "fold", "choose-slices", "partition", "place", "route", "schedule", "allocate"]


def test_legalise_puts_an_encoder_before_every_product_once() -> None:
    text = run(BUILT, Legalise())
    assert text.count("= encode(") == 5
    assert (
        '  %layers.0.down.spikes: spikes<16>[100] = encode(%layers.0.hidden) {site="layers.0.down", code="signed-digit", phases=14}\n'
        '  %layers.0.down.sums: acc<16>[8] = matmul(%layers.0.down.spikes) {site="layers.0.down"}\n'
    ) in text
    assert run(text, Legalise()) == text


def test_fold() -> None:
    assert run(BUILT, Legalise(), Fold()) == FOLDED
    assert run(FOLDED, Fold()) == FOLDED


def test_fold_takes_the_bias_in() -> None:
    weights = random_decoder(0, config=TINY, bias=True)
    module = run_passes(Module(build_graph(weights), weights, NANO), (Legalise(), Fold()))
    assert [node.attributes.get("bias") for node in module.graph.linear_nodes()] == [1, 1, 1, 1, None]


def test_fold_leaves_values_with_two_users() -> None:
    text = """\
graph {
host:
  %token: i32<0>[1] = token()
  %row: i16<12>[8] = embedding(%token) {vocab=70}
  %a: i32<14>[8] = shift(%row) {left=2}
  %b: i32<14>[8] = shift(%row) {left=2}
  %c: i32<24>[8] = normalise(%a)
  %d: i32<12>[8] = gain(%c) {gain="x"}
  %e: i32<24>[8] = add(%c, %c)
  return %e
}
"""
    assert run(text, Fold()) == text


def test_choose_slices() -> None:
    text = run(FOLDED, ChooseSlices())
    assert text == re.sub(r"(columns=\d+.*)}", r"\1, slices=2}", FOLDED)


def test_partition() -> None:
    lines = [line for line in run(FOLDED, ChooseSlices(), Partition()).splitlines() if "linear(" in line]
    assert [re.sub(r".*(row_blocks.*)}", r"\1", line) for line in lines] == [
        "row_blocks=1, regions=[16]",
        "row_blocks=1, regions=[8]",
        "row_blocks=1, regions=[200]",
        "row_blocks=2, regions=[8]",
        "row_blocks=1, regions=[70]",
    ]


@pytest.mark.parametrize(
    ("outputs", "block", "blocks_per_tile", "values", "shares"),
    [
        (576, 256, 2, 2, [320, 256]),  # three blocks rather than the four of 288 + 288
        (1536, 128, 4, 2, [512, 512, 512]),
        (960, 256, 4, 2, [960]),
        (10, 4, 1, 2, [4, 4, 2]),
        (5, 4, 1, 2, [4, 1]),
        (7, 3, 1, 1, [3, 2, 2]),
        (14, 7, 1, 4, [4, 4, 4, 2]),
        (7, 3, 1, 2, [2, 2, 2, 1]),  # the third column of a tile would start the next region at an odd output
        (70, 64, 1, 2, [36, 34]),
        (1, 4, 3, 2, [1]),
    ],
)
def test_split_evenly(outputs: int, block: int, blocks_per_tile: int, values: int, shares: list[int]) -> None:
    assert split_evenly(outputs, block, blocks_per_tile, values) == shares


def test_place_is_deterministic_and_adds_tiles_only() -> None:
    partitioned = run(FOLDED, ChooseSlices(), Partition())
    placed = run(partitioned, Place(seed=3))
    assert placed == run(partitioned, Place(seed=3))
    assert re.sub(r", tiles=\[\d+\]| @\d+", "", placed) == partitioned
    assert placed.count("tiles=") == 5 and placed.count("@") == 2


PLACED = """\
graph {
host:
  %token: i32<0>[1] = token()
  %residual: i32<14>[8] = embedding(%token) {vocab=70, left=2}
stage 0 @3:
  %norm: i32<12>[8] = norm(%residual) {gain="final_gain"}
  %spikes: spikes<12>[8] = encode(%norm) {site="head", code="signed-digit", phases=14}
  %next: i32<0>[1] = linear(%spikes) {site="head", columns=70, epilogue="argmax", slices=2, row_blocks=1, regions=[36, 34], tiles=[2, 12]}
  return %next
}
"""


def test_route_and_schedule() -> None:
    # A mesh of 8 x 8 tiles; tile 12 is one below tile 4, east of the vector tile 3.
    text = run(PLACED, RoutePass(), Schedule())
    assert text[len(PLACED) :] == (
        "routes {\n"
        "  spike head: 3 -> 2, 12\n"
        "  value head.0: 2 -> 3\n"
        "  value head.1: 12 -> 3\n"
        "  residual 0: 0 -> 3\n"
        "  credit 0: 3 -> 0\n"
        "  token next: 3 -> 0\n"
        "  logits head.0: 2 -> 0\n"
        "  logits head.1: 12 -> 0\n"
        "}\n"
        "programs {\n"
        "  stage 0: receive residual 8; norm 8; encode head 8; receive head 4; send-token\n"
        "}\n"
    )


def test_generate_wants_every_site() -> None:
    module = run_passes(Module(parse_graph(PLACED), WEIGHTS, NANO), (RoutePass(), Schedule(), Allocate()))
    with pytest.raises(CompileError, match="does not run every crossbar site"):
        generate_program(module, {}, network_hash="", tokenizer_files={})
    with pytest.raises(CompileError, match="run the whole pipeline"):
        generate_program(Module(parse_graph(PLACED), WEIGHTS, NANO), {}, network_hash="", tokenizer_files={})


def test_layer_program() -> None:
    module = run_passes(Module(parse_graph(FOLDED), WEIGHTS, NANO), (ChooseSlices(), Partition(), Schedule()))
    assert tuple(tuple(map(str, program)) for program in module.programs) == (
        (
            "receive residual 8", "norm 8", "encode qkv 8", "receive qkv 16", "rope 12", "kv-write 8", "attend", "encode output 8",
            "receive output 8", "add 8", "norm 8", "encode gate_up 8", "receive gate_up 100", "encode down 100", "receive down 8", "add 8",
            "send 8",
        ),
        ("receive residual 8", "norm 8", "encode head 8", "receive head 2", "send-token"),
    )  # fmt: skip


def test_schedule_refuses_what_was_not_folded() -> None:
    with pytest.raises(CompileError, match=re.escape("%residual = shift has no unit that executes it; fold it into one that has")):
        run(BUILT, Legalise(), Schedule())
    unfolded = FOLDED.replace("kv_write(%layers.0.qkv.rotated)", "kv_write(%layers.0.qkv.rotated, %layers.0.qkv.rotated)")
    with pytest.raises(CompileError, match=re.escape("%layers.0.cache = kv_write has no unit")):
        Schedule().apply(Module(parse_graph(unfolded), WEIGHTS, NANO))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("linear(%layers.0.output.spikes)", "linear(%layers.0.qkv.spikes)", "%layers.0.output.spikes = encode is used by nothing"),
        # attention's output dropped
        ("add(%residual, %layers.0.output)", "add(%residual, %residual)", "%layers.0.output = linear is used by nothing"),
        ("norm(%layers.0.attended)", "norm(%residual)", "%layers.0.feed_forward.norm = norm reads %residual from the residual memory, which holds %layers.0.attended there"),
        ("add(%layers.0.attended, %layers.0.down)", "add(%residual, %layers.0.down)", "%layers.0.residual = add reads %residual from the residual memory"),
        ("attention(%layers.0.qkv.rotated, ", "attention(%layers.0.qkv, ", "%layers.0.mixed = attention reads %layers.0.qkv from the work memory, which holds %layers.0.qkv.rotated"),
        ("encode(%layers.0.mixed)", "encode(%layers.0.attention.norm)", "%layers.0.mixed = attention is used by nothing"),
        ("encode(%layers.0.feed_forward.norm)", "encode(%layers.0.attention.norm)", "used by nothing"),
        ("norm(%layers.0.residual)", "norm(%layers.0.attended)", "used by nothing"),
    ],
)  # fmt: skip
def test_schedule_refuses_another_flow_of_values(old: str, new: str, message: str) -> None:
    assert FOLDED.count(old) == 1
    module = Module(parse_graph(FOLDED.replace(old, new)), WEIGHTS, NANO)
    with pytest.raises(CompileError, match=re.escape(message)):
        Schedule().apply(module)


def test_schedule_refuses_what_comes_between_a_train_and_its_results() -> None:
    """The values that arrive from a site would meet the sum's in the tile."""
    add = "  %twice: i32<14>[8] = add(%layers.0.attended, %layers.0.attended)\n"
    text = FOLDED.replace("  %layers.0.down: ", f"{add}  %layers.0.down: ")
    text = text.replace("add(%layers.0.attended, %layers.0.down)", "add(%twice, %layers.0.down)")
    with pytest.raises(CompileError, match=re.escape("%twice = add comes between %layers.0.down.spikes and the results of its site")):
        Schedule().apply(Module(parse_graph(text), WEIGHTS, NANO))


def test_buffers_overlap_only_when_they_do_not_live_together() -> None:
    nodes = [node for node in parse_graph(FOLDED).nodes if node.stage == 0]
    buffers = {buffer.value: buffer for buffer in place_buffers(nodes, 100)}
    assert set(buffers) == {node.name for node in nodes if node.type.kind == "i32"}
    position = {node.name: index for index, node in enumerate(nodes)}
    last = {operand: index for index, node in enumerate(nodes) for operand in node.operands} | {"layers.0.residual": len(nodes)}
    for a in buffers.values():
        assert a.offset >= 100
        for b in buffers.values():
            together = position[a.value] < position[b.value] <= last[a.value]
            apart = a.offset + a.size <= b.offset or b.offset + b.size <= a.offset
            assert apart or not together
    assert buffers["layers.0.mixed"].offset == 100  # takes the place of what is no longer needed


def test_allocate_refuses_small_memories() -> None:
    module = run_passes(Module(build_graph(WEIGHTS), WEIGHTS, NANO), default_pipeline())

    def refused(field: str, value: int) -> tuple[str, dict[str, int]]:
        with pytest.raises(ShortageError) as caught:
            Allocate().apply(replace(module, spec=NANO.with_fields({"name": "tight", field: value})))
        return str(caught.value), caught.value.changes

    assert refused("vector.memory_bytes", 1152) == (
        "stage 0 needs 1156 bytes of vector memory, chip tight has 1152, and more chips do not help; raise vector.memory_bytes",
        {"vector.memory_bytes": 1156},
    )
    assert refused("vector.kv_bytes_per_engine", 8) == (
        "one token needs 9 bytes in a key/value memory (1 heads an engine), chip tight has 8, and more chips do not help; raise "
        "vector.kv_bytes_per_engine or vector.attention_engines",
        {"vector.kv_bytes_per_engine": 16 * 9},
    )
    Allocate().apply(replace(module, spec=NANO.with_fields({"vector.memory_bytes": 1156})))
    with pytest.raises(CompileError, match="memory is planned for instructions; run schedule before allocate"):
        Allocate().apply(Module(parse_graph(FOLDED), WEIGHTS, NANO))
