"""Graph of a decoder with everything that Llama has not, and what its blocks answer; every fraction differs."""

# ruff: noqa: E501 - lines of a graph are as long as they are

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from neuromorphic_llm.errors import ArtefactError, SimulationError
from neuromorphic_llm.graph.rewrite import fuse_attention
from neuromorphic_llm.graph.text import print_graph
from neuromorphic_llm.reference.blocks import KINDS, Attention, Block, FeedForward, Parameter, Site, block_from_json, register_block
from neuromorphic_llm.reference.build import build_graph, engine_graph
from neuromorphic_llm.reference.config import DecoderConfig, Formats
from neuromorphic_llm.reference.random_decoder import random_decoder

CONFIG = DecoderConfig(
    vocab_size=6,
    hidden_size=8,
    intermediate_size=10,
    layers=1,
    heads=2,
    kv_heads=1,
    head_dim=4,
    max_positions=16,
    rms_norm_eps=1e-5,
    rope_theta=1e4,
    tie_embeddings=False,
    activation="gelu-tanh",
    gated=False,
    query_key_norm=True,
    output_norms=True,
    learned_positions=True,
    local_rotary=True,
    windows=(4,),
    attention_softcap=50.0,
    logit_softcap=30.0,
)
FORMATS = Formats(residual=13, norm=11, qkv=10, attention=9, gate=12, logit=7, embedding_shift=3)

BUILT = """\
graph {
host:
  %token: i32<0>[1] = token()
  %row: i16<10>[8] = embedding(%token) {vocab=6}
  %residual: i32<13>[8] = shift(%row) {left=3}
  %position: i16<10>[8] = positions(%token)
  %position.residual: i32<13>[8] = shift(%position) {left=3}
  %positioned: i32<13>[8] = add(%residual, %position.residual)
stage 0:
  %layers.0.attention.normalised: i32<24>[8] = normalise(%positioned)
  %layers.0.attention.norm: i32<11>[8] = gain(%layers.0.attention.normalised) {gain="layers.0.attention_gain"}
  %layers.0.qkv.sums: acc<11>[16] = matmul(%layers.0.attention.norm) {site="layers.0.qkv"}
  %layers.0.qkv.scaled: wide<10>[16] = scale(%layers.0.qkv.sums) {site="layers.0.qkv"}
  %layers.0.qkv: i32<10>[16] = bias(%layers.0.qkv.scaled) {site="layers.0.qkv"}
  %layers.0.q: i32<10>[8] = slice(%layers.0.qkv) {start=0}
  %layers.0.k: i32<10>[4] = slice(%layers.0.qkv) {start=8}
  %layers.0.v: i32<10>[4] = slice(%layers.0.qkv) {start=12}
  %layers.0.q.normalised: i32<24>[8] = normalise(%layers.0.q) {channels=4}
  %layers.0.q.norm: i32<10>[8] = gain(%layers.0.q.normalised) {gain="layers.0.query_gain"}
  %layers.0.k.normalised: i32<24>[4] = normalise(%layers.0.k) {channels=4}
  %layers.0.k.norm: i32<10>[4] = gain(%layers.0.k.normalised) {gain="layers.0.key_gain"}
  %layers.0.q.rotated: i32<10>[8] = rope(%layers.0.q.norm) {head_dim=4, rotated=8, table="local_rope"}
  %layers.0.k.rotated: i32<10>[4] = rope(%layers.0.k.norm) {head_dim=4, rotated=4, table="local_rope"}
  %layers.0.cache: cache<10>[1x4] = kv_write(%layers.0.k.rotated, %layers.0.v) {kv_heads=1, head_dim=4, base="layers.0.value_base"}
  %layers.0.mixed: i32<9>[8] = attention(%layers.0.q.rotated, %layers.0.cache) {heads=2, stop="layers.0.query_stop", base="layers.0.value_base", window=4, cap=[18466, 58145, 10], dense=1}
  %layers.0.output.sums: acc<9>[8] = matmul(%layers.0.mixed) {site="layers.0.output"}
  %layers.0.output.scaled: wide<13>[8] = scale(%layers.0.output.sums) {site="layers.0.output"}
  %layers.0.output: i32<13>[8] = bias(%layers.0.output.scaled) {site="layers.0.output"}
  %layers.0.output.normalised: i32<24>[8] = normalise(%layers.0.output)
  %layers.0.output.norm: i32<13>[8] = gain(%layers.0.output.normalised) {gain="layers.0.attention_output_gain"}
  %layers.0.attended: i32<13>[8] = add(%positioned, %layers.0.output.norm)
  %layers.0.feed_forward.normalised: i32<24>[8] = normalise(%layers.0.attended)
  %layers.0.feed_forward.norm: i32<11>[8] = gain(%layers.0.feed_forward.normalised) {gain="layers.0.feed_forward_gain"}
  %layers.0.gate_up.sums: acc<11>[10] = matmul(%layers.0.feed_forward.norm) {site="layers.0.gate_up"}
  %layers.0.gate_up.scaled: wide<12>[10] = scale(%layers.0.gate_up.sums) {site="layers.0.gate_up"}
  %layers.0.gate_up: i32<12>[10] = bias(%layers.0.gate_up.scaled) {site="layers.0.gate_up"}
  %layers.0.hidden: i32<6>[10] = activate(%layers.0.gate_up) {activation="gelu-tanh"}
  %layers.0.down.sums: acc<6>[8] = matmul(%layers.0.hidden) {site="layers.0.down"}
  %layers.0.down.scaled: wide<13>[8] = scale(%layers.0.down.sums) {site="layers.0.down"}
  %layers.0.down: i32<13>[8] = bias(%layers.0.down.scaled) {site="layers.0.down"}
  %layers.0.down.normalised: i32<24>[8] = normalise(%layers.0.down)
  %layers.0.down.norm: i32<13>[8] = gain(%layers.0.down.normalised) {gain="layers.0.feed_forward_output_gain"}
  %layers.0.residual: i32<13>[8] = add(%layers.0.attended, %layers.0.down.norm)
stage 1:
  %final.normalised: i32<24>[8] = normalise(%layers.0.residual)
  %final.norm: i32<11>[8] = gain(%final.normalised) {gain="final_gain"}
  %head.sums: acc<11>[6] = matmul(%final.norm) {site="head"}
  %head: i32<7>[6] = scale(%head.sums) {site="head"}
  %logits: i32<7>[6] = soft_cap(%head) {cap=[3840, 34953, 7]}
  %next: i32<0>[1] = argmax(%logits)
  return %next
}
"""

