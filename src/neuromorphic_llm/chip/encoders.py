"""Encoders of the vector tiles: cycles, words and banks that a spike train takes (docs/reference/timing.md, Vector tile)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

Number = TypeVar("Number", int, NDArray[np.int64])


class Encoder(ABC):
    """A way to turn a vector of the vector memory into a spike train."""

    whole_train: ClassVar[bool]
    """The train is complete before its first phase is sent, so phases can be sent in any order."""

    @abstractmethod
    def before_scans(self, passes: int, phases: Number) -> Number:
        """Cycles from the maximum to the first scan, of a vector that takes `passes` cycles at all lanes."""

    @abstractmethod
    def scan(self, passes: int) -> int:
        """Cycles of the scan of a phase."""

    def coding(self, passes: int, phases: Number) -> Number:
        """Cycles from the maximum to the last digit."""
        return self.before_scans(passes, phases) + self.scan(passes) * phases

    @abstractmethod
    def words(self, elements: int, coded: int, prices: int) -> tuple[int, int]:
        """Words read from and written to the vector memory.

        elements of vectors, coded: elements x phases, prices: times that a phase asks for the price of an element.
        """

    @abstractmethod
    def banks(self, phases: int) -> int:
        """Event banks for trains of at most so many phases."""


class PhaseEncoder(Encoder):
    """Scans the vector once for every phase; remainders wait in the vector memory."""

    whole_train = False

    def before_scans(self, passes: int, phases: Number) -> Number:  # noqa: ARG002 - however long the vector is
        """No cycles: the first scan follows the maximum."""
        return 0 * phases

    def scan(self, passes: int) -> int:
        """A pass over the vector."""
        return passes

    def words(self, elements: int, coded: int, prices: int) -> tuple[int, int]:  # noqa: ARG002 - every phase has its own
        """Remainders and prices in every phase."""
        return coded + prices, coded

    def banks(self, phases: int) -> int:  # noqa: ARG002 - two are enough for any train
        """One is scanned while the other is sent."""
        return 2


class ElementEncoder(Encoder):
    """Takes every element through all phases in a pipeline of registers, with its price."""

    whole_train = True

    def before_scans(self, passes: int, phases: Number) -> Number:
        """A pass over the vector through a pipeline with a stage for each phase."""
        return passes + phases

    def scan(self, passes: int) -> int:  # noqa: ARG002 - whatever the vector is
        """Nothing is left to scan."""
        return 0

    def words(self, elements: int, coded: int, prices: int) -> tuple[int, int]:  # noqa: ARG002 - however many phases there are
        """Each element and its price once."""
        return 2 * elements, 0

    def banks(self, phases: int) -> int:
        """One for each phase."""
        return phases


class LevelEncoder(ElementEncoder):
    """Finds the slot of every element in one stage; stamps lie beside the spikes in one bank."""

    def banks(self, phases: int) -> int:  # noqa: ARG002 - a stamped train is one phase
        """One."""
        return 1


ENCODERS: Mapping[str, Encoder] = MappingProxyType({"phase": PhaseEncoder(), "element": ElementEncoder()})
"""Encoders by the names of `vector.encoder`."""
