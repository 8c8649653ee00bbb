"""Every allocation, and every compensation on top of the default one, at equal spikes: perplexity, divergence, spikes, seconds.

    python benchmarks/ablation_table.py smollm2-135m --task wikitext2 --limit-tokens 65536 --spikes 1.0 --device cuda --json ablation.json

Budgets are met on the calibration text, so spikes differ a little on another text; to compare at equal spikes all prices of a row are
multiplied by one number until the first 8,192 tokens of the text itself take the asked spikes.

One calibration serves all rows; the seconds of a row are those of its own search, changes, corrections and budget. With --json every row is
written as soon as it is there, and a run that was cut goes on with those that are missing; --rows chooses some.
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.cli.common import check_writable_file
from neuromorphic_llm.cli.result import write_result
from neuromorphic_llm.convert.allocation.methods import DEFAULT, allocation_names
from neuromorphic_llm.convert.budget import price_for_spikes
from neuromorphic_llm.convert.calibrate import Calibration
from neuromorphic_llm.convert.compensation.methods import compensation_names
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.convert import calibrate_checkpoint, convert
from neuromorphic_llm.convert.text import calibration_windows
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.evaluate.language_model import LanguageModelResult, encode_text, evaluate_text
from neuromorphic_llm.evaluate.open_model import checked_device
from neuromorphic_llm.evaluate.quality import with_scaled_price
from neuromorphic_llm.evaluate.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.evaluate.tasks import get_task, load_text
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights

_MATCH_TOKENS, _MATCH_TOLERANCE, _HEAD_ROWS = 8192, 0.003, 512
_COMBINED = (("gptq", "bias"), ("means", "bias"))
Variant = tuple[str, tuple[str, ...]]


def variants() -> dict[str, Variant]:
    """Row name -> (allocation, compensations): each allocation alone, each compensation alone and two of them together."""
    rows: dict[str, Variant] = {name: (name, ()) for name in allocation_names()}
    compensations = [(name,) for name in compensation_names()] + list(_COMBINED)
    return rows | {"+".join((DEFAULT, *names)): (DEFAULT, names) for names in compensations}


class Ablation:
    """The rows that are there, and how the others are made."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.started, self.begin = arguments, datetime.now(UTC), time.perf_counter()
        self.key = {name: str(getattr(arguments, name)) for name in ("model", "task", "limit_tokens", "window", "spikes", "device")}
        self.device = checked_device(arguments.device)
        self.checkpoint: Checkpoint = load_checkpoint(arguments.model)
        tokenizer = self.checkpoint.tokenizer()
        self.text = encode_text(tokenizer, load_text(get_task(arguments.task), arguments.data), arguments.limit_tokens)
        self.windows = calibration_windows(tokenizer)
        self.dense = DenseModel(self.checkpoint.dense_model(device=self.device))
        self.rows: dict[str, dict[str, Any]] = self._stored()

    def _stored(self) -> dict[str, dict[str, Any]]:
        path = self.arguments.json
        if path is None or not path.is_file():
            return {}
        content = json.loads(path.read_text())
        if content.get("measured_for") != self.key:
            raise SystemExit(f"{path} holds rows of another model, text, budget or device; give another file")
        return {row["name"]: row for row in content["rows"]}

    def evaluate(self, model: ScoredModel, against: ScoredModel | None = None) -> LanguageModelResult:
        """Perplexity, and divergence from `against`."""
        batch = 8 if self.device.type == "cuda" else 1
        return evaluate_text(model, self.text, window=self.arguments.window, batch=batch, against=against)

    def matched(self, weights: DecoderWeights) -> DecoderWeights:
        """The network with its prices scaled until the first tokens of the text take the asked spikes, within 0.3 %."""

        def measure(factor: float) -> float:
            decoder = FunctionalDecoder(with_scaled_price(weights, factor), self.device)
            ids = torch.tensor(self.text.ids[:_MATCH_TOKENS])
            for first in range(0, len(ids), self.arguments.window):
                window = ids[None, first : first + self.arguments.window]
                hidden = decoder.hidden(window, decoder.new_cache(), [window.shape[1]])[0]
                for row in range(0, len(hidden), _HEAD_ROWS):  # the head's spikes count too, its many logits do not
                    decoder.head(hidden[row : row + _HEAD_ROWS])
            return decoder.statistics.spikes_per_activation()

        factor, _ = price_for_spikes(measure, self.arguments.spikes, _MATCH_TOLERANCE, 1.0)
        return with_scaled_price(weights, factor)

    def row(self, name: str, variant: Variant, calibration: Calibration) -> dict[str, Any]:
        """Convert and evaluate one variant; one that cannot be made says why."""
        allocation, compensation = variant
        options = ConvertConfig(spikes=self.arguments.spikes, allocation=allocation, compensation=compensation)
        begin = time.perf_counter()
        try:
            network = convert(self.checkpoint, options, self.windows, calibration=calibration, device=self.arguments.device)
        except NeuromorphicLLMError as error:
            return {"name": name, "reason": str(error)}
        seconds = time.perf_counter() - begin
        model = SpikingModel(FunctionalDecoder(self.matched(network.weights), self.device))
        result = self.evaluate(model, self.dense)
        return {
            "name": name,
            "spikes_per_activation": model.decoder.statistics.spikes_per_activation(),
            "perplexity": result.perplexity,
            "kl_to_dense": result.kl_to_dense,
            "conversion_s": seconds,
        }

    def keep(self, row: dict[str, Any]) -> None:
        """Print a row and write all of them."""
        self.rows[row["name"]] = row
        print(
            *(f"{key}: {value:.5g}" if isinstance(value, float) else f"{key}: {value}" for key, value in row.items()), sep=", ", flush=True
        )
        if self.arguments.json is not None:
            payload = {"measured_for": self.key, "rows": list(self.rows.values()), "kind": "measured"}
            passed = time.perf_counter() - self.begin
            write_result(self.arguments.json, "ablation_table", vars(self.arguments), 0, payload, self.started, passed)


