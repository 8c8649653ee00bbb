"""Signed-digit phase code: signed powers of two, most significant first, each spike fired only if it pays its price."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.spikes.arrays import Array, Library, Quantised, power
from neuromorphic_llm.spikes.arrays import bit_length as bit_length_of
from neuromorphic_llm.spikes.code import ArrayCode, SpikeTrain, as_vectors
from neuromorphic_llm.spikes.integers import Integers, bit_length


def fires(magnitude: Any, weight: Any, price: Any = None) -> Any:
    """True where a phase of this weight fires: by the 3/4 rule, and if the error that it saves is worth the price; arrays of any library.

    The price is stop >> k, and stop / weight in floating point.
    """
    closer = 4 * magnitude >= 3 * weight
    return closer if price is None else closer & (2 * magnitude > weight + price)


def least_firing(weight: Any, price: Any) -> Integers:
    """The smallest integer magnitude that fires."""
    least: Integers = np.maximum((3 * weight + 3) >> 2, ((weight + price) >> 1) + 1)
    return least


def signed_digits(x: Integers, stop: Integers, k_top: Integers, k_min: Integers) -> NDArray[np.int8]:
    """Digits of the phases k_top .. k_min by the 3/4 rule and the stop table, int8 [phases, tokens, inputs].

    x [tokens, inputs], stop broadcastable to it, k_top and k_min [tokens]; last phases aligned as in SpikeTrain.
    """
    phases = int((k_top - k_min).max(initial=0)) + 1
    digits = np.zeros((phases, *x.shape), np.int8)
    v = x.copy()
    for phase in range(phases):
        k = (k_min + phases - 1 - phase)[:, None]
        weight = np.int64(1) << k
        digit = np.where(fires(np.abs(v), weight, stop >> k) & (k <= k_top[:, None]), np.sign(v), 0)
        v -= digit * weight
        digits[phase] = digit
    return digits


@dataclass(frozen=True)
class SignedDigit(ArrayCode):
    """x ~ sum of digits in {-1, 0, 1} times 2^k, k = k_top .. k_min."""

    name: ClassVar[str] = "signed-digit"
    summary: ClassVar[str] = "signed powers of two, most significant first, each fired only if it pays its price"
    source: ClassVar[str] = "this project (numerics.md); digits as in Reitwiesner, Advances in Computers 1, 1960"
    default_phases: ClassVar[int] = 14
    largest_phases: ClassVar[int] = 14  # a then splits into two signed bytes

    @property
    def largest_value(self) -> int:
        """Bound of |a|: 3 * 2^(T-2)."""
        return 3 << self.phases >> 2

    def range(self, x: Integers) -> tuple[Integers, Integers]:
        """(k_top, k_min) of each vector, [tokens]."""
        largest = np.abs(x).max(axis=1)
        # 3 * 2^k >= 2 m has its smallest solution k >= 0 at bitlen(ceil(2 m / 3) - 1).
        k_top = bit_length(np.maximum(-(-2 * largest // 3) - 1, 0))
        return k_top, np.maximum(k_top - self.phases + 1, 0)

    def integers(self, x: Array, stop: Array, xp: Library) -> Quantised:
        """The digits' sum, phase by phase."""
        largest = xp.amax(xp.abs(x), axis=1)
        k_top = bit_length_of(xp.clip(-(-2 * largest // 3) - 1, 0, None), xp)
        k_min = xp.clip(k_top - self.phases + 1, 0, None)
        v, spikes = x, xp.zeros_like(x)
        for phase in range(self.phases):
            # Phases below k_min, of vectors that need fewer, fire for no one.
            k = xp.clip(k_top - phase, 0, None)[:, None]
            weight = power(k, xp)
            fired = xp.where(fires(xp.abs(v), weight, stop >> k) & (k_top - phase >= 0)[:, None], 1, 0)
            v = v - fired * xp.sign(v) * weight
            spikes = spikes + fired
        return Quantised((x - v) >> k_min[:, None], k_min, spikes, k_top - k_min + 1)

    def encode(self, x: ArrayLike, stop: ArrayLike) -> SpikeTrain:
        """Spikes of x int32 [tokens, inputs] with stop table int32 [inputs] or [tokens, inputs]."""
        vectors = as_vectors(x)
        k_top, k_min = self.range(vectors)
        digits = signed_digits(vectors, np.asarray(stop, np.int64), k_top, k_min)
        return SpikeTrain(digits, self.horner_shift, k_min.astype(np.int32), (k_top - k_min + 1).astype(np.int32))

    def worst_case_error(self, x: ArrayLike, stop: ArrayLike) -> Integers:
        """Largest residue |v| that the firing rule can leave of |x|, followed phase by phase."""
        vectors = as_vectors(x)
        price = np.asarray(stop, np.int64)
        k_top, k_min = self.range(vectors)
        bound = np.abs(vectors)
        phases = int((k_top - k_min).max(initial=0)) + 1
        for phase in range(phases):
            k = (k_min + phases - 1 - phase)[:, None]
            weight = np.int64(1) << k
            threshold = least_firing(weight, price >> k)
            silent = np.minimum(bound, threshold - 1)
            fired = np.maximum(bound - weight, weight - threshold)
            after = np.where(bound >= threshold, np.maximum(silent, fired), bound)
            bound = np.where(k <= k_top[:, None], after, bound)
        return bound
