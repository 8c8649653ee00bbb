"""`nmllm simulate`: a compiled program on the simulated chip."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import BosChoice, CommandRun, console, error_console, progress, status
from neuromorphic_llm.cli.options import Given
from neuromorphic_llm.cli.prompt import ParseSpecial, PromptedProgram, SequenceOptions, load_prompted
from neuromorphic_llm.cli.token_stream import TokenStream
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.text_tokens import Bos
from neuromorphic_llm.units import format_mm2, format_si

EXAMPLES = """
nmllm simulate programs/smollm2-135m --chat --prompt "Name three rivers in Europe." --max-new-tokens 32
nmllm simulate programs/smollm2-135m --prompt-file ARTICLE.txt --max-new-tokens 96 --json result.json
nmllm simulate programs/nano --prompt "Once upon a time"
nmllm simulate programs/nano --prompt "Once upon a time" --sequences 3
nmllm simulate programs/nano --prompt "Once upon a time" --sequences 3 --backend rtl
"""

FUNCTIONAL_REASON = "the functional backend computes values only; use --backend cycle"
NOT_APART = "the functional backend does not count prefill and decode apart: spikes are means over the tokens of both; use --backend cycle"
UNTIMED = {
    "counted_phase": NOT_APART,
    **dict.fromkeys(
        (
            "mean_context",
            "cycles_total",
            "cycles_per_token",
            "latency_s_per_token",
            "prefill_s",
            "chip_tokens_per_s",
            "chip_energy_j_per_token",
            "energy_scope",
            "energy_breakdown_j",
            "energy_kind",
            "int8_reference_energy_j_per_token",
            "rival_energy_j_per_token",
            "synaptic_operations_per_token",
            "conversions_per_token",
            "repeated_conversions_per_token",
            "counters",
        ),
        FUNCTIONAL_REASON,
    ),
}
"""Keys of the result that only the cycle backend can fill, and why."""

_KERNELS = "kernels compiled or loaded first, s"
_BETWEEN = {"decode": "time between two tokens of a sequence", "prefill": "time per token of the prompts"}
COMPILED = {"functional": _KERNELS, "cycle": _KERNELS, "rtl": "chip built or loaded first, s"}
"""Backend -> name of the time that is no part of its speed."""


class Backend(StrEnum):
    """Computation of values: integer products in torch, every event and cycle of the chip, or its SystemVerilog."""

    FUNCTIONAL = "functional"
    CYCLE = "cycle"
    RTL = "rtl"


def command(
    run: CommandRun,
    program: Annotated[Path, typer.Argument(help="Program folder that `nmllm compile` wrote.")],
    asked: Given[SequenceOptions],
    backend: Annotated[
        Backend, typer.Option(help="functional: values only; cycle: cycles and energy too; rtl: the same by the Verilated chip.")
    ] = Backend.CYCLE,
    threads: Annotated[int | None, typer.Option(help="Threads of the cycle backend (default: all cores).", min=1)] = None,
    bos: BosChoice = Bos.AUTO,
    parse_special: ParseSpecial = None,
) -> None:
    """Generate text on the simulated chip: tokens, cycles and energy."""
    options = asked.build(bos=bos, parse_special=parse_special)
    prompted = load_prompted(program, options, *options.texts())
    shown = console.is_terminal and options.sequences == 1
    stream = TokenStream(console, prompted.tokenizer, prompted.stop) if shown else None
    simulate_on = {Backend.CYCLE: _cycle, Backend.RTL: _rtl, Backend.FUNCTIONAL: _functional}[backend]
    figures: dict[str, Any] = {"prompt_tokens": len(prompted.prompt_ids), "bos_token": prompted.bos_token}
    figures |= simulate_on(_Request(prompted, options.max_new_tokens, threads, stream))
    if stream is not None:
        stream.finish(figures["text"])
    else:
        for number, each in enumerate(figures["generated"], 1):
            label = f"{number}: " if options.sequences > 1 else ""
            console.print(label + each["text"], markup=False, highlight=False, soft_wrap=True)
    console.print(_table(figures))
    run.result(figures)


@dataclass(frozen=True)
class _Request:
    """Prompts and limits of a generation, and the display of its tokens."""

    prompted: PromptedProgram
    max_new_tokens: int
    threads: int | None
    stream: TokenStream | None  # on a terminal

    @contextmanager
    def shown(self, total: int) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
        """A bar of `total` tokens, which the text replaces once there is some: functions that take how many are done, and a new token."""
        with progress() as bars:
            bar = bars.add_task("tokens", total=total)

            def on_token(token: int) -> None:
                if self.stream is not None:
                    if error_console.is_terminal:
                        bars.stop()
                    self.stream.show(token)

            yield (lambda done: bars.advance(bar, done)), on_token


def _cycle(request: _Request) -> dict[str, Any]:
    from neuromorphic_llm.evaluation.simulated import ChipText, simulated_generation
    from neuromorphic_llm.simulation.run import simulate_sequences

    prompted, count = request.prompted, request.max_new_tokens
    program, prompts, stop = prompted.program, prompted.prompts, prompted.stop
    with request.shown(sum(len(prompt) + count - 1 for prompt in set(map(tuple, prompts)))) as (done, on_token):
        told = lambda _, token: on_token(token)  # noqa: E731
        result = simulate_sequences(program, prompts, count, stop=stop, threads=request.threads, progress=done, on_token=told)
    return ChipText(program, simulated_generation(result), prompted.tokenizer, stop).to_json()


def _rtl(request: _Request) -> dict[str, Any]:
    if request.threads is not None:
        raise UsageError("--threads is for --backend cycle")
    from neuromorphic_llm.evaluation.simulated import ChipText, rtl_generation
    from neuromorphic_llm.rtl.chip import RtlChip
    from neuromorphic_llm.rtl.loader import check_room_of_request
    from neuromorphic_llm.simulation.run import check_request

    prompted = request.prompted
    program, prompts, stop = prompted.program, prompted.prompts, prompted.stop
    check_request(program, prompts, request.max_new_tokens)
    check_room_of_request(prompts, stop)
    begin = time.perf_counter()
    with status("building the chip with Verilator, which takes some minutes the first time"):
        chip = RtlChip(program, checked=False)
    built = time.perf_counter() - begin
    with request.shown(len(prompts) * request.max_new_tokens) as (done, on_token):

        def told(_: int, token: int) -> None:
            done(1)
            on_token(token)

        result = rtl_generation(chip, prompts, request.max_new_tokens, stop, built, told)
    return ChipText(program, result, prompted.tokenizer, stop).to_json()


def _functional(request: _Request) -> dict[str, Any]:
    if request.threads is not None:
        raise UsageError("--threads is for --backend cycle")
    from neuromorphic_llm.area import area_figures
    from neuromorphic_llm.kernel_time import kernel_time
    from neuromorphic_llm.network.functional import FunctionalDecoder
    from neuromorphic_llm.simulation.run import check_request

    program, prompts = request.prompted.program, request.prompted.prompts
    check_request(program, prompts, request.max_new_tokens)
    decoder = FunctionalDecoder(program.weights)
    with request.shown(len(prompts) * request.max_new_tokens) as (done, on_token), kernel_time() as compiled:

        def told(_: int, token: int) -> None:
            done(1)
            on_token(token)

        begin = time.perf_counter()
        generated = decoder.generate(prompts, request.max_new_tokens, eos_token_ids=request.prompted.stop, on_token=told)
        seconds = time.perf_counter() - begin - compiled()
    statistics, config = decoder.statistics, program.weights.config
    by_site = {config.sites[site].name: count / statistics.tokens for site, count in enumerate(statistics.site_spikes())}
    sequences = [
        {"prompt_tokens": len(prompt), "token_ids": tokens, "text": request.prompted.text(tokens)}
        for prompt, tokens in zip(prompts, generated, strict=True)
    ]
    return {
        "token_ids": generated[0],
        "text": sequences[0]["text"],
        "sequences": len(prompts),
        "generated": sequences,
        "chip": program.spec.name,
        "backend": "functional",
        "clock_hz": program.spec.clock_hz,
        **dict.fromkeys(UNTIMED),
        **{f"{key}_reason": reason for key, reason in UNTIMED.items()},
        **area_figures(program),
        "spikes_per_activation": statistics.spikes_per_activation(),
        "spikes_per_token_by_site": by_site,
        "wall_tokens_per_s": (sum(map(len, (*prompts, *generated))) - len(prompts)) / seconds,
        "compile_s": compiled(),
        "kind": "simulated",
    }


def _table(figures: dict[str, Any]) -> Table:
    """The single figures; those of time and energy are means over the counted tokens."""
    table = Table(title=f"{figures['chip']}, {figures['backend']} backend")
    table.add_column("figure")
    table.add_column("value", justify="right")
    begin = figures.get("bos_token") or "none"
    rows = {"beginning-of-sequence token of the prompt": begin}
    if figures["sequences"] > 1:
        rows["sequences in flight"] = str(figures["sequences"])
    rows["tokens generated"] = str(sum(len(each["token_ids"]) for each in figures["generated"]))
    if figures["cycles_total"] is not None:
        energy, rivals = figures["chip_energy_j_per_token"], figures["rival_energy_j_per_token"]
        rows |= {
            "cycles": f"{figures['cycles_total']:,}",
            "cycles per token": f"{figures['cycles_per_token']:,.0f}",
            _BETWEEN[figures["counted_phase"]]: format_si(figures["latency_s_per_token"], "s"),
            "chip tokens/s": f"{figures['chip_tokens_per_s']:,.0f}",
            "chip energy per token": format_si(energy["nominal"], "J"),
            "  low to high": f"{format_si(energy['low'], 'J')} to {format_si(energy['high'], 'J')}",
            "INT8 digital reference": format_si(rivals["int8"]["nominal"], "J"),
            "  improved": format_si(rivals["int8_improved"]["nominal"], "J"),
            "bit-serial crossbars": format_si(rivals["bit_serial_crossbar"]["nominal"], "J"),
            "synaptic operations per token": f"{figures['synaptic_operations_per_token']:,.0f}",
        }
    rows |= {
        "chip area": format_mm2(figures["area_mm2"]),
        "area of the INT8 digital reference": format_mm2(figures["rival_area_mm2"]["int8"]),
        "spikes per activation": f"{figures['spikes_per_activation']:.3f}",
        "simulation speed, tokens/s (prompt and decoded)": f"{figures['wall_tokens_per_s']:.1f}",
        COMPILED[figures["backend"]]: f"{figures['compile_s']:.1f}",
    }
    if figures["counted_phase"] is None:
        table.caption = "Means over the tokens of prompt and answer. Only --backend cycle gives cycles, time and energy."
    else:
        counted = "decoded tokens"
        if figures["counted_phase"] == "prefill":
            reason = "no token was decoded" if figures["sequences"] == 1 else "at no time did all sequences decode"
            counted = f"prompts' tokens ({reason})"
        table.caption = f"Figures per token are means over the {counted}. Counts and cycles are simulated, energies and areas estimated."
    for name, value in rows.items():
        table.add_row(name, value)
    return table
