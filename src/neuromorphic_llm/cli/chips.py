"""`nmllm chips`: the chips that come with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, Debug, JsonFile, Seed, console
from neuromorphic_llm.units import format_si

if TYPE_CHECKING:
    from neuromorphic_llm.chip.spec import ChipSpec

EXAMPLES = """
nmllm chips
nmllm chips --json chips.json
"""


def command(json: JsonFile = None, seed: Seed = 0, debug: Debug = False) -> None:
    """List the chips that come with the package."""
    with CommandRun("chips", json, seed, debug, {}) as run:
        from neuromorphic_llm.chip.load import known_chips, load_spec

        specs = [load_spec(name) for name in known_chips()]
        table = Table("chip", "mesh", "synapse tiles", "vector tiles", "crossbars of a tile", "8-bit weights", "clock")
        for column in table.columns[1:]:
            column.justify = "right"
        listed = [_described(spec) for spec in specs]
        for chip in listed:
            spec = chip["spec"]
            mesh = f"{spec['mesh_width']} x {spec['mesh_height']}"
            crossbars = f"{spec['crossbars_per_tile']} of {spec['rows']} x {spec['columns']}"
            tiles = (str(chip["synapse_tiles"]), str(chip["vector_tiles"]))
            table.add_row(chip["name"], mesh, *tiles, crossbars, f"{chip['weights']:,}", format_si(spec["clock_hz"], "Hz"))
        table.caption = "Weights are what all crossbars hold; a network's layers leave some of them empty. A chip may also be a YAML file."
        console.print(table)
        run.result({"chips": listed})


def _described(spec: ChipSpec) -> dict[str, Any]:
    """A chip as one entry of the JSON result."""
    weights_per_tile = spec.crossbars_per_tile // spec.slices * spec.rows * spec.columns
    return {
        "name": spec.name,
        "synapse_tiles": len(spec.synapse_tiles()),
        "vector_tiles": len(spec.vector_tiles()),
        "weights": len(spec.synapse_tiles()) * weights_per_tile,
        "kv_bytes_per_vector_tile": spec.attention_engines * spec.kv_bytes_per_engine,
        "spec": spec.to_json(),
    }
