"""`nmllm finetune`: a checkpoint, trained on its own spikes, into a spiking network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import (
    BosChoice,
    CommandRun,
    Device,
    console,
    error_console,
    progress,
    status,
)
from neuromorphic_llm.cli.options import Given, Tolerance, code_parameters_of
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos, bos_text, choose_bos
from neuromorphic_llm.terminal import WorkBars
from neuromorphic_llm.text_file import read_text

if TYPE_CHECKING:
    import torch

    from neuromorphic_llm.conversion.fine_tune import HeldOutFigures, StepFigures
    from neuromorphic_llm.conversion.training_run import Watch
    from neuromorphic_llm.models.checkpoint import Checkpoint
    from neuromorphic_llm.network.spiking import SpikingNetwork

EXAMPLES = """
nmllm finetune nano -o networks/nano-tuned --tokens 200k --window 128 --learning-rate 1e-3
nmllm finetune smollm2-135m -o networks/tuned --text TEXT.txt --text MORE.txt --own-text 10M --state runs/tuned --device cuda
nmllm finetune nano -o networks/nano2-tuned --chip nano2 --tokens 200k --window 128
nmllm finetune nano -o networks/nano-log --code first-spike-log --code-option steps=8 --phases 8 --spikes 0.67 --tokens 200k --window 128
torchrun --nproc-per-node 2 -m neuromorphic_llm.cli finetune smollm2-135m -o networks/tuned --seconds 600 --device cuda
"""

_PREPARING_LIMIT = timedelta(hours=12)
"""Longest wait of the other processes for the first one to convert and to write text."""


def command(
    run: CommandRun,
    model: Annotated[str, typer.Argument(help="Known name, Hugging Face folder or id, or GGUF file; a Llama or Qwen2 decoder.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Network folder to write.")],
    asked: Given[FineTuneConfig],
    tolerance: Tolerance = 0.01,
    chip: Annotated[str, typer.Option(help="Chip whose readout the network is for.")] = "nc1",
    text: Annotated[
        list[Path] | None,
        typer.Option(
            help="Text to train on, the last twentieth held out: UTF-8, or .jsonl with a field text or article; repeatable.", metavar="FILE"
        ),
    ] = None,
    own_text: Annotated[str, typer.Option(help="Tokens that the dense model writes itself to train on.", metavar="TOKENS")] = "0",
    state: Annotated[
        Path | None, typer.Option(help="Folder of the run's state and log (default: OUTPUT.state); a run that was cut goes on from it.")
    ] = None,
    device: Device = "cpu",
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Fine-tune a model on its own spikes, against the dense model's predictions, and convert it."""
    from neuromorphic_llm.chip.load import load_spec
    from neuromorphic_llm.conversion.training_run import fine_tune
    from neuromorphic_llm.network.format import FORMAT

    others = {"code_parameters": code_parameters_of(asked), "seed": run.seed, "bos": bos.value}
    folder = output.with_name(output.name + ".state") if state is None else state
    run.outputs(artefacts={"--output": (output, FORMAT)}, folders={"--state": folder})
    others["tokens"] = _count(asked["tokens"], "--tokens")
    own_tokens, texts = _count(own_text, "--own-text"), _texts(text)
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance must lie between 0 and 1, got {tolerance}")
    readout = load_spec(chip).readout_circuit
    with _processes(device) as where:
        checkpoint, recipe = _checkpoint(model, asked, others)
        with _watch(recipe, run.first) as watch:
            network = fine_tune(
                checkpoint, texts, recipe, folder, own_tokens=own_tokens, device=where, watch=watch, tolerance=tolerance, readout=readout
            )
    if network is not None:
        result = _result(output, folder, network, network.save(output))
        result |= {"bos_token": bos_text(choose_bos(checkpoint.tokenizer(), bos))}
        console.print(_table(result))
        run.result(result)


def _count(text: str, option: str) -> int:
    """A number of tokens: 50000, 50k or 50M."""
    factor = {"k": 1000, "M": 1_000_000}.get(text[-1:], 1)
    try:
        number = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        number = -1.0
    if not 0 <= number < 1e15:
        raise UsageError(f"{option} must be a number of tokens such as 500k or 50M, got {text!r}")
    return round(number)


