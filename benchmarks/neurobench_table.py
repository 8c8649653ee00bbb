"""NeuroBench's metrics by its own harness beside our counters (docs/reference/interchange.md, NeuroBench).

    make peers
    python benchmarks/neurobench_table.py nano --windows 4 --tokens 64

Converts a model, or loads a network folder, and runs it as a TorchView in NeuroBench's Benchmark. Exit code 1 if one of the metrics
differs from our counters.
`make peers` puts neurobench into $NMLLM_CACHE/neurobench without what it depends on: torchaudio and tonic, for data sets not used here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.interchange.counters import SynapticCounts, count
from neuromorphic_llm.interchange.torch_view import SpikingNeurons, TorchView
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.fetch import cache_folder
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.weights import DecoderWeights


def import_neurobench() -> Any:
    """The package neurobench; NeuromorphicLLMError that says how to get it."""
    folder = str(cache_folder() / "neurobench")
    if Path(folder).is_dir() and folder not in sys.path:
        sys.path.append(folder)  # last: nothing of ours may come from there
    try:
        for part in ("benchmarks", "models", "metrics.static", "metrics.workload"):
            importlib.import_module(f"neurobench.{part}")
        return importlib.import_module("neurobench")
    except ImportError as error:
        raise NeuromorphicLLMError(f"neurobench cannot be imported ({error}); run make peers") from error


def harness(weights: DecoderWeights, ids: torch.Tensor) -> dict[str, Any]:
    """Results of NeuroBench's Benchmark on int64 ids [windows, tokens]; a sample is a window."""
    neurobench = import_neurobench()
    model = neurobench.models.TorchModel(TorchView(weights))
    model.add_activation_module(SpikingNeurons)
    static, workload = neurobench.metrics.static, neurobench.metrics.workload
    metrics = [[static.Footprint, static.ConnectionSparsity], [workload.ActivationSparsity, workload.SynapticOperations]]
    # One batch: its ActivationSparsity is a mean of batches, ours is of all spikes.
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ids, ids), batch_size=len(ids))
    # It prints the error of a metric and goes on with 0.
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(io.StringIO()):
        results: dict[str, Any] = neurobench.benchmarks.Benchmark(model, data, [], [], metrics).run(quiet=False)
    if "Error running" in printed.getvalue():
        raise NeuromorphicLLMError(f"a metric of neurobench failed: {printed.getvalue().strip()}")
    return results


def rows(results: dict[str, Any], counts: SynapticCounts, samples: int) -> list[tuple[str, float, float]]:
    """(metric, NeuroBench's value, ours); operations are sums over all samples, integers as long as both are."""
    operations = {name: float(value) * samples for name, value in results["SynapticOperations"].items()}
    return [
        ("Footprint, bytes", results["Footprint"], counts.footprint_bytes),
        ("ConnectionSparsity", results["ConnectionSparsity"], round(counts.connection_sparsity, 4)),
        ("ActivationSparsity", results["ActivationSparsity"], counts.activation_sparsity),
        ("SynapticOperations, Dense", operations["Dense"], counts.dense_operations),
        ("SynapticOperations, Effective_ACs", operations["Effective_ACs"], counts.effective_acs),
        ("SynapticOperations, Effective_MACs", operations["Effective_MACs"], counts.effective_macs),
    ]


def main() -> None:
    """Convert, run both and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="nano", help="known model or network folder")
    parser.add_argument("--spikes", type=float, default=1.5, help="of a model that is converted")
    parser.add_argument("--windows", type=int, default=2, help="samples; a power of two, so that means are exact")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of a window")
    arguments = parser.parse_args()
    if arguments.windows < 1 or arguments.tokens < 1:
        parser.error("--windows and --tokens must be at least 1")
    import_neurobench()
    source = SpikingNetwork.load(arguments.model) if Path(arguments.model).is_dir() else load_checkpoint(arguments.model)
    text = calibration_windows(source.tokenizer())
    wanted = arguments.windows * arguments.tokens
    if wanted > len(text[0]):
        parser.error(f"--windows times --tokens is {wanted}, the text has {len(text[0])} tokens; give smaller ones")
    network = source if isinstance(source, SpikingNetwork) else convert(source, ConvertConfig(spikes=arguments.spikes), text)
    weights = network.weights
    ids = torch.tensor(text[0][:wanted]).view(arguments.windows, arguments.tokens)
    counts, decoder = count(weights, ids)
    found = rows(harness(weights, ids), counts, len(ids))
    table = Table("metric", "NeuroBench", "our counters", title=f"{arguments.model}, {ids.numel()} tokens")
    for name, theirs, ours in found:
        table.add_row(name, *(f"{value:,.0f}" if value == int(value) else repr(value) for value in (theirs, ours)))
    table.add_row("synaptic operations, zero weights included", "-", f"{counts.synaptic_operations:,}")
    table.add_row("spikes per activation", "-", f"{decoder.statistics.spikes_per_activation():.4f}")
    Console().print(table)
    if different := [name for name, theirs, ours in found if theirs != ours]:
        sys.exit(f"different: {', '.join(different)}")


if __name__ == "__main__":
    main()
