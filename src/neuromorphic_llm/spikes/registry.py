"""Spike codes by name, imported when first asked for; other distributions add theirs by entry points (docs/reference/codes.md)."""

from __future__ import annotations

from neuromorphic_llm.registry import Registry, subclass_flaw
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.parameters import ParameterValue, check_parameters

ENTRY_POINTS = "neuromorphic_llm.codes"
"""Group of entry points: the name is the code's, the value `module:class`."""

_PACKAGE = "neuromorphic_llm.spikes"


SPIKE_CODES: Registry[type[SpikeCode]] = Registry(
    "spike code",
    (
        ("signed-digit", f"{_PACKAGE}.signed_digit:SignedDigit"),
        ("rate", f"{_PACKAGE}.rate:Rate"),
        ("first-spike", f"{_PACKAGE}.first_spike:FirstSpike"),
        ("bit-planes", f"{_PACKAGE}.bit_planes:BitPlanes"),
        ("sign-magnitude", f"{_PACKAGE}.burst:SignMagnitude"),
        ("burst", f"{_PACKAGE}.burst:Burst"),
        ("first-spike-log", f"{_PACKAGE}.first_spike_log:FirstSpikeLog"),
        ("multi-threshold", f"{_PACKAGE}.multi_threshold:MultiThreshold"),
        ("st-bif", f"{_PACKAGE}.st_bif:SignedTernary"),
        ("qcfs", f"{_PACKAGE}.qcfs:QuantisationClipFloorShift"),
    ),
    group=ENTRY_POINTS,
    flaw=subclass_flaw(SpikeCode),
)
"""Name -> class of a code, the project's own first."""


def register_code(name: str, code: type[SpikeCode] | str) -> None:
    """Add a code: its class, or `module:class`. UsageError if the name is taken."""
    SPIKE_CODES.register(name, code)


def get_code(name: str, phases: int | None = None, **parameters: ParameterValue) -> SpikeCode:
    """A code with `phases` phases (its default if None) and its parameters. UsageError on a wrong name or value, or if it is broken."""
    code = SPIKE_CODES[name]
    with SPIKE_CODES.failures_of(name):
        check_parameters(code, parameters)
        return code(code.default_phases if phases is None else phases, **parameters)
