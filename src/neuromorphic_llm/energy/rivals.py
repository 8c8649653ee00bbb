"""Rivals of the chip, each by its account of a decoded token (docs/reference/energy.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.energy.account import EnergyAccount
from neuromorphic_llm.energy.bit_serial import bit_serial_reference
from neuromorphic_llm.energy.digital import ARRAYS
from neuromorphic_llm.reference.config import DecoderConfig


class _Reference(Protocol):
    def __call__(self, config: DecoderConfig, context: int, spec: ChipSpec, sequences: int = 1) -> EnergyAccount: ...


RIVALS: Mapping[str, _Reference] = MappingProxyType(
    {**{name: array.account for name, array in ARRAYS.items()}, "bit_serial_crossbar": bit_serial_reference}
)
"""Name in results -> account of one decoded token with so many visible tokens on the node, mesh and memories of a chip, and with so many
sequences in flight."""


def rival_accounts(config: DecoderConfig, context: int, spec: ChipSpec, sequences: int = 1) -> dict[str, EnergyAccount]:
    """Account of a decoded token with `context` visible tokens, and `sequences` in flight, of every rival."""
    return {name: reference(config, context, spec, sequences) for name, reference in RIVALS.items()}
