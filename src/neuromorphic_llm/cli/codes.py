"""`nmllm codes`: the spike codes, their parameters, and what they cost on normally distributed inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from neuromorphic_llm.cli.common import CommandRun, console
from neuromorphic_llm.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from neuromorphic_llm.spikes.code import SpikeCode

EXAMPLES = """
nmllm codes
nmllm codes --phases 4
nmllm codes burst --code-option gamma=7 --code-option shift=3
"""

_EXAMPLE = (4096, -3000, 700, 90, 0)
"""Inputs whose spike trains are shown for one code."""


def command(
    run: CommandRun,
    name: Annotated[str | None, typer.Argument(help="One code, shown in detail with its parameters and example spike trains.")] = None,
    phases: Annotated[int | None, typer.Option(help="Phases of every code (default 6; of one code: its own).", min=1)] = None,
    code_option: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the code NAME, repeatable.")] = None,
) -> None:
    """List the spike codes with their spikes and errors at equal phases, or show one of them."""
    from neuromorphic_llm.spikes.parameters import parse_options
    from neuromorphic_llm.spikes.registry import SPIKE_CODES, get_code

    if name is None:
        if code_option:
            raise UsageError("--code-option belongs to one code; name it, as in nmllm codes burst --code-option gamma=7")
        described, broken = _all(phases or 6, run.seed)
        console.print(_list(described))
        console.print(_meanings(described))
        for each in broken:
            console.print(f"not listed: {' '.join(each['reason'].split())}", soft_wrap=True)
        run.result({"codes": described, "kind": "simulated"} | ({"broken": broken} if broken else {}))
    else:
        found = SPIKE_CODES[name]
        with SPIKE_CODES.failures_of(name):
            code = get_code(name, phases, **parse_options(found, code_option or []))
            detail = _described(code, run.seed) | {"examples": _examples(code)}
        console.print(_detail(detail))
        console.print(_trains(detail))
        run.result({"codes": [detail], "kind": "simulated"})


def _all(phases: int, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Descriptions of the codes that work, and names and reasons of the others: one broken distribution must not hide the rest."""
    from neuromorphic_llm.spikes.compare import at_most
    from neuromorphic_llm.spikes.registry import SPIKE_CODES

    described, broken = [], []
    for name in SPIKE_CODES:
        try:
            with SPIKE_CODES.failures_of(name):
                described.append(_described(at_most(name, phases, {}), seed))
        except UsageError as error:
            broken.append({"name": name, "reason": str(error)})
    return described, broken


def _described(code: SpikeCode, seed: int) -> dict[str, Any]:
    """A code as one entry of the JSON result. Raises ValueError or TypeError if it is none that codes vectors."""
    from dataclasses import asdict

    from neuromorphic_llm.chip.codes import CHIP_CODES, STAMPED_CODE
    from neuromorphic_llm.spikes.compare import figures, gaussian
    from neuromorphic_llm.spikes.parameters import parameters_of

    inputs = gaussian(seed)
    _check(code, inputs[:2])
    parameters = [
        {"name": each.name, "value": getattr(code, each.name), "default": each.default, "allowed": each.allowed, "help": each.help}
        for each in parameters_of(code)
    ]
    return {
        "name": code.name,
        "summary": code.summary,
        "source": code.source,
        "phases": code.phases,
        "default_phases": code.default_phases,
        "horner_shift": code.horner_shift,
        "graded": code.graded,
        "largest_value": code.largest_value,
        "on_chip": code.name in (*CHIP_CODES, STAMPED_CODE),
        "parameters": parameters,
        "gaussian": asdict(figures(code, inputs)),
    }


