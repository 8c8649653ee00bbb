"""Intervals of perplexities, and of their ratio between two models on the same tokens (docs/reference/evaluation.md)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 10_000
METHOD = "paired percentile bootstrap of blocks"
_BLOCKS, _SHORTEST = 32, 16
"""Blocks that there should be, and the fewest tokens of one."""
_AT_ONCE = 1_000_000  # drawn counts in memory


@dataclass(frozen=True)
class Interval:
    """Bounds of the middle 95 %."""

    low: float
    high: float


@dataclass(frozen=True)
class TokenLosses:
    """nll in nats of every predicted token, in the order of the text, and the number of predicted tokens of every window."""

    nll: tuple[float, ...]
    windows: tuple[int, ...]


@dataclass(frozen=True)
class Bootstrap:
    """Resampled blocks of one text: the same draws for every model."""

    counts: NDArray[np.int64]  # predicted tokens of each block
    starts: NDArray[np.int64]
    seed: int

    @classmethod
    def of(cls, windows: Sequence[int], seed: int) -> Bootstrap:
        """Blocks are windows, cut into equal parts where there are fewer than 32 of them, but not below 16 tokens."""
        parts = max(1, math.ceil(_BLOCKS / max(len(windows), 1)))
        counts = [len(part) for window in windows for part in _pieces(window, parts)]
        return cls(np.array(counts), np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64), seed)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return len(self.counts)

    def perplexity(self, losses: TokenLosses) -> Interval | None:
        """Interval of exp(mean nll); None for a single block."""
        return self._interval(np.array(losses.nll))

    def ratio(self, losses: TokenLosses, reference: TokenLosses) -> Interval | None:
        """Interval of perplexity / perplexity of the reference, block by block the same draws."""
        return self._interval(np.array(losses.nll) - np.array(reference.nll))

    def _interval(self, values: NDArray[np.float64]) -> Interval | None:
        if self.blocks < 2:
            return None
        sums = np.add.reduceat(values, self.starts)
        generator = np.random.default_rng(self.seed)
        means: list[NDArray[np.float64]] = []
        step = max(1, _AT_ONCE // self.blocks)
        for start in range(0, RESAMPLES, step):
            drawn = generator.multinomial(self.blocks, np.full(self.blocks, 1 / self.blocks), size=min(step, RESAMPLES - start))
            means.append((drawn @ sums) / (drawn @ self.counts))
        low, high = np.quantile(np.concatenate(means), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Interval(math.exp(min(low, 700.0)), math.exp(min(high, 700.0)))

    def to_json(self) -> dict[str, Any]:
        """Method of the intervals as a JSON object."""
        return {
            "method": METHOD,
            "level": LEVEL,
            "resamples": RESAMPLES,
            "seed": self.seed,
            "blocks": self.blocks,
            "block_tokens": int(self.counts.max()),
        }


def _pieces(window: int, parts: int) -> list[range]:
    """A window's predicted tokens in at most so many consecutive parts of nearly equal length."""
    parts = max(1, min(parts, window // _SHORTEST))
    edges = [window * index // parts for index in range(parts + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]


def interval_json(name: str, interval: Interval | None) -> dict[str, Any]:
    """Key NAME_interval, null with the reason if there is none."""
    if interval is None:
        return {f"{name}_interval": None, f"{name}_interval_reason": "one block of tokens has no interval; evaluate a longer text"}
    return {f"{name}_interval": asdict(interval)}
