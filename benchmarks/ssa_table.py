"""NeurTransformer's spiking self-attention beside the dense model and this project's attention, fine-tuned for a given time.

    python benchmarks/ssa_table.py smollm2-135m --task wikitext2 --tokens 65536 --text C4.jsonl --seconds 150 --device cuda --json ssa.json

The time of a few steps decides how many fit into `--seconds`: a third of the time layer by layer, the rest end to end. `--text` is plain
text or lines of JSON with a field `text` or `article`. Writes what `nmllm ssa` writes; `--own-only` leaves spiking self-attention out, and
`ssa` and `recipe` are null.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from neuromorphic_llm.cli.result import write_result
from neuromorphic_llm.cli.ssa import result_of, table_of
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.evaluation.language_model import encode_text
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.ssa.compare import Row, SsaComparison
from neuromorphic_llm.ssa.config import RESETS, SURROGATES, NeuronConfig, SsaConfig, SsaTuneConfig
from neuromorphic_llm.ssa.fine_tune import SsaTuner, training_windows
from neuromorphic_llm.ssa.replace import replaced
from table_run import read_text

_TIMED_STEPS = 4


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--task", default="default")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tokens", type=int, default=65536)
    parser.add_argument("--window", type=int, default=1024, help="tokens per window of the table")
    parser.add_argument("--batch", type=int, default=2, help="windows of the table at a time")
    parser.add_argument("--time-steps", type=int, default=4)
    parser.add_argument("--leak", type=float, default=1.0)
    parser.add_argument("--reset", choices=RESETS, default="soft")
    parser.add_argument("--surrogate", choices=list(SURROGATES), default="atan")
    parser.add_argument("--slope", type=float, default=4.0)
    parser.add_argument("--score-spikes", action="store_true")
    parser.add_argument("--feed-forward-steps", type=int)
    parser.add_argument("--seconds", type=float, default=150.0, help="of fine-tuning")
    parser.add_argument("--train-window", type=int, default=256)
    parser.add_argument("--train-batch", type=int, default=8)
    parser.add_argument("--layer-learning-rate", type=float, default=1e-3)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--spikes", type=float, default=1.5)
    parser.add_argument("--query-spikes", type=float, nargs="+", default=[1.0])
    parser.add_argument("--own-only", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def timed_recipe(dense: Any, student: Any, windows: torch.Tensor, recipe: SsaTuneConfig, seconds: float) -> SsaTuneConfig:
    """The recipe with as many steps as fit: a third of the time layer by layer. The student is the same afterwards."""
    state = {name: tensor.clone() for name, tensor in student.state_dict().items()}
    spent = []
    for layers, end_to_end in ((_TIMED_STEPS, 0), (0, _TIMED_STEPS)):
        stamps = []
        for _ in SsaTuner(dense, student, replace(recipe, layer_steps=layers, steps=end_to_end)).run(windows):
            stamps.append(time.perf_counter())
        spent.append((stamps[-1] - stamps[0]) / (len(stamps) - 1))
    student.load_state_dict(state)
    return replace(recipe, layer_steps=max(int(seconds / 3 / spent[0]), 1), steps=max(int(seconds * 2 / 3 / spent[1]), 1))


def ssa_rows(arguments: argparse.Namespace, comparison: SsaComparison, training: str) -> tuple[list[Row], SsaConfig, SsaTuneConfig]:
    """Rows of spiking self-attention, and how they were made."""
    dense, tokenizer = comparison.dense, comparison.checkpoint.tokenizer()
    neuron = NeuronConfig(leak=arguments.leak, reset=arguments.reset, surrogate=arguments.surrogate, slope=arguments.slope)
    config = SsaConfig(arguments.time_steps, arguments.score_spikes, neuron)
    windows = training_windows(tokenizer, training, arguments.train_window)
    student = replaced(dense, comparison.shape, config, windows.tolist(), arguments.feed_forward_steps)
    rows = [comparison.ssa_row("ssa-replaced", student)]
    print(f"ssa-replaced: perplexity {rows[-1].quality.perplexity:.4g}", flush=True)
    recipe = SsaTuneConfig(
        batch=arguments.train_batch,
        layer_learning_rate=arguments.layer_learning_rate,
        learning_rate=arguments.learning_rate,
        seed=arguments.seed,
    )
    # TF32 for training only: the integer network refuses it.
    torch.backends.cuda.matmul.allow_tf32 = True
    recipe = timed_recipe(dense, student, windows, recipe, arguments.seconds)
    print(f"fine-tuning: {recipe.layer_steps} + {recipe.steps} steps of {recipe.batch} x {windows.shape[1]} tokens", flush=True)
    every = max(recipe.total // 20, 1)
    for figures in SsaTuner(dense, student, recipe).run(windows):
        if figures.step % every == 0:
            print(f"  step {figures.step}, {figures.stage}: loss {figures.loss:.4f}", flush=True)
    torch.backends.cuda.matmul.allow_tf32 = False
    rows.append(comparison.ssa_row("ssa", student))
    if arguments.feed_forward_steps:
        rows.append(comparison.ssa_row("ssa+ffn", student, feed_forward=True))
    return rows, config, recipe


def main() -> None:
    """Make the rows, print and write them."""
    arguments = options()
    started, start_s = datetime.now(UTC), time.perf_counter()
    device = checked_device(arguments.device)
    training = read_text(arguments.text)
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    text = encode_text(tokenizer, load_text(TASKS[arguments.task], arguments.data), arguments.tokens)
    comparison = SsaComparison(checkpoint, text, arguments.window, arguments.batch, device)
    rows = [comparison.dense_row()]
    config, recipe = SsaConfig(arguments.time_steps, arguments.score_spikes), SsaTuneConfig(layer_steps=0, steps=0)
    if not arguments.own_only:
        found, config, recipe = ssa_rows(arguments, comparison, training)
        rows += found
        Console(width=120).print(table_of(checkpoint.name, rows))
    windows = calibration_windows(tokenizer, training)
    for query_spikes in arguments.query_spikes:
        rows += comparison.network_rows(arguments.spikes, query_spikes, windows, arguments.seed)
    Console(width=120).print(table_of(checkpoint.name, rows))
    if arguments.json:
        given = {name: value for name, value in vars(arguments).items() if name not in ("json", "seed")}
        payload = result_of(checkpoint.name, config, recipe, rows)
        if arguments.own_only:
            payload |= dict.fromkeys(("ssa", "recipe"))  # nothing was run that they would describe
        write_result(arguments.json, "ssa_table", given, arguments.seed, payload, started, time.perf_counter() - start_s)


if __name__ == "__main__":
    main()
