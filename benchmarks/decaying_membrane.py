"""One spike whose time is a logarithm on a membrane that decays, beside signed digits on a membrane that is halved: quality and work.

    python benchmarks/decaying_membrane.py nano --limit-tokens 1000
    python benchmarks/decaying_membrane.py smollm2-135m --task wikitext2 --limit-tokens 2048 --tokens-counted 64

On a membrane that decays by 2^(-1/8) in a slot a spike of first-spike-log is one pulse: its slot is its level. Both codes are converted
for the membrane of the chip (`--chip`, whose ranges are calibrated for each); the sum on it is the integer product in both cases. An error
of the decay in an octave (of a halving) differs from column to column, normal with the given spread, fixed; its effect is taken to first
order. Work is counted on the first tokens: pulses, cells read, slots of a row block in which a row spikes, and energy with the account's
nominal constants, where a slot is a window of its own as a phase is (`windows`), or where the clamp stays on for all slots of a cycle each
(`continuous`, its power that of the circuit simulation, and reads of one cycle).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.devices.readout import BlockReadout, Drive
from neuromorphic_llm.energy.constants import load_constants
from neuromorphic_llm.evaluation.language_model import evaluate_text
from neuromorphic_llm.evaluation.scored_model import SpikingModel
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows, SiteTensors, energies, split
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.code import SpikeTrain
from neuromorphic_llm.spikes.first_spike_log import WEIGHTS
from table_run import table_parser, text_of

STEPS, PHASES = 8, 8
DESIGNS = (
    *(("signed-digit", spikes) for spikes in (1.5, 1.0)),
    *(("first-spike-log", spikes) for spikes in (0.92, 0.67)),
)
"""Codes and spikes per activation."""
ERRORS = (0.0, 0.002, 0.01)
CLAMP_POWER = 8.0e-6 * 0.8
"""Of a column's clamp, W (docs/results/membrane-circuit.md)."""


def slots(train: SpikeTrain) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    """Pulses -1, 0, 1 [slots, tokens, inputs], the most significant slot first, and the octaves of each to the slot of the first."""
    if not train.graded:
        return train.digits, np.arange(len(train.digits), dtype=np.float64)
    sizes = np.array(WEIGHTS[STEPS][::-1])
    pulses = (np.abs(train.digits)[:, None] == sizes[None, :, None, None]) * np.sign(train.digits)[:, None]
    return pulses.reshape(-1, *train.digits.shape[1:]).astype(np.int8), np.arange(STEPS * len(train.digits)) / STEPS


