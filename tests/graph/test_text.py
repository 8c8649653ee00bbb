"""Text form: print and parse are inverse; faults name line and column."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import KINDS, Graph, Node, ValueType
from neuromorphic_llm.graph.text import parse_graph, print_graph
from neuromorphic_llm.reference.build import build_graph
from neuromorphic_llm.reference.random_decoder import random_decoder

SMALL = """\
graph {
host:
  %token: i32<0>[1] = token()
  %row: i16<12>[8] = embedding(%token) {vocab=5}
  %residual: i32<14>[8] = shift(%row) {left=2}
stage 0 @4:
  %final.norm: i32<12>[8] = norm(%residual) {gain="final_gain"}
  %head.spikes: spikes<12>[8] = encode(%final.norm) {site="head", code="rate", phases=4}
  %next: i32<0>[1] = linear(%head.spikes) {site="head", columns=5, epilogue="argmax", regions=[3, 2], tiles=[3, 5]}
  return %next
}
"""


def test_prints_what_it_parses() -> None:
    graph = parse_graph(SMALL)
    assert print_graph(graph) == SMALL
    assert graph.vector_tiles == (4,)
    assert graph.node("next").integers("tiles") == (3, 5)


@pytest.mark.parametrize("bias", [False, True])
def test_round_trip_of_a_decoder(bias: bool) -> None:
    graph = build_graph(random_decoder(0, bias=bias))
    assert parse_graph(print_graph(graph)) == graph


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.]{0,8}", fullmatch=True)
values = st.integers(-(2**40), 2**40) | st.lists(st.integers(-9, 9)).map(tuple) | st.from_regex(r"[^\"\n\r]{0,6}", fullmatch=True)
types = st.builds(ValueType, st.sampled_from(KINDS), st.integers(-40, 40), st.lists(st.integers(1, 99), min_size=1, max_size=3).map(tuple))
nodes = st.builds(Node, names, types, names, st.lists(names, max_size=3).map(tuple), st.dictionaries(names, values, max_size=3))


@given(st.lists(st.lists(nodes, min_size=1, max_size=3), max_size=3), names, st.booleans())
def test_round_trip_of_anything_well_formed(stages: list[list[Node]], result: str, placed: bool) -> None:
    listed = [Node(n.name, n.type, n.operation, n.operands, n.attributes, number - 1) for number, part in enumerate(stages) for n in part]
    graph = Graph(tuple(listed), result, tuple(range(max(len(stages) - 1, 0))) if placed else ())
    assert parse_graph(print_graph(graph)) == graph


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "graph:1:1: expected 'graph', found 'the end'"),
        ("\n", "graph:2:1: expected 'graph', found 'the end'"),
        ("\n&", "graph:2:1: expected 'graph', found '&'"),
        ("graph { host: %x: i32<", "graph:1:23: expected a number, found 'the end'"),
        ("graph{\nreturn", "graph:2:7: expected a value such as %x, found 'the end'"),
    ],
)
def test_faults_at_the_ends_of_a_text(text: str, message: str) -> None:
    with pytest.raises(CompileError) as caught:
        parse_graph(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("graph {", "grap {", "g:1:1: expected 'graph', found 'grap'"),
        ("%row: i16", "%row i16", "g:4:8: expected ':', found 'i16'"),
        ("i16<12>", "i17<12>", "g:4:9: unknown type 'i17'; known: i16, i32"),
        ("i16<12>[8]", "i16<12>[0]", "g:4:16: expected a shape of positive sizes"),
        ("i16<12>", "i16<x>", "g:4:13: expected a number, found 'x'"),
        ("{vocab=5}", "{vocab=5", "g:5:3: expected ',', found '%residual'"),
        ("{left=2}", "{left=2, left=3}", "g:5:48: attribute 'left' is given twice"),
        ("(%token)", "(token)", "g:4:32: expected a value such as %x, found 'token'"),
        ("host:\n", "", "g:2:3: expected 'host:' or 'stage N:'"),
        ("stage 0 @4", "stage zero", "g:6:7: expected a number, found 'zero'"),
        ("\n}\n", "\n", "g:11:1: expected '}', found 'the end'"),
        ("\n}\n", "\n}\nmore", "g:12:1: expected the end"),
        ("  return %next\n}\n", "", "g:10:1: expected"),
        ('"rate"', '"rate', "g:8:72: expected a number, a text in quotes or a list"),
        ("%row: i16", "&row: i16", "g:4:3: expected a value such as %x, found '&'"),
        ("graph {", "{", "g:1:1: expected 'graph', found '{'"),
        ("graph {", "graph host", "g:1:7: expected '{', found 'host'"),
        ("%row: i16<12>", "%row: <12>", "g:4:9: expected a type such as i32<14>[576], found '<'"),
        ("= embedding(", "= (", "g:4:22: expected an operation, found '('"),
        ("{vocab=5}", "{5}", "g:4:41: expected an attribute, found '5'"),
        ('"rate"', '"rate', "g:8:72: expected a number, a text in quotes or a list, found '\"'"),
        ("{left=2}", "{left=x}", "g:5:45: expected a number, a text in quotes or a list, found 'x'"),
        ("phases=4", "phases=[x]", "g:8:88: expected a number, found 'x'"),
    ],
)
def test_faults_name_line_and_column(before: str, after: str, message: str) -> None:
    assert before in SMALL
    with pytest.raises(CompileError, match=re.escape(message)):
        parse_graph(SMALL.replace(before, after), "g")
