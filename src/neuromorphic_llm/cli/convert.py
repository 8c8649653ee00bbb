"""`nmllm convert`: a checkpoint into a spiking network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import (
    BosChoice,
    CommandRun,
    Debug,
    JsonFile,
    Seed,
    Tolerance,
    WorkBars,
    console,
    error_console,
    progress,
    status,
)
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos, bos_text, choose_bos
from neuromorphic_llm.text_file import LIMITS, read_text

if TYPE_CHECKING:
    from neuromorphic_llm.chip.spec import ChipSpec
    from neuromorphic_llm.conversion.calibrate import Calibration
    from neuromorphic_llm.conversion.config import ConvertConfig
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
    model: Annotated[str, typer.Argument(help="Known name, Hugging Face folder or id, or GGUF file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Network folder to write.")],
    code: Annotated[str, typer.Option(help="Spike code; nmllm codes lists them.")] = "signed-digit",
    code_option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the code, repeatable.")] = None,
    phases: Annotated[int | None, typer.Option(help="Phases of the code (default: the code's own).")] = None,
    spikes: Annotated[float | None, typer.Option(help="Mean spikes per activation to meet (default 1.5).")] = None,
    query_spikes: Annotated[
        float | None,
        typer.Option(help="Mean spikes per query value of attention to meet; a model whose queries spike less keeps all (default 1.8)."),
    ] = None,
    price: Annotated[float | None, typer.Option("--lambda", help="Price of a spike instead of a target; 0 keeps all spikes.")] = None,
    energy: Annotated[float | None, typer.Option(metavar="JOULES", help="Joules a token to meet on --chip instead of spikes.")] = None,
    chip: Annotated[str, typer.Option(help="Chip whose account gives the joules of a spike, for --energy.")] = "nc1",
    tolerance: Tolerance = 0.01,
    allocation: Annotated[str, typer.Option(help="Spikes among sites: fisher, greedy, teal or knunyants.")] = "fisher",
    compensate: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="gptq, bias, means, rotation-hadamard or rotation-pca, repeatable."),
    ] = None,
    calibration: Annotated[
        str | None, typer.Option(help="Text file, task name or calibration folder (default: text that comes with Python).")
    ] = None,
    save_calibration: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Keep the calibration for later conversions.")] = None,
    parts: Annotated[str, typer.Option(help="What spikes: all, feed-forward or attention.")] = "all",
    weights: Annotated[str, typer.Option(help="Weights of the crossbars: 8-bit or 4-bit-groups.")] = "8-bit",
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    bos: BosChoice = Bos.AUTO,
    json: JsonFile = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Convert a pretrained model into a spiking network, without training."""
    arguments = {"model": model, "output": output, "code": code, "code_option": code_option, "phases": phases,
                 "spikes": spikes, "query_spikes": query_spikes, "lambda": price, "energy": energy, "chip": chip, "tolerance": tolerance,
                 "allocation": allocation, "compensate": compensate, "calibration": calibration,
                 "save_calibration": save_calibration, "parts": parts, "weights": weights, "device": device, "bos": bos.value}  # fmt: skip
    with CommandRun("convert", json, seed, debug, arguments) as run:
        from neuromorphic_llm.chip.load import load_spec
        from neuromorphic_llm.conversion.calibrate import FORMAT as CALIBRATION_FORMAT
        from neuromorphic_llm.conversion.text import calibration_windows, held_out_window
        from neuromorphic_llm.evaluation.open_model import checked_device
        from neuromorphic_llm.models.checkpoint import load_checkpoint
        from neuromorphic_llm.network.format import FORMAT as NETWORK_FORMAT
        from neuromorphic_llm.spikes.parameters import parse_options
        from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

        parameters = parse_options(SPIKE_CODES[code], code_option or [])
        get_code(code, phases, **parameters)
        checked_device(device)
        kept = {} if save_calibration is None else {"--save-calibration": (save_calibration, CALIBRATION_FORMAT)}
        run.outputs(artefacts=kept | {"--output": (output, NETWORK_FORMAT)})
        options = _options(
            _target(code, spikes, price, energy) | _attention(query_spikes, parts), code=code, phases=phases,
            code_parameters=tuple(parameters.items()), parts=parts, seed=seed, allocation=allocation,
            compensation=tuple(compensate or ()), weights=weights, tolerance=tolerance,
        )  # fmt: skip
        spec = None if energy is None else load_spec(chip)
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


def _target(code: str, spikes: float | None, price: float | None, energy: float | None) -> dict[str, Any]:
    """What is to be met; without any the signed-digit code meets 1.5 spikes and the others keep all of theirs."""
    given = {"--spikes": spikes, "--lambda": price, "--energy": energy}
    asked = [option for option, value in given.items() if value is not None]
    if len(asked) > 1:
        raise UsageError(f"{' and '.join(asked)} are both given; a target finds its own price, leave one out")
    if not asked:
        spikes, price = (1.5, None) if code == "signed-digit" else (None, 0.0)
    return {"spikes": spikes, "price": price, "energy_j": energy}


def _attention(query_spikes: float | None, parts: str) -> dict[str, float]:
    """What is asked of attention."""
    if query_spikes is None:
        return {}
    if parts == "feed-forward":
        raise UsageError("--query-spikes is of attention, and --parts feed-forward leaves attention dense; leave one out")
    return {"query_spikes": query_spikes}


def _options(target: dict[str, Any], **options: Any) -> ConvertConfig:
    """What was asked for; UsageError for a wrong value or name."""
    from neuromorphic_llm.conversion.allocation.methods import ALLOCATIONS
    from neuromorphic_llm.conversion.compensation.methods import split_names
    from neuromorphic_llm.conversion.config import ConvertConfig

    try:
        config = ConvertConfig(**target, **options)
    except ValueError as error:
        raise UsageError(str(error)) from error
    ALLOCATIONS.check(config.allocation)
    split_names(config.compensation)
    return config


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