@dataclass
class Work:
    """Sums over the tokens and sites that were counted."""

    tokens: int
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, pulses: NDArray[np.int8], outputs: int, columns: int, readout: BlockReadout) -> None:
        """Count a site's pulses [slots, tokens, inputs], of macros with so many columns."""
        starts = np.arange(0, pulses.shape[2], readout.rows)
        events = np.add.reduceat(np.abs(pulses, dtype=np.int32), starts, axis=2)  # [slots, tokens, blocks]
        occupied, reached = int(readout.reads(events).sum()), int((events.sum(axis=0) > 0).sum())
        self.counts["pulses"] += int(events.sum())
        self.counts["cells"] += readout.slices * outputs * int(events.sum())
        self.counts["drives"] += readout.slices * -(-outputs // columns) * int(events.sum())
        self.counts["integrations"] += readout.slices * outputs * occupied
        self.counts["membranes"] += readout.slices * outputs * reached
        self.counts["slots"] += int((events.max(axis=2) > 0).sum())
        self.counts["inputs"] += pulses.shape[1] * pulses.shape[2]


class Emulated(FunctionalDecoder):
    """Functional simulation with decays that are off by `spread` in an octave, whose sites are counted for the first tokens."""

    def __init__(self, weights: DecoderWeights, columns: int, spread: float, counted: int) -> None:
        super().__init__(weights)
        self._columns, self._spread, self._first, self.work = columns, spread, counted, Work(counted)
        self._decays: dict[int, torch.Tensor] = {}
        self._generator = torch.Generator().manual_seed(0)

    def accumulate(self, x: torch.Tensor, coded: CodedRows, site: SiteTensors) -> torch.Tensor:
        """See FunctionalDecoder.accumulate."""
        readout = self.weights.readout
        assert isinstance(readout, BlockReadout)
        if not site.spiking:
            return super().accumulate(x, coded, site)
        products = (each.long() for each in self.operations.block_products(coded, site.blocks))
        sums = torch.stack([128 * high + low for high, low in products])
        train = self._code.encode(x.numpy(), site.stop.numpy()) if self._spread or self._counting else None
        if train is not None:
            pulses, octaves = slots(train)
            if self._counting:
                self.work.add(pulses[:, : self._first], site.weight.shape[0], self._columns, readout)
            if self._spread:
                sums = sums + self._error(train, octaves, site, readout)
        drive = Drive(self.phases(x), self.horner_shift, site.ranges, energies(coded, readout))
        return split(readout.read(sums, drive, torch).accumulators)

    @property
    def _counting(self) -> bool:
        """The first window is being run."""
        return self._first > 0 and self.statistics.tokens == 0

    def _error(self, train: SpikeTrain, octaves: NDArray[np.float64], site: SiteTensors, readout: BlockReadout) -> torch.Tensor:
        """Change of the sums int64 [blocks, rows, outputs]: every pulse by the octaves that it decays for times the column's error."""
        pulses, _ = slots(train)
        places = len(train.digits)
        sizes = np.array(WEIGHTS[STEPS][::-1] if train.graded else [1], np.float64)
        weights = (sizes[None, :] * 2.0 ** (train.horner_shift * (places - 1 - np.arange(places)))[:, None]).reshape(-1)
        late = np.einsum("s,snm->nm", weights * octaves, pulses) - (places - train.phases)[:, None] * np.einsum(
            "s,snm->nm", weights, pulses
        )
        key = id(site)
        if key not in self._decays:
            shape = len(site.blocks), 1, site.weight.shape[0]
            self._decays[key] = self._spread * torch.randn(shape, generator=self._generator, dtype=torch.float64)
        parts = torch.split(torch.from_numpy(late), readout.block_rows, 1)
        changed = torch.stack([part @ block.double().t() for part, block in zip(parts, site.blocks, strict=True)])
        return torch.round(changed * self._decays[key]).long()


def converted(checkpoint: Any, spec: ChipSpec, code: str, spikes: float) -> DecoderWeights:
    """Network for the chip's membrane."""
    graded = {"code": code, "code_parameters": (("steps", STEPS),), "phases": PHASES} if code == "first-spike-log" else {}
    own = spec.readout_circuit.to_json()
    options = ConvertConfig(spikes=spikes, readout=own.pop("name"), readout_parameters=tuple(sorted(own.items())), **graded)
    return convert(checkpoint, options, calibration_windows(checkpoint.tokenizer())).weights


def energy(work: Work, slots_of_code: int, spec: ChipSpec) -> dict[str, float]:
    """Microjoules per token of cells with their drivers and of membranes, with slots of a window and with a clamp that stays on."""
    constants = load_constants()
    counts = {name: value / work.tokens for name, value in work.counts.items()}
    read, drive = constants["cell_read_pcm"].value.nominal, constants["row_drive"].value.nominal
    cells = read * counts["cells"] + drive * counts["drives"]
    windows = constants["integration"].value.nominal * counts["integrations"]
    cycle = 1 / spec.clock_hz
    short = read * counts["cells"] * cycle / 1.0e-8 + drive * counts["drives"]
    return {
        "cells": 1e6 * cells,
        "windows": 1e6 * windows,
        "cells, short reads": 1e6 * short,
        "continuous": 1e6 * CLAMP_POWER * cycle * slots_of_code * counts["membranes"],
    }


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--chip", default="nc2")
    parser.add_argument("--tokens-counted", type=int, default=64)
    parser.add_argument("--errors", type=float, nargs="+", default=ERRORS, help="spreads of a decay in an octave")
    arguments = parser.parse_args()
    spec, checkpoint = load_spec(arguments.chip), load_checkpoint(arguments.model)
    if not isinstance(spec.readout_circuit, BlockReadout):
        parser.error(f"--chip {arguments.chip} has no membranes; give nc2 or nano2")
    text = text_of(arguments, checkpoint.tokenizer())
    table = Table("code", "spikes", "perplexity", *(f"decay ± {error:.1%}" for error in arguments.errors[1:]), "pulses/token", "slots/site")
    for name in ("cells", "windows", "cells, short reads", "continuous"):
        table.add_column(f"{name}, µJ")
    for code, spikes in DESIGNS:
        weights = converted(checkpoint, spec, code, spikes)
        perplexities, work, measured = [], Work(0), 0.0
        for error in arguments.errors:
            decoder = Emulated(weights, spec.synapse.columns, error, 0 if error else arguments.tokens_counted)
            model = SpikingModel(decoder)
            result = evaluate_text(model, text, window=min(1024, weights.config.max_positions))
            perplexities.append(result.perplexity)
            if not error:
                work, measured = decoder.work, decoder.statistics.spikes_per_activation()
        sites = sum(weights.site(site.index).spiking for site in weights.config.sites)
        figures = energy(work, STEPS * PHASES if code == "first-spike-log" else weights.code.phases, spec)
        pulses, busy = (work.counts[name] / work.tokens for name in ("pulses", "slots"))
        table.add_row(
            code, f"{measured:.3f}", *(f"{each:.2f}" for each in perplexities), f"{pulses:,.0f}", f"{busy / sites:.1f}",
            *(f"{each:.3g}" for each in figures.values()),
        )  # fmt: skip
    console = Console(width=200)
    console.print(table)
    console.print(f"machine: {machine()}")


if __name__ == "__main__":
    main()
