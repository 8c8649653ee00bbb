"""What every spike code is: spike trains, coded vectors and the SpikeCode interface (docs/reference/numerics.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.errors import UsageError


@dataclass(frozen=True)
class SpikeTrain:
    """Spikes of several tokens, phase by phase, most significant phase first.

    The last phase of every token is the last entry of `digits`: a token that uses fewer phases than the longest one of
    the batch has empty phases in front, which leaves Horner's rule correct for all. Token n occupies the entries
    `digits.shape[0] - phases[n] ..` of the phase axis.
    """

    digits: NDArray[np.int8]  # [phases, tokens, inputs], in -1, 0, 1
    horner_shift: int  # left shift of the accumulators before each phase: 1 positional, 0 rate
    exponent: NDArray[np.int32]  # [tokens], k_min
    phases: NDArray[np.int32]  # [tokens], phases this token uses, at least 1


@dataclass(frozen=True)
class Coded:
    """Coded vectors as integers: x ~ a * 2^exponent, with the spikes each input costs."""

    a: NDArray[np.int32]  # [tokens, inputs]
    exponent: NDArray[np.int32]  # [tokens]
    spikes: NDArray[np.int32]  # [tokens, inputs]
    phases: NDArray[np.int32]  # [tokens]


def coded(train: SpikeTrain) -> Coded:
    """Sum a spike train up to integers: a[i] = sum over phases of digit * 2^(horner_shift * phases to come)."""
    a = np.zeros(train.digits.shape[1:], np.int64)
    for digits in train.digits:
        a = (a << train.horner_shift) + digits
    spikes = np.count_nonzero(train.digits, axis=0).astype(np.int32)
    return Coded(a.astype(np.int32), train.exponent, spikes, train.phases)


@dataclass(frozen=True)
class SpikeCode(ABC):
    """A way to turn integer vectors into spikes. `phases` is T of numerics.md; UsageError if it is out of range."""

    phases: int

    name: ClassVar[str]
    default_phases: ClassVar[int]
    largest_phases: ClassVar[int]
    horner_shift: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 1 <= self.phases <= self.largest_phases:
            raise UsageError(
                f"code {self.name!r} takes 1 to {self.largest_phases} phases, not {self.phases}; choose a number in that range"
            )

    @property
    @abstractmethod
    def largest_value(self) -> int:
        """Bound of |a|."""

    @abstractmethod
    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """Spikes of x int32 [tokens, inputs]; stop is the price table R, int32 [inputs] or [tokens, inputs]."""

    def quantise(self, x: ArrayLike, stop: ArrayLike) -> Coded:
        """The integers and spike counts of `encode`, int32 [tokens, inputs]."""
        return coded(self.encode(x, stop))

    def decode(self, train: SpikeTrain) -> NDArray[np.int64]:
        """The values a train stands for, a << exponent, int64 [tokens, inputs], in units of x."""
        result = coded(train)
        return result.a.astype(np.int64) << result.exponent.astype(np.int64)[:, None]

    @abstractmethod
    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Bound of |x - decode(encode(x))|, int64 [tokens, inputs], from |x| of the input and the vector's exponent."""


def as_vectors(x: ArrayLike) -> NDArray[np.int64]:
    """x as int64 [tokens, inputs]; ValueError for another rank."""
    vectors = np.asarray(x, np.int64)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"expected [tokens, inputs] with at least one input, got shape {vectors.shape}")
    return vectors


def used_phases(largest: NDArray[np.int64], phases: int) -> NDArray[np.int32]:
    """Phases per token of a code with a fixed number of them: one (empty) for a vector of zeros. Shape [tokens]."""
    return np.where(largest == 0, 1, phases).astype(np.int32)
