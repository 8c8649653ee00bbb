"""Leakage of a chip and of what it gates, and the energy of waking a tile (docs/reference/energy.md, Power gating)."""

from __future__ import annotations

from collections.abc import Mapping

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.constants import Constant, Range
from neuromorphic_llm.energy.memories import SYNAPSE_TILE, VECTOR_TILE, Memory


def leakage_power(
    spec: ChipSpec, memories: Mapping[str, Memory], constants: Mapping[str, Constant], working: Mapping[str, float] | None = None
) -> Range:
    """Leakage power of the whole chip in W: logic of every tile, and all memories.

    working: share of the time in which the logic of a tile (`logic`) and each of `memories` works, all the time if it is not there; the
    rest of the time logic but that of the routers is switched off and bits are retained. None: everything is powered all the time.
    """
    parts = {name: memory.leakage(constants) for name, memory in memories.items()}
    logic = constants["tile_logic_leakage"].value * spec.topology.tiles
    if working is None:
        return Range.total([logic, *parts.values()])
    off, retained = _idle_logic(constants), constants["retained_bit_share"].value
    idle = [_gated(each, working.get(name, 1.0), retained) for name, each in parts.items()]
    return Range.total([_gated(logic, working["logic"], off), *idle])


def all_tiles_off(spec: ChipSpec) -> dict[str, float]:
    """Shares for leakage_power of a chip whose gated tiles are all off: of the tiles only the host's works."""
    return {"logic": 1 / spec.topology.tiles, **dict.fromkeys((*VECTOR_TILE, *SYNAPSE_TILE), 0.0)}


def tile_prices(spec: ChipSpec, memories: Mapping[str, Memory], constants: Mapping[str, Constant]) -> dict[str, Range]:
    """Energy in J of a cycle in which a tile is on, beyond what it leaks while it is off, and of waking it."""
    prices = {}
    kinds = {"vector": (VECTOR_TILE, spec.topology.vector_tiles()), "synapse": ((*SYNAPSE_TILE, "weights"), spec.topology.synapse_tiles())}
    retained = constants["retained_bit_share"].value
    logic = _saved(constants["tile_logic_leakage"].value, _idle_logic(constants))
    for kind, (names, tiles) in kinds.items():
        own = [memories[name] for name in names if name in memories]
        bits = [_saved(memory.leakage(constants), retained) * (1 / len(tiles)) for memory in own]
        prices[f"{kind}_tile_on"] = Range.total([logic, *bits]) * (1 / spec.clock_hz)
        raised = constants["bit_wake"].value * (sum(memory.bits for memory in own) / len(tiles))
        prices[f"{kind}_tile_wake"] = constants["logic_wake"].value + raised
    return prices


def _idle_logic(constants: Mapping[str, Constant]) -> Range:
    """Share of a tile's logic leakage that remains while it is off: its router, and what sleep transistors let through."""
    router, off = constants["router_logic_share"].value, constants["gated_logic_share"].value
    return router + _saved(off, router)


def _gated(leakage: Range, working: float, idle: Range) -> Range:
    """Mean leakage of what works for a share of the time and leaks the share `idle` of it in the rest."""
    return leakage * working + leakage.scaled(idle) * (1 - working)


def _saved(leakage: Range, share: Range) -> Range:
    """Rest of `leakage` without the share of it, bound by bound."""
    return leakage + leakage.scaled(share) * -1
