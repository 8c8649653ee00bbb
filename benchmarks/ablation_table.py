"""Every allocation, and every compensation on top of the default one, at equal spikes: perplexity, divergence, spikes, seconds.

    python benchmarks/ablation_table.py smollm2-135m --task wikitext2 --limit-tokens 65536 --spikes 1.0 --device cuda --json ablation.json

Budgets are met on the calibration text, so spikes differ a little on another text; to compare at equal spikes all prices of a row are
multiplied by one number until the first 8,192 tokens of the text itself take the asked spikes.

One calibration serves all rows; the seconds of a row are those of its own search, changes, corrections and budget. With --json every row is
written as soon as it is there, and a run that was cut goes on with those that are missing; --rows chooses some.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS, DEFAULT
from neuromorphic_llm.conversion.budget import price_for_spikes
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.compensation.methods import COMPENSATIONS
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.evaluation.language_model import LanguageModelResult, evaluate_text
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.quality import with_scaled_price
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights
from table_run import Rows, add_json, key_of, table_parser, text_of, token_hash

_MATCH_TOKENS, _MATCH_TOLERANCE, _HEAD_ROWS = 8192, 0.003, 512
_COMBINED = (("gptq", "bias"), ("means", "bias"))
Variant = tuple[str, tuple[str, ...]]


def variants() -> dict[str, Variant]:
    """Row name -> (allocation, compensations): each allocation alone, each compensation alone and two of them together."""
    rows: dict[str, Variant] = {name: (name, ()) for name in ALLOCATIONS}
    compensations = [(name,) for name in COMPENSATIONS] + list(_COMBINED)
    return rows | {"+".join((DEFAULT, *names)): (DEFAULT, names) for names in compensations}


class Ablation:
    """The rows that are there, and how the others are made."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = checked_device(arguments.device)
        self.checkpoint: Checkpoint = load_checkpoint(arguments.model)
        tokenizer = self.checkpoint.tokenizer()
        self.text = text_of(arguments, tokenizer)
        self.windows = calibration_windows(tokenizer)
        self.dense = DenseModel(self.checkpoint.dense_model(device=self.device))
        key = key_of(arguments, self.checkpoint, self.text, spikes=arguments.spikes, calibration=token_hash(self.windows))
        self.rows = Rows("ablation_table", arguments, key)

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
            seconds = time.perf_counter() - begin
            weights = self.matched(network.weights)
        except NeuromorphicLLMError as error:
            return {"name": name, "reason": str(error)}
        model = SpikingModel(FunctionalDecoder(weights, self.device))
        result = self.evaluate(model, self.dense)
        return {
            "name": name,
            "spikes_per_activation": model.decoder.statistics.spikes_per_activation(),
            "perplexity": result.perplexity,
            "kl_to_dense": result.kl_to_dense,
            "conversion_s": seconds,
        }


def _table(ablation: Ablation) -> Table:
    title = f"{ablation.checkpoint.name}, {ablation.arguments.task}, {len(ablation.text.ids):,} tokens"
    table = Table("variant", "spikes per activation", "perplexity", "KL to dense, nats", "conversion, s", title=title)
    for row in ablation.rows:
        if "reason" in row:
            table.add_row(row["name"], row["reason"])
            continue
        divergence = "" if row["kl_to_dense"] is None else f"{row['kl_to_dense']:.4f}"
        spikes, seconds = ("" if row[key] is None else f"{row[key]:.3f}" for key in ("spikes_per_activation", "conversion_s"))
        table.add_row(row["name"], spikes, f"{row['perplexity']:.2f}", divergence, seconds)
    return table


def main() -> None:
    """Convert, evaluate and print."""
    parser = table_parser(__doc__)
    parser.add_argument("--spikes", type=float, default=1.0)
    parser.add_argument(
        "--rows", nargs="+", choices=tuple(variants()), default=tuple(variants()), metavar="ROW", help=", ".join(variants())
    )
    add_json(parser)
    arguments = parser.parse_args()
    ablation = Ablation(arguments)
    if "dense" not in ablation.rows:
        perplexity = ablation.evaluate(ablation.dense).perplexity
        nothing = dict.fromkeys(("spikes_per_activation", "kl_to_dense", "conversion_s"))
        ablation.rows.keep({"name": "dense", "perplexity": perplexity, **nothing})
    if missing := ablation.rows.missing(arguments.rows):
        calibration = calibrate_checkpoint(ablation.checkpoint, ablation.windows, device=arguments.device)
        for name in missing:
            ablation.rows.keep(ablation.row(name, variants()[name], calibration))
    Console(width=120).print(_table(ablation))


if __name__ == "__main__":
    main()
