"""Front door: what most programs and notebooks need, as verbs. The commands of `nmllm` go the same way.

    import neuromorphic_llm as nl

    network = nl.convert("nano", spikes=1.5)
    program = nl.compile(network, chip="nano")
    result = nl.simulate(program, "Once upon a time", max_new_tokens=16)
    print(result.text, result.energy, result.latency)

Work shows its progress on a terminal and in notebooks. Errors are NeuromorphicLLMError: one line that says what is wrong and what to do.
The examples of the functions go on with `network` and `program` of this one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console

from neuromorphic_llm.artefact import METADATA, artefact_format
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.program_io import FORMAT as PROGRAM_FORMAT
from neuromorphic_llm.chip.program_io import load_program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig, default_target
from neuromorphic_llm.errors import ArtefactError, UsageError
from neuromorphic_llm.evaluation.evaluate import Evaluation
from neuromorphic_llm.evaluation.evaluate import evaluate as evaluate_task
from neuromorphic_llm.evaluation.open_model import checked_device, open_model
from neuromorphic_llm.evaluation.options import EvaluationOptions
from neuromorphic_llm.evaluation.scored_model import SpikingModel
from neuromorphic_llm.evaluation.simulated import ChipText, simulated_generation
from neuromorphic_llm.evaluation.stop import chop, stop_tokens
from neuromorphic_llm.generation.choice import GenerationConfig, check_length
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.models.text_tokens import choose_bos, encode_prompt
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.pipeline.convert import calibration_source, check_names, convert_source, open_source
from neuromorphic_llm.registry import name_advice
from neuromorphic_llm.simulation.run import simulate_sequences
from neuromorphic_llm.terminal import WorkBars, counted_work, work_display

_Kind = TypeVar("_Kind")

Model = str | Path | Checkpoint
"""Known name, Hugging Face folder or id, GGUF file, or a loaded checkpoint."""


def convert(
    model: Model,
    spikes: float | None = None,
    *,
    calibration: str | Path | Calibration | None = None,
    chip: str | Path | ChipSpec = "nc1",
    device: str = "cpu",
    bos: str = "auto",
    **options: Any,
) -> SpikingNetwork:
    """Spiking network of a pretrained model, without training.

    model: known name (`nmllm models`), Hugging Face folder or id, GGUF file, or a checkpoint of `load_checkpoint`.
    spikes: mean spikes per activation to meet; without a target 1.5 for signed digits, all spikes for other codes.
    calibration: text file, task name, calibration folder or calibration (default: text that comes with Python).
    chip: chip whose readout the network is for, and whose account prices a spike, for the target `energy_j`.
    device: cpu or cuda. bos: beginning-of-sequence token before every text: auto, always or never.
    options: other fields of ConvertConfig, such as `code`, `price`, `energy_j`, `allocation`, `compensation` and `seed`.

    >>> fewer = nl.convert("random-tiny", spikes=1.0, tolerance=0.05)
    >>> fewer.weights.code.name
    'signed-digit'
    """
    checked_device(device)
    asked = _convert_config(spikes, options)
    spec = load_chip(chip)
    stored, text = (calibration, None) if isinstance(calibration, Calibration) else calibration_source(calibration)
    source = open_source(model, text, bos)
    with work_display(_console()) as bars:
        return convert_source(source, asked, calibration=stored, spec=spec, device=device, progress=WorkBars(bars).show)[0]


def _convert_config(spikes: float | None, options: dict[str, Any]) -> ConvertConfig:
    """Configuration of a conversion; UsageError for a field that there is not, or a value that it refuses."""
    _check_options("conversion", ConvertConfig, options)
    for name in ("code_parameters", "readout_parameters"):
        if isinstance(options.get(name), Mapping):
            options[name] = tuple(options[name].items())
    target = {"spikes": spikes, "price": options.pop("price", None), "energy_j": options.pop("energy_j", None)}
    if all(value is None for value in target.values()):
        target = default_target(options.get("code", "signed-digit"))
    try:
        config = ConvertConfig(**target, **options)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{error}; correct the option") from error
    check_names(config)
    return config


def compile(network: SpikingNetwork | str | Path, chip: str | Path | ChipSpec = "nc1", *, seed: int = 0) -> Program:
    """Program of a network, or of a network folder, on a chip; CompileError if it does not fit.

    chip: known name (`nmllm chips`), YAML file or ChipSpec. seed: of the search for good places.

    >>> nl.compile(network, chip="nano").report["chips"]
    1
    """
    opened = _opened(network, SpikingNetwork, SpikingNetwork.load, "a spiking network; nl.convert makes one of a model")
    return compile_network(opened, load_chip(chip), seed=seed)


def simulate(
    program: Program | str | Path,
    prompt: str | Sequence[str],
    *,
    max_new_tokens: int = 32,
    sequences: int = 1,
    chat: bool = False,
    threads: int | None = None,
    bos: str = "auto",
    on_token: Callable[[int], None] | None = None,
) -> ChipText:
    """Text that the simulated chip generates greedily, with its energy and latency per token.

    program: program, or a program folder. prompt: a text, of all `sequences` in flight, or a list with the text of each.
    chat: the prompt is a user's message in the model's chat template.
    threads: of the simulation (default: all cores). on_token: called with every new token id, of one sequence only.

    >>> result = nl.simulate(program, "Once upon a time", max_new_tokens=8)
    >>> result.text
    'there was a little girl named Lily.'
    >>> result.energy.low < result.energy.nominal < result.energy.high
    True
    >>> 1e-6 < result.latency < 1e-3
    True
    >>> nl.simulate(program, ["Once upon a time", "One day"], max_new_tokens=3).texts
    ('there was a', ', a little')
    """
    check_length(max_new_tokens)
    prompts = _prompts(prompt, sequences)
    if on_token is not None and len(prompts) > 1:
        raise UsageError(f"on_token is for one sequence, got {len(prompts)}; leave it out and read `texts`")
    loaded = _opened(program, Program, load_program, "a program; nl.compile makes one of a network")
    config = loaded.weights.config
    tokenizer = choose_bos(load_tokenizer(loaded.tokenizer_files, "the program", config.vocab_size), bos)
    ids, stop = [encode_prompt(tokenizer, text, chat) for text in prompts], stop_tokens(tokenizer, config.eos_token_ids)
    told = None if on_token is None else lambda _, token: on_token(token)
    with counted_work(_console(), "tokens", sum(len(each) + max_new_tokens - 1 for each in set(map(tuple, ids)))) as advance:
        found = simulate_sequences(loaded, ids, max_new_tokens, stop=stop, threads=threads, progress=advance, on_token=told)
    return ChipText(loaded, simulated_generation(found), tokenizer, stop)


def _prompts(prompt: str | Sequence[str], sequences: int) -> list[str]:
    """Prompt of each sequence. UsageError if there are not as many as sequences."""
    if not isinstance(sequences, int) or sequences < 1:
        raise UsageError(f"sequences must be an integer of at least 1, got {sequences!r}")
    if not isinstance(prompt, list | tuple):
        return [prompt] * sequences  # type: ignore[list-item]  # if it is no text, encode_prompt says so
    if not prompt:
        raise UsageError("the list of prompts is empty; give a text for each sequence")
    for number, text in enumerate(prompt):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"prompt {number} of the list must be text, got {text!r}; give a str that is not empty")
    if sequences not in (1, len(prompt)):
        raise UsageError(f"{len(prompt)} prompts for {sequences} sequences; give one for each, or one text for all")
    return list(prompt)


def generate(
    model: SpikingNetwork | Program | Model,
    prompt: str,
    *,
    max_new_tokens: int = 64,
    chat: bool = False,
    device: str = "cpu",
    bos: str = "auto",
    **options: Any,
) -> str:
    """Text that a network generates in the functional simulation, or a model in its dense form: values only, no chip.

    options: of networks, `do_sample`, `temperature`, `top_k`, `top_p`, `num_beams`, `length_penalty` and `seed`, as in transformers.

    >>> nl.generate(network, "Once upon a time", max_new_tokens=8)
    'there was a little girl named Lily.'
    """
    _check_options("generation", GenerationConfig, options)
    check_length(max_new_tokens)
    if isinstance(model, Program):
        model = SpikingNetwork(model.weights, tokenizer_files=model.tokenizer_files)
    opened = open_model(model, checked_device(device), bos)
    ids, stop = encode_prompt(opened.tokenizer, prompt, chat), stop_tokens(opened.tokenizer, opened.eos_token_ids)
    with counted_work(_console(), "tokens", max_new_tokens) as advance:
        if isinstance(opened.model, SpikingModel):
            told = lambda *_: advance(1)  # noqa: E731
            tokens = opened.model.decoder.generate([ids], max_new_tokens, eos_token_ids=stop, progress=told, **options)[0]
        elif options:
            raise UsageError(f"{min(options)} is for spiking networks; convert the model first, or leave it out")
        else:
            tokens = opened.model.generate([ids], max_new_tokens, stop, lambda: advance(1))[0]
    return str(opened.tokenizer.decode(chop(tokens, stop), skip_special_tokens=True).strip())


def evaluate(
    model: SpikingNetwork | Model,
    task: str = "default",
    *,
    against: SpikingNetwork | Model | None = None,
    device: str = "cpu",
    bos: str = "auto",
    **options: Any,
) -> Evaluation:
    """Quality of a network or a model on a task, beside that of another one.

    task: a text, summaries or questions (`nmllm tasks`); `default` is a text that comes with the package.
    options: `limit_tokens`, `window`, `limit_documents`, `max_new_tokens`, `data`, `batch` and `seed` of EvaluationOptions.

    >>> quality = nl.evaluate(network, against="nano", limit_tokens=128)
    >>> 0.9 < quality.perplexity / quality.reference_perplexity < 1.1
    True
    """
    where = checked_device(device)
    _check_options("evaluation", EvaluationOptions, options)
    if options.get("data") is not None:
        options["data"] = Path(options["data"])
    asked = EvaluationOptions(task, **options)
    other = None if against is None else partial(open_model, against, where, bos)
    return evaluate_task(partial(open_model, model, where, bos), asked, partial(counted_work, _console()), other)


def load(folder: str | Path) -> SpikingNetwork | Program:
    """Network or program of a folder that `save`, `nmllm convert` or `nmllm compile` wrote; ArtefactError if it holds neither.

    >>> content_hash = network.save("networks/nano")
    >>> nl.load("networks/nano").content_hash == content_hash
    True
    """
    if not (Path(folder) / METADATA).is_file():
        raise ArtefactError(f"{folder} is no network or program; give a folder that save, nmllm convert or nmllm compile wrote")
    return load_program(folder) if artefact_format(Path(folder)) == PROGRAM_FORMAT else SpikingNetwork.load(folder)


def load_chip(chip: str | Path | ChipSpec) -> ChipSpec:
    """Chip of a known name (`nmllm chips`) or a YAML file; a ChipSpec is taken as it is.

    >>> nl.load_chip("nano").clock_hz
    500000000.0
    """
    return chip if isinstance(chip, ChipSpec) else load_spec(chip)


def _opened(given: Any, kind: type[_Kind], read: Callable[[Path], _Kind], expected: str) -> _Kind:
    """Object of a class, or of the folder of one. UsageError for anything else."""
    if isinstance(given, kind):
        return given
    if not isinstance(given, str | Path):
        raise UsageError(f"expected {expected}, or its folder, got {type(given).__name__}")
    return read(Path(given))


def _check_options(what: str, config: type[Any], options: Mapping[str, Any]) -> None:
    """UsageError with the nearest name for an option that is no field of the configuration."""
    known = [field.name for field in fields(config)]
    for name in options:
        if name not in known:
            raise UsageError(f"{'an' if what[0] in 'aeiou' else 'a'} {what} has no option {name!r}; {name_advice(name, known)}")


def _console() -> Console:
    """Place of progress: bars on a terminal, lines in a notebook, nothing elsewhere."""
    console = Console(stderr=True, markup=False)
    return console if console.is_terminal or console.is_jupyter else Console(file=StringIO())
