"""`nmllm export`: crossbar sites of a network as files of other formats (docs/reference/interchange.md)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console, progress
from neuromorphic_llm.errors import SimulationError, UsageError

if TYPE_CHECKING:
    from neuromorphic_llm.interchange.nir_check import Integers
    from neuromorphic_llm.network.spiking import SpikingNetwork

EXAMPLES = """
nmllm export networks/nano --site layers.0.qkv -o runs/nir
nmllm export networks/nano --site 'layers.0.*' --site head -o runs/nir --bits 24
nmllm export networks/nano --site 'layers.*.down' -o runs/nir --check --prompt "Once upon a time"
"""

FORMATS = ("nir",)


def command(
    run: CommandRun,
    network: Annotated[Path, typer.Argument(help="Network folder that `nmllm convert` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the files, one per site: SITE.nir.")],
    site: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Site or pattern, such as layers.0.*, repeatable.")] = None,
    file_format: Annotated[str, typer.Option("--format", help="Format of the files: nir.")] = "nir",
    bits: Annotated[int, typer.Option(help="Inputs for which a file is exact: abs(x) up to 2^(bits-1); 2 to 32.")] = 32,
    check: Annotated[bool, typer.Option("--check", help="Read the files back and compare all spikes with nirtorch and snnTorch.")] = False,
    prompt: Annotated[str, typer.Option(help="Text whose activations --check uses.")] = "A river runs to the sea, and the sea is wide.",
) -> None:
    """Export crossbar sites of a spiking network, each with its encoder, as exact NIR graphs."""
    from neuromorphic_llm.interchange.nir_check import site_inputs
    from neuromorphic_llm.interchange.sayable import check_sayable, chosen_sites
    from neuromorphic_llm.network.spiking import SpikingNetwork

    if file_format not in FORMATS:
        raise UsageError(f"--format {file_format}: unknown; formats are {', '.join(FORMATS)}")
    run.outputs(folders={"--output": output})
    loaded = SpikingNetwork.load(network)
    sites = chosen_sites(loaded.weights, site or ())
    for index in sites:  # before any file is written
        check_sayable(loaded.weights, index)
    inputs = site_inputs(loaded.weights, _tokens(loaded, prompt), sites) if check else {}
    with progress() as bars:
        files = [_export(loaded, index, output, bits, inputs.get(index)) for index in bars.track(sites, description="exporting")]
    console.print(_table(files))
    run.result({"network_hash": loaded.content_hash, "bits": bits, "files": files, "kind": "simulated"})


def _tokens(network: SpikingNetwork, prompt: str) -> list[int]:
    from neuromorphic_llm.models.text_tokens import text_ids

    tokens = text_ids(network.tokenizer(), prompt)
    if not tokens:
        raise UsageError("--prompt gives no tokens; use a longer text")
    return tokens


def _export(network: SpikingNetwork, index: int, folder: Path, bits: int, inputs: Integers | None) -> dict[str, Any]:
    """Write one site, and check it on its inputs if there are any; its entry in the JSON result."""
    from neuromorphic_llm.interchange.nir_check import compare, execute
    from neuromorphic_llm.interchange.nir_file import read_nir, write_nir
    from neuromorphic_llm.interchange.nir_site import site_graph

    name = network.weights.config.sites[index].name
    path = folder / f"{name}.nir"
    graph = site_graph(network.weights, index, bits=bits, network_hash=network.content_hash)
    write_nir(path, graph)
    outputs, columns = network.weights.site(index).weight.shape
    entry: dict[str, Any] = {
        "file": str(path), "site": name, "inputs": columns, "outputs": outputs, "nodes": len(graph.nodes),
        "phases": sum(node.startswith("plus_") for node in graph.nodes), "bytes": path.stat().st_size, "compared": None,
    }  # fmt: skip
    if inputs is not None:
        try:
            found = compare(network.weights, index, inputs, execute(read_nir(path), inputs))
        except SimulationError as error:
            raise SimulationError(f"{path} is not what the network does: {error}") from error
        entry["compared"] = {"tokens": found.tokens, "spikes": found.spikes, "accumulators": found.accumulators}
    return entry


def _table(files: list[dict[str, Any]]) -> Table:
    table = Table("site", "inputs", "outputs", "phases", "nodes", "KiB")
    checked = all(entry["compared"] for entry in files)
    if checked:
        table.add_column("equal spikes")
        table.caption = "Spikes and accumulators of all tokens equal in nirtorch with snnTorch's neurons."
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for entry in files:
        sizes = [entry["inputs"], entry["outputs"], entry["phases"], entry["nodes"], entry["bytes"] // 1024]
        sizes += [entry["compared"]["spikes"]] if checked else []
        table.add_row(entry["site"], *(f"{size:,}" for size in sizes))
    return table
