"""What the calibration text matters: the same conversion on several texts and query budgets, against the dense model.

    python benchmarks/calibration_texts.py smollm2-135m --text C4.jsonl --text wiki.valid.tokens --query-spikes 1.8 1.2 0.7

The text that comes with Python is always among them. Divergence and perplexity are of the first `--tokens` tokens of the task, in windows
of 512. A text is plain, or lines of JSON with a field `text` or `article`.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.convert import calibrate_checkpoint, convert
from neuromorphic_llm.convert.float_decoder import FloatDecoder
from neuromorphic_llm.convert.text import calibration_windows
from neuromorphic_llm.evaluate.language_model import encode_text
from neuromorphic_llm.evaluate.open_model import checked_device
from neuromorphic_llm.evaluate.tasks import get_task, load_text
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder

WINDOW = 512


def read(path: Path) -> str:
    """The text of a file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".jsonl":
        return text
    lines = [json.loads(line) for line in text.splitlines()]
    return "\n\n".join(str(line.get("text") or line["article"]) for line in lines)


def loss(log_probabilities: torch.Tensor, windows: torch.Tensor) -> float:
    """Mean negative log-likelihood of windows [n, tokens], each predicted from an empty context."""
    return float(-log_probabilities[:, :-1].gather(2, windows[:, 1:, None]).mean())


def main() -> None:
    """Convert, compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, action="append", default=[])
    parser.add_argument("--task", default="wikitext2")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--spikes", type=float, default=1.5)
    parser.add_argument("--query-spikes", type=float, nargs="+", default=[1.8])
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    if arguments.tokens < WINDOW:
        parser.error(f"--tokens must be at least {WINDOW}, a window")
    device = checked_device(arguments.device)
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    ids = encode_text(tokenizer, load_text(get_task(arguments.task), arguments.data), arguments.tokens).ids
    windows = torch.tensor(list(ids)[: len(ids) // WINDOW * WINDOW]).view(-1, WINDOW)
    decoder = FloatDecoder(checkpoint.canonical, device=device)
    with torch.no_grad():
        dense = torch.cat([decoder(window[None]).log_softmax(-1).cpu() for window in windows])
    title = f"{checkpoint.name}, {windows.numel():,} tokens of {arguments.task}, dense {math.exp(loss(dense, windows)):.2f}"
    table = Table("calibration text", "spikes per activation", "query spikes", "KL to dense, nats", "perplexity", title=title)
    for name, text in [("default", None), *((path.name, read(path)) for path in arguments.text)]:
        calibration_text = calibration_windows(tokenizer, text)
        calibration = calibrate_checkpoint(checkpoint, calibration_text, device=str(device))
        for query_spikes in arguments.query_spikes:
            options = ConvertConfig(spikes=arguments.spikes, query_spikes=query_spikes)
            network = convert(checkpoint, options, calibration_text, calibration=calibration, device=str(device))
            spiking = FunctionalDecoder(network.weights, device)
            scale = 2.0**-network.weights.formats.logit
            ours = torch.cat([(spiking.forward(window[None]).double() * scale).log_softmax(-1).float().cpu() for window in windows])
            divergence = float((dense.exp() * (dense - ours)).sum(-1).mean())
            spikes = spiking.statistics.spikes_per_activation(), spiking.statistics.query_spikes_per_value()
            cells = (name, f"{spikes[0]:.3f}", f"{spikes[1]:.2f}", f"{divergence:.4f}", f"{math.exp(loss(ours, windows)):.2f}")
            print(*cells, sep=", ", flush=True)
            table.add_row(*cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"machine: {machine()}")


if __name__ == "__main__":
    main()
