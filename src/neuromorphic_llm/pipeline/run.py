"""The whole way at once: convert, compile, simulate, run the dense model, evaluate; the result is all that the report shows."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any

import torch

from neuromorphic_llm.area import area_figures
from neuromorphic_llm.artefact import check_artefact_place
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import sequence_part
from neuromorphic_llm.chip.program_io import FORMAT as PROGRAM_FORMAT
from neuromorphic_llm.chip.program_io import VERSION as PROGRAM_VERSION
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.compiler.floorplan import floorplan
from neuromorphic_llm.compiler.legalise import refuse_missing_units
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows, fitting_windows, held_out_window
from neuromorphic_llm.energy import records_for, rival_accounts
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.baseline import device_name, measure_dense
from neuromorphic_llm.evaluation.cosine import cosine_per_layer
from neuromorphic_llm.evaluation.energy_curve import decoding_figures, doubling_contexts, observed_rows
from neuromorphic_llm.evaluation.language_model import EncodedText, encode_text, evaluate_text
from neuromorphic_llm.evaluation.quality import CALIBRATION_WINDOWS, quality_against_spikes, quantised_baselines
from neuromorphic_llm.evaluation.raster import spike_raster
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.evaluation.simulated import ChipText, simulated_generation
from neuromorphic_llm.evaluation.stop import stop_tokens
from neuromorphic_llm.evaluation.summaries import summary_prompt
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.text_tokens import choose_bos, first_bos, text_prefix
from neuromorphic_llm.network.format import FORMAT as NETWORK_FORMAT
from neuromorphic_llm.network.format import VERSION as NETWORK_VERSION
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.pipeline.convert import for_chip
from neuromorphic_llm.pipeline.options import RunOptions
from neuromorphic_llm.pipeline.steps import StepArtefact, StepRecord, Steps
from neuromorphic_llm.reference.build import build_graph, outline
from neuromorphic_llm.simulation.run import check_sequences, simulate_sequences

EVALUATED_TOKENS, WINDOW = 2048, 512
CURVE_TOKENS = 1024
COMPARED_TOKENS = 256
_EXACT = ("bos_token", "window", "intervals", "perplexity_interval", "perplexity_interval_reason")
"""Keys of a result that the curve of quality against spikes has for the dense model."""

Progress = Callable[[str, int, int], None]
"""Called with (what, done, total)."""


class Pipeline:
    """One run: every step once, its result stored in the output folder and reused while nothing it depends on has changed."""

    def __init__(self, options: RunOptions, progress: Progress, on_step: Callable[[StepRecord], None] | None = None) -> None:
        self.options, self._progress = options, progress
        self.article = options.article_text()
        self.spec = load_spec(options.chip)
        try:
            self.conversion = for_chip(ConvertConfig(spikes=options.spikes, seed=options.seed, tolerance=options.tolerance), self.spec)
        except ValueError as error:
            raise UsageError(f"{error}; correct the option") from error
        if options.max_new_tokens < 2:
            raise UsageError(f"--max-new-tokens must be at least 2, got {options.max_new_tokens}")
        self.checkpoint = load_checkpoint(options.model)
        refuse_missing_units(build_graph(outline(self.checkpoint.config)))  # before the conversion, which takes minutes
        context, whose = self.checkpoint.config.max_positions, "the model"
        if options.sequences > 1:
            check_sequences(self.spec, self.checkpoint.config, options.sequences)
            context, whose = min(context, self._part), f"each of {options.sequences} sequences"
        if options.max_new_tokens >= context:
            raise UsageError(f"--max-new-tokens must be below {context:,}, the context of {whose}; got {options.max_new_tokens}")
        self.tokenizer = choose_bos(self.checkpoint.tokenizer(), options.bos)
        check_artefact_place(options.output / "network", NETWORK_FORMAT)
        check_artefact_place(options.output / "program", PROGRAM_FORMAT)
        self.steps = Steps(options.output, force=options.force, on_step=on_step)

    @property
    def _part(self) -> int:
        """Tokens of each sequence that the key/value memories hold."""
        return sequence_part(self.spec, self.checkpoint.config, self.options.sequences)

    @cached_property
    def dense(self) -> DenseModel:
        """The dense model, on a GPU in bfloat16 if there is one."""
        on_gpu = torch.cuda.is_available()
        dtype, device = (torch.bfloat16, "cuda") if on_gpu else (torch.float32, "cpu")
        return DenseModel(self.checkpoint.dense_model(dtype, device))

    @cached_property
    def network(self) -> SpikingNetwork:
        """The converted network, from its folder."""
        return SpikingNetwork.load(self.options.output / "network")

    @cached_property
    def spiking(self) -> SpikingModel:
        """Functional simulation of the converted network."""
        return SpikingModel(self.network.functional(str(self.dense.device)))

    @cached_property
    def text(self) -> EncodedText:
        """The text of the default task."""
        return encode_text(self.tokenizer, load_text(TASKS["default"]), EVALUATED_TOKENS)

    def run(self) -> dict[str, Any]:
        """Run every step in order; the content of report.json without its envelope."""
        converted = self._convert()
        compiled = self._compile(converted["content_hash"])
        limit = min(compiled["report"]["max_context"], self.checkpoint.config.max_positions, self._part) - self.options.max_new_tokens
        prompt = summary_prompt(self.tokenizer, self.article, limit)
        decoding = self._simulate(compiled["content_hash"], prompt)
        simulated = decoding.pop("figures")
        baseline = self._baseline(prompt)
        evaluated = self._evaluate(converted["content_hash"])
        layers = self._layers(converted["content_hash"], prompt)
        quality = self._quality(converted["content_hash"])
        report = {
            "model": self.checkpoint.name,
            "article": self.article,
            "prompt_tokens": len(prompt),
            "bos_token": first_bos(self.tokenizer, prompt),
            "summary": {"dense": baseline["text"], "spiking": simulated["text"]},
            "perplexity": {"dense": evaluated["dense"]["perplexity"], "spiking": evaluated["perplexity"]},
            "convert": converted,
            "compile": compiled["report"] | {"kind": "simulated"},
            "simulate": simulated,
            **decoding,
            "baseline": baseline,
            "eval": evaluated,
            "layers": layers,
            "quality": quality,
            "references": self._references(simulated["mean_context"]),
            "floorplan": compiled["floorplan"],
        }
        return report | {"steps": [asdict(record) for record in self.steps.records]}

    def _convert(self) -> dict[str, Any]:
        folder = self.options.output / "network"

        def work() -> Mapping[str, Any]:
            longest = self.checkpoint.config.max_positions
            windows = calibration_windows(self.tokenizer, longest=longest)
            held_out = held_out_window(self.tokenizer, longest=longest)
            device = "cuda" if torch.cuda.is_available() else "cpu"
            network = convert(self.checkpoint, self.conversion, windows, held_out=held_out, device=device, progress=self._progress)
            content_hash = network.save(folder)
            return {
                "content_hash": content_hash,
                "options": self.conversion.to_json(),
                "spikes_per_activation_on_calibration_text": network.provenance["spikes_per_activation"],
                "note": network.provenance.get("budget_note"),
                "warning": network.provenance.get("warning"),
                "kind": "measured",
            }

        prefix = list(text_prefix(self.tokenizer))
        inputs = {"checkpoint": self.checkpoint.content_hash, "options": self.conversion.to_json(), "python": platform.python_version()}
        return self.steps.run("convert", {**inputs, "prefix": prefix}, work, StepArtefact(folder, NETWORK_FORMAT, NETWORK_VERSION))

    def _compile(self, network_hash: str) -> dict[str, Any]:
        folder = self.options.output / "program"

        def work() -> Mapping[str, Any]:
            self._progress("compile", 0, 1)
            program = compile_network(self.network, self.spec, seed=self.options.seed)
            content_hash = save_program(program, folder)
            self._progress("compile", 1, 1)
            report = {**program.report, **area_figures(program)}
            return {"content_hash": content_hash, "report": report, "floorplan": [asdict(tile) for tile in floorplan(program)]}

        inputs = {"network": network_hash, "chip": self.spec.to_json(), "seed": self.options.seed}
        return self.steps.run("compile", inputs, work, StepArtefact(folder, PROGRAM_FORMAT, PROGRAM_VERSION))

    def _simulate(self, program_hash: str, prompt: list[int]) -> dict[str, Any]:
        def work() -> Mapping[str, Any]:
            program = load_program(self.options.output / "program")
            stop = stop_tokens(self.tokenizer, self.checkpoint.config.eos_token_ids)
            count = self._count("simulate the chip", len(prompt) + self.options.max_new_tokens - 1)
            prompts, observe = [prompt] * self.options.sequences, observed_rows(doubling_contexts(len(prompt)))
            result = simulate_sequences(program, prompts, self.options.max_new_tokens, stop=stop, progress=count, observe=observe)
            figures = ChipText(program, simulated_generation(result), self.tokenizer, stop).to_json()
            return {"figures": figures, **decoding_figures(program, result, len(prompt), figures["mean_context"])}

        length = {"max_new_tokens": self.options.max_new_tokens, "sequences": self.options.sequences}
        inputs = {"program": program_hash, "prompt": prompt, **length}
        return self.steps.run("simulate", inputs, work)

    def _baseline(self, prompt: list[int]) -> dict[str, Any]:
        def work() -> Mapping[str, Any]:
            self._progress("dense model", 0, 1)
            stop = stop_tokens(self.tokenizer, self.checkpoint.config.eos_token_ids)
            result = measure_dense(self.dense, [prompt], self.options.max_new_tokens, stop)
            self._progress("dense model", 1, 1)
            text = self.tokenizer.decode(list(result.outputs[0]), skip_special_tokens=True).strip()
            return {**result.to_json(), "token_ids": list(result.outputs[0]), "text": text}

        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        inputs = {
            "checkpoint": self.checkpoint.content_hash,
            "prompt": prompt,
            "max_new_tokens": self.options.max_new_tokens,
            "device": device_name(device),
            "torch": torch.__version__,
        }
        return self.steps.run("baseline", inputs, work)

    def _evaluate(self, network_hash: str) -> dict[str, Any]:
        def work() -> Mapping[str, Any]:
            self.spiking.decoder.statistics.reset()
            total = len(self.text.ids)
            seed = self.options.seed
            count = self._count("evaluate", 2 * total)
            result = evaluate_text(self.spiking, self.text, window=WINDOW, against=self.dense, seed=seed, progress=count)
            dense = evaluate_text(self.dense, self.text, window=WINDOW, seed=seed, progress=self._count("evaluate dense", total))
            spikes = {key: value for key, value in self.spiking.decoder.statistics.to_json().items() if key != "tokens"}
            return {"task": "default", **result.to_json(), **spikes, "dense": dense.to_json(), "kind": "measured"}

        return self.steps.run("evaluate", self._evaluation_inputs(network_hash), work)

    def _layers(self, network_hash: str, prompt: list[int]) -> dict[str, Any]:
        def work() -> Mapping[str, Any]:
            self._progress("compare layers", 0, 1)
            ids = torch.tensor([[*self.text.prefix, *self.text.ids][:COMPARED_TOKENS]])
            layer = self.checkpoint.config.layers // 2
            result = {
                "cosine": cosine_per_layer(self.dense, self.spiking, ids),
                "raster_layer": layer,
                "raster": spike_raster(self.spiking, torch.tensor([prompt]), layer),
                "kind": "measured",
            }
            self._progress("compare layers", 1, 1)
            return result

        return self.steps.run("layers", {**self._evaluation_inputs(network_hash), "prompt": prompt}, work)

    def _quality(self, network_hash: str) -> dict[str, Any]:
        def work() -> Mapping[str, Any]:
            text = encode_text(self.tokenizer, load_text(TASKS["default"]), CURVE_TOKENS)
            count = self._count("quality against spikes", 8 * len(text.ids))
            seed, device = self.options.seed, str(self.dense.device)
            dense = evaluate_text(self.dense, text, window=WINDOW, seed=seed, progress=count)
            calibration = fitting_windows(calibration_windows(self.tokenizer)[:CALIBRATION_WINDOWS], self.dense.max_positions)
            quantised = quantised_baselines(self.dense, text, WINDOW, calibration, exact=dense, seed=seed, progress=count)
            bars = [point.to_json() for point in quantised]
            weights = self.network.weights
            points = quality_against_spikes(weights, text, WINDOW, dense=dense, seed=seed, device=device, progress=count)
            exact = {key: value for key, value in dense.to_json().items() if key in _EXACT}
            return {
                "tokens": len(text.ids),
                "dense": dense.perplexity,
                **{key.replace("perplexity", "dense"): value for key, value in exact.items()},
                "spiking": [point.to_json() for point in points],
                "quantised": bars,
                "kind": "measured",
            }

        return self.steps.run("quality", self._evaluation_inputs(network_hash), work)

    def _evaluation_inputs(self, network_hash: str) -> dict[str, Any]:
        inputs = {"network": network_hash, "checkpoint": self.checkpoint.content_hash, "cuda": torch.cuda.is_available()}
        return inputs | {"prefix": list(self.text.prefix), "seed": self.options.seed}

    def _references(self, context: int) -> dict[str, Any]:
        """Rivals of the same node with `context` visible tokens, and recorded GPU figures."""
        rivals = rival_accounts(self.checkpoint.config, context, self.spec, self.options.sequences)
        return {
            "context": context,
            **{name: reference.to_json() | {"kind": "estimated"} for name, reference in rivals.items()},
            "gpu": [record.to_json() for record in records_for(self.checkpoint.name)],
        }

    def _count(self, what: str, total: int) -> Callable[..., None]:
        done = 0

        def advance(count: int = 1) -> None:
            nonlocal done
            done += count
            self._progress(what, min(done, total), total)

        return advance