def _table(ablation: Ablation) -> Table:
    title = f"{ablation.checkpoint.name}, {ablation.arguments.task}, {len(ablation.text.ids):,} tokens"
    table = Table("variant", "spikes per activation", "perplexity", "KL to dense, nats", "conversion, s", title=title)
    for row in ablation.rows.values():
        if "reason" in row:
            table.add_row(row["name"], row["reason"])
            continue
        divergence = "" if row["kl_to_dense"] is None else f"{row['kl_to_dense']:.4f}"
        spikes, seconds = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("spikes_per_activation", "conversion_s"))
        table.add_row(row["name"], spikes, f"{row['perplexity']:.2f}", divergence, seconds)
    return table


def main() -> None:
    """Convert, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", default="default")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit-tokens", type=int)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--spikes", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--rows", nargs="+", choices=tuple(variants()), default=tuple(variants()), metavar="ROW", help=", ".join(variants())
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON; go on from those that are there")
    arguments = parser.parse_args()
    if arguments.json:
        check_writable_file(arguments.json, "--json")
    ablation = Ablation(arguments)
    if "dense" not in ablation.rows:
        perplexity = ablation.evaluate(ablation.dense).perplexity
        nothing = dict.fromkeys(("spikes_per_activation", "kl_to_dense", "conversion_s"))
        ablation.keep({"name": "dense", "perplexity": perplexity, **nothing})
    missing = [name for name in arguments.rows if name not in ablation.rows]
    if missing:
        calibration = calibrate_checkpoint(ablation.checkpoint, ablation.windows, device=arguments.device)
        for name in missing:
            ablation.keep(ablation.row(name, variants()[name], calibration))
    Console(width=120).print(_table(ablation))


if __name__ == "__main__":
    main()
