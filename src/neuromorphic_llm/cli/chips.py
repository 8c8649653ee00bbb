"""`nmllm chips`: the chips that come with the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console
from neuromorphic_llm.units import format_si

if TYPE_CHECKING:
    from neuromorphic_llm.chip.spec import ChipSpec

EXAMPLES = """
nmllm chips
nmllm chips --json chips.json
"""


def command(run: CommandRun) -> None:
    """List the chips that come with the package."""
    from neuromorphic_llm.chip.load import known_chips, load_spec

    specs = [load_spec(name) for name in known_chips()]
    table = Table("chip", "mesh", "synapse tiles", "vector tiles", "crossbars of a tile", "8-bit weights", "clock")
    for column in table.columns[1:]:
        column.justify = "right"
    table.columns[5].no_wrap = True  # digits of a number stay together
    listed = [_described(spec) for spec in specs]
    for chip in listed:
        spec, synapse = chip["spec"], chip["spec"]["synapse"]
        mesh = f"{spec['mesh']['width']} x {spec['mesh']['height']}"
        crossbars = f"{synapse['crossbars']} of {synapse['rows']} x {synapse['columns']}"
        tiles = (str(chip["synapse_tiles"]), str(chip["vector_tiles"]))
        table.add_row(chip["name"], mesh, *tiles, crossbars, f"{chip['weights']:,}", format_si(spec["clock_hz"], "Hz"))
    table.caption = "Weights are what all crossbars hold; a network's layers leave some of them empty. A chip may also be a YAML file."
    console.print(table)
    run.result({"chips": listed})


def _described(spec: ChipSpec) -> dict[str, Any]:
    """A chip as one entry of the JSON result."""
    weights_per_tile = spec.synapse.crossbars // spec.synapse.slices * spec.synapse.rows * spec.synapse.columns
    return {
        "name": spec.name,
        "synapse_tiles": len(spec.topology.synapse_tiles()),
        "vector_tiles": len(spec.topology.vector_tiles()),
        "weights": len(spec.topology.synapse_tiles()) * weights_per_tile,
        "kv_bytes_per_vector_tile": spec.vector.attention_engines * spec.vector.kv_bytes_per_engine,
        "spec": spec.to_json(),
    }
