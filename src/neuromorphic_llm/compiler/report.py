"""The mapping report: what a program uses of its chip."""

from __future__ import annotations

from typing import Any

from neuromorphic_llm.chip.routes import wire_hops
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.errors import CompileError

ROUTE_KINDS = ("spike", "value", "residual", "credit", "token", "logits")


def mapping_report(module: Module) -> dict[str, Any]:
    """JSON object: tiles and crossbars used, utilisation (weight cells in use / cells), memory in bytes, routes and wire hops."""
    if module.routes is None or module.memory is None:
        raise CompileError("a mapping report needs routes and memory; run the whole pipeline")
    spec, linear = module.spec, module.graph.linear_nodes()
    synapse = sum(len(node.integers("regions")) for node in linear)
    sites = [(module.weights.config.site(str(node.attributes["site"])), node.integers("regions")) for node in linear]
    crossbars = sum(spec.synapse.macros(site.inputs, columns, site.columns_per_output) for site, regions in sites for columns in regions)
    available = len(spec.topology.synapse_tiles()) * spec.synapse.crossbars
    cells_per_crossbar = spec.synapse.rows * spec.synapse.columns
    weight_cells = module.weights.parameters * spec.synapse.slices
    return {
        "chip": spec.name,
        "chips": 1,
        "tiles": synapse + module.graph.stages + 1,
        "tiles_available": spec.topology.tiles,
        "tiles_by_kind": {
            "host": {"used": 1, "available": 1},
            "vector": {"used": module.graph.stages, "available": len(spec.topology.vector_tiles())},
            "synapse": {"used": synapse, "available": len(spec.topology.synapse_tiles())},
        },
        "crossbars": crossbars,
        "crossbars_available": available,
        "weights": module.weights.parameters,
        "utilisation": weight_cells / (crossbars * cells_per_crossbar),
        "chip_utilisation": weight_cells / (available * cells_per_crossbar),
        "max_context": module.memory.max_context,
        "sram_bytes": sum(module.memory.sram.values()),
        "sram_bytes_by_use": module.memory.sram,
        "vector_memory_bytes_largest": max(module.memory.vector_memory),
        "dram_bytes": sum(module.memory.dram.values()),
        "routes": len(module.routes.routes),
        **_hops(module),
    }


def _hops(module: Module) -> dict[str, Any]:
    """Wire hops (links) of all routes, and count, mean and longest by kind."""
    if module.routes is None:
        return {}
    hops = wire_hops(module.routes.masks)
    by_kind = {}
    for kind in ROUTE_KINDS:
        own = [int(count) for route, count in zip(module.routes.routes, hops, strict=True) if route.kind == kind]
        by_kind[kind] = {"routes": len(own), "mean": sum(own) / len(own), "max": max(own)}
    return {"wire_hops": int(hops.sum()), "wire_hops_by_kind": by_kind}
