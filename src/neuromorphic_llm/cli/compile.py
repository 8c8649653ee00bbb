"""`nmllm compile`: a spiking network onto a chip."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console, status
from neuromorphic_llm.units import format_mm2

if TYPE_CHECKING:
    from neuromorphic_llm.compiler.module import Module

EXAMPLES = """
nmllm compile networks/smollm2-135m --chip nc1 -o programs/smollm2-135m
nmllm compile networks/nano --chip nano -o programs/nano
nmllm compile networks/smollm2-135m --chip CHIP.yaml -o programs/mine --time-passes --picture floorplan.svg
"""


def command(
    run: CommandRun,
    network: Annotated[Path, typer.Argument(help="Network folder that `nmllm convert` wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Program folder to write.")],
    chip: Annotated[str, typer.Option(help="Known chip (nmllm chips) or a YAML file.")] = "nc1",
    print_between_passes: Annotated[bool, typer.Option("--print-between-passes", help="Print the graph after every pass.")] = False,
    time_passes: Annotated[bool, typer.Option("--time-passes", help="Print the seconds of every pass.")] = False,
    picture: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the placement.")] = None,
) -> None:
    """Compile a spiking network for a chip: place it on the mesh, route it and write a program folder."""
    from neuromorphic_llm.area import area_figures
    from neuromorphic_llm.chip.load import load_spec
    from neuromorphic_llm.chip.program_io import FORMAT, save_program
    from neuromorphic_llm.compiler.floorplan import floorplan_svg
    from neuromorphic_llm.compiler.module import print_module
    from neuromorphic_llm.compiler.pipeline import compile_network
    from neuromorphic_llm.network.spiking import SpikingNetwork
    from neuromorphic_llm.text_file import write_text

    seconds: dict[str, float] = {}

    def observe(name: str, module: Module | None, elapsed_s: float) -> None:
        seconds[name] = elapsed_s
        if print_between_passes and module is not None:
            # Not through rich: it would take the shapes in brackets for markup.
            print(f"--- after {name} ---\n{print_module(module)}", end="")

    run.outputs(artefacts={"--output": (output, FORMAT)}, files={"--picture": picture})
    spec = load_spec(chip)
    with status(f"compiling {network} for {spec.name}"):
        program = compile_network(SpikingNetwork.load(network), spec, seed=run.seed, observer=observe)
        program_hash = save_program(program, output)
    if picture is not None:
        write_text(picture, floorplan_svg(program))
    report = {**program.report, **area_figures(program)}
    console.print(_mapping_table(report))
    if time_passes:
        console.print(_time_table(seconds))
    run.result({**report, "program_hash": program_hash, "pass_seconds": seconds})


def _mapping_table(report: Mapping[str, Any]) -> Table:
    table = Table(title=f"Mapping on chip {report['chip']}", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for kind, count in report["tiles_by_kind"].items():
        table.add_row(f"{kind} tiles used / available", f"{count['used']} / {count['available']}")
    table.add_row("crossbars used / available", f"{report['crossbars']:,} / {report['crossbars_available']:,}")
    table.add_row("weights", f"{report['weights']:,}")
    table.add_row("weight cells / cells in used crossbars", f"{report['utilisation']:.1%}")
    table.add_row("weight cells / cells of the chip", f"{report['chip_utilisation']:.1%}")
    table.add_row("longest context, tokens", f"{report['max_context']:,}")
    for use, size in report["sram_bytes_by_use"].items():
        table.add_row(f"SRAM, {use.replace('_', ' ')}, KiB", f"{size / 1024:,.1f}")
    table.add_row("SRAM in use, KiB", f"{report['sram_bytes'] / 1024:,.1f}")
    table.add_row("DRAM in use, KiB", f"{report['dram_bytes'] / 1024:,.1f}")
    table.add_row("routes", f"{report['routes']:,}")
    table.add_row("wire hops of all routes", f"{report['wire_hops']:,}")
    for kind, hops in report["wire_hops_by_kind"].items():
        table.add_row(f"hops of a {kind} route, mean / longest", f"{hops['mean']:.1f} / {hops['max']}")
    table.add_row("chips", str(report["chips"]))
    table.add_row("area (estimated)", format_mm2(report["area_mm2"]))
    for part, area in sorted(report["area_breakdown_mm2"].items(), key=lambda item: -item[1]["nominal"]):
        if area["nominal"]:
            table.add_row(f"  {part}", format_mm2(area))
    return table


def _time_table(seconds: Mapping[str, float]) -> Table:
    table = Table("pass", "seconds", title="Time of passes")
    for name, elapsed_s in seconds.items():
        table.add_row(name, f"{elapsed_s:.3f}")
    table.add_row("together", f"{sum(seconds.values()):.3f}")
    return table
