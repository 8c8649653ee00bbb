"""Finds the places of a module where a mutant can be made, from its syntax tree as slang parses it.

Only code that runs is touched: procedural blocks, functions, continuous assignments and expressions at the ports of instances. What is
known at elaboration (parameters, widths, generate conditions, bounds of loops, selects outside procedural code) is left alone, and so are
assertions.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyslang import Bag, SourceManager
from pyslang.parsing import PreprocessorOptions, Token
from pyslang.syntax import SyntaxTree

KINDS = ("operator", "constant", "condition", "assignment")

EXCHANGED = {
    "AddExpression": "-",
    "SubtractExpression": "+",
    "MultiplyExpression": "+",
    "DivideExpression": "*",
    "BinaryAndExpression": "|",
    "BinaryOrExpression": "&",
    "BinaryXorExpression": "|",
    "LogicalAndExpression": "||",
    "LogicalOrExpression": "&&",
    "EqualityExpression": "!=",
    "InequalityExpression": "==",
    "LessThanExpression": "<=",
    "LessThanEqualExpression": "<",
    "GreaterThanExpression": ">=",
    "GreaterThanEqualExpression": ">",
    "LogicalShiftLeftExpression": ">>",
    "LogicalShiftRightExpression": "<<",
    "ArithmeticShiftLeftExpression": ">>>",
    "ArithmeticShiftRightExpression": "<<<",
}

_LITERALS = ("IntegerLiteralExpression", "IntegerVectorExpression", "UnbasedUnsizedLiteralExpression")
_HOLDERS = (
    "CompilationUnit",
    "ModuleDeclaration",
    "GenerateRegion",
    "GenerateBlock",
    "IfGenerate",
    "LoopGenerate",
    "ElseClause",
    "SyntaxList",
)
_NAMES = ("IdentifierName", "IdentifierSelectName", "ScopedName", "ConcatenationExpression", "EmptyPortConnection")


@dataclass(frozen=True)
class Mutant:
    """A change of the bytes start .. end of a module's file; an assignment is dropped, everything else replaced by `text`."""

    module: str
    kind: str
    start: int
    end: int
    text: str
    line: int
    before: str
    """The changed part's lines as they are, without indentation."""
    after: str
    nth: int = 0
    """Distinguishes mutants whose texts are the same."""

    @property
    def number(self) -> int:
        """Chooses the mutant at run time. It depends on the texts only, so that a change elsewhere leaves it as it is."""
        key = "\n".join([self.module, self.kind, self.before, self.after, str(self.nth)])
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big") >> 1 or 1


def find_mutants(path: Path) -> list[Mutant]:
    """All mutants of the module in this file."""
    finder = _Finder(path)
    finder.members(finder.tree.root)
    seen: dict[tuple[str, str, str], int] = {}
    mutants = []
    for mutant in sorted(finder.found, key=lambda m: (m.start, m.end)):
        key = (mutant.kind, mutant.before, mutant.after)
        nth = seen[key] = seen.get(key, -1) + 1
        mutants.append(Mutant(**mutant.__dict__ | {"nth": nth}))
    return mutants


def instantiated(path: Path) -> set[str]:
    """Names of the modules of which this file makes instances."""
    _manager, tree = _parse(path)
    return set(_instances(tree.root))


def _instances(node: Any) -> Iterator[str]:
    if node.kind.name == "HierarchyInstantiation":
        yield node.type.valueText
    for child in _nodes(node):
        yield from _instances(child)


def _parse(path: Path) -> tuple[SourceManager, SyntaxTree]:
    """The tree, and what it was read from, which must live as long."""
    options = PreprocessorOptions()
    options.predefines = ["SYNTHESIS"]  # leaves the assertions out
    manager = SourceManager()
    return manager, SyntaxTree.fromFile(str(path), manager, Bag([options]))


