"""Quality against spikes, energy and phases: one point for each conversion asked for, each kept in a file of its own.

A point is made from scratch: converted, evaluated beside the dense model, and, with a chip, compiled and simulated for its energy. A point
that cannot be made is one with a reason. What is there already is reused while nothing it depends on has changed (steps.py).
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from neuromorphic_llm.artefact import check_artefact_place
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.budget import TargetError
from neuromorphic_llm.conversion.calibrate import FORMAT as CALIBRATION_FORMAT
from neuromorphic_llm.conversion.calibrate import VERSION as CALIBRATION_VERSION
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert, search_allocation
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.energy import account, chip_memories
from neuromorphic_llm.errors import ConversionError, NeuromorphicLLMError, SimulationError, UsageError
from neuromorphic_llm.evaluation.language_model import EncodedText, check_window, encode_text, evaluate_text
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.text_tokens import choose_bos
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.pipeline.options import ParetoOptions
from neuromorphic_llm.pipeline.steps import StepArtefact, StepRecord, Steps
from neuromorphic_llm.simulation.run import simulate

PROMPT_TOKENS, DECODED_TOKENS = 64, 8
"""Length of the generation on the chip whose energy is counted; the prompt is the beginning of the task's text."""
NO_CHIP = "no chip was given (--chip)"

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


def point_name(config: ConvertConfig) -> str:
    """A file name that says what the point is; the hash of all options makes it the only one."""
    content = config.to_json()
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]
    amount = "all" if config.spikes is None else f"{config.spikes:g}"
    text = "_".join((config.code, amount, config.allocation, *config.compensation))
    return f"{re.sub(r'[^A-Za-z0-9._-]+', '-', text)}_{digest}"


def mark_frontier(points: Sequence[dict[str, Any]]) -> None:
    """Set `frontier` of every point: no other has at most its spikes and at most its perplexity, and less of one of them."""

    def place(point: Mapping[str, Any]) -> tuple[float, float]:
        return point["spikes_per_activation"], point["perplexity"]

    made = [place(point) for point in points if not point["failed"]]
    for point in points:
        own = None if point["failed"] else place(point)
        point["frontier"] = own is not None and not any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in made)


