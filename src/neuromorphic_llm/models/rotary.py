"""Rotary frequencies as families configure them: plain, linear, llama3, yarn and longrope scaling.

Sources: "RoFormer" (Su et al. 2021), "YaRN" (Peng et al. 2023), "LongRoPE" (Ding et al. 2024), and transformers' modeling_rope_utils for
the spelling of the entries.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.models.entries import Entries

Frequencies = NDArray[np.float64]

_COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
_OWN = {
    "default": set(),
    "linear": {"factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
    "longrope": {"factor", "short_factor", "long_factor", "attention_factor", "original_max_position_embeddings"},
    "yarn": {
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate",
    },
}  # fmt: skip
"""Rope type -> entries that it reads, besides the common ones."""


@dataclass(frozen=True)
class Rotary:
    """Rotation of pairs: angle per position of each pair, and the factor of cosines and sines."""

    theta: float
    frequencies: torch.Tensor  # float64 [rotated / 2]
    scale: float = 1.0


def rotary_entries(entries: Entries) -> Entries:
    """The object that describes the rotary embedding: `rope_scaling` of older files, `rope_parameters` of newer ones."""
    scaling, parameters = entries.object("rope_scaling"), entries.object("rope_parameters")
    return Entries(scaling or parameters, entries.where)


def read_rotary(rope: Entries, theta: float, rotated: int, max_positions: int) -> Rotary:
    """Rotary embedding of `rotated` elements of a head; `theta` unless the object has its own.

    Raises CheckpointError for a type or an entry that is not known, ValueError and KeyError as Entries.
    """
    kind = rope.text("rope_type", rope.text("type", "default"))
    rope.refuse(kind not in _OWN, f"rope scaling {kind!r}")
    unknown = sorted(rope.names() - _COMMON - _OWN[kind])
    rope.refuse(bool(unknown), f"entry {unknown[0]!r} of rope scaling {kind!r}" if unknown else "")
    theta = rope.number("rope_theta", theta)
    if not 1.0 <= theta <= 1e30:
        raise ValueError(f"rope_theta must lie between 1 and 1e30, got {theta}")
    plain = theta ** (-2.0 * np.arange(rotated // 2) / rotated)
    if kind == "default":
        return Rotary(theta, torch.from_numpy(plain))
    if kind == "yarn":
        return _yarn(rope, theta, plain, max_positions)
    if kind == "longrope":
        return _longrope(rope, theta, plain, max_positions)
    factor = _at_least_one(rope, "factor")
    frequencies = plain / factor if kind == "linear" else _llama3(rope, plain, factor, max_positions)
    return Rotary(theta, torch.from_numpy(frequencies))


def _at_least_one(rope: Entries, name: str, default: float | None = None) -> float:
    value = rope.number(name, default)
    if not 1.0 <= value <= 1e6:
        raise ValueError(f"{name} must lie between 1 and 1e6, got {value}")
    return value


def _llama3(rope: Entries, plain: Frequencies, factor: float, max_positions: int) -> Frequencies:
    """Slow pairs turn `factor` times slower, fast ones as before, those between in between."""
    low, high = rope.number("low_freq_factor"), rope.number("high_freq_factor")
    if not 0.0 < low < high:
        raise ValueError(f"low_freq_factor must be positive and below high_freq_factor, got {low} and {high}")
    turns = rope.integer("original_max_position_embeddings", max_positions) * plain / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return plain * (kept + (1 - kept) / factor)


def _yarn(rope: Entries, theta: float, plain: Frequencies, max_positions: int) -> Rotary:
    """YaRN: pairs with few turns in the original context are interpolated, cosines and sines grow with the context."""
    original = rope.integer("original_max_position_embeddings", max_positions)
    factor = _at_least_one(rope, "factor", max_positions / original)
    rotated = 2 * len(plain)

    def dimension(turns: float) -> float:
        return rotated * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    fast, slow = rope.number("beta_fast", 32.0), rope.number("beta_slow", 1.0)
    if not 0.0 < slow < fast or theta == 1.0:
        raise ValueError(f"beta_slow must be positive and below beta_fast, and rope_theta above 1, got {slow}, {fast} and {theta}")
    low, high = dimension(fast), dimension(slow)
    if rope.flag("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotated - 1)
    ramp = np.clip((np.arange(len(plain)) - low) / ((high - low) or 0.001), 0.0, 1.0)
    frequencies = plain * (1 - ramp) + plain / factor * ramp
    return Rotary(theta, torch.from_numpy(frequencies), _yarn_scale(rope, factor))


def _longrope(rope: Entries, theta: float, plain: Frequencies, max_positions: int) -> Rotary:
    """LongRoPE: each pair has a factor; refused where those of long texts are others, since frequencies then depend on the length."""
    short, long = (rope.numbers(name, len(plain)) for name in ("short_factor", "long_factor"))
    rope.refuse(short != long, "rope scaling 'longrope' with other factors for long texts (long_factor)")
    factors = np.array(short)
    if not np.all((factors > 0) & (factors <= 1e9)):
        raise ValueError(f"short_factor must hold positive numbers up to 1e9, got {min(short)} to {max(short)}")
    original = rope.integer("original_max_position_embeddings")
    factor = rope.number("factor", max_positions / original)
    grown = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1.0 and original > 1 else 1.0
    return Rotary(theta, torch.from_numpy(plain / factors), _table_scale(rope.number("attention_factor", grown)))


def _yarn_scale(rope: Entries, factor: float) -> float:
    if "attention_factor" in rope:
        scale = rope.number("attention_factor")
    elif rope.number("mscale", 0.0) and rope.number("mscale_all_dim", 0.0):
        scale = _growth(factor, rope.number("mscale")) / _growth(factor, rope.number("mscale_all_dim"))
    else:
        scale = _growth(factor, 1.0)
    return _table_scale(scale)


def _table_scale(scale: float) -> float:
    # Tables of 16 bits at fraction 14 hold cosines and sines below 2.
    if not 0.01 <= scale < 2.0:
        raise ValueError(f"the rotary embedding's scale must lie between 0.01 and 2, got {scale}")
    return scale


def _growth(factor: float, strength: float) -> float:
    return 0.1 * strength * math.log(factor) + 1.0