ENGINE = """\
graph {
host:
  %token: i32<0>[1] = token()
  %row: i16<10>[8] = embedding(%token) {vocab=6}
  %residual: i32<13>[8] = shift(%row) {left=3}
  %position: i16<10>[8] = positions(%token)
  %position.residual: i32<13>[8] = shift(%position) {left=3}
  %positioned: i32<13>[8] = add(%residual, %position.residual)
stage 0:
  %layers.0.attention.norm: i32<11>[8] = norm(%positioned) {gain="layers.0.attention_gain"}
  %layers.0.qkv: i32<10>[16] = linear(%layers.0.attention.norm) {site="layers.0.qkv", columns=16, bias=1}
  %layers.0.q: i32<10>[8] = slice(%layers.0.qkv) {start=0}
  %layers.0.k: i32<10>[4] = slice(%layers.0.qkv) {start=8}
  %layers.0.v: i32<10>[4] = slice(%layers.0.qkv) {start=12}
  %layers.0.q.norm: i32<10>[8] = norm(%layers.0.q) {channels=4, gain="layers.0.query_gain"}
  %layers.0.k.norm: i32<10>[4] = norm(%layers.0.k) {channels=4, gain="layers.0.key_gain"}
  %layers.0.mixed: i32<9>[8] = self_attention(%layers.0.q.norm, %layers.0.k.norm, %layers.0.v) {head_dim=4, rotated=8, table="local_rope", kv_heads=1, base="layers.0.value_base", heads=2, stop="layers.0.query_stop", window=4, cap=[18466, 58145, 10], dense=1}
  %layers.0.output: i32<13>[8] = linear(%layers.0.mixed) {site="layers.0.output", columns=8, bias=1}
  %layers.0.output.norm: i32<13>[8] = norm(%layers.0.output) {gain="layers.0.attention_output_gain"}
  %layers.0.attended: i32<13>[8] = add(%positioned, %layers.0.output.norm)
  %layers.0.feed_forward.norm: i32<11>[8] = norm(%layers.0.attended) {gain="layers.0.feed_forward_gain"}
  %layers.0.gate_up: i32<12>[10] = linear(%layers.0.feed_forward.norm) {site="layers.0.gate_up", columns=10, bias=1}
  %layers.0.hidden: i32<6>[10] = activate(%layers.0.gate_up) {activation="gelu-tanh"}
  %layers.0.down: i32<13>[8] = linear(%layers.0.hidden) {site="layers.0.down", columns=8, bias=1}
  %layers.0.down.norm: i32<13>[8] = norm(%layers.0.down) {gain="layers.0.feed_forward_output_gain"}
  %layers.0.residual: i32<13>[8] = add(%layers.0.attended, %layers.0.down.norm)
stage 1:
  %final.norm: i32<11>[8] = norm(%layers.0.residual) {gain="final_gain"}
  %head: i32<7>[6] = linear(%final.norm) {site="head", columns=6}
  %logits: i32<7>[6] = soft_cap(%head) {cap=[3840, 34953, 7]}
  return %logits
}
"""


def weights(config: DecoderConfig = CONFIG) -> Any:
    """Numbers do not matter; only the feed-forward spikes."""
    random = random_decoder(0, config=config, bias=True, parts="feed-forward")
    return replace(random, formats=FORMATS, layers=(random.layers[0].replaced(hidden_fraction=6),))