class _Finder:
    def __init__(self, path: Path) -> None:
        self.manager, self.tree = _parse(path)
        self.module = path.stem
        self.source = path.read_bytes()
        self.found: list[Mutant] = []
        self.constant_functions = set(_called_at_elaboration(self.tree.root))

    # ------------------------------------------------------------------ members of modules and generate blocks
    def members(self, node: Any) -> None:
        kind = node.kind.name
        if kind.startswith("Always"):
            self.statement(node.statement, _Scope(registers=kind == "AlwaysFFBlock"))
        elif kind == "ContinuousAssign":
            for assignment in _nodes(node.assignments):
                self.expression(assignment.right, selects=False)
        elif kind == "FunctionDeclaration":
            if str(node.prototype.name).strip() not in self.constant_functions:
                scope = _Scope(registers=False)
                for item in _nodes(node.items):
                    self.statement(item, scope)
        elif kind == "HierarchyInstantiation":
            for connection in (c for instance in _nodes(node.instances) for c in _nodes(instance.connections)):
                self._connection(connection)
        elif kind in (
            "IfGenerate",
            "LoopGenerate",
            "GenerateBlock",
            "GenerateRegion",
            "ElseClause",
            "ModuleDeclaration",
            "CompilationUnit",
        ):
            for child in _nodes(node):
                if not child.kind.name.endswith(("Expression", "Name")):
                    self.members(child)

    def _connection(self, connection: Any) -> None:
        """Expressions at input ports; names may stand at outputs, which nothing can be put in front of."""
        expression = getattr(connection, "expr", None)
        while expression is not None and expression.kind.name in ("SimplePropertyExpr", "SimpleSequenceExpr"):
            expression = expression.expr
        if expression is not None and expression.kind.name not in _NAMES:
            self.expression(expression, selects=False)

    # ------------------------------------------------------------------ statements
    def statement(self, node: Any, scope: _Scope) -> None:
        kind = node.kind.name
        if kind == "TimingControlStatement":
            self.statement(node.statement, scope)
        elif kind == "SequentialBlockStatement":
            for item in _nodes(node.items):
                self.statement(item, scope)
        elif kind == "ConditionalStatement":
            self._condition(node.predicate)
            self.statement(node.statement, scope)
            if node.elseClause is not None:
                self.statement(node.elseClause.clause, scope)
        elif kind == "ForLoopStatement":
            self.statement(node.statement, scope)
        elif kind == "CaseStatement":
            self.expression(node.expr)
            for item in _nodes(node.items):
                self.statement(item.clause, scope)
        elif kind == "ReturnStatement" and node.returnValue is not None:
            self.expression(node.returnValue)
        elif kind == "DataDeclaration":
            for declarator in _nodes(node.declarators):
                if declarator.initializer is not None:
                    scope.local.add(declarator.name.valueText)
                    scope.assigned.add(declarator.name.valueText)
                    self.expression(declarator.initializer.expr)
        elif kind == "ExpressionStatement":
            self._assignment(node, scope)

    def _assignment(self, statement: Any, scope: _Scope) -> None:
        expression = statement.expr
        if not expression.kind.name.endswith("AssignmentExpression"):
            return
        target = expression.left.getFirstToken().valueText
        register = expression.kind.name == "NonblockingAssignmentExpression" or (scope.registers and target not in scope.local)
        # Without its first assignment the value of combinational logic would be no logic at all.
        if register or target in scope.assigned:
            self._add("assignment", statement, "")
        scope.assigned.add(target)
        self.expression(expression.left)
        self.expression(expression.right)

    def _condition(self, predicate: Any, selects: bool = True) -> None:
        for condition in _nodes(predicate.conditions):
            if condition.expr.kind.name not in ("EqualityExpression", "InequalityExpression"):  # whose exchange is the same
                self._add("condition", condition.expr, f"!({self._text(condition.expr)})")
            self.expression(condition.expr, selects)

    # ------------------------------------------------------------------ expressions
    def expression(self, node: Any, selects: bool = True) -> None:
        kind = node.kind.name
        if kind in EXCHANGED:
            self._exchange(node, EXCHANGED[kind])
        if kind in _LITERALS:
            changed = off_by_one(self._text(node))
            if changed is not None:
                self._add("constant", node, changed)
        elif kind == "ConditionalExpression":
            self._condition(node.predicate, selects)
            self.expression(node.left, selects)
            self.expression(node.right, selects)
        elif kind == "CastExpression":  # not its width
            self.expression(node.right, selects)
        elif kind == "MultipleConcatenationExpression":  # not how often
            self.expression(node.concatenation, selects)
        elif kind == "SimpleRangeSelect" or (kind == "InvocationExpression" and self._text(node.left) in ("$clog2", "$bits")):  # constant
            return
        elif kind in ("AscendingRangeSelect", "DescendingRangeSelect"):  # the width is constant
            self.expression(node.left, selects)
        elif kind == "ElementSelect" and not selects:
            return
        else:
            for child in _nodes(node):
                self.expression(child, selects)

    def _exchange(self, node: Any, operator: str) -> None:
        start, end = _range(node)
        token = node.operatorToken.range
        text = self.source[start : token.start.offset] + operator.encode() + self.source[token.end.offset : end]
        self._add("operator", node, text.decode())

    def _text(self, node: Any) -> str:
        start, end = _range(node)
        return self.source[start:end].decode()

    def _add(self, kind: str, node: Any, text: str) -> None:
        start, end = _range(node)
        first, last = self.source.rfind(b"\n", 0, start) + 1, self.source.find(b"\n", end)
        head, tail = self.source[first:start].decode(), self.source[end:last].decode()
        before = _plain(head + self.source[start:end].decode() + tail)
        line = self.source.count(b"\n", 0, start) + 1
        self.found.append(Mutant(self.module, kind, start, end, text, line, before, _plain(head + text + tail)))


