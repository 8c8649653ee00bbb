"""Partition: cut every site's columns into regions, one synapse tile each."""

from __future__ import annotations

from dataclasses import dataclass, replace

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.shortage import ShortageError, larger_mesh
from neuromorphic_llm.graph.ir import Node


@dataclass(frozen=True)
class Partition:
    """A tile holds all row blocks of its columns. Regions are of whole flits, use as few crossbars as possible, then as even a share as
    possible.
    """

    name: str = "partition"

    def apply(self, module: Module) -> Module:
        """CompileError if a site has too many inputs for a tile or the chip too few tiles."""
        sizes = {node.name: node.type.size for node in module.graph.nodes}
        nodes = []
        for node in module.graph.nodes:
            if node.operation == "linear":
                row_blocks = module.spec.synapse.row_blocks(sizes[node.operands[0]])
                name = str(node.attributes["site"])
                blocks = _blocks_per_tile(node, name, row_blocks, module.spec)
                # Gate and up column of a pair share a tile and a crossbar, so that the product forms at its output.
                unit = module.weights.config.site(name).columns_per_output
                outputs, block = node.integer("columns") // unit, module.spec.synapse.columns // unit
                values, held = module.spec.noc.values_per_flit, block * blocks
                if outputs > held < values:
                    raise ShortageError(
                        f"{name} has {outputs} outputs and a tile of chip {module.spec.name} holds {held} of them; a flit carries "
                        f"{values}, and more chips do not help; raise synapse.columns or synapse.crossbars, or lower noc.flit_bits",
                        {"synapse.crossbars": -(-values // block) * row_blocks * node.integer("slices")},
                    )
                shares = split_evenly(outputs, block, blocks, values)
                node = node.with_attributes(row_blocks=row_blocks, regions=tuple(unit * share for share in shares))
            nodes.append(node)
        graph = module.graph.with_nodes(nodes)
        _check_tiles(sum(len(node.integers("regions")) for node in graph.linear_nodes()), graph.stages, module.spec)
        return replace(module, graph=graph)


def split_evenly(outputs: int, block: int, blocks_per_tile: int, values: int) -> list[int]:
    """Shares of `outputs` over the fewest tiles of `blocks_per_tile` column blocks of `block` outputs, in whole flits of `values` outputs.

    Only the last share may end with a part of a flit. Uses the fewest blocks in all (fewer crossbars to read), then levels the shares
    (the fullest tile finishes last). Several tiles must hold `values` outputs each.
    """
    flits, blocks = -(-outputs // values), -(-outputs // block)
    if blocks <= blocks_per_tile:
        return [outputs]
    # Tiles whose columns are no multiple of `values` leave some of them unused, so that more blocks may be needed.
    while sum(capacities := _flits_per_tile(blocks, block, blocks_per_tile, values)) < flits:
        blocks += 1
    shares, left = [0] * len(capacities), flits
    # Tiles with fewer blocks come last in the result but are filled first: what they cannot take goes to the others.
    for tile in reversed(range(len(shares))):
        shares[tile] = min(capacities[tile], left // (tile + 1))
        left -= shares[tile]
    return [values * share for share in shares[:-1]] + [values * shares[-1] - -outputs % values]


def _flits_per_tile(blocks: int, block: int, blocks_per_tile: int, values: int) -> list[int]:
    """Full flits of `values` outputs that come from each of the fewest tiles for `blocks`."""
    tiles = -(-blocks // blocks_per_tile)
    return [block * (blocks // tiles + (tile < blocks % tiles)) // values for tile in range(tiles)]


def _blocks_per_tile(node: Node, name: str, row_blocks: int, spec: ChipSpec) -> int:
    crossbars = row_blocks * node.integer("slices")
    if crossbars > spec.synapse.crossbars:
        raise ShortageError(
            f"{name} has too many inputs for chip {spec.name}: one column needs {crossbars} crossbars ({row_blocks} row blocks x "
            f"{node.integer('slices')} slices), a tile has {spec.synapse.crossbars}, and more chips do not help; "
            "raise synapse.rows or synapse.crossbars",
            {"synapse.crossbars": crossbars},
        )
    if spec.synapse.columns < 2:
        what = f"chip {spec.name} has crossbars of {spec.synapse.columns} column; gate and up need 2 side by side; raise synapse.columns"
        raise ShortageError(what, {"synapse.columns": 2})
    return spec.synapse.crossbars // crossbars


def _check_tiles(synapse: int, vector: int, spec: ChipSpec) -> None:
    has_synapse, has_vector = len(spec.topology.synapse_tiles()), len(spec.topology.vector_tiles())
    if synapse <= has_synapse and vector <= has_vector:
        return
    if not has_synapse or not has_vector:
        raise ShortageError(
            f"chip {spec.name} has {has_synapse} synapse tiles and {has_vector} vector tiles, and needs both kinds; "
            "change mesh.vector_period, mesh.vector_offset or the mesh",
            larger_mesh(spec, synapse, vector),
        )
    chips = max(-(-synapse // has_synapse), -(-vector // has_vector))
    raise ShortageError(
        f"the network does not fit chip {spec.name}: it needs {synapse} synapse tiles (the chip has {has_synapse}) and {vector} vector "
        f"tiles (the chip has {has_vector}); {chips} such chips would hold it, but running on several is not offered: use a larger chip",
        larger_mesh(spec, synapse, vector),
    )
