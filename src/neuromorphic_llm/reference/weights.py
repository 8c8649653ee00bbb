"""Integer decoder: configuration, fractions and weights, as docs/reference/numerics.md and formats.md define them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import ArtefactError

SITES = ("qkv", "output", "gate_up", "down")
"""Crossbar sites of one decoder layer, in the order of execution; site index 4 * layer + position, the head is last."""

_Fields = TypeVar("_Fields")

LARGEST_CONTEXT = 1 << 20
"""Positions of the largest rotary table."""


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a Llama-type decoder."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int
    rms_norm_eps: float
    rope_theta: float
    tie_embeddings: bool = True
    bos_token_id: int | None = None
    eos_token_ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "max_positions"):
            if int(getattr(self, field)) < 1:
                raise ValueError(f"{field} must be at least 1, got {getattr(self, field)}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.max_positions > LARGEST_CONTEXT:
            raise ValueError(f"max_positions must be at most {LARGEST_CONTEXT}, got {self.max_positions}")
        for name in ("rms_norm_eps", "rope_theta"):
            if not 0.0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for the rotary embedding, got {self.head_dim}")

    @property
    def sites(self) -> int:
        """Number of crossbar sites: four per layer and the head."""
        return 4 * self.layers + 1

    def site_name(self, site: int) -> str:
        """`layers.3.qkv` or `head`."""
        return "head" if site == 4 * self.layers else f"layers.{site // 4}.{SITES[site % 4]}"

    def site_shape(self, site: int) -> tuple[int, int]:
        """(inputs, outputs) of a site; gate_up has 2 * intermediate_size outputs."""
        if site == 4 * self.layers:
            return self.hidden_size, self.vocab_size
        query = self.heads * self.head_dim
        return {
            "qkv": (self.hidden_size, query + 2 * self.kv_heads * self.head_dim),
            "output": (query, self.hidden_size),
            "gate_up": (self.hidden_size, 2 * self.intermediate_size),
            "down": (self.intermediate_size, self.hidden_size),
        }[SITES[site % 4]]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return {**asdict(self), "eos_token_ids": list(self.eos_token_ids)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DecoderConfig:
        """Inverse of to_json; ArtefactError on unknown or missing fields."""
        return _from_json(cls, {**data, "eos_token_ids": tuple(data.get("eos_token_ids", ()))})


@dataclass(frozen=True)
class Formats:
    """Fractions (binary points) of the integer quantities, numerics.md."""

    residual: int = 14
    norm: int = 12
    qkv: int = 14
    attention: int = 14
    gate: int = 14
    logit: int = 16
    gain_fraction: int = 10
    embedding_shift: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= 30:
                raise ValueError(f"{field.name} must lie in 0..30, got {value}")
        if self.gate < 12:
            raise ValueError(f"gate must be at least 12, got {self.gate}")
        if 24 + self.gain_fraction <= self.norm:
            raise ValueError(f"norm ({self.norm}) must stay below 24 + gain_fraction ({self.gain_fraction})")

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Formats:
        """Inverse of to_json."""
        return _from_json(cls, data)


@dataclass(frozen=True)
class CodeConfig:
    """Which spike code the crossbar sites use, and the precision of the attention products."""

    name: str = "signed-digit"
    phases: int = 14
    query_phases: int = 10
    probability_bits: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.query_phases <= 10:
            raise ValueError(f"query_phases must lie in 1..10, got {self.query_phases}")
        if not 1 <= self.probability_bits <= 10:
            raise ValueError(f"probability_bits must lie in 1..10, got {self.probability_bits}")

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CodeConfig:
        """Inverse of to_json."""
        return _from_json(cls, data)


def _from_json(cls: type[_Fields], data: dict[str, Any]) -> _Fields:
    known = {field.name for field in fields(cls)}  # type: ignore[arg-type]
    if unknown := set(data) - known:
        raise ArtefactError(f"unknown field {min(unknown)!r} in {cls.__name__}; the artefact was not written by this version")
    try:
        return cls(**data)
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"{cls.__name__} is not valid: {error}") from error


@dataclass(frozen=True)
class LinearWeights:
    """One crossbar site: y = sat32(rsh((weight @ a) * multiplier, shift - k_min) + bias)."""

    weight: NDArray[np.int8]  # [outputs, inputs], in -127..127
    multiplier: NDArray[np.int32]  # [outputs], in 0..65535
    shift: int
    stop: NDArray[np.int32]  # [inputs], spike price R, in 0..2^31-1
    bias: NDArray[np.int32] | None = None  # [outputs]
    spiking: bool = True


@dataclass(frozen=True)
class LayerWeights:
    """One decoder layer."""

    attention_gain: NDArray[np.int32]  # [hidden]
    qkv: LinearWeights
    query_stop: NDArray[np.int32]  # [heads, head_dim]
    value_base: NDArray[np.int32]  # [kv_heads]
    output: LinearWeights
    feed_forward_gain: NDArray[np.int32]  # [hidden]
    gate_up: LinearWeights
    hidden_fraction: int
    down: LinearWeights
    attention_spiking: bool = True


@dataclass(frozen=True)
class DecoderWeights:
    """A complete integer decoder: everything a token's way from its id to the logits needs."""

    config: DecoderConfig
    formats: Formats
    code: CodeConfig
    embedding: NDArray[np.int16]  # [vocab, hidden]
    layers: tuple[LayerWeights, ...]
    final_gain: NDArray[np.int32]  # [hidden]
    head: LinearWeights
    rope_cos: NDArray[np.int16]  # [positions, head_dim / 2]
    rope_sin: NDArray[np.int16]  # [positions, head_dim / 2]

    def site(self, index: int) -> LinearWeights:
        """Weights of crossbar site `index` (see DecoderConfig.site_name)."""
        if index == 4 * self.config.layers:
            return self.head
        layer = self.layers[index // 4]
        site: LinearWeights = getattr(layer, SITES[index % 4])
        return site

    @property
    def parameters(self) -> int:
        """Number of synaptic weights over all crossbar sites."""
        return sum(self.site(index).weight.size for index in range(self.config.sites))