class Pareto:
    """One comparison: every point once, kept in the output folder."""

    def __init__(self, options: ParetoOptions, progress: Progress, on_step: Callable[[StepRecord], None] | None = None) -> None:
        self.options, self._progress = options, progress
        if not options.configs:
            raise UsageError("nothing to compare: give at least one code and one number of spikes")
        self.spec = None if options.chip is None else load_spec(options.chip)
        content = load_text(TASKS[options.task], options.data)
        self.checkpoint = load_checkpoint(options.model)
        tokenizer = choose_bos(self.checkpoint.tokenizer(), options.bos)
        self.text: EncodedText = encode_text(tokenizer, content, options.limit_tokens)
        positions = self.checkpoint.config.max_positions
        self.window = min(1024, positions) if options.window is None else options.window
        check_window(self.window, positions)
        self._windows = calibration_windows(tokenizer, longest=positions)
        check_artefact_place(options.output / "calibration", CALIBRATION_FORMAT)
        self.steps = Steps(options.output, force=options.force, on_step=on_step)

    @cached_property
    def dense(self) -> DenseModel:
        """The dense model on the device."""
        return DenseModel(self.checkpoint.dense_model(device=self.options.device))

    @cached_property
    def _calibration(self) -> Calibration:
        return Calibration.load(self.options.output / "calibration")

    def run(self) -> dict[str, Any]:
        """Measure every point in order, and the dense model's perplexity. Only interruptions end it early."""
        self._calibrate()
        dense = self._dense()
        points = []
        for number, config in enumerate(self.options.configs):
            self._progress("points", number, len(self.options.configs))
            points.append(self._point(config))
        self._progress("points", len(points), len(points))
        mark_frontier(points)
        return {
            "model": self.checkpoint.name,
            "task": self.options.task,
            "tokens": len(self.text.ids),
            "window": self.window,
            "bos_token": self.text.bos_token,
            "chip": None if self.spec is None else self.spec.name,
            "dense": dense,
            "points": points,
            "kind": "measured",
            "energy_kind": "estimated",
        }

    def _inputs(self) -> dict[str, Any]:
        """Inputs that every result depends on."""
        text = hashlib.sha256(json.dumps([self.text.prefix, self.text.ids, self._windows]).encode()).hexdigest()
        return {
            "checkpoint": self.checkpoint.content_hash,
            "text": text,
            "window": self.window,
            "device": self.options.device,
            "seed": self.options.seed,
        }

    def _calibrate(self) -> None:
        folder = self.options.output / "calibration"

        def work() -> Mapping[str, Any]:
            calibration = calibrate_checkpoint(
                self.checkpoint, self._windows, device=self.options.device, seed=self.options.seed, progress=self._progress
            )
            return {"content_hash": calibration.save(folder)}

        self.steps.run("calibration", self._inputs(), work, StepArtefact(folder, CALIBRATION_FORMAT, CALIBRATION_VERSION))

    def _dense(self) -> dict[str, Any]:
        def work() -> Mapping[str, Any]:
            result = evaluate_text(self.dense, self.text, window=self.window, batch=self.options.batch, progress=self._count("dense model"))
            return {"perplexity": result.perplexity}

        return self.steps.run("dense", self._inputs(), work)

    def _point(self, config: ConvertConfig) -> dict[str, Any]:
        """The stored or a new point. A reason that lies in the point itself is stored with it; other failures are tried again next time."""
        chip = None if self.spec is None else self.spec.to_json()
        inputs = {**self._inputs(), "options": config.to_json(), "chip": chip}
        name = point_name(config)
        head = {
            "name": name,
            "code": config.code,
            "code_parameters": dict(config.code_parameters),
            "asked_spikes": config.spikes,
            "allocation": config.allocation,
            "compensation": list(config.compensation),
        }

        def work() -> Mapping[str, Any]:
            try:
                return {**head, "failed": None, **self._measured_or_all(config)}
            except NeuromorphicLLMError as error:
                return {**head, "failed": str(error)}

        try:
            return self.steps.run(name, inputs, work)
        except NeuromorphicLLMError:
            raise  # the folder cannot be written
        except Exception as error:  # memory, or a fault of one method: the other points go on
            return {**head, "failed": f"{type(error).__name__}: {error}"}

    def _measured_or_all(self, config: ConvertConfig) -> dict[str, Any]:
        """The point as asked, or with all spikes of the code and a note where these are fewer."""
        try:
            return self._measured(config)
        except TargetError as error:
            found = self._measured(replace(config, spikes=None, price=0.0))
            return {**found, "note": f"{str(error).partition(';')[0]}; all of them are kept"}

    def _measured(self, config: ConvertConfig) -> dict[str, Any]:
        device = self.options.device
        # A search is for a code and its spikes, so that points that differ in corrections only share it.
        self._calibration = search_allocation(
            self.checkpoint, config, self._windows, self._calibration, device=device, progress=self._progress
        )
        network = convert(self.checkpoint, config, self._windows, calibration=self._calibration, device=device, progress=self._progress)
        model = SpikingModel(network.functional(device))
        result = evaluate_text(
            model, self.text, window=self.window, batch=self.options.batch, against=self.dense, progress=self._count("evaluate")
        )
        if not math.isfinite(result.perplexity):
            raise ConversionError(f"the perplexity of this network is {result.perplexity}: it predicts nothing; ask for more spikes")
        statistics = model.decoder.statistics
        return {
            "phases": network.weights.code.phases,
            "spikes_per_activation": statistics.spikes_per_activation(),
            "spikes_per_activation_on_calibration_text": network.provenance["spikes_per_activation"],
            "note": network.provenance.get("budget_note"),
            "query_spikes_per_value": statistics.query_spikes_per_value(),
            "probability_spikes_per_pair": statistics.probability_spikes_per_pair(),
            "perplexity": result.perplexity,
            "kl_to_dense": result.kl_to_dense,
            "top1_agreement": result.top1_agreement,
            **self._chip_figures(network),
        }

    def _chip_figures(self, network: SpikingNetwork) -> dict[str, Any]:
        """Energy and cycles of a decoded token on the chip; null with the reason where the chip cannot run the network."""
        names = ("chip_energy_j_per_token", "cycles_per_token")
        if self.spec is None:
            return _absent(names, NO_CHIP)
        self._progress("simulate the chip", 0, 1)
        try:
            program = compile_network(network.weights, self.spec, seed=self.options.seed)
            room = program.max_context - DECODED_TOKENS
            if room < 1:
                raise SimulationError(f"the chip holds {program.max_context} tokens; {DECODED_TOKENS} are decoded after a prompt")
            result = simulate(program, [*self.text.prefix, *self.text.ids][: min(PROMPT_TOKENS, room)], DECODED_TOKENS + 1, stop=())
        except NeuromorphicLLMError as error:
            return _absent(names, str(error))
        assert result.decode is not None
        counted, spec = result.decode, self.spec
        energy = account(counted, spec, chip_memories(program), counted.cycles / spec.clock_hz, tokens=counted.tokens)
        self._progress("simulate the chip", 1, 1)
        return dict(zip(names, (energy.chip_energy_j_per_token.to_json(), counted.cycles / counted.tokens), strict=True))

    def _count(self, what: str) -> Callable[[int], None]:
        done, total = 0, len(self.text.ids)

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._progress(what, min(done, total), total)

        return advance


def _absent(names: Sequence[str], reason: str) -> dict[str, Any]:
    return {key: value for name in names for key, value in ((name, None), (f"{name}_reason", reason))}
