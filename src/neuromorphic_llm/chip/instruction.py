"""Instruction of a vector tile: the interface that every kind has (docs/reference/timing.md, Vector tile)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.graph.ir import Node
from neuromorphic_llm.reference.blocks import Site
from neuromorphic_llm.reference.config import DecoderConfig

WORD: Mapping[str, int] = {"operation": 4, "size": 15, "base": 16, "route": 16, "source": 1}
"""Fields of an instruction word and their bits, from bit 0 on."""

RESIDUAL, WORK, SPIKES, CACHE = "residual memory", "work memory", "encoder", "key/value memory"
"""Places of a vector tile whose values instructions read and write without naming them."""

Cycles = int | NDArray[np.int64]
"""The same for every token, or per token."""


class Activity(Protocol):
    """Counts of the tokens that run an instruction, as an activity trace has them (docs/reference/formats.md)."""

    @property
    def context(self) -> NDArray[np.int32]:
        """[tokens], visible to each."""

    @property
    def logits_wanted(self) -> NDArray[np.bool_]:
        """[tokens]."""

    @property
    def phases(self) -> NDArray[np.int32]:
        """[tokens, sites]."""

    @property
    def query_phases(self) -> NDArray[np.int32]:
        """[tokens, layers, heads]; so are the next six."""

    @property
    def query_spikes(self) -> NDArray[np.int32]:
        """Spikes of the queries."""

    @property
    def key_columns(self) -> NDArray[np.int32]:
        """Elements of the queries in which a head of a group spikes."""

    @property
    def score_steps(self) -> NDArray[np.int32]:
        """Sum over the elements of the most spikes that a query of a set of heads has there, at its first head."""

    @property
    def probability_spikes(self) -> NDArray[np.int32]:
        """Spikes of the coded probabilities."""

    @property
    def value_steps(self) -> NDArray[np.int32]:
        """Sum over the keys of the most spikes that a probability of a set of heads has there, at its first head."""

    @property
    def probability_keys(self) -> NDArray[np.int32]:
        """Keys with at least one spike of a set of heads, at its first head."""


class Tables(Protocol):
    """Places that a loader gives to what an instruction names."""

    def parameter(self, name: str, first: int = 0) -> int:
        """First word of a parameter in the tile's memory; its first element lies in the lane of element `first` of a vector."""

    def stop_prices(self, site: Site) -> int:
        """First word of the stop prices of a site."""

    def spike_route(self, site: Site) -> int:
        """Route of the spikes to a site."""

    def flits(self, values: int) -> int:
        """Flits that so many values of a site arrive in."""


@dataclass(frozen=True)
class Scope:
    """Surroundings of a node: the nodes of its graph by name, the network's configuration."""

    defined: Mapping[str, Node]
    config: DecoderConfig


def passes(elements: int, chip: ChipSpec) -> int:
    """Cycles in which the lanes of a vector tile take so many elements, P(N)."""
    return -(-elements // chip.vector.lanes)


@dataclass(frozen=True)
class Instruction(ABC):
    """An instruction of a vector tile with its operands.

    A kind says in class attributes which operation of a graph it executes (None: of none), the places in which it finds the operands
    of that operation and leaves its value, whether the operands are gone then, and the part of a token's latency that its cycles belong
    to (latency.UNITS).
    """

    name: ClassVar[str]
    operation: ClassVar[str | None] = None
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[str] = ""
    uses_up: ClassVar[bool] = False
    unit: ClassVar[str] = "vector"

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Instruction:
        """Instruction that executes a node of its operation."""
        raise NotImplementedError(f"{cls.name} executes no operation of a graph")

    @abstractmethod
    def __str__(self) -> str:
        """Line of a program, `norm 576`."""

    def cycles(self, chip: ChipSpec, activity: Activity) -> Cycles:
        """Cycles from its start to its end, without waits and injections, which depend on the mesh."""
        return 0

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        """Increments of counters, summed over the tokens that run it."""
        return {}

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        """Bytes of its constants and its state for so many tokens, by memory (docs/reference/compiler.md, Memory).

        The compiler gives a place in the `vector_memory` to the value of the operation.
        """
        return {}

    def fields(self, tables: Tables) -> dict[str, int]:
        """Fields of its word beside the operation; 0 where absent. SimulationError if the RTL does not have this instruction."""
        raise SimulationError(f"the RTL has no instruction {self.name!r}; simulate with events, or add a unit and define its fields")
