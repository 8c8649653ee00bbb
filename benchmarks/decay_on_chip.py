"""First-spike-log on membranes that decay beside signed digits on membranes that are halved: quality, energy and cycles on the chip.

    python benchmarks/decay_on_chip.py nano --chip nano2 --limit-tokens 1000
    python benchmarks/decay_on_chip.py smollm2-135m --chip nc2 --task wikitext2 --limit-tokens 8192

With `--recode nc2.network` a design is not converted anew, but has the weights of that network and its prices times the one factor that
meets the asked spikes, which is what conversion does but for its rounding.

Every row is converted for its chip, training free, evaluated, compiled and simulated; the account's energy of a decoded token by parts, in
microjoules at nominal constants, low and high beside the sum. `--networks` takes networks that are already there, of either code.
A design is `steps:phases:spikes` of first-spike-log, steps 0 for signed digits.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

import neuromorphic_llm as nl
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.ranges import calibrate_ranges
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.devices.readout import get_readout
from neuromorphic_llm.energy.constants import load_constants
from neuromorphic_llm.evaluation.language_model import EncodedText, evaluate_text
from neuromorphic_llm.evaluation.scored_model import SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights
from neuromorphic_llm.simulation.events import EventDecoder
from table_run import table_parser, text_of

PARTS = ("cells", "converters", "accumulators", "soma", "attention", "sram", "noc", "leakage")


class Design(NamedTuple):
    """A code, its phases and spikes per activation; `steps` 0 stands for signed digits."""

    steps: int
    phases: int
    spikes: float

    @classmethod
    def of(cls, text: str) -> Design:
        """Design of `steps:phases:spikes`."""
        steps, phases, spikes = text.split(":")
        return cls(int(steps), int(phases), float(spikes))

    def chip(self, base: ChipSpec) -> ChipSpec:
        """Chip for the code: the membranes of the base decay, or they are halved as they are."""
        return base.with_fields({"readout.kind": "membrane-decay", "readout.steps": self.steps}) if self.steps else base

    def converted(self, checkpoint: Checkpoint, spec: ChipSpec) -> SpikingNetwork:
        """Network of the design for the chip."""
        options = ConvertConfig(spikes=self.spikes)
        if self.steps:
            options = ConvertConfig(
                spikes=self.spikes, code="first-spike-log", phases=self.phases, code_parameters=(("steps", self.steps),)
            )
        return convert(checkpoint, options.for_readout(spec.readout_circuit), calibration_windows(checkpoint.tokenizer()))

    def recoded(self, network: SpikingNetwork, spec: ChipSpec, windows: Sequence[Sequence[int]]) -> SpikingNetwork:
        """Network of other weights and prices, these times the power of 2^(1/8) that comes nearest to the asked spikes on the windows."""
        code = replace(network.weights.code, name="signed-digit", phases=14, parameters={})
        if self.steps:
            code = replace(code, name="first-spike-log", phases=self.phases, parameters={} if self.steps == 2 else {"steps": self.steps})
        exact = replace(network.weights.with_sites(lambda _, site: replace(site, ranges=None)), readout=get_readout("exact"), code=code)
        low, high = -64, 64  # eighths of an octave
        while high - low > 1:
            middle = (low + high) // 2
            decoder = FunctionalDecoder(priced(exact, middle))
            for window in windows:
                decoder.forward(torch.tensor([list(window)]))
            low, high = (middle, high) if decoder.statistics.spikes_per_activation() > self.spikes else (low, middle)
        weights = calibrate_ranges(priced(exact, high), spec.readout_circuit, windows, "cpu")
        return replace(network, weights=weights, stored_hash="")


def priced(weights: DecoderWeights, eighths: int) -> DecoderWeights:
    """The decoder with all prices of its sites times 2^(eighths / 8)."""

    def scaled(_: object, site: LinearWeights) -> LinearWeights:
        stop = np.minimum(np.rint(site.stop * 2.0 ** (eighths / 8)), 2**31 - 1)
        return replace(site, stop=stop.astype(np.int32))

    return weights.with_sites(scaled)


DESIGNS = (
    *(Design(0, 14, spikes) for spikes in (1.5, 1.0)),
    *(Design(steps, phases, spikes) for steps, phases in ((8, 8), (4, 8), (2, 8), (1, 8)) for spikes in (0.92, 0.67)),
)


def rows(arguments: argparse.Namespace, base: ChipSpec, checkpoint: Checkpoint) -> Iterator[tuple[str, ChipSpec, SpikingNetwork]]:
    """Name, chip and network of every row."""
    windows = [window[: arguments.recode_tokens] for window in calibration_windows(checkpoint.tokenizer())[:2]]
    for design in arguments.designs or DESIGNS:
        spec = design.chip(base)
        if arguments.recode is None:
            network = design.converted(checkpoint, spec)
        else:
            network = design.recoded(SpikingNetwork.load(arguments.recode), spec, windows)
        yield (f"first-spike-log, {design.steps} x {design.phases}" if design.steps else "signed-digit"), spec, network
    for folder in arguments.networks:
        network = SpikingNetwork.load(folder)
        steps = int(network.weights.code.parameters.get("steps", 2)) if network.weights.code.name == "first-spike-log" else 0
        spec = Design(steps, 0, 0).chip(base)  # whose readout may group rows in another way; ranges are the network's
        weights = replace(network.weights, readout=spec.readout_circuit)
        yield f"{network.weights.code.name} of {folder.name}", spec, replace(network, weights=weights, stored_hash="")


def row(name: str, spec: ChipSpec, network: SpikingNetwork, text: EncodedText, arguments: argparse.Namespace) -> str:
    """Line of the table."""
    decoder = FunctionalDecoder(network.weights)
    quality = evaluate_text(SpikingModel(decoder), text, window=min(arguments.window, network.weights.config.max_positions))
    spikes = decoder.statistics.spikes_per_activation()
    result = nl.simulate(nl.compile(network, spec), arguments.prompt, max_new_tokens=arguments.max_new_tokens).to_json()
    energy, parts = result["chip_energy_j_per_token"], result["energy_breakdown_j"]
    low, nominal, high = (f"{1e6 * energy[bound]:.3g}" for bound in ("low", "nominal", "high"))
    cells = (f"{1e6 * parts[part]['nominal']:.3g}" for part in PARTS)
    area = f"{result['area_mm2']['nominal']:.3g}"
    figures = (
        name,
        f"{spikes:.3f}",
        f"{quality.perplexity:.2f}",
        f"{nominal} ({low} to {high})",
        *cells,
        f"{result['cycles_per_token']:,.0f}",
        area,
    )
    return "| " + " | ".join(figures) + " |"


def by_role(spec: ChipSpec, network: SpikingNetwork, tokens: Sequence[int]) -> str:
    """Cells with their drivers and clamps of the sites of each role, in nanojoules per token, as cells + clamps."""
    program, constants = nl.compile(network, spec), load_constants()
    decoder = EventDecoder(program)
    for token in tokens:
        decoder.step(token)
    events, sites = decoder.trace(1).events.astype(np.int64), network.weights.config.sites
    spikes, integrations = events.sum(axis=(0, 2, 3)), spec.readout_circuit.integrations(events)
    read, drive, integration = (constants[name].value.nominal for name in ("cell_read_pcm", "row_drive", "integration"))
    found: dict[str, list[float]] = {}
    for site, spiked, integrated in zip(sites, spikes.tolist(), integrations.tolist(), strict=True):
        macros = -(-site.outputs // spec.synapse.columns)
        cells = spec.synapse.slices * spiked * (read * site.outputs + drive * macros)
        both = found.setdefault(site.role, [0.0, 0.0])
        both[0], both[1] = both[0] + cells, both[1] + integration * integrated * site.outputs
    return ", ".join(f"{role} {1e9 * a / len(tokens):.3g} + {1e9 * b / len(tokens):.3g}" for role, (a, b) in found.items())


def main() -> None:
    parser = table_parser(__doc__)
    parser.add_argument("--chip", default="nc2")
    parser.add_argument("--designs", type=Design.of, nargs="*")
    parser.add_argument("--networks", type=Path, nargs="*", default=())
    parser.add_argument("--roles", action="store_true", help="cells and clamps by the role of the site, instead of the table")
    parser.add_argument("--recode", type=Path)
    parser.add_argument("--recode-tokens", type=int, default=256, help="of each of two windows")
    parser.add_argument("--prompt", default="The harbour has a new bridge")
    parser.add_argument("--max-new-tokens", type=int, default=12)
    arguments = parser.parse_args()
    base, checkpoint = load_spec(arguments.chip), load_checkpoint(arguments.model)
    text = text_of(arguments, checkpoint.tokenizer())
    heading = ("code", "spikes", "perplexity", "energy, µJ", *PARTS, "cycles", "area, mm²")
    if not arguments.roles:
        print("| " + " | ".join(heading) + " |\n|" + " --- |" * len(heading))
    for name, spec, network in rows(arguments, base, checkpoint):
        if arguments.roles:
            print(f"{name}: {by_role(spec, network, checkpoint.tokenizer()(arguments.prompt)['input_ids'])}", flush=True)
        else:
            print(row(name, spec, network, text, arguments), flush=True)


if __name__ == "__main__":
    main()
