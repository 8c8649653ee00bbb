"""Text form of a graph: `print_graph` and `parse_graph` are inverse to each other:

graph {
host:
  %token: i32<0>[1] = token()
stage 0 @4:
  %layers.0.qkv: i32<14>[96] = linear(%layers.0.qkv.spikes) {site=0, columns=96, tiles=[3, 5]}
  return %next
}
"""

from __future__ import annotations

import re

from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import HOST, KINDS, AttributeValue, Graph, Node, ValueType

_TOKEN = re.compile(r'\s*(?:(?P<name>%?[A-Za-z_][\w.]*)|(?P<number>-?\d+)|(?P<text>"[^"\n]*")|(?P<mark>[{}()\[\]<>:=,@]))')


def print_graph(graph: Graph) -> str:
    """Text of a graph, one node a line, stages as headings."""
    lines, stage = ["graph {"], None
    for node in graph.nodes:
        if node.stage != stage:
            stage = node.stage
            place = f" @{graph.vector_tiles[stage]}" if graph.vector_tiles and stage != HOST else ""
            lines.append("host:" if stage == HOST else f"stage {stage}{place}:")
        lines.append(f"  {print_node(node)}")
    return "\n".join([*lines, f"  return %{graph.result}", "}"]) + "\n"


def print_node(node: Node) -> str:
    """One node as text."""
    operands = ", ".join(f"%{operand}" for operand in node.operands)
    attributes = ", ".join(f"{name}={_attribute(value)}" for name, value in node.attributes.items())
    return f"%{node.name}: {node.type} = {node.operation}({operands})" + (f" {{{attributes}}}" if attributes else "")


def _attribute(value: AttributeValue) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)


def parse_graph(text: str, source: str = "graph") -> Graph:
    """The graph of a text; CompileError with `source`, line and column of the first fault. Checks syntax only, see verify_graph."""
    return _Parser(text, source).graph()


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.position = 0

    def fail(self, message: str, position: int | None = None) -> CompileError:
        at = self.position if position is None else position
        at += len(self.text[at:]) - len(self.text[at:].lstrip())
        before = self.text[:at]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        return CompileError(f"{self.source}:{line}:{column}: {message}")

    def peek(self) -> str:
        match = _TOKEN.match(self.text, self.position)
        return match.group(0).strip() if match else ""

    def expected(self, what: str) -> CompileError:
        found = self.peek() or self.text[self.position :].strip()[:1] or "the end"
        return self.fail(f"expected {what}, found {found!r}")

    def take(self, kind: str, what: str) -> str:
        match = _TOKEN.match(self.text, self.position)
        if match is None or match.lastgroup != kind:
            raise self.expected(what)
        self.position = match.end()
        return match.group(0).strip()

    def word(self, word: str) -> None:
        if self.peek() != word:
            raise self.expected(repr(word))
        self.position = self.text.index(word, self.position) + len(word)

    def number(self) -> int:
        return int(self.take("number", "a number"))

    def value(self) -> str:
        start = self.position
        name = self.take("name", "a value such as %x")
        if not name.startswith("%"):
            raise self.fail(f"expected a value such as %x, found {name!r}", start)
        return name[1:]

    def graph(self) -> Graph:
        self.word("graph")
        self.word("{")
        nodes: list[Node] = []
        tiles: list[int] = []
        stage: int | None = None
        while self.peek() != "return":
            if self.peek() in ("host", "stage"):
                stage = self.heading(tiles)
                continue
            if stage is None:
                raise self.fail("expected 'host:' or 'stage N:' before the first value")
            nodes.append(self.node(stage))
        self.word("return")
        result = self.value()
        self.word("}")
        if self.text[self.position :].strip():
            raise self.fail("expected the end after the closing brace")
        return Graph(tuple(nodes), result, tuple(tiles))

    def heading(self, tiles: list[int]) -> int:
        if self.peek() == "host":
            self.word("host")
            self.word(":")
            return HOST
        self.word("stage")
        stage = self.number()
        if self.peek() == "@":
            self.word("@")
            tiles.append(self.number())
        self.word(":")
        return stage

    def node(self, stage: int) -> Node:
        name = self.value()
        self.word(":")
        kind = self.type()
        self.word("=")
        operation = self.take("name", "an operation")
        self.word("(")
        operands: list[str] = []
        while self.peek() != ")":
            if operands:
                self.word(",")
            operands.append(self.value())
        self.word(")")
        return Node(name, kind, operation, tuple(operands), self.attributes() if self.peek() == "{" else {}, stage)

    def type(self) -> ValueType:
        start = self.position
        kind = self.take("name", "a type such as i32<14>[576]")
        if kind not in KINDS:
            raise self.fail(f"unknown type {kind!r}; known: {', '.join(KINDS)}", start)
        self.word("<")
        fraction = self.number()
        self.word(">")
        match = re.compile(r"\s*\[([1-9]\d*(?:x[1-9]\d*)*)\]").match(self.text, self.position)
        if match is None:
            raise self.fail("expected a shape of positive sizes such as [576] or [3x64]")
        self.position = match.end()
        return ValueType(kind, fraction, tuple(int(size) for size in match.group(1).split("x")))

    def attributes(self) -> dict[str, AttributeValue]:
        self.word("{")
        attributes: dict[str, AttributeValue] = {}
        while self.peek() != "}":
            if attributes:
                self.word(",")
            start = self.position
            name = self.take("name", "an attribute")
            if name in attributes:
                raise self.fail(f"attribute {name!r} is given twice", start)
            self.word("=")
            attributes[name] = self.attribute()
        self.word("}")
        return attributes

    def attribute(self) -> AttributeValue:
        token = self.peek()
        if token.startswith('"'):
            self.word(token)
            return token[1:-1]
        if token != "[":
            return int(self.take("number", "a number, a text in quotes or a list"))
        self.word("[")
        values: list[int] = []
        while self.peek() != "]":
            if values:
                self.word(",")
            values.append(self.number())
        self.word("]")
        return tuple(values)
