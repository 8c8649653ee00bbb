"""What the calibration text matters: the same conversion on several texts and query budgets, against the dense model.

    python benchmarks/calibration_texts.py smollm2-135m --text C4.jsonl --text wiki.valid.tokens --query-spikes 1.8 1.2 0.7

The text that comes with Python is always among them. Divergence and perplexity are of the first `--tokens` tokens of the task, in windows
of 512, as `nmllm eval` has them. A text is plain, or lines of JSON with a field `text` or `article`.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.evaluation.language_model import evaluate_text
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.models.checkpoint import load_checkpoint
from table_run import read_text, text_of

WINDOW = 512


def main() -> None:
    """Convert, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, action="append", default=[])
    parser.add_argument("--task", default="wikitext2")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokens", type=int, default=1024, dest="limit_tokens", metavar="TOKENS")
    parser.add_argument("--spikes", type=float, default=1.5)
    parser.add_argument("--query-spikes", type=float, nargs="+", default=[1.8])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = checked_device(arguments.device)
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    text = text_of(arguments, tokenizer)
    dense = DenseModel(checkpoint.dense_model(device=device))
    window = min(WINDOW, dense.max_positions)
    perplexity = evaluate_text(dense, text, window=window).perplexity
    title = f"{checkpoint.name}, {len(text.ids):,} tokens of {arguments.task}, dense {perplexity:.2f}"
    table = Table("calibration text", "spikes per activation", "query spikes", "KL to dense, nats", "perplexity", title=title)
    for name, content in [("default", None), *((path.name, read_text(path)) for path in arguments.text)]:
        calibration_text = calibration_windows(tokenizer, content)
        calibration = calibrate_checkpoint(checkpoint, calibration_text, device=str(device))
        for query_spikes in arguments.query_spikes:
            options = ConvertConfig(spikes=arguments.spikes, query_spikes=query_spikes)
            try:
                network = convert(checkpoint, options, calibration_text, calibration=calibration, device=str(device))
            except ConversionError as error:  # the other rows go on
                table.add_row(name, "-", "-", "-", f"failed: {error}")
                continue
            model = SpikingModel(network.functional(arguments.device))
            result, statistics = evaluate_text(model, text, window=window, against=dense), model.decoder.statistics
            spikes = f"{statistics.spikes_per_activation():.3f}", f"{statistics.query_spikes_per_value():.2f}"
            cells = (name, *spikes, f"{result.kl_to_dense:.4f}", f"{result.perplexity:.2f}")
            print(*cells, sep=", ", flush=True)
            table.add_row(*cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"machine: {machine()}")


if __name__ == "__main__":
    main()
