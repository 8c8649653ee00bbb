"""`nmllm convert`: a checkpoint into a spiking network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import (
    BosChoice,
    CommandRun,
    Device,
    WorkBars,
    console,
    error_console,
    progress,
    status,
)
from neuromorphic_llm.cli.options import Given, code_parameters_of
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos, bos_text, choose_bos
from neuromorphic_llm.text_file import LIMITS, read_text

if TYPE_CHECKING:
    from neuromorphic_llm.chip.spec import ChipSpec
    from neuromorphic_llm.conversion.calibrate import Calibration
    from neuromorphic_llm.models.checkpoint import Checkpoint
    from neuromorphic_llm.network.spiking import SpikingNetwork

EXAMPLES = """
nmllm convert smollm2-135m -o networks/smollm2-135m
nmllm convert smollm2-135m -o networks/small --spikes 1.25 --calibration wikitext2
nmllm convert smollm2-135m -o networks/thrifty --spikes 1.25 --query-spikes 1.2
nmllm convert nano -o networks/nano --spikes 1 --tolerance 0.05
nmllm convert nano -o networks/burst --code burst --code-option gamma=7 --code-option shift=3
nmllm convert smollm2-135m -o networks/greedy --spikes 1.0 --allocation greedy --compensate gptq --compensate bias
nmllm convert nano -o networks/cheap --energy 1.2e-6 --chip nano
nmllm convert MODEL.gguf -o networks/hybrid --parts feed-forward --calibration TEXT.txt
"""


def command(
    run: CommandRun,
    model: Annotated[str, typer.Argument(help="Known name, Hugging Face folder or id, or GGUF file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Network folder to write.")],
    asked: Given[ConvertConfig],
    chip: Annotated[str, typer.Option(help="Chip whose account gives the joules of a spike, for --energy.")] = "nc1",
    calibration: Annotated[
        str | None, typer.Option(help="Text file, task name or calibration folder (default: text that comes with Python).")
    ] = None,
    save_calibration: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the calibration for later conversions.")] = None,
    device: Device = "cpu",
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Convert a pretrained model into a spiking network, without training."""
    from neuromorphic_llm.chip.load import load_spec
    from neuromorphic_llm.conversion.calibrate import FORMAT as CALIBRATION_FORMAT
    from neuromorphic_llm.conversion.text import calibration_windows, held_out_window
    from neuromorphic_llm.evaluation.open_model import checked_device
    from neuromorphic_llm.models.checkpoint import load_checkpoint
    from neuromorphic_llm.network.format import FORMAT as NETWORK_FORMAT

    code_parameters = code_parameters_of(asked)
    checked_device(device)
    kept = {} if save_calibration is None else {"--save-calibration": (save_calibration, CALIBRATION_FORMAT)}
    run.outputs(artefacts=kept | {"--output": (output, NETWORK_FORMAT)})
    options = _options(asked, code_parameters=code_parameters, seed=run.seed)
    spec = None if options.energy_j is None else load_spec(chip)
    stored, text = _calibration(calibration)
    with status(f"loading {model}"):
        checkpoint = load_checkpoint(model)
        tokenizer = choose_bos(checkpoint.tokenizer(), bos)
        windows = calibration_windows(tokenizer, text, longest=checkpoint.config.max_positions)
        held_out = held_out_window(tokenizer, text, checkpoint.config.max_positions)
    network, stored = _convert(checkpoint, options, windows, held_out, stored, spec, device, search=save_calibration is not None)
    if save_calibration is not None:
        stored.save(save_calibration)
    content_hash = network.save(output)
    beginning = bos_text(tokenizer)
    console.print(_table(output, network.provenance, network.weights.parameters, beginning))
    if "warning" in network.provenance:
        error_console.print(f"Warning: {network.provenance['warning']}", highlight=False, soft_wrap=True)
    run.result(_result(output, network, content_hash) | {"bos_token": beginning})


def _convert(
    checkpoint: Checkpoint,
    options: ConvertConfig,
    windows: list[list[int]],
    held_out: list[int] | None,
    calibration: Calibration | None,
    spec: ChipSpec | None,
    device: str,
    *,
    search: bool,
) -> tuple[SpikingNetwork, Calibration]:
    """The network, and the calibration; with `search` that has the allocation in it. `spec` is the chip of a budget in joules."""
    from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert, search_allocation

    with progress() as bars:
        advance = WorkBars(bars).show
        if calibration is None:
            calibration = calibrate_checkpoint(checkpoint, windows, device=device, seed=options.seed, progress=advance)
        costs = None
        if spec is not None:
            from neuromorphic_llm.pipeline.spike_costs import costs_of_checkpoint

            costs = costs_of_checkpoint(checkpoint, options, windows, calibration, spec, device, advance)
        if search:
            calibration = search_allocation(checkpoint, options, windows, calibration, costs=costs, device=device, progress=advance)
        network = convert(
            checkpoint, options, windows, calibration=calibration, held_out=held_out, costs=costs, device=device, progress=advance
        )
    return network, calibration


