"""Leakage of a chip and of what it gates, and the energy of waking it (docs/reference/energy.md, Power gating)."""

from __future__ import annotations

from collections.abc import Mapping

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.constants import Constant, Range
from neuromorphic_llm.energy.memories import SYNAPSE_TILE, VECTOR_TILE, Memory


def leakage_power(
    spec: ChipSpec,
    memories: Mapping[str, Memory],
    constants: Mapping[str, Constant],
    working: Mapping[str, float] | None = None,
    further: Range | None = None,
) -> Range:
    """Leakage power of the whole chip in W: logic of every tile, and all memories.

    working: share of the time in which the logic of a tile (`logic`), its router (`routers`) and each of `memories` works, all the time
    if it is not there; the rest of the time logic is switched off and bits are retained. None: everything is powered all the time.
    further: of a vector tile beyond `tile_logic_leakage`, None: further_logic.
    """
    parts = {name: memory.leakage(constants) for name, memory in memories.items()}
    tile = constants["tile_logic_leakage"].value * spec.topology.tiles
    more = (further_logic(spec, constants) if further is None else further) * len(spec.topology.vector_tiles())
    if working is None:
        return Range.total([tile, more, *parts.values()])
    share = constants["router_logic_share"].value
    logic = {"logic": _saved(tile, share), "routers": tile.scaled(share)}
    off, retained = constants["gated_logic_share"].value, constants["retained_bit_share"].value
    gated = [_gated(each, working.get(name, 1.0), off) for name, each in logic.items()]
    gated.append(_gated(more, working.get("vector_memory", 1.0), off))  # as all of a vector tile
    return Range.total([*gated, *(_gated(each, working.get(name, 1.0), retained) for name, each in parts.items())])


def further_logic(spec: ChipSpec, constants: Mapping[str, Constant]) -> Range:
    """Leakage power of a vector tile beyond `tile_logic_leakage`, W: adders of further heads, maxima taken while vectors are written."""
    vector = spec.vector
    adders = vector.attention_engines * (vector.head_lanes - 1) * (vector.key_lanes + vector.lanes)
    return constants["head_lane_leakage"].value * adders + constants["maximum_lane_leakage"].value * spec.maximum_lanes


def further_products(spec: ChipSpec, constants: Mapping[str, Constant], *, maxima: bool) -> Range:
    """The same of a vector tile whose engines multiply: further multipliers, and maxima taken while written if it has them."""
    vector = spec.vector
    products = constants["head_product_leakage"].value * (vector.attention_engines * (vector.head_lanes - 1) * vector.key_lanes)
    return products + constants["maximum_lane_leakage"].value * (spec.maximum_lanes if maxima else 0)


def all_off(spec: ChipSpec) -> dict[str, float]:
    """Shares for leakage_power of a chip all of whose gated parts are off: the host tile works."""
    host = 1 / spec.topology.tiles
    return {"logic": host, "routers": host if spec.routers_gated else 1.0, **dict.fromkeys((*VECTOR_TILE, *SYNAPSE_TILE), 0.0)}


def gating_prices(spec: ChipSpec, memories: Mapping[str, Memory], constants: Mapping[str, Constant]) -> dict[str, Range]:
    """Energy in J of a cycle in which a tile or a router is on, beyond what it leaks while it is off, and of waking it."""
    tile, wake, share = (constants[name].value for name in ("tile_logic_leakage", "logic_wake", "router_logic_share"))
    off, retained = constants["gated_logic_share"].value, constants["retained_bit_share"].value
    cycle = 1 / spec.clock_hz
    prices = {"router_on": _saved(tile.scaled(share), off) * cycle, "router_wake": wake.scaled(share)}
    kinds = {"vector": (VECTOR_TILE, spec.topology.vector_tiles()), "synapse": ((*SYNAPSE_TILE, "weights"), spec.topology.synapse_tiles())}
    for kind, (names, tiles) in kinds.items():
        own = [memories[name] for name in names if name in memories]
        bits = [_saved(memory.leakage(constants), retained) * (1 / len(tiles)) for memory in own]
        logic = _saved(tile, share) + (further_logic(spec, constants) if kind == "vector" else Range(0.0, 0.0, 0.0))
        prices[f"{kind}_tile_on"] = Range.total([_saved(logic, off), *bits]) * cycle
        raised = constants["bit_wake"].value * (sum(memory.bits for memory in own) / len(tiles))
        prices[f"{kind}_tile_wake"] = _saved(wake, share) + raised
    return prices


def _gated(leakage: Range, working: float, idle: Range) -> Range:
    """Mean leakage of what works for a share of the time and leaks the share `idle` of it in the rest."""
    return leakage * working + leakage.scaled(idle) * (1 - working)


def _saved(leakage: Range, share: Range) -> Range:
    """Rest of `leakage` without the share of it, bound by bound."""
    return leakage + leakage.scaled(share) * -1
