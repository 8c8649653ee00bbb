"""The verifier: single assignment, definition before use, signatures, types, stages, tiles used once, site shapes."""

from __future__ import annotations

from collections.abc import Mapping

from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import Graph, Node, ValueType
from neuromorphic_llm.graph.operations import ATTRIBUTE_TYPES, OPERATIONS


def verify_graph(graph: Graph, when: str = "") -> None:
    """CompileError naming the value and the rule it breaks; `when` says which pass ran last."""
    types: dict[str, ValueType] = {}
    sites: set[tuple[str, str]] = set()
    stage = graph.nodes[0].stage if graph.nodes else 0
    for node in graph.nodes:
        fault = _node_fault(node, types) or _site_fault(node, sites)
        if fault is None and node.stage not in (stage, stage + 1):
            fault = f"is in stage {node.stage} after one of stage {stage}"
        if fault is not None:
            raise _invalid(f"%{node.name} = {node.operation} {fault}", when)
        types[node.name] = node.type
        stage = node.stage
    if graph.result not in types:
        raise _invalid(f"its result %{graph.result} is not defined", when)
    if graph.vector_tiles and len(graph.vector_tiles) != graph.stages:
        raise _invalid(f"{len(graph.vector_tiles)} vector tiles for {graph.stages} stages", when)
    tiles = [*graph.vector_tiles, *(tile for node in graph.nodes if "tiles" in node.attributes for tile in node.integers("tiles"))]
    if twice := {tile for tile in tiles if tiles.count(tile) > 1}:
        raise _invalid(f"tile {min(twice)} is used twice", when)


def verify_sites(graph: Graph, shapes: Mapping[str, tuple[int, int]], when: str = "") -> None:
    """CompileError unless every matrix product has the inputs and columns of its site; `shapes` has them by the site's name."""
    sizes = {node.name: node.type.size for node in graph.nodes}
    for node in graph.nodes:
        if node.operation not in ("matmul", "linear"):
            continue
        site = str(node.attributes["site"])
        columns = node.integer("columns") if node.operation == "linear" else node.type.size
        found = (sizes[node.operands[0]], columns)
        if found != shapes.get(site):
            what = f"%{node.name} is a product of {found[0]} inputs and {found[1]} columns, which site {site} of the network is not"
            raise _invalid(what, when)


def _invalid(what: str, when: str) -> CompileError:
    return CompileError(f"graph is not valid {when}".rstrip() + f": {what}")


def _node_fault(node: Node, types: dict[str, ValueType]) -> str | None:
    if node.operation not in OPERATIONS:
        return "is not a known operation"
    operation = OPERATIONS[node.operation]
    if node.name in types:
        return "defines a value a second time"
    for operand in node.operands:
        if operand not in types:
            return f"uses %{operand} before its definition"
    if len(node.operands) not in operation.operands:
        return f"takes {' or '.join(map(str, operation.operands))} operands, got {len(node.operands)}"
    if missing := [name for name in operation.required if name not in node.attributes]:
        return f"lacks the attribute {missing[0]!r}"
    if unknown := set(node.attributes) - {*operation.required, *operation.optional}:
        return f"has the unknown attribute {min(unknown)!r}"
    return _attribute_fault(node) or operation.rule(node, tuple(types[operand] for operand in node.operands))


def _attribute_fault(node: Node) -> str | None:
    for name, value in node.attributes.items():
        wanted = ATTRIBUTE_TYPES.get(name, int)
        if not isinstance(value, wanted):
            return f"has the attribute {name} = {value!r}, expected {wanted.__name__.replace('tuple', 'list').replace('str', 'text')}"
    return None


def _site_fault(node: Node, sites: set[tuple[str, str]]) -> str | None:
    """A crossbar site is used by one node of a kind."""
    if "site" not in node.attributes:
        return None
    key = (node.operation, str(node.attributes["site"]))
    if key in sites:
        return f"uses site {node.attributes['site']} a second time"
    sites.add(key)
    return None
