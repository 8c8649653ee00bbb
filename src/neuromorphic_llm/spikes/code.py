"""Interface of spike codes: spike trains, coded vectors and SpikeCode (docs/reference/codes.md)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.arrays import Array, Library, Quantised
from neuromorphic_llm.spikes.parameters import ParameterValue, parameters_of

if TYPE_CHECKING:
    import torch

LARGEST_VALUE = 127 * 128 + 63
"""Bound of |a| of every code: it then splits into two signed bytes."""


@dataclass(frozen=True)
class SpikeTrain:
    """Spikes of several tokens, phase by phase, most significant phase first.

    The last phase of every token is the last entry of `digits`: a token that uses fewer phases than the longest one of
    the batch has empty phases in front, which leaves Horner's rule correct for all. Token n occupies the entries
    `digits.shape[0] - phases[n] ..` of the phase axis.
    """

    digits: NDArray[np.int8]  # [phases, tokens, inputs]; -1, 0, 1 for the codes that the chip has
    horner_shift: int  # left shift of the accumulators before each phase: 1 positional, 0 rate
    exponent: NDArray[np.int32]  # [tokens], k_min
    phases: NDArray[np.int32]  # [tokens], phases this token uses, at least 1
    graded: bool = False  # a digit is one spike that carries its magnitude, instead of so many spikes

    def spike_counts(self) -> NDArray[np.int32]:
        """Spikes of every phase, token and input, [phases, tokens, inputs]."""
        counts = self.digits != 0 if self.graded else np.abs(self.digits.astype(np.int32))
        return counts.astype(np.int32)

    def pulse_counts(self) -> NDArray[np.int32]:
        """Signed powers of two that the digits are made of, [phases, tokens, inputs]: a graded spike on an input of one bit.

        A spike that is not graded is one pulse; of a graded one the non-adjacent form of its magnitude counts.
        """
        if not self.graded:
            return self.spike_counts()
        magnitude = np.abs(self.digits.astype(np.int32))
        counts: NDArray[np.int32] = np.bitwise_count(magnitude ^ 3 * magnitude).astype(np.int32)
        return counts


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
    spikes = train.spike_counts().sum(axis=0, dtype=np.int32)
    return Coded(a.astype(np.int32), train.exponent, spikes, train.phases)


@dataclass(frozen=True)
class SpikeCode(ABC):
    """A way to turn integer vectors into spikes. `phases` is T of codes.md; a subclass adds its parameters as fields.

    UsageError if phases or a parameter are out of range, or if |a| could exceed LARGEST_VALUE.
    """

    phases: int

    name: ClassVar[str]
    summary: ClassVar[str] = ""
    source: ClassVar[str] = ""
    default_phases: ClassVar[int]
    largest_phases: ClassVar[int]
    """Most phases with any parameters; `largest_value` may allow fewer."""
    graded: ClassVar[bool] = False
    """A digit is one spike that carries its magnitude, instead of so many spikes."""

    def __post_init__(self) -> None:
        for each in parameters_of(self):
            each.check(self.name, getattr(self, each.name))
        if type(self.phases) is not int or not 1 <= self.phases <= self.largest_phases:
            raise UsageError(
                f"code {self.name!r} takes 1 to {self.largest_phases} phases, not {self.phases}; choose a number in that range"
            )
        self.check()
        if self.largest_value > LARGEST_VALUE:
            raise UsageError(
                f"code {self.name!r} reaches {self.largest_value} with these parameters, beyond {LARGEST_VALUE}; use fewer phases"
            )

    def check(self) -> None:
        """Check conditions on several parameters together; UsageError if they fail."""
        return

    @property
    def parameters(self) -> dict[str, ParameterValue]:
        """Parameters that differ from their defaults, by name."""
        values = {each.name: getattr(self, each.name) for each in parameters_of(self)}
        return {each.name: values[each.name] for each in parameters_of(self) if values[each.name] != each.default}

    @property
    def horner_shift(self) -> int:
        """Left shift of the accumulators before each phase."""
        return 1

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

    def quantise_torch(self, x: torch.Tensor, stop: torch.Tensor) -> Quantised:
        """`quantise` of int32 tensors, as int64 tensors on their device; this one goes through numpy on the CPU."""
        import torch

        result = self.quantise(x.cpu().numpy(), stop.cpu().numpy())
        arrays = (result.a, result.exponent, result.spikes, result.phases)
        return Quantised(*(torch.from_numpy(np.asarray(array, np.int64)).to(x.device) for array in arrays))

    def decode(self, train: SpikeTrain) -> NDArray[np.int64]:
        """The values a train stands for, a << exponent, int64 [tokens, inputs], in units of x."""
        result = coded(train)
        return result.a.astype(np.int64) << result.exponent.astype(np.int64)[:, None]

    @abstractmethod
    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> NDArray[np.int64]:
        """Bound of |x - decode(encode(x))|, int64 [tokens, inputs], from |x| of the input and the vector's exponent."""


@dataclass(frozen=True)
class ArrayCode(SpikeCode):
    """A code whose integers are written once for numpy and torch."""

    @abstractmethod
    def integers(self, x: Array, stop: Array, xp: Library) -> Quantised:
        """Coded vectors of int64 arrays x [tokens, inputs] and stop of the library xp."""

    def quantise(self, x: ArrayLike, stop: ArrayLike) -> Coded:
        """The integers and spike counts of `encode`, int32 [tokens, inputs]."""
        return Coded(*(np.asarray(array, np.int32) for array in self.integers(as_vectors(x), np.asarray(stop, np.int64), np)))

    def quantise_torch(self, x: torch.Tensor, stop: torch.Tensor) -> Quantised:
        """`quantise` of int32 tensors, as int64 tensors on their device."""
        import torch

        return self.integers(x.long(), stop.long(), torch)


def as_vectors(x: ArrayLike) -> NDArray[np.int64]:
    """x as int64 [tokens, inputs]; ValueError for another rank."""
    vectors = np.asarray(x, np.int64)
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise ValueError(f"expected [tokens, inputs] with at least one input, got shape {vectors.shape}")
    return vectors