class _Scope:
    """Of one procedural block or function: whether it makes registers, its variables, and what was assigned so far."""

    def __init__(self, registers: bool) -> None:
        self.registers = registers
        self.local: set[str] = set()
        self.assigned: set[str] = set()


def off_by_one(literal: str) -> str | None:
    """The literal one higher, or one lower if its width ends there, of the same width and sign; None if it is no number."""
    if literal.startswith("'"):
        return {"'0": "1'b1", "'1": "'0"}.get(literal)
    sized = re.fullmatch(r"(\d+)\s*'([sS]?)([bBoOdDhH])\s*([0-9a-fA-F_]+)", literal)
    if sized is None:
        return str(int(literal) + 1) if re.fullmatch(r"\d+", literal) and int(literal) < 2**31 - 1 else None
    width, sign, base, digits = sized.groups()
    value = int(digits.replace("_", ""), {"b": 2, "o": 8, "d": 10, "h": 16}[base.lower()])
    changed = value + 1 if value + 1 < 1 << (int(width) - bool(sign)) else value - 1
    return f"{width}'{sign}d{changed}"


def _nodes(node: Any) -> Iterator[Any]:
    """Children that are no tokens."""
    return (child for child in node if child is not None and not isinstance(child, Token))


def _range(node: Any) -> tuple[int, int]:
    found = node.sourceRange
    return found.start.offset, found.end.offset


def _plain(text: str) -> str:
    """Without comments, in one line."""
    return " ".join(re.sub(r"//[^\n]*", "", text).split())


def _called_at_elaboration(node: Any, elaboration: bool = False) -> Iterator[str]:
    """Names of functions called in parameters, widths, and headers of generate blocks."""
    kind = node.kind.name
    if elaboration and kind == "InvocationExpression":
        yield node.left.getFirstToken().valueText
    for child in _nodes(node):
        header = kind in ("IfGenerate", "LoopGenerate") and child.kind.name.endswith("Expression")
        yield from _called_at_elaboration(child, elaboration or header or kind in ("ParameterDeclaration", "VariableDimension"))
