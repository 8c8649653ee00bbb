"""Offsets of keys, where a few channels with a large mean would leave the others few of their eight bits (docs/reference/conversion.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neuromorphic_llm.conversion.allocation.prices import LARGEST, real_tensor
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, rotate
from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.reference.config import DecoderConfig

Floats = NDArray[np.float64]

TYPICAL_POSITIONS = 2048
"""Positions over which the offset of a rotated key is the mean; later keys only have larger remainders."""

LARGEST_NOISE = 0.2
"""Largest score noise, root mean square in nats, from rounding keys to 8 bits without an offset. SmolLM2-135M: 0.11 at most."""

KEY_SPREAD = 3.0
"""Standard deviations between the mean of an element and the largest one to expect."""


@dataclass(frozen=True)
class KeyStatistics:
    """First and second moments of the keys before rotation, and of the queries as they meet the keys (base-2 logarithms)."""

    mean: Floats  # [layers, kv_heads, head_dim]
    square: Floats  # [layers, kv_heads, head_dim]
    query_square: Floats  # [layers, kv_heads], summed over the elements, mean over the query heads of a group

    def arrays(self) -> dict[str, Floats]:
        """The tensors of a stored calibration."""
        return {"key_mean": self.mean, "key_square": self.square, "key_query_square": self.query_square}

    @classmethod
    def restored(
        cls, arrays: Mapping[str, NDArray[Any]], query: tuple[int, ...], value: tuple[int, ...], source: str
    ) -> KeyStatistics | None:
        """Inverse of arrays(), None if there are none; `query`, `value`: shapes of query_sensitivity and value_max.

        ArtefactError naming `source` and the tensor that is missing or not valid.
        """
        if not any(name in arrays for name in ("key_mean", "key_square", "key_query_square")):
            return None
        shape = (*value, *query[2:])
        mean = arrays.get("key_mean")
        if mean is None or mean.dtype != np.float64 or mean.shape != shape or not (np.abs(mean) <= LARGEST).all():
            found = "missing" if mean is None else f"{mean.dtype} {mean.shape}"
            expected = f"float64 {shape} with magnitudes up to {LARGEST:g}"
            raise ArtefactError(f"{source}: tensor key_mean is {found}, expected {expected}; calibrate again")
        square = real_tensor(arrays, "key_square", shape, source)
        return cls(mean, square, real_tensor(arrays, "key_query_square", value, source))


class KeySums:
    """Sums of the keys and queries of a run."""

    def __init__(self, decoder: FloatDecoder) -> None:
        config = decoder.config
        self._decoder = decoder
        self._mean = torch.zeros(config.layers, config.kv_heads, config.head_dim, dtype=torch.float64, device=decoder.device)
        self._square, self._query = torch.zeros_like(self._mean), torch.zeros_like(self._mean[..., 0])

    @torch.no_grad()
    def add_keys(self, layer: int, keys: Tensor) -> None:
        """Rotated keys [batch, kv_heads, tokens, head_dim] from position 0 on."""
        cos, sin = self._decoder.tables(layer, keys.shape[2])
        scale = float(self._decoder.weights.get("rotary.scale", torch.ones(())))
        unturned = rotate(keys, cos, -sin).double() / scale**2
        self._mean[layer] += unturned.sum((0, 2))
        self._square[layer] += unturned.square().sum((0, 2))

    @torch.no_grad()
    def add_queries(self, layer: int, queries: Tensor) -> None:
        """Scaled, rotated queries [batch, heads, tokens, head_dim]."""
        total = queries.double().square().sum((0, 2, 3))
        self._query[layer] += total.view(self._query.shape[1], -1).mean(1)

    def statistics(self, tokens: int) -> KeyStatistics:
        """Moments of the `tokens` tokens that were added."""
        mean, square, query = ((total / tokens).cpu().numpy() for total in (self._mean, self._square, self._query))
        return KeyStatistics(mean, square, query)


def _angles(config: DecoderConfig, frequencies: Floats) -> Floats:
    """Angles of the pairs at the positions that an offset is the mean over, [positions, pairs]."""
    angles: Floats = np.arange(min(config.max_positions, TYPICAL_POSITIONS))[:, None] * frequencies
    return angles


def turning_share(config: DecoderConfig, frequencies: Floats) -> Floats:
    """Largest distance of a turning vector from its mean, in its own lengths, [pairs]; 1 where an offset would not help."""
    turned = np.exp(1j * _angles(config, frequencies))
    share: Floats = np.minimum(np.abs(turned - turned.mean(0)).max(0), 1.0)
    return share


def key_offset(
    config: DecoderConfig, statistics: KeyStatistics | None, layer: int, frequencies: Floats, scale: float = 1.0
) -> Floats | None:
    """Offset subtracted from the rotated keys of a layer, [kv_heads, head_dim]; None where it would not matter.

    The same for all keys of a head, it moves all scores of a query alike, which the softmax does not see (a soft cap does: None then).
    It is the mean over positions of the turning mean key, in the pairs where that is most of it, and given to heads whose scores it
    makes at least twice as exact and that need it (LARGEST_NOISE). frequencies [head_dim / 2] and scale: of the rotary tables.
    """
    if statistics is None or config.attention_softcap:
        return None
    angle = _angles(config, frequencies)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    first, second = np.split(statistics.mean[layer], 2, axis=-1)
    centre = first * cos.mean(0) - second * sin.mean(0), first * sin.mean(0) + second * cos.mean(0)
    turning = first[:, None] * cos - second[:, None] * sin, first[:, None] * sin + second[:, None] * cos  # [kv_heads, positions, pairs]
    rest = np.hypot(turning[0] - centre[0][:, None], turning[1] - centre[1][:, None]).max(1)
    whole = np.hypot(turning[0], turning[1]).max(1)
    spread = statistics.square[layer] - statistics.mean[layer] ** 2
    spread = scale * KEY_SPREAD * np.sqrt(np.maximum(sum(np.split(spread, 2, axis=-1)), 0.0))
    used = rest < whole
    noise = _noise(whole + spread, statistics.query_square[layer])
    less = _noise(np.where(used, rest, whole) + spread, statistics.query_square[layer])
    heads = (noise > LARGEST_NOISE) & (2.0 * less <= noise)
    offset: Floats = np.concatenate(centre, axis=-1) * np.tile(used, 2) * heads[:, None]
    return offset if offset.any() else None


def _noise(amplitudes: Floats, query_square: Floats) -> Floats:
    """Error of a score in nats, root mean square, [kv_heads], of keys with such pairs [kv_heads, pairs], rounded to eight bits per head."""
    step = 2.0 ** (np.floor(np.log2(np.maximum(amplitudes.max(-1), 2.0**-30))) - 6)
    noise: Floats = math.log(2.0) * step * np.sqrt(query_square / 12.0)
    return noise
