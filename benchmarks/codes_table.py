"""Every spike code at equal spikes per activation, each with the best of its parameters: perplexity, spikes, phases.

    python benchmarks/codes_table.py smollm2-135m --task wikitext2 --limit-tokens 65536 --device cuda --json codes.json

All conversions share the 8-bit weights, one calibration and the default allocation; only the code, its phases and parameters differ. The
stop table's price is set so that a candidate meets the asked spikes; one that emits fewer without a price is taken as it is. For each code
and number of spikes the candidate with the least KL divergence from the dense model, on text that follows the calibration text, is
evaluated on the task. A graded spike carries several bits: pulses count the signed powers of two in it (codes.md). With --json every row is
written as soon as it is there, and a run that was cut goes on with those that are missing; --codes chooses some codes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.conversion.allocation.fisher import fisher
from neuromorphic_llm.conversion.balance import converted_decoder
from neuromorphic_llm.conversion.budget import Budget, meet_budget
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint
from neuromorphic_llm.conversion.integers import integer_decoder
from neuromorphic_llm.conversion.text import WINDOW_TOKENS, WINDOWS, calibration_windows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.evaluation.language_model import EncodedText, evaluate_text
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows
from neuromorphic_llm.reference.config import CodeConfig
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code
from table_run import Rows, add_json, key_of, table_parser, text_of, token_hash

CANDIDATES: dict[str, tuple[tuple[int, dict[str, Any]], ...]] = {
    "signed-digit": ((14, {}),),
    "rate": ((8, {}), (16, {}), (32, {}), (64, {})),
    "first-spike": ((14, {}), (8, {})),
    "bit-planes": ((6, {}), (8, {}), (10, {})),
    "sign-magnitude": ((5, {}), (7, {}), (9, {}), (7, {"clip_per_mille": 5})),
    "burst": ((3, {}), (4, {}), (5, {}), (3, {"gamma": 7, "shift": 3}), (8, {"gamma": 4, "shift": 0}), (4, {"clip_per_mille": 5})),
    "first-spike-log": ((11, {}), (10, {"steps": 3}), (8, {"steps": 4}), (8, {"steps": 8})),
    "multi-threshold": ((1, {}), (2, {}), (3, {}), (4, {}), (8, {}), (4, {"current": "constant"}), (4, {"clip_per_mille": 5})),
    "st-bif": ((16, {}), (32, {}), (16, {"clip_per_mille": 5}), (32, {"clip_per_mille": 5})),
    "qcfs": ((16, {}), (32, {}), (16, {"clip_per_mille": 5}), (16, {"clip_per_mille": 20})),
}
"""Phases and parameters that are tried; a code that is not here is tried with its defaults."""

_BUDGET_WINDOWS = 4
_SELECTION_WINDOWS = 4
_PULSE_TOKENS = 32
_TOLERANCE = 0.02


@dataclass(frozen=True)
class Candidate:
    """A code that meets an asked number of spikes, and its divergence from the dense model on the selection text, nats."""

    code: SpikeCode
    budget: Budget
    divergence: float


class CodesTable:
    """The rows that are there, and how the others are made."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = checked_device(arguments.device)
        self.batch = 8 if self.device.type == "cuda" else 1
        self.checkpoint = load_checkpoint(arguments.model)
        tokenizer = self.checkpoint.tokenizer()
        self.text = text_of(arguments, tokenizer)
        windows = calibration_windows(tokenizer, count=WINDOWS + _SELECTION_WINDOWS)
        self.windows, rest = windows[:WINDOWS], windows[WINDOWS:]
        self.selection = EncodedText(tuple(token for window in rest or windows[-1:] for token in window), 1)
        self.dense = DenseModel(self.checkpoint.dense_model(device=self.device))
        self.rows = Rows("codes_table", arguments, key_of(arguments, self.checkpoint, self.text, calibration=token_hash(windows)))
        self.last: Budget | None = None

    def calibrate(self) -> None:
        """Sensitivities, prices of the sites, and the integer weights that all codes share."""
        self.calibration = calibrate_checkpoint(self.checkpoint, self.windows, device=self.arguments.device)
        canonical = converted_decoder(self.checkpoint).canonical
        self.largest = get_code("signed-digit").largest_value  # what the accumulators are checked for
        options = ConvertConfig()
        self.integers = integer_decoder(canonical.config, canonical.tensors, self.calibration, options, get_code("signed-digit"))
        self.allocation = fisher(canonical.config, self.calibration, None)

    def perplexity(self, model: ScoredModel) -> float:
        """Perplexity on the task."""
        return evaluate_text(model, self.text, window=self.arguments.window, batch=self.batch).perplexity

    def divergence(self, budget: Budget) -> float:
        """KL(dense || network) on the selection text, nats per token."""
        model = SpikingModel(FunctionalDecoder(budget.weights, self.arguments.device))
        window = min(WINDOW_TOKENS, model.max_positions)
        result = evaluate_text(model, self.selection, window=window, batch=self.batch, against=self.dense)
        assert result.kl_to_dense is not None
        return result.kl_to_dense

    def _budget(self, code: SpikeCode, spikes: float | None) -> Budget:
        """The network of a code with the asked spikes, or without a price; ConversionError if it cannot be met."""
        if code.largest_value > self.largest:
            raise ConversionError(f"{code.largest_value} exceeds {self.largest}, for which accumulators are checked")
        config = CodeConfig(code.name, code.phases, parameters=code.parameters)
        integers = replace(self.integers, code=config)
        options = ConvertConfig(spikes=spikes, price=0.0 if spikes is None else None, tolerance=_TOLERANCE)
        short = self.windows[:_BUDGET_WINDOWS]
        # The prices found last are a good start: those of the queries hardly depend on the code.
        self.last = meet_budget(integers, self.calibration, self.allocation, options, short, self.arguments.device, start=self.last)
        return self.last

    def pulses_per_spike(self, candidate: Candidate) -> float:
        """Signed powers of two that a spike carries, on the first selection tokens, weighted by the outputs that it reaches."""
        decoder = FunctionalDecoder(candidate.budget.weights, self.arguments.device)
        counts = np.zeros(2)

        def observe(index: int, x: torch.Tensor, _: CodedRows) -> None:
            site = decoder.weights.site(index)
            train = candidate.code.encode(x.cpu().numpy(), site.stop)
            counts[:] += len(site.weight) * np.array([train.pulse_counts().sum(), train.spike_counts().sum()])

        decoder.observer = observe
        decoder.forward(torch.tensor([self.selection.ids[:_PULSE_TOKENS]]))
        return float(counts[0] / counts[1]) if counts[1] else 1.0

    def candidates(self, name: str, targets: list[float]) -> Iterator[tuple[float, Candidate]]:
        """What meets each of the targets, with the divergence on the selection text; what cannot be made is printed."""
        for phases, parameters in CANDIDATES.get(name, ((get_code(name).phases, {}),)):
            code = get_code(name, phases, **parameters)
            found: Candidate | None = None
            free: Budget | None = None
            for spikes in sorted(targets, reverse=True):
                try:
                    free = free or self._budget(code, None)
                    enough = free.spikes <= spikes * (1 + _TOLERANCE)
                    if not enough or found is None:
                        budget = free if enough else self._budget(code, spikes)
                        found = Candidate(code, budget, self.divergence(budget))
                except ConversionError as error:
                    print(f"{_label(code)} at {spikes:g} spikes: {error}", flush=True)
                    continue
                print(f"{_label(code)} at {spikes:g} spikes: KL {found.divergence:.4f}, {found.budget.spikes:.3f} spikes", flush=True)
                yield spikes, found

    def rows_of(self, name: str, targets: list[float]) -> None:
        """Evaluate the best candidate of a code at each target."""
        best: dict[float, Candidate] = {}
        tried: dict[float, list[dict[str, Any]]] = {spikes: [] for spikes in targets}
        for spikes, candidate in self.candidates(name, targets):
            known = {"phases": candidate.code.phases, "parameters": candidate.code.parameters, "selection_kl": candidate.divergence}
            tried[spikes].append(known | {"spikes_per_activation": candidate.budget.spikes})
            if spikes not in best or candidate.divergence < best[spikes].divergence:
                best[spikes] = candidate
        for spikes, candidate in sorted(best.items()):
            model = SpikingModel(FunctionalDecoder(candidate.budget.weights, self.arguments.device))
            perplexity = self.perplexity(model)
            statistics = model.decoder.statistics
            self.rows.keep(
                {
                    "name": f"{name} {spikes:g}",
                    "code": name,
                    "asked_spikes": spikes,
                    "phases": candidate.code.phases,
                    "parameters": candidate.code.parameters,
                    "graded": candidate.code.graded,
                    "pulses_per_spike": self.pulses_per_spike(candidate) if candidate.code.graded else 1.0,
                    "price": candidate.budget.price,
                    "spikes_per_activation": statistics.spikes_per_activation(),
                    "query_spikes_per_value": statistics.query_spikes_per_value(),
                    "perplexity": perplexity,
                    "tried": tried[spikes],
                }
            )

    def table(self) -> Table:
        """All rows."""
        title = f"{self.checkpoint.name}, {self.arguments.task}, {len(self.text.ids):,} tokens"
        table = Table("code", "asked", "spikes per activation", "pulses", "phases", "parameters", "perplexity", title=title)
        for row in sorted(self.rows, key=lambda row: (row.get("asked_spikes", 0.0), row["perplexity"])):
            if row["name"] == "dense":
                table.add_row("dense float32", "-", "-", "-", "-", "-", f"{row['perplexity']:.2f}")
                continue
            parameters = ", ".join(f"{key}={value}" for key, value in row["parameters"].items()) or "-"
            spikes = row["spikes_per_activation"]
            figures = f"{row['asked_spikes']:g}", f"{spikes:.3f}", f"{spikes * row['pulses_per_spike']:.3f}", str(row["phases"])
            table.add_row(row["code"] + (" (graded)" if row["graded"] else ""), *figures, parameters, f"{row['perplexity']:.2f}")
        return table


def _label(code: SpikeCode) -> str:
    return " ".join([code.name, f"T={code.phases}", *(f"{name}={value}" for name, value in code.parameters.items())])


def main() -> None:
    """Convert, evaluate and print."""
    parser = table_parser(__doc__)
    parser.add_argument("--spikes", type=float, nargs="+", default=[0.67, 1.0, 1.25, 1.5])
    parser.add_argument("--codes", nargs="+", default=list(SPIKE_CODES), metavar="CODE", help=str(SPIKE_CODES))
    add_json(parser)
    arguments = parser.parse_args()
    table = CodesTable(arguments)
    if "dense" not in table.rows:
        table.rows.keep({"name": "dense", "perplexity": table.perplexity(table.dense)})
    missing = {name: [spikes for spikes in arguments.spikes if f"{name} {spikes:g}" not in table.rows] for name in arguments.codes}
    if any(missing.values()):
        table.calibrate()
    for name, targets in missing.items():
        if targets:
            table.rows_of(name, targets)
    Console(width=120).print(table.table())


if __name__ == "__main__":
    main()
