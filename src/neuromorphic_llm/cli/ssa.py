"""`nmllm ssa`: spiking self-attention after NeurTransformer beside this project's attention."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neuromorphic_llm.cli.common import BosChoice, CommandRun, Device, console, progress, status
from neuromorphic_llm.cli.options import Given, Tolerance
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos, choose_bos
from neuromorphic_llm.ssa.config import NeuronConfig, SsaConfig, SsaTuneConfig
from neuromorphic_llm.text_file import read_text

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from neuromorphic_llm.ssa.compare import Row, SsaComparison

EXAMPLES = """
nmllm ssa nano --tokens 1024 --layer-steps 20 --steps 20
nmllm ssa smollm2-135m --task wikitext2 --tokens 65536 --text TEXT.txt --feed-forward-steps 32 --device cuda --json ssa.json
nmllm ssa GPT2_FOLDER --time-steps 8 --score-spikes --folder runs/ssa
"""


_WINDOW = 256


def command(
    run: CommandRun,
    model: Annotated[str, typer.Argument(help="Known name, folder (Llama or GPT-2 decoder), GGUF file or hub id.")],
    attention: Given[SsaConfig],
    neuron: Given[NeuronConfig],
    tuning: Annotated[Given[SsaTuneConfig], {"steps": 100, "batch": 4}],
    feed_forward_steps: Annotated[
        int | None, typer.Option(help="Convert the feed-forward block too, rate coded over this many steps.", min=1)
    ] = None,
    text: Annotated[Path | None, typer.Option(help="Text for fine-tuning and calibration (default: text that comes with Python).")] = None,
    folder: Annotated[Path | None, typer.Option(help="Keeps the fine-tuning, which goes on from there.")] = None,
    spikes: Annotated[float, typer.Option(help="Spikes per activation of our rows.")] = 1.5,
    tolerance: Tolerance = 0.01,
    query_spikes: Annotated[float, typer.Option(help="Spikes per query value of our rows.")] = 1.0,
    task: Annotated[str, typer.Option(help="Text of the table: default, wikitext2 or wikitext103.")] = "default",
    data: Annotated[Path | None, typer.Option(help="File with the task's data.", metavar="FILE")] = None,
    tokens: Annotated[int, typer.Option(help="Tokens of the table's text.", min=2)] = 2048,
    window: Annotated[
        int | None,
        typer.Option(help="Tokens per window, in the table and in fine-tuning (default 256, less if the model holds less).", min=2),
    ] = None,
    batch: Annotated[int, typer.Option(help="Windows of the table at a time.", min=1)] = 1,
    device: Device = "cpu",
    bos: BosChoice = Bos.AUTO,
) -> None:
    """Replace attention by spiking self-attention, fine-tune it, and compare it with the dense model and with ours."""
    if folder is not None:
        run.outputs(folders={"--folder": folder})
    from neuromorphic_llm.conversion.config import ConvertConfig
    from neuromorphic_llm.conversion.text import calibration_windows, default_text
    from neuromorphic_llm.evaluation.language_model import encode_text
    from neuromorphic_llm.evaluation.open_model import checked_device
    from neuromorphic_llm.evaluation.tasks import TASKS, load_text
    from neuromorphic_llm.models.checkpoint import load_checkpoint
    from neuromorphic_llm.ssa.compare import SsaComparison
    from neuromorphic_llm.ssa.fine_tune import training_windows

    where, content = checked_device(device), load_text(TASKS[task], data)
    config, recipe = attention.build(neuron=neuron.build()), tuning.build(seed=run.seed)
    try:
        ConvertConfig(spikes=spikes, query_spikes=query_spikes, tolerance=tolerance)
    except ValueError as error:
        raise UsageError(str(error)) from error
    training = default_text() if text is None else read_text(text, "--text")
    with status(f"loading {model}"):
        checkpoint = load_checkpoint(model)
        tokenizer = choose_bos(checkpoint.tokenizer(), bos)
        window = window or min(_WINDOW, checkpoint.canonical.config.max_positions)
        encoded = encode_text(tokenizer, content, tokens)
        comparison = SsaComparison(checkpoint, encoded, window, batch, where)
    rows = _ssa_rows(comparison, config, recipe, training_windows(tokenizer, training, window), feed_forward_steps, folder)
    with status("converting"):
        calibration = calibration_windows(tokenizer, training, longest=checkpoint.canonical.config.max_positions)
        rows += comparison.network_rows(spikes, query_spikes, calibration, run.seed, tolerance)
    console.print(table_of(checkpoint.name, rows))
    console.print(f"beginning-of-sequence token of each window: {encoded.bos_token or 'none'}", highlight=False)
    run.result(result_of(checkpoint.name, config, recipe, rows) | {"bos_token": encoded.bos_token})


def result_of(name: str, config: SsaConfig, recipe: SsaTuneConfig, rows: list[Row]) -> dict[str, Any]:
    """The command's own keys of the JSON result; rows begin with the dense one."""
    return {
        "model": name,
        "ssa": config.to_json(),
        "recipe": recipe.to_json(),
        "rows": [row.to_json(rows[0]) for row in rows],
        "kind": "measured",
        "energy_kind": "estimated",
    }


