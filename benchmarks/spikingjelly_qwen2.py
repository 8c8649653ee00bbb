"""SpikingJelly's conversion recipe for Qwen2 beside ours: the same weights, windows and device, loss and time in one run.

    python -m pip install --no-deps --target PEERS spikingjelly==2.0.0 loguru
    PYTHONPATH=PEERS python benchmarks/spikingjelly_qwen2.py smollm2-135m --device cuda

The recipe takes Qwen2 models only, so the Llama weights get Qwen2's biases as zeros (the same function). It is calibrated on its own
terms: tokens of C4 with a quantile of 0.999 and of 1 (its default), float32, 16 levels. Its encoders sit at the embedding, queries, keys,
values and the input of the down projection; every other product takes floating-point numbers, T times. Our rows code every input of a
linear layer.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from transformers import Qwen2Config, Qwen2ForCausalLM

from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models import llama
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from table_run import data_folder

CALIBRATION_WINDOWS, CALIBRATION_TOKENS, LEVELS = 16, 512, 16


@dataclass(frozen=True)
class Row:
    """One variant: perplexity, spikes per coded activation (None: none), time of one pass over all windows."""

    name: str
    perplexity: float
    spikes: float | None
    seconds: float


def perplexity(logits: Callable[[torch.Tensor], torch.Tensor], windows: Sequence[torch.Tensor]) -> float:
    """Of windows int64 [1, tokens], each predicted from an empty context."""
    total, tokens = 0.0, 0
    for window in windows:
        log_probability = logits(window)[0, :-1].double().log_softmax(-1)
        total -= float(log_probability.gather(1, window[0, 1:, None]).sum())
        tokens += window.shape[1] - 1
    return math.exp(total / tokens)


def measured(
    name: str,
    logits: Callable[[torch.Tensor], torch.Tensor],
    windows: Sequence[torch.Tensor],
    spikes: Callable[[], float | None],
    runs: int,
) -> Row:
    """Perplexity in one pass over all windows, which warms up, then the median time of `runs` further passes."""
    with torch.no_grad():
        value = perplexity(logits, windows)
        spent = []
        for _ in range(runs):
            started = time.perf_counter()
            for window in windows:
                logits(window)
            if windows[0].is_cuda:
                torch.cuda.synchronize()
            spent.append(time.perf_counter() - started)
        row = Row(name, value, spikes(), statistics.median(spent))
        print(row, flush=True)
        return row


def as_qwen2(checkpoint: Checkpoint, device: torch.device) -> Qwen2ForCausalLM:
    """The Llama weights in transformers' Qwen2, whose biases are zero."""
    settings = llama.hugging_face_config(checkpoint.config) | {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    model = Qwen2ForCausalLM(Qwen2Config(**settings))
    missing, unexpected = model.load_state_dict(checkpoint.tensors, strict=False)
    if unexpected or any(not name.endswith("_proj.bias") for name in missing):
        raise SystemExit(f"{checkpoint.name}: not a Llama checkpoint that Qwen2 can hold ({missing[:2]}, {unexpected[:2]})")
    for name in missing:
        model.get_parameter(name).data.zero_()
    return model.to(device).eval()


def c4_batches(tokenizer: Any, folder: Path, device: torch.device) -> list[dict[str, torch.Tensor]]:
    """The first documents of C4 that fill a calibration window."""
    with (folder / "c4" / "c4_en_train_first1000.jsonl").open(encoding="utf-8") as file:
        documents = (tokenizer(json.loads(line)["text"], add_special_tokens=False, verbose=False)["input_ids"] for line in file)
        long = list(islice((ids for ids in documents if len(ids) >= CALIBRATION_TOKENS), CALIBRATION_WINDOWS))
    batches = [torch.tensor([ids[:CALIBRATION_TOKENS]], device=device) for ids in long]
    return [{"input_ids": ids, "attention_mask": torch.ones_like(ids)} for ids in batches]


def spikingjelly_row(dense: Qwen2ForCausalLM, batches: Any, windows: Sequence[torch.Tensor], steps: int, quantile: float, runs: int) -> Row:
    """Their recipe, calibrated and converted with T = `steps`."""
    from spikingjelly.activation_based import functional
    from spikingjelly.activation_based.ann2snn import ModuleConverter
    from spikingjelly.activation_based.ann2snn.recipes.qwen2 import Qwen2SNNConfig, Qwen2SNNRecipe, calibrate_qwen2_snn

    config = Qwen2SNNConfig(time_steps=steps, calibration_levels=LEVELS, calibration_quantile=quantile)
    calibration = calibrate_qwen2_snn(dense, batches, config)
    network = ModuleConverter(Qwen2SNNRecipe(calibration, config), windows[0].device).convert(copy.deepcopy(dense))

    def logits(ids: torch.Tensor) -> torch.Tensor:
        functional.reset_net(network)  # its neurons and differences go on from the window before otherwise
        predicted: torch.Tensor = network(ids).logits
        return predicted

    def spikes() -> float:
        network.set_collect_statistics(True)
        logits(windows[0])
        counts = network.encoder_statistics()
        fired = sum(count["positive_spike_count"] + count["negative_spike_count"] for count in counts)
        return fired * steps / sum(count["spike_value_count"] for count in counts)

    return measured(f"SpikingJelly, T = {steps}, quantile {quantile:g}", logits, windows, spikes, runs)


def functional_row(name: str, decoder: FunctionalDecoder, windows: Sequence[torch.Tensor], runs: int) -> Row:
    """A network of ours through its functional simulation."""
    scale = 2.0**-decoder.weights.formats.logit
    return measured(name, lambda ids: decoder.forward(ids) * scale, windows, decoder.statistics.spikes_per_activation, runs)


def our_rows(checkpoint: Checkpoint, windows: Sequence[torch.Tensor], budgets: Sequence[float], device: str, runs: int) -> list[Row]:
    """Our networks, everything coded, and one with attention in floating point's place (14-bit integers)."""
    text = calibration_windows(checkpoint.tokenizer())
    calibration = calibrate_checkpoint(checkpoint, text, device=device)
    rows = []
    for parts, spikes in [*(("all", budget) for budget in budgets), ("feed-forward", max(budgets))]:
        network = convert(checkpoint, ConvertConfig(spikes=spikes, parts=parts), text, calibration=calibration, device=device)
        name = f"ours, {'everything' if parts == 'all' else 'feed-forward layers only'}, asked {spikes:g} spikes"
        rows.append(functional_row(name, network.functional(device), windows, runs))
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="smollm2-135m")
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder (default: that of the commands, docs/reference/data.md)")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--window", type=int, default=256)
    parser.add_argument("--steps", type=int, nargs="+", default=[32, 160])
    parser.add_argument("--quantiles", type=float, nargs="+", default=[0.999, 1.0])
    parser.add_argument("--spikes", type=float, nargs="+", default=[1.0, 1.25, 1.5])
    parser.add_argument("--runs", type=int, default=3, help="timed passes of each variant; the median counts")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    device = checked_device(arguments.device)
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    text = load_text(TASKS["wikitext2"], arguments.data / "wikitext-2" / "wiki.test.raw")
    ids = tokenizer(text[: 64 * arguments.windows * arguments.window], add_special_tokens=False, verbose=False)["input_ids"]
    count = arguments.window
    windows = [torch.tensor([ids[i * count : (i + 1) * count]], device=device) for i in range(arguments.windows)]
    dense = as_qwen2(checkpoint, device)
    rows = [measured("dense float32", lambda ids: dense(ids).logits, windows, lambda: None, arguments.runs)]
    batches = c4_batches(tokenizer, arguments.data, device)
    for quantile in arguments.quantiles:
        for steps in arguments.steps:
            rows.append(spikingjelly_row(dense, batches, windows, steps, quantile, arguments.runs))
    rows += our_rows(checkpoint, windows, arguments.spikes, arguments.device, arguments.runs)
    title = f"{checkpoint.name}, {arguments.windows} windows of {count} tokens of WikiText-2"
    table = Table("variant", "perplexity", "change", "spikes per coded activation", "seconds", "times dense", title=title)
    fastest = rows[0].seconds
    for row in rows:
        change = row.perplexity / rows[0].perplexity - 1
        spikes = "-" if row.spikes is None else f"{row.spikes:.2f}"
        table.add_row(row.name, f"{row.perplexity:.2f}", f"{change:+.1%}", spikes, f"{row.seconds:.3f}", f"{row.seconds / fastest:.1f}")
    console = Console(width=140)
    console.print(table)
    console.print(f"machine: {machine()}")


if __name__ == "__main__":
    main()
