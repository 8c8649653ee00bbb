"""The verifier refuses every way in which a graph can be wrong."""

import re
from dataclasses import replace

import pytest

from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.operations import OPERATIONS
from neuromorphic_llm.graph.text import parse_graph, print_graph
from neuromorphic_llm.graph.verify import verify_graph, verify_sites
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder

TEXT = print_graph(build_graph(random_decoder(0)))


def test_a_decoder_is_valid_and_uses_known_operations_only() -> None:
    graph = build_graph(random_decoder(0, bias=True))
    verify_graph(graph)
    verify_sites(graph, {site.name: site.shape for site in SMALL_CONFIG.sites})
    assert graph.stages == SMALL_CONFIG.layers + 1
    assert {node.operation for node in graph.nodes} <= set(OPERATIONS)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("= rope(", "= turn(", "turn is not a known operation"),
        ("%layers.0.k:", "%layers.0.q:", "%layers.0.q = slice defines a value a second time"),
        ("add(%residual, ", "add(%later, ", "uses %later before its definition"),
        ("add(%residual, ", "add(", "takes 2 operands, got 1"),
        ("kv_write(%layers.0.k.rotated, %layers.0.v)", "kv_write()", "takes 1 or 2 operands, got 0"),
        (" {left=2}", "", "lacks the attribute 'left'"),
        ("{left=2}", "{left=2, right=1}", "unknown attribute 'right'"),
        ("{left=2}", '{left="2"}', "left = '2', expected int"),
        ("{left=2}", "{left=3}", "has type i32<14>[32], expected i32<15>[32]"),
        ("%layers.0.qkv.sums: acc<12>", "%layers.0.qkv.sums: acc<11>", "expected acc<12>[64]"),
        (
            '= scale(%layers.0.qkv.sums) {site="layers.0.qkv"}',
            '= scale(%layers.0.attention.norm) {site="layers.0.qkv"}',
            "takes acc, got i32<12>[32]",
        ),
        ("= slice(%layers.0.qkv) {start=48}", "= slice(%layers.0.qkv) {start=49}", "takes elements 49..64"),
        ("{heads=4,", "{heads=3,", "has 3 heads of 8 over 2 key/value heads"),
        ("{head_dim=8, rotated=32}", "{head_dim=5, rotated=32}", "rotates 32 elements"),
        ("kv_write(%layers.0.k.rotated, %layers.0.v)", "kv_write(%layers.0.k.rotated, %layers.0.q)", "takes keys and values of 16"),
        ("%layers.0.hidden: i32<16>[48]", "%layers.0.hidden: i32<16>[96]", "expected i32<16>[48]"),
        (
            'matmul(%layers.0.mixed) {site="layers.0.output"}',
            'matmul(%layers.0.mixed) {site="layers.0.qkv"}',
            "uses site layers.0.qkv a second time",
        ),
        ("stage 1:", "stage 2:", "is in stage 2 after one of stage 0"),
        ("return %next", "return %nothing", "its result %nothing is not defined"),
        ("stage 0:", "stage 0 @3:", "1 vector tiles for 3 stages"),
    ],
)
def test_faults(before: str, after: str, message: str) -> None:
    assert before in TEXT
    with pytest.raises(CompileError, match=re.escape(message)):
        verify_graph(parse_graph(TEXT.replace(before, after, 1)))


LINEAR = """graph {
stage 0 @1:
  %token: i32<0>[1] = token()
  %row: i32<14>[8] = embedding(%token) {vocab=5, left=0}
  %spikes: spikes<14>[8] = encode(%row) {site="head", code="rate", phases=4}
  %next: i32<0>[1] = linear(%spikes) {site="head", columns=5, epilogue="argmax", regions=[3, 2], tiles=[3, 5]}
  return %next
}"""


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("[3, 2]", "[3, 3]", "regions of 6 columns together, expected 5"),
        ("tiles=[3, 5]", "tiles=[3]", "not one for each region"),
        ("tiles=[3, 5]", "tiles=[3, 3]", "two regions on one tile"),
        ("tiles=[3, 5]", "tiles=[3, 1]", "tile 1 is used twice"),
        ('"argmax"', '"sum"', "has epilogue 'sum'"),
        ("linear(%spikes)", "linear(%row)", "takes spikes, got i32<14>[8]"),
    ],
)
def test_faults_of_placed_layers(before: str, after: str, message: str) -> None:
    verify_graph(parse_graph(LINEAR))
    with pytest.raises(CompileError, match=re.escape(message)):
        verify_graph(parse_graph(LINEAR.replace(before, after, 1)))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("token()", "token(%x)", "%token = token uses %x before its definition"),
        ("return %next", "return %x", "its result %x is not defined"),
        ("stage 0 @1", "stage 1 @1", "1 vector tiles for 2 stages"),
        ("tiles=[3, 5]", "tiles=[3, 1]", "tile 1 is used twice"),
    ],
)
@pytest.mark.parametrize("when", ["", "after fold"])
def test_messages_say_when(before: str, after: str, message: str, when: str) -> None:
    with pytest.raises(CompileError) as caught:
        verify_graph(parse_graph(LINEAR.replace(before, after)), when)
    assert str(caught.value) == f"graph is not valid{' after fold' if when else ''}: {message}"


@pytest.mark.parametrize(
    ("before", "after", "fault"),
    [
        ("token()", "tokens()", "tokens is not a known operation"),
        ("token()", "token() {seed=1}", "token has the unknown attribute 'seed'"),
        ("{vocab=5, left=0}", "{zone=1, left=0, vocab=5, area=2}", "embedding has the unknown attribute 'area'"),
        ("{vocab=5, left=0}", "{left=0}", "embedding lacks the attribute 'vocab'"),
        ("encode(%row)", "encode()", "encode takes 1 operands, got 0"),
        ('code="rate"', "code=3", "encode has the attribute code = 3, expected text"),
        ("regions=[3, 2]", "regions=5", "linear has the attribute regions = 5, expected list"),
        ("columns=5", 'columns="5"', "linear has the attribute columns = '5', expected int"),
        ("stage 0 @1", "stage 3 @1", None),
        ("  %spikes", "stage 1 @2:\n%spikes", None),
        ("  %spikes", "stage 2 @2:\n%spikes", "encode is in stage 2 after one of stage 0"),
        ("  %spikes", "host:\n%spikes", "encode is in stage -1 after one of stage 0"),
    ],
)
def test_faults_of_nodes(before: str, after: str, fault: str | None) -> None:
    graph = parse_graph(LINEAR.replace(before, after))
    graph = replace(graph, vector_tiles=())
    if fault is None:
        verify_graph(graph)
        return
    with pytest.raises(CompileError, match=rf"^graph is not valid: %\w+ = {re.escape(fault)}$"):
        verify_graph(graph)


def test_site_of_another_shape() -> None:
    graph = parse_graph(TEXT.replace("acc<12>[64]", "acc<12>[63]").replace("%layers.0.qkv: i32<14>[64]", "%layers.0.qkv: i32<14>[63]"))
    fault = "%layers.0.qkv.sums is a product of 32 inputs and 63 columns, which site layers.0.qkv of the network is not"
    shapes = {site.name: site.shape for site in SMALL_CONFIG.sites}
    with pytest.raises(CompileError, match=f"^graph is not valid: {re.escape(fault)}$"):
        verify_sites(graph, shapes)
    with pytest.raises(CompileError, match=f"^graph is not valid after fold: {re.escape(fault)}$"):
        verify_sites(graph, shapes, "after fold")
