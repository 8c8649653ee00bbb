"""Base of codes whose neurons see x in units of one power of two per token: scale, sign, dead zone, sum over phases."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.spikes.arrays import Array, Library, Quantised, exponent_for, largest_but, power, used_phases
from neuromorphic_llm.spikes.code import ArrayCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.integers import Integers
from neuromorphic_llm.spikes.parameters import parameter


@dataclass(frozen=True)
class ScaledCode(ArrayCode):
    """A code of T phases whose a ~ x / 2^k, with k the smallest for which the token's largest magnitude fits `largest_value`."""

    signed: bool = parameter(True, "spikes of both signs; false: negative inputs are silent")
    clip_per_mille: int = parameter(0, "share of a token's inputs, the largest, that the scale may clip", least=0, most=999)

    @abstractmethod
    def digits(self, x: Array, k: Array, stop: Array, xp: Library, /) -> Iterator[Array]:
        """Digits of the T phases, int64 [tokens, inputs] each, of x that is 0 where silent; k [tokens, 1]."""

    def _scaled(self, x: Array, stop: Array, xp: Library) -> tuple[Array, Array, Array]:
        """x as the neurons see it [tokens, inputs], k and the largest magnitude [tokens]."""
        usable = x if self.signed else xp.clip(x, 0, None)
        magnitude = xp.abs(usable)
        largest = xp.amax(magnitude, axis=1)
        skipped = x.shape[1] * self.clip_per_mille // 1000
        k = exponent_for(largest_but(magnitude, skipped, xp), self.largest_value, xp)
        return xp.where(x * x <= stop, 0, usable), k, largest

    def integers(self, x: Array, stop: Array, xp: Library) -> Quantised:
        """The sum of the digits, and their spikes."""
        kept, k, largest = self._scaled(x, stop, xp)
        a, spikes = self.total(kept, k[:, None], stop, xp)
        return Quantised(a, k, spikes, used_phases(largest, self.phases, xp))

    def total(self, x: Array, k: Array, stop: Array, xp: Library, /) -> tuple[Array, Array]:
        """(a, spikes) [tokens, inputs] of the digits, here by Horner's rule; codes with a closed form have their own."""
        a, spikes = xp.zeros_like(x), xp.zeros_like(x)
        for digit in self.digits(x, k, stop, xp):
            a = (a << self.horner_shift) + digit
            magnitude = xp.abs(digit)
            spikes = spikes + (xp.clip(magnitude, 0, 1) if self.graded else magnitude)
        return a, spikes

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """The digits themselves."""
        vectors, price = as_vectors(x), np.asarray(stop, np.int64)
        kept, k, largest = self._scaled(vectors, price, np)
        used = used_phases(largest, self.phases, np).astype(np.int32)
        digits = np.stack([digit.astype(np.int8) for digit in self.digits(kept, k[:, None], price, np)])
        return SpikeTrain(digits[-int(used.max(initial=1)) :], self.horner_shift, k.astype(np.int32), used, self.graded)

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """`_error` of a neuron that takes part; all of x inside the dead zone or on the side that is silent."""
        vectors, price = as_vectors(x), np.asarray(stop, np.int64)
        kept, k, _ = self._scaled(vectors, price, np)
        return np.where(kept == 0, np.abs(vectors), self._error(np.abs(kept), k[:, None], price))

    def _error(self, magnitude: Integers, k: Integers, price: Integers) -> Integers:
        """Bound for |x| outside the dead zone: half a step, or what the largest value leaves of a clipped input."""
        del price
        error: Integers = np.maximum(np.int64(1) << k >> 1, magnitude - (np.int64(self.largest_value) << k))
        return error


@dataclass(frozen=True)
class LevelCode(ScaledCode):
    """A code whose spikes all weigh the same: a has as many levels of each sign as there are phases, or fewer."""

    levels: int = parameter(0, "most spikes in sum (0: one per phase)", least=0, most=256)

    def check(self) -> None:
        """No more levels than phases."""
        if self.levels > self.phases:
            raise UsageError(
                f"code {self.name!r}: {self.levels} levels need as many phases, not {self.phases}; use more phases or fewer levels"
            )

    @property
    def horner_shift(self) -> int:
        """0: every spike weighs the same."""
        return 0

    @property
    def largest_value(self) -> int:
        """Bound of |a|: the levels."""
        return self.levels or self.phases


def nearest_level(x: Array, k: Array, largest: int, xp: Library) -> Array:
    """|x| / 2^k rounded half up and clipped to `largest`: the firing rate that a half-threshold initial charge gives."""
    return xp.clip((xp.abs(x) + (power(k, xp) >> 1)) >> k, None, largest)