def test_built_graph() -> None:
    assert print_graph(build_graph(weights())) == BUILT


def test_graph_of_engines() -> None:
    """Up to the logits; norms, linear layers and attention are one operation each."""
    assert print_graph(engine_graph(weights())) == ENGINE


def test_queries_and_keys_of_other_rotations_are_refused() -> None:
    graph = build_graph(weights())
    nodes = [node.with_attributes(table="rope") if node.name == "layers.0.k.rotated" else node for node in graph.nodes]
    with pytest.raises(SimulationError) as caught:
        fuse_attention(graph.with_nodes(nodes))
    message = "%layers.0.mixed = attention of queries and keys without a common rotation cannot be simulated"
    assert str(caught.value) == message


def test_parallel_blocks_read_the_same_stream() -> None:
    config = replace(CONFIG, parallel_residual=True, output_norms=False, learned_positions=False)
    graph = build_graph(weights(config))
    assert graph.node("layers.0.attention.normalised").operands == ("residual",)
    assert graph.node("layers.0.feed_forward.normalised").operands == ("residual",)
    assert graph.node("layers.0.residual").operands == ("layers.0.attended", "layers.0.down")


def test_offsets_of_keys_are_named() -> None:
    node = build_graph(random_decoder(0, key_offset=True)).node("layers.0.cache")
    assert dict(node.attributes) == {"kv_heads": 2, "head_dim": 8, "key_offset": "layers.0.key_offset", "base": "layers.0.value_base"}


def test_sites() -> None:
    attention, gated = Attention(3, 2, 1, 4), FeedForward(3, 10)
    qkv = Site("layers.3.qkv", 8, 16, "norm", "qkv", "attention", stage=3)
    output = Site("layers.3.output", 8, 8, "attention", "residual", "attention", stage=3)
    down = Site("layers.3.down", 10, 8, "hidden_fraction", "residual", "feed-forward", stage=3)
    assert attention.sites(CONFIG) == (qkv, output)
    assert gated.sites(CONFIG) == (Site("layers.3.gate_up", 8, 20, "norm", "gate", "feed-forward", "gate", stage=3), down)
    assert FeedForward(3, 10, gated=False).sites(CONFIG) == (
        Site("layers.3.gate_up", 8, 10, "norm", "gate", "feed-forward", "", stage=3),
        down,
    )
    assert (qkv.role, qkv.shape) == ("qkv", (8, 16))


def test_parameters() -> None:
    hidden = (8,)
    plain = (
        Parameter("attention_gain", shape=hidden),
        Parameter("query_stop", shape=(2, 4), least=0),
        Parameter("value_base", shape=(1,), least=0, most=31),
    )
    offset = Parameter("key_offset", shape=(1, 4), optional=True)
    gains = (Parameter("query_gain", shape=(4,)), Parameter("key_gain", shape=(4,)))
    assert Attention(0, 2, 1, 4).parameters(CONFIG) == (*plain, offset)
    assert Attention(0, 2, 1, 4, query_key_norm=True, output_norm=True, softcap=2.0).parameters(CONFIG) == (
        *plain,
        *gains,
        Parameter("attention_output_gain", shape=hidden),
    )
    feed_forward = (Parameter("feed_forward_gain", shape=hidden), Parameter("hidden_fraction", least=0, most=30))
    assert FeedForward(0, 10).parameters(CONFIG) == feed_forward
    assert FeedForward(0, 10, output_norm=True).parameters(CONFIG) == (
        *feed_forward,
        Parameter("feed_forward_output_gain", shape=hidden),
    )


@pytest.mark.parametrize("block", [Attention(1, 2, 1, 4, window=3, softcap=2.0), FeedForward(2, 10, "relu", gated=False)])
def test_blocks_in_json(block: Block) -> None:
    assert block_from_json(block.to_json(), "a file") == block
    assert block.to_json()["kind"] == block.kind


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        ("attention", TypeError, "a block must be an object with a kind, got 'attention'"),
        ({"layer": 0}, TypeError, "a block must be an object with a kind, got {'layer': 0}"),
        ({"kind": 3}, TypeError, "a block must be an object with a kind, got {'kind': 3}"),
        (
            {"kind": "feed-forward", "layer": 0, "size": 3, "width": 4, "x": 1},
            ValueError,
            "a block of kind 'feed-forward' has no field 'width'",
        ),
        (
            {"kind": "mixer"},
            ArtefactError,
            "a file: unknown kind of block 'mixer'; import the module or install the distribution that registers it, or write the "
            "artefact again",
        ),
    ],
)
def test_blocks_that_cannot_be(entry: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        block_from_json(entry, "a file")
    assert str(caught.value) == message


def test_kinds_are_registered_by_their_name(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, type[Block]]] = []
    monkeypatch.setattr(KINDS, "register", lambda name, block: seen.append((name, block)))
    assert register_block(FeedForward) is FeedForward
    assert seen == [("feed-forward", FeedForward)]
