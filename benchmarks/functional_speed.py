"""Speed of the functional simulation beside the dense model, as ratios within one run.

    python benchmarks/functional_speed.py smollm2-135m
    python benchmarks/functional_speed.py smollm2-135m --device cuda --batch 1 64 256 --json speed.json

On the CPU: perplexity-style evaluation against the float32 model, and generation against transformers' own float32 `generate`.
On a GPU: decoding against the bfloat16 model in the same loop. Runs alternate; medians are printed.
--json writes the envelope of docs/reference/formats.md, `model`, `device`, `conversion_s` (null with --network), `rows` and `kind`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.cli.outputs import check_writable_file
from neuromorphic_llm.cli.result import machine, write_result
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows, default_text
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.spiking import SpikingNetwork

PROMPT, WINDOW = 64, 1024


def timed(run: Callable[[], object], device: str) -> float:
    """Seconds of one call, device work included."""
    started = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


@dataclass(frozen=True)
class Row:
    """One comparison: medians of alternating runs."""

    what: str
    dense_tokens_per_s: float
    functional_tokens_per_s: float

    @property
    def ratio(self) -> float:
        """Functional over dense."""
        return self.functional_tokens_per_s / self.dense_tokens_per_s


def compare(name: str, tokens: int, dense: Callable[[], object], ours: Callable[[], object], device: str, runs: int) -> Row:
    """One row, after one warm-up each."""
    dense(), ours()
    seconds = [(timed(dense, device), timed(ours, device)) for _ in range(runs)]
    rates = [tokens / statistics.median(column) for column in zip(*seconds, strict=True)]
    return Row(name, *rates)


def decode_loop(step: Callable[[torch.Tensor], torch.Tensor], first: torch.Tensor, count: int) -> None:
    """The same greedy loop for both models: step maps ids [batch, 1] to logits [batch, vocab]."""
    ids = first
    for _ in range(count):
        ids = step(ids).argmax(-1, keepdim=True)


def cpu_rows(checkpoint: Checkpoint, decoder: FunctionalDecoder, ids: torch.Tensor, count: int, runs: int) -> list[Row]:
    """Evaluation of one window and generation of `count` tokens, float32 on the CPU."""
    model = checkpoint.dense_model()
    window, prompt = ids[None, :WINDOW], ids[None, :PROMPT]

    def dense_window() -> object:
        with torch.no_grad():
            return model(window).logits

    attended = torch.ones_like(prompt)
    return [
        compare(f"evaluation, window of {window.shape[1]}", window.shape[1], dense_window, lambda: decoder.forward(window), "cpu", runs),
        compare(
            f"generate, {count} tokens",
            count,
            lambda: model.generate(prompt, do_sample=False, min_new_tokens=count, max_new_tokens=count, attention_mask=attended),
            lambda: decoder.generate([prompt[0].tolist()], count, eos_token_ids=()),
            "cpu",
            runs,
        ),
    ]


def gpu_rows(checkpoint: Checkpoint, decoder: FunctionalDecoder, ids: torch.Tensor, batches: list[int], count: int) -> list[Row]:
    """Decoding of `count` tokens at each batch size, the dense model in bfloat16."""
    model = checkpoint.dense_model(torch.bfloat16, "cuda")
    rows = []
    for batch in batches:
        prompt = ids[:PROMPT].repeat(batch, 1).cuda()
        cache = decoder.new_cache(batch, PROMPT + 8 * count)
        decoder.forward(prompt, cache, last_only=True)
        with torch.no_grad():
            state = model(prompt, use_cache=True).past_key_values

        def ours(tokens: torch.Tensor, cache: object = cache) -> torch.Tensor:
            return decoder.forward(tokens, cache, last_only=True)[:, -1]  # type: ignore[arg-type, index]

        def dense(tokens: torch.Tensor, state: object = state) -> torch.Tensor:
            with torch.no_grad():
                return model(tokens, past_key_values=state, use_cache=True).logits[:, -1]

        first = prompt[:, -1:]
        row = compare(
            f"decode, batch {batch}",
            batch * count,
            lambda first=first, dense=dense: decode_loop(dense, first, count),
            lambda first=first, ours=ours: decode_loop(ours, first, count),
            "cuda",
            3,
        )
        rows.append(row)
    return rows


def main() -> None:
    """Convert if needed, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="random-tiny")
    parser.add_argument("--network", type=Path, help="converted network of the model (default: convert it)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    arguments = parser.parse_args()
    if arguments.json:
        check_writable_file(arguments.json, "--json")
    date, begin = datetime.now(UTC), time.perf_counter()
    checkpoint = load_checkpoint(arguments.model)
    tokenizer = checkpoint.tokenizer()
    started = time.perf_counter()
    if arguments.network:
        network = SpikingNetwork.load(arguments.network)
    else:
        network = convert(checkpoint, ConvertConfig(), calibration_windows(tokenizer), device=arguments.device)
    converted = time.perf_counter() - started
    ids = torch.tensor(tokenizer(default_text()[: 16 * WINDOW], add_special_tokens=False, verbose=False)["input_ids"])
    decoder = network.functional(arguments.device)
    if arguments.device == "cpu":
        rows = cpu_rows(checkpoint, decoder, ids, arguments.tokens, arguments.runs)
    else:
        rows = gpu_rows(checkpoint, decoder, ids, arguments.batch, arguments.tokens)
    table = Table("what", "dense, tokens/s", "functional, tokens/s", "ratio", title=f"{checkpoint.name}, {date:%Y-%m-%d}")
    for row in rows:
        table.add_row(row.what, f"{row.dense_tokens_per_s:,.1f}", f"{row.functional_tokens_per_s:,.1f}", f"{row.ratio:.2f}")
    console = Console(width=120)
    console.print(table)
    console.print(f"{'loaded' if arguments.network else 'calibrated and converted'} in {converted:.1f} s; machine: {machine()}")
    if arguments.json:
        payload = {
            "model": checkpoint.name,
            "device": arguments.device,
            "conversion_s": None if arguments.network else converted,
            "rows": [{**asdict(row), "ratio": row.ratio} for row in rows],
            "kind": "measured",
        }
        write_result(arguments.json, "functional_speed", vars(arguments), 0, payload, date, time.perf_counter() - begin)


if __name__ == "__main__":
    main()