def _check(code: SpikeCode, x: NDArray[np.int32]) -> None:
    """ValueError or TypeError unless the code says what it is and turns x [tokens, inputs] into spikes of that many inputs."""
    import numpy as np

    from neuromorphic_llm.spikes.code import SpikeTrain, coded

    kinds = {"summary": str, "source": str, "default_phases": int, "horner_shift": int, "graded": bool, "largest_value": int}
    for name, kind in kinds.items():
        if not isinstance(getattr(code, name), kind):
            raise TypeError(f"{name} is {getattr(code, name)!r}, not of type {kind.__name__}")
    free = np.zeros(x.shape[1], np.int32)
    train = code.encode(x, free)
    if not isinstance(train, SpikeTrain):
        raise TypeError(f"encode returns {type(train).__name__}, not SpikeTrain")
    expected = {"digits": (len(train.digits), *x.shape), "exponent": x.shape[:1], "phases": x.shape[:1]}
    for name, shape in expected.items():
        array = np.asarray(getattr(train, name))
        if array.shape != shape or array.dtype.kind not in "iu":
            raise ValueError(f"encode gives {name} as {array.dtype} {array.shape}, not integers {shape}")
    largest = int(np.abs(coded(train).a.astype(np.int64)).max())
    if largest > code.largest_value:
        raise ValueError(f"encode gives |a| of {largest}, above the largest_value {code.largest_value}")


def _examples(code: SpikeCode) -> list[dict[str, Any]]:
    """Spike trains of a few inputs of one vector."""
    train = code.encode([_EXAMPLE], [0] * len(_EXAMPLE))
    digits, values, exponent = train.digits[:, 0].T.tolist(), code.decode(train)[0].tolist(), int(train.exponent[0])
    return [
        {"x": x, "digits": digit, "exponent": exponent, "value": value} for x, digit, value in zip(_EXAMPLE, digits, values, strict=True)
    ]


def _list(described: list[dict[str, Any]]) -> Table:
    table = Table("code", "phases", "spikes", "RMS error", "worst case", "on chip")
    for column in table.columns[1:5]:
        column.justify = "right"
    for code in described:
        found = code["gaussian"]
        cells = (f"{found['spikes']:.2f}", f"{found['rms_error']:.4f}", f"{found['worst_case_error']:.3f}")
        table.add_row(code["name"], str(code["phases"]), *cells, "yes" if code["on_chip"] else "no")
    table.caption = "Normally distributed inputs, no stop rule. Spikes per input; errors in standard deviations."
    return table


def _meanings(described: list[dict[str, Any]]) -> Table:
    table = Table("code", "what it is", "parameters")
    table.columns[1].overflow = "fold"
    table.columns[0].no_wrap = True
    for code in described:
        names = ", ".join(f"{each['name']}={_text(each['default'])}" for each in code["parameters"]) or "-"
        table.add_row(code["name"], code["summary"], names)
    return table


def _detail(code: dict[str, Any]) -> Table:
    table = Table(title=f"{code['name']}: {code['summary']}", show_header=False)
    found = code["gaussian"]
    table.add_row("source", code["source"])
    table.add_row(
        "phases", f"{code['phases']} (default {code['default_phases']}), accumulators shift by {code['horner_shift']} before each"
    )
    table.add_row("a digit of magnitude 2 is", "one spike of weight 2" if code["graded"] else "two spikes")
    table.add_row("|a| at most", str(code["largest_value"]))
    table.add_row("on the chip", "yes" if code["on_chip"] else "no: functional simulation only")
    for each in code["parameters"]:
        table.add_row(f"{each['name']}={_text(each['value'])}", f"{each['help']} ({each['allowed']}; default {_text(each['default'])})")
    fires = 100 * found["inputs_that_fire"]
    table.add_row("normally distributed inputs", f"{found['spikes']:.3f} spikes per input, {fires:.0f} % fire")
    table.add_row("errors, in standard deviations", f"RMS {found['rms_error']:.5f}, worst case {found['worst_case_error']:.4f}")
    return table


def _trains(code: dict[str, Any]) -> Table:
    table = Table("x", "digits, first phase first", "stands for", title="Spike trains of one vector")
    for example in code["examples"]:
        table.add_row(str(example["x"]), " ".join(f"{digit:d}" for digit in example["digits"]), str(example["value"]))
    return table


def _text(value: object) -> str:
    """A parameter's value as it is written on the command line."""
    return str(value).lower() if isinstance(value, bool) else str(value)