def _texts(paths: list[Path] | None) -> list[str]:
    """Content of the files, or the text that comes with Python if there are none."""
    from neuromorphic_llm.conversion.text import default_text

    return [read_text(path, "--text") for path in paths] if paths else [default_text()]


def _checkpoint(model: str, asked: Given[FineTuneConfig], others: dict[str, Any]) -> tuple[Checkpoint, FineTuneConfig]:
    """The checkpoint and the recipe for it; UsageError for a recipe that makes no sense."""
    from neuromorphic_llm.evaluation.language_model import check_window
    from neuromorphic_llm.models.checkpoint import load_checkpoint

    with status(f"loading {model}"):
        checkpoint = load_checkpoint(model)
    positions = checkpoint.config.max_positions
    window = asked["window"] or min(1024, positions)
    check_window(window, positions)
    return checkpoint, asked.build(**others, window=window)


@contextmanager
def _processes(device: str) -> Iterator[torch.device]:
    """The device of this process, one of several if torchrun started it."""
    import torch
    import torch.distributed as distributed

    from neuromorphic_llm.evaluation.open_model import checked_device

    where = checked_device(device)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield where
        return
    if where.type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if where.type == "cuda" else "gloo", timeout=_PREPARING_LIMIT)
    try:
        yield where
    finally:
        distributed.destroy_process_group()


@contextmanager
def _watch(recipe: FineTuneConfig, first: bool) -> Iterator[Watch]:
    """Progress bars and one line per evaluation on standard error; nothing from the other processes."""
    from neuromorphic_llm.conversion.training_run import Watch

    if not first:
        yield Watch()
        return
    with progress() as bars:
        work = WorkBars(bars)

        def step(figures: StepFigures, passed: float) -> None:
            if passed > 0:
                work.show("fine-tune", figures.step, round(figures.step / passed), f"fine-tune, KL {figures.loss:.4f}")

        def held_out(step: int, figures: HeldOutFigures) -> None:
            error_console.print(f"step {step}: held-out perplexity {figures.perplexity:.2f} at {figures.spikes:.3f} spikes")

        def dense(perplexity: float) -> None:
            error_console.print(f"dense model: held-out perplexity {perplexity:.2f}")

        yield Watch(work.show, step, held_out, dense)


def _result(output: Path, state: Path, network: SpikingNetwork, content_hash: str) -> dict[str, Any]:
    """The command's own keys of the JSON result."""
    tuning = network.provenance["fine_tuning"]
    return {
        "network": str(output),
        "network_hash": content_hash,
        "state": str(state),
        "parameters": network.weights.parameters,
        "spikes_per_activation": network.provenance["spikes_per_activation"],
        "note": network.provenance.get("budget_note"),
        "training_s": tuning["seconds"],
        "kind": "measured",
        **{key: tuning[key] for key in _TUNING},
    }


_TUNING = ("steps", "tokens", "loss", "held_out_perplexity", "dense_held_out_perplexity", "text_tokens", "own_text_tokens")
"""Keys of the result that the network's provenance has."""

_FIGURES = {
    "parameters": ("weights", ",d"),
    "spikes_per_activation": ("spikes per activation, on the held-out text", ".3f"),
    "note": ("note", ""),
    "steps": ("steps", ",d"),
    "tokens": ("tokens trained on", ",d"),
    "text_tokens": ("tokens of the given texts", ",d"),
    "own_text_tokens": ("tokens that the dense model wrote", ",d"),
    "training_s": ("seconds of training", ".0f"),
    "loss": ("KL(dense || spiking), nats per token, last 100 steps", ".4f"),
    "held_out_perplexity": ("held-out perplexity of the emulation", ".2f"),
    "dense_held_out_perplexity": ("held-out perplexity of the dense model", ".2f"),
}
"""Key of the result -> label with its unit, and format."""


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"Spiking network {result['network']}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for key, (label, form) in _FIGURES.items():
        if result[key] is not None:
            table.add_row(label, f"{result[key]:{form}}")
    return table