def _ssa_rows(
    comparison: SsaComparison,
    config: SsaConfig,
    recipe: SsaTuneConfig,
    windows: Tensor,
    feed_forward_steps: int | None,
    folder: Path | None,
) -> list[Row]:
    """The dense row and those of spiking self-attention."""
    from neuromorphic_llm.ssa.fine_tune import SsaTuner
    from neuromorphic_llm.ssa.replace import replaced

    student = replaced(comparison.dense, comparison.shape, config, windows.tolist(), feed_forward_steps)
    tuner = SsaTuner(comparison.dense, student, recipe, folder)
    with progress() as bars:
        bar = bars.add_task("table", total=2)
        rows = [comparison.dense_row()]
        bars.advance(bar)
        rows.append(comparison.ssa_row("ssa-replaced", student))
        bars.advance(bar)
        tuner.load()
        bar = bars.add_task("fine-tuning", total=recipe.total, completed=tuner.step)
        for figures in tuner.run(windows):
            bars.update(bar, advance=1, description=f"fine-tuning, {figures.stage}, loss {figures.loss:.3f}")
    rows.append(comparison.ssa_row("ssa", student))
    if feed_forward_steps:
        rows.append(comparison.ssa_row("ssa+ffn", student, feed_forward=True))
    return rows


def table_of(name: str, rows: list[Row]) -> Table:
    """The rows as a table."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    caption = "energy of QK and PV against dense, NeurTransformer's accounting; chip: nJ per token on nc1"
    table = Table(
        title=f"{name}: attention, dense and spiking", caption=f"{caption}; q, v, p: spikes (ssa.md)", box=SIMPLE_HEAD, pad_edge=False
    )
    table.add_column("row", no_wrap=True)
    for column in ("ppl", "change", "token", "cosine", "energy", "chip", "q", "v, p"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        content = row.to_json(rows[0])
        table.add_row(
            row.name.replace("attention", "att."),
            f"{content['perplexity']:.4g}",
            f"{content['perplexity_change']:+.{0 if content['perplexity_change'] >= 1 else 1}%}",
            f"{content['token_accuracy']:.0%}",
            f"{content['cosine_loss']:.1%}",
            f"{0 - content['products_energy_reduction']:+.1%}",
            f"{row.chip_energy_j['nominal'] * 1e9:.4g}",
            *_spikes(content["spikes"] or {}),
        )
    return table


def _spikes(figures: dict[str, Any]) -> tuple[str, str]:
    """The two rates that decide the products' energy, of queries and of values or probabilities."""
    names = (("query_spikes_per_value", "query"), ("probability_spikes_per_pair", "value"))
    found = [next((f"{figures[name]:.2f}" for name in pair if name in figures), "-") for pair in names]
    return found[0], found[1]
