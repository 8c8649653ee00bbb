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
    console,
    error_console,
    progress,
    status,
)
from neuromorphic_llm.cli.options import Given, code_parameters_of
from neuromorphic_llm.conversion.config import ConvertConfig, default_target
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos, bos_text
from neuromorphic_llm.terminal import WorkBars

if TYPE_CHECKING:
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
    chip: Annotated[str, typer.Option(help="Chip whose readout the network is for; its account prices a spike for --energy.")] = "nc1",
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
    from neuromorphic_llm.evaluation.open_model import checked_device
    from neuromorphic_llm.network.format import FORMAT as NETWORK_FORMAT
    from neuromorphic_llm.pipeline.convert import calibration_source, check_names, convert_source, open_source

    code_parameters = code_parameters_of(asked)
    checked_device(device)
    kept = {} if save_calibration is None else {"--save-calibration": (save_calibration, CALIBRATION_FORMAT)}
    run.outputs(artefacts=kept | {"--output": (output, NETWORK_FORMAT)})
    options = _options(asked, code_parameters=code_parameters, seed=run.seed)
    check_names(options)
    spec = load_spec(chip)
    stored, text = calibration_source(calibration)
    with status(f"loading {model}"):
        source = open_source(model, text, bos)
    with progress() as bars:
        network, stored = convert_source(
            source, options, calibration=stored, spec=spec, device=device, search=save_calibration is not None, progress=WorkBars(bars).show
        )
    if save_calibration is not None:
        stored.save(save_calibration)
    content_hash = network.save(output)
    beginning = bos_text(source.tokenizer)
    console.print(_table(output, network.provenance, network.weights.parameters, beginning))
    if "warning" in network.provenance:
        error_console.print(f"Warning: {network.provenance['warning']}", highlight=False, soft_wrap=True)
    run.result(_result(output, network, content_hash) | {"bos_token": beginning})


def _options(asked: Given[ConvertConfig], **others: Any) -> ConvertConfig:
    """Options of the conversion; UsageError for a wrong value, and for options that exclude each other."""
    if asked["query_spikes"] is not None and asked["parts"] == "feed-forward":
        raise UsageError("--query-spikes is of attention, and --parts feed-forward leaves attention dense; leave one out")
    return asked.build(**_target(asked), **others)


def _target(asked: Given[ConvertConfig]) -> dict[str, Any]:
    """Target of the conversion."""
    target = {name: asked[name] for name in ("spikes", "price", "energy_j")}
    given = [option for option, value in zip(("--spikes", "--lambda", "--energy"), target.values(), strict=True) if value is not None]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} are both given; a target finds its own price, leave one out")
    return target if given else default_target(asked["code"])


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
    table.add_row(f"divergence from the model, {divergence['tokens']} tokens, all spikes", f"{divergence['all_spikes']:.2g} nats per token")
    expected = f"{divergence['budget']:.2g}, {divergence['budget_estimate']:.2g} expected"
    table.add_row("the same with these spikes", expected)
    table.add_row("calibration tokens", f"{provenance['calibration_tokens']:,}")
    table.add_row("beginning-of-sequence token of each window", bos_token or "none")
    return table
