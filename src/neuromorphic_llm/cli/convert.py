"""`nmllm convert`: a checkpoint into a spiking network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, Debug, JsonFile, Seed, console, progress, status
from neuromorphic_llm.errors import ConversionError, UsageError

if TYPE_CHECKING:
    from neuromorphic_llm.convert.calibrate import Calibration
    from neuromorphic_llm.convert.config import ConvertConfig
    from neuromorphic_llm.network.spiking import SpikingNetwork

EXAMPLES = """
nmllm convert smollm2-135m -o networks/smollm2-135m
nmllm convert smollm2-135m -o networks/small --spikes 1.25 --calibration wikitext2
nmllm convert nano -o networks/burst --code burst --code-option gamma=7 --code-option shift=3
nmllm convert model.gguf -o networks/hybrid --parts feed-forward --calibration text.txt
"""


def command(
    model: Annotated[str, typer.Argument(help="Known name, Hugging Face folder or id, or GGUF file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Network folder to write.")],
    code: Annotated[str, typer.Option(help="Spike code; nmllm codes lists them.")] = "signed-digit",
    code_option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the code, repeatable.")] = None,
    phases: Annotated[int | None, typer.Option(help="Phases of the code (default: the code's own).")] = None,
    spikes: Annotated[float | None, typer.Option(help="Mean spikes per activation to meet (default 1.5).")] = None,
    price: Annotated[float | None, typer.Option("--lambda", help="Price of a spike instead of a target; 0 keeps all spikes.")] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Text file, task name or calibration folder (default: text that comes with Python).")
    ] = None,
    save_calibration: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the calibration for later conversions.")] = None,
    parts: Annotated[str, typer.Option(help="What spikes: all, feed-forward or attention.")] = "all",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    json: JsonFile = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Convert a pretrained model into a spiking network, without training."""
    arguments = {"model": model, "output": output, "code": code, "code_option": code_option, "phases": phases,
                 "spikes": spikes, "lambda": price, "calibration": calibration,
                 "save_calibration": save_calibration, "parts": parts, "device": device}  # fmt: skip
    with CommandRun("convert", json, seed, debug, arguments) as run:
        from neuromorphic_llm.artefact import check_artefact_place
        from neuromorphic_llm.convert.calibrate import FORMAT as CALIBRATION_FORMAT
        from neuromorphic_llm.convert.convert import calibrate_checkpoint, convert
        from neuromorphic_llm.convert.text import calibration_windows
        from neuromorphic_llm.evaluate.open_model import checked_device
        from neuromorphic_llm.models.checkpoint import load_checkpoint
        from neuromorphic_llm.network.format import FORMAT as NETWORK_FORMAT
        from neuromorphic_llm.spikes.parameters import parse_options
        from neuromorphic_llm.spikes.registry import code_class, get_code

        parameters = parse_options(code_class(code), code_option or [])
        get_code(code, phases, **parameters)
        checked_device(device)
        check_artefact_place(output, NETWORK_FORMAT)
        if save_calibration is not None:
            if save_calibration.resolve() == output.resolve():
                raise UsageError(f"--save-calibration and --output are both {output}; choose another folder for one of them")
            check_artefact_place(save_calibration, CALIBRATION_FORMAT)
        options = _options(code, phases, parameters, spikes, price, parts, seed)
        stored, text = _calibration(calibration)
        with status(f"loading {model}"):
            checkpoint = load_checkpoint(model)
            windows = calibration_windows(checkpoint.tokenizer(), text)
        with progress() as bars:
            tasks: dict[str, Any] = {}

            def advance(what: str, done: int, total: int) -> None:
                tasks.setdefault(what, bars.add_task(what, total=total) if what not in tasks else tasks[what])
                bars.update(tasks[what], completed=done)

            if stored is None:
                stored = calibrate_checkpoint(checkpoint, windows, device=device, seed=seed, progress=advance)
            network = convert(checkpoint, options, windows, calibration=stored, device=device, progress=advance)
        if save_calibration is not None:
            stored.save(save_calibration)
        content_hash = network.save(output)
        console.print(_table(output, network.provenance, network.weights.parameters))
        run.result(_result(output, network, content_hash))


def _options(
    code: str,
    phases: int | None,
    parameters: Mapping[str, int | bool | str],
    spikes: float | None,
    price: float | None,
    parts: str,
    seed: int,
) -> ConvertConfig:
    """What was asked for; without target and price the signed-digit code meets 1.5 spikes and the others keep all of theirs."""
    from neuromorphic_llm.convert.config import ConvertConfig

    if spikes is not None and price is not None:
        raise UsageError("--spikes and --lambda are both given; a target finds its own price, leave one out")
    if spikes is None and price is None:
        spikes, price = (1.5, None) if code == "signed-digit" else (None, 0.0)
    try:
        return ConvertConfig(
            code=code, phases=phases, spikes=spikes, price=price, parts=parts, seed=seed, code_parameters=tuple(parameters.items())
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def _result(output: Path, network: SpikingNetwork, content_hash: str) -> dict[str, Any]:
    """The command's own keys of the JSON result."""
    return {
        "network": str(output),
        "network_hash": content_hash,
        "parameters": network.weights.parameters,
        "spikes_per_activation": network.provenance["spikes_per_activation"],
        "price": network.provenance["price"],
        "calibration_tokens": network.provenance["calibration_tokens"],
        "parts": network.parts,
        "code": network.weights.code.to_json(),
    }


def _calibration(argument: str | None) -> tuple[Calibration | None, str | None]:
    """A stored calibration, or a text, from what --calibration names."""
    from neuromorphic_llm.convert.calibrate import Calibration
    from neuromorphic_llm.evaluate.tasks import TASKS, load_text

    if argument is None:
        return None, None
    path = Path(argument)
    if path.is_dir():
        return Calibration.load(path), None
    if path.is_file():
        try:
            return None, path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConversionError(f"{path} is not UTF-8 text; give a text file, a task or a calibration folder") from error
    if argument not in TASKS:
        raise UsageError(f"--calibration {argument}: no such file or folder, and no task of that name; tasks are {', '.join(TASKS)}")
    return None, load_text(TASKS[argument])


def _table(output: Path, provenance: dict[str, Any], parameters: int) -> Table:
    table = Table(title=f"Spiking network {output}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("weights", f"{parameters:,}")
    table.add_row("spikes per activation, on the calibration text", f"{provenance['spikes_per_activation']:.3f}")
    table.add_row("price of a spike", f"{provenance['price']:.3g}")
    table.add_row("calibration tokens", f"{provenance['calibration_tokens']:,}")
    return table