def _options(asked: Given[ConvertConfig], **others: Any) -> ConvertConfig:
    """Options of the conversion; UsageError for a wrong value or name, and for options that exclude each other."""
    from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS
    from neuromorphic_llm.conversion.compensation.methods import split_names

    if asked["query_spikes"] is not None and asked["parts"] == "feed-forward":
        raise UsageError("--query-spikes is of attention, and --parts feed-forward leaves attention dense; leave one out")
    config = asked.build(**_target(asked), **others)
    ALLOCATIONS.check(config.allocation)
    split_names(config.compensation)
    return config


def _target(asked: Given[ConvertConfig]) -> dict[str, Any]:
    """Target of the conversion; without any the signed-digit code meets 1.5 spikes and the others keep all of theirs."""
    target = {name: asked[name] for name in ("spikes", "price", "energy_j")}
    given = [option for option, value in zip(("--spikes", "--lambda", "--energy"), target.values(), strict=True) if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are both given; a target finds its own price, leave one out")
    if given:
        return target
    return {"spikes": 1.5, "price": None} if asked["code"] == "signed-digit" else {"spikes": None, "price": 0.0}


def _result(output: Path, network: SpikingNetwork, content_hash: str) -> dict[str, Any]:
    """The command's own keys of the JSON result."""
    return {
        "network": str(output),
        "network_hash": content_hash,
        "parameters": network.weights.parameters,
        "spikes_per_activation": network.provenance["spikes_per_activation"],
        "price": network.provenance["price"],
        "allocation": network.provenance["options"].get("allocation", "fisher"),
        "compensation": network.provenance["options"].get("compensation", []),
        "energy_j_per_token": network.provenance.get("energy_j"),
        "note": network.provenance.get("budget_note"),
        "divergence": network.provenance["divergence"],
        "warning": network.provenance.get("warning"),
        "calibration_tokens": network.provenance["calibration_tokens"],
        "parts": network.parts,
        "code": network.weights.code.to_json(),
    }


def _calibration(argument: str | None) -> tuple[Calibration | None, str | None]:
    """A stored calibration, or a text, from what --calibration names."""
    from neuromorphic_llm.conversion.calibrate import Calibration
    from neuromorphic_llm.evaluation.tasks import TASKS, load_text

    if argument is None:
        return None, None
    path = Path(argument)
    try:
        if path.is_dir():
            return Calibration.load(path), None
        there = path.exists()  # not is_file(): a pipe is a text, too
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"--calibration {path} cannot be read ({reason}); give a text file, a task or a calibration folder") from error
    if there:
        return None, read_text(path, "--calibration", LIMITS["calibration"])
    if argument not in TASKS:
        texts = ", ".join(name for name, task in TASKS.items() if task.kind == "language-model")
        raise UsageError(f"--calibration {argument}: no such file or folder, and no task of that name; tasks are {texts}")
    return None, load_text(TASKS[argument])


def _table(output: Path, provenance: dict[str, Any], parameters: int, bos_token: str | None) -> Table:
    table = Table(title=f"Spiking network {output}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("weights", f"{parameters:,}")
    table.add_row("spikes per activation, on the calibration text", f"{provenance['spikes_per_activation']:.3f}")
    if "budget_note" in provenance:
        table.add_row("note", provenance["budget_note"])
    table.add_row("price of a spike", f"{provenance['price']:.3g}")
    if "energy_j" in provenance:
        table.add_row("energy of a token on the chip (estimated)", f"{provenance['energy_j'] * 1e6:.3g} µJ")
    divergence = provenance["divergence"]
    table.add_row(f"divergence from the model, {divergence['tokens']} tokens, all spikes", f"{divergence['all_spikes']:.2g} nats a token")
    expected = f"{divergence['budget']:.2g}, {divergence['budget_estimate']:.2g} expected"
    table.add_row("the same with these spikes", expected)
    table.add_row("calibration tokens", f"{provenance['calibration_tokens']:,}")
    table.add_row("beginning-of-sequence token of each window", bos_token or "none")
    return table
