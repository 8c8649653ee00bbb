"""Spike codes by name, imported when first asked for."""

from __future__ import annotations

import difflib
import importlib

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.code import SpikeCode

_CODES: dict[str, str] = {}


def register_code(name: str, location: str) -> None:
    """Add a code; `location` is `module:class`. UsageError if the name is taken."""
    if name in _CODES:
        raise UsageError(f"spike code {name!r} is registered already, as {_CODES[name]}; choose another name")
    _CODES[name] = location


def code_names() -> tuple[str, ...]:
    """Names of all codes, the project's own first."""
    return tuple(_CODES)


def code_class(name: str) -> type[SpikeCode]:
    """The class of a code; UsageError with the nearest name if there is none."""
    if name not in _CODES:
        near = difflib.get_close_matches(name, _CODES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose one of {', '.join(_CODES)}"
        raise UsageError(f"unknown spike code {name!r}; {hint}")
    module, _, attribute = _CODES[name].partition(":")
    found: type[SpikeCode] = getattr(importlib.import_module(module), attribute)
    return found


def get_code(name: str, phases: int | None = None) -> SpikeCode:
    """A code with `phases` phases (its default if None). UsageError on a wrong name or number."""
    code = code_class(name)
    return code(code.default_phases if phases is None else phases)


register_code("signed-digit", "neuromorphic_llm.spikes.signed_digit:SignedDigit")
register_code("rate", "neuromorphic_llm.spikes.rate:Rate")
register_code("first-spike", "neuromorphic_llm.spikes.first_spike:FirstSpike")
register_code("bit-planes", "neuromorphic_llm.spikes.bit_planes:BitPlanes")
