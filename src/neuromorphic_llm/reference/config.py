"""Configuration of an integer decoder: its shape, fractions and code (docs/reference/numerics.md, formats.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import Any, TypeVar

from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.reference.blocks import Attention, Block, FeedForward, Site, block_from_json
from neuromorphic_llm.spikes.code import SpikeCode
from neuromorphic_llm.spikes.registry import get_code

_Fields = TypeVar("_Fields")

LARGEST_SIZE, LARGEST_LAYERS = 1 << 20, 1024
"""Bounds of the sizes of a decoder, positions of its rotary table included: beyond them a configuration is damaged."""

ACTIVATIONS = ("silu", "gelu", "gelu-tanh", "relu")

_SIZES = ("vocab_size", "hidden_size", "intermediate_size", "layers", "heads", "kv_heads", "head_dim", "max_positions")


def _check_integers(config: Any) -> None:
    """TypeError naming the first field declared as an integer that holds something else."""
    for entry in fields(config):
        value = getattr(config, entry.name)
        if entry.type == "int" and type(value) is not int:
            raise TypeError(f"{entry.name} must be an integer, got {value!r}")


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of a canonical decoder (docs/reference/families.md); the defaults are those of Llama."""

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
    activation: str = "silu"
    gated: bool = True
    parallel_residual: bool = False
    query_key_norm: bool = False
    output_norms: bool = False
    learned_positions: bool = False
    local_rotary: bool = False  # layers with a window use rotary tables of their own
    windows: tuple[int, ...] = ()  # per layer, 0: all tokens; empty: no layer has one
    score_scale: float = 0.0  # of q k; 0: 1 / sqrt(head_dim)
    attention_softcap: float = 0.0  # 0: none
    logit_softcap: float = 0.0  # 0: none
    stack: tuple[Block, ...] = ()  # blocks in order of execution; empty: attention and feed-forward in every layer

    def __post_init__(self) -> None:
        _check_integers(self)
        for name in _SIZES:
            largest = LARGEST_LAYERS if name == "layers" else LARGEST_SIZE
            value = getattr(self, name)
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
            if value > largest:
                raise ValueError(f"{name} must be at most {largest}, got {value}")
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_dim % 2:
            raise ValueError(f"head_dim must be even for the rotary embedding, got {self.head_dim}")
        for name in ("rms_norm_eps", "rope_theta"):
            if type(getattr(self, name)) not in (int, float):
                raise TypeError(f"{name} must be a number, got {getattr(self, name)!r}")
        if not 0.0 < self.rms_norm_eps <= 1.0:
            raise ValueError(f"rms_norm_eps must be positive and at most 1, got {self.rms_norm_eps}")
        if not 1.0 <= self.rope_theta <= 1e30:
            raise ValueError(f"rope_theta must lie between 1 and 1e30, got {self.rope_theta}")
        if type(self.tie_embeddings) is not bool:
            raise TypeError(f"tie_embeddings must be true or false, got {self.tie_embeddings!r}")
        if not isinstance(self.eos_token_ids, tuple):
            raise TypeError(f"eos_token_ids must be a tuple of token ids, got {self.eos_token_ids!r}")
        self._check_token_ids()
        self._check_variants()

    def _check_variants(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {self.activation!r}")
        for name in ("gated", "parallel_residual", "query_key_norm", "output_norms", "learned_positions", "local_rotary"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name} must be true or false, got {getattr(self, name)!r}")
        for name in ("score_scale", "attention_softcap", "logit_softcap"):
            value = getattr(self, name)
            if type(value) not in (int, float):
                raise TypeError(f"{name} must be a number, got {value!r}")
            if value != 0.0 and not 1e-3 <= value <= 1e3:
                raise ValueError(f"{name} must be 0 or lie between 0.001 and 1000, got {value}")
        if not isinstance(self.windows, tuple) or any(type(window) is not int or window < 0 for window in self.windows):
            raise TypeError(f"windows must be a tuple of sizes, 0 for none, got {self.windows!r}")
        if self.windows and len(self.windows) != self.layers:
            raise ValueError(f"windows must have one entry per layer ({self.layers}), got {len(self.windows)}")
        self._check_stack()

    def _check_stack(self) -> None:
        if not isinstance(self.stack, tuple) or not all(isinstance(block, Block) for block in self.stack):
            raise TypeError(f"stack must be a tuple of blocks, got {self.stack!r}")
        if self.stack and sorted({block.layer for block in self.stack}) != list(range(self.layers)):
            raise ValueError(f"stack must have blocks in each of the {self.layers} layers and in no other")
        if list(self.stack) != sorted(self.stack, key=lambda block: block.layer):
            raise ValueError("stack must hold the blocks in order of their layers")
        for block in self.stack:
            # What the fields say of attention and feed-forward, calibration and the chip's limits go by.
            for described in self._layer_blocks(block.layer):
                if type(block) is type(described) and block != described:
                    raise ValueError(f"stack has {block}, and the fields of the configuration describe {described}; make both equal")

    @property
    def has_variants(self) -> bool:
        """True if a Llama decoder could not have this configuration."""
        return any(getattr(self, name) != default for name, default in self._llama_variants().items())

    @classmethod
    def _llama_variants(cls) -> dict[str, Any]:
        """Defaults of Llama for the fields that other families vary, from `activation` on."""
        defaults = {field.name: field.default for field in fields(cls)}
        names = list(defaults)
        return {name: defaults[name] for name in names[names.index("activation") :]}

    @property
    def query_scale(self) -> float:
        """Factor of q k in natural logarithms."""
        return self.score_scale or self.head_dim**-0.5

    def window(self, layer: int) -> int:
        """Tokens that a layer attends to, 0 for all."""
        return self.windows[layer] if self.windows else 0

    def _check_token_ids(self) -> None:
        named = [("eos_token_ids", token) for token in self.eos_token_ids]
        if self.bos_token_id is not None:
            named.append(("bos_token_id", self.bos_token_id))
        for name, token in named:
            if type(token) is not int:
                raise TypeError(f"{name} must hold integers, got {token!r}")
            if not 0 <= token < self.vocab_size:
                raise ValueError(f"{name}: token {token} is outside the vocabulary of {self.vocab_size}")

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """Blocks in order of execution."""
        return self.stack or tuple(block for layer in range(self.layers) for block in self._layer_blocks(layer))

    def _layer_blocks(self, layer: int) -> tuple[Block, Block]:
        """Attention and feed-forward of a layer, as the fields of the configuration describe them."""
        window = self.window(layer)
        attention = Attention(
            layer,
            self.heads,
            self.kv_heads,
            self.head_dim,
            window,
            local_rotary=self.local_rotary and window > 0,
            query_key_norm=self.query_key_norm,
            output_norm=self.output_norms,
            softcap=self.attention_softcap,
        )
        feed_forward = FeedForward(layer, self.intermediate_size, self.activation, self.gated, self.parallel_residual, self.output_norms)
        return attention, feed_forward

    @cached_property
    def sites(self) -> tuple[Site, ...]:
        """Crossbar sites in order of execution, the head last."""
        own = [site for block in self.blocks for site in block.sites(self)]
        head = Site("head", self.hidden_size, self.vocab_size, "norm", "logit", "head", "argmax", self.layers)
        return tuple(replace(site, index=index) for index, site in enumerate([*own, head]))

    @property
    def head(self) -> Site:
        """Site of the logits."""
        return self.sites[-1]

    @cached_property
    def _site_by_name(self) -> dict[str, Site]:
        return {site.name: site for site in self.sites}

    def site(self, name: str) -> Site:
        """Site called `name`; KeyError if there is none."""
        return self._site_by_name[name]

    def layer_sites(self, layer: int) -> tuple[Site, ...]:
        """Sites of a layer in order of execution."""
        return tuple(site for site in self.sites if site.stage == layer)

    def layer_blocks(self, layer: int) -> tuple[Block, ...]:
        """Blocks of a layer in order of execution."""
        return tuple(block for block in self.blocks if block.layer == layer)

    @cached_property
    def attention_blocks(self) -> tuple[Attention, ...]:
        """Blocks of softmax attention in order of execution."""
        return tuple(block for block in self.blocks if isinstance(block, Attention))

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields; what Llama decoders do not have is left out where it is absent."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        values["stack"] = [block.to_json() for block in self.stack]
        absent = self._llama_variants()
        return {name: value for name, value in values.items() if name not in absent or getattr(self, name) != absent[name]}

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str = "the artefact") -> DecoderConfig:
        """Inverse of to_json; ArtefactError naming `source` on unknown, missing or invalid fields."""
        return _from_json(cls, data, source, stack=lambda entries: tuple(block_from_json(entry, source) for entry in entries))


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
        _check_integers(self)
        for entry in fields(self):
            value = getattr(self, entry.name)
            if not 0 <= value <= 30:
                raise ValueError(f"{entry.name} must lie in 0..30, got {value}")
        if self.gate < 12:
            raise ValueError(f"gate must be at least 12, got {self.gate}")
        if 24 + self.gain_fraction <= self.norm:
            raise ValueError(f"norm ({self.norm}) must stay below 24 + gain_fraction ({self.gain_fraction})")

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str = "the artefact") -> Formats:
        """Inverse of to_json; ArtefactError naming `source` as DecoderConfig's."""
        return _from_json(cls, data, source)


@dataclass(frozen=True)
class CodeConfig:
    """Spike code of the crossbar sites, and precision of the attention products."""

    name: str = "signed-digit"
    phases: int = 14
    query_phases: int = 10
    probability_bits: int = 10
    parameters: Mapping[str, int | bool | str] = field(default_factory=dict, hash=False)  # of the code (codes.md)

    def __post_init__(self) -> None:
        _check_integers(self)
        if type(self.name) is not str:
            raise TypeError(f"name must be text, got {self.name!r}")
        if not isinstance(self.parameters, Mapping) or not all(type(value) in (int, bool, str) for value in self.parameters.values()):
            raise TypeError(f"parameters must be an object of numbers, truth values and texts, got {self.parameters!r}")
        if not 1 <= self.query_phases <= 10:
            raise ValueError(f"query_phases must lie in 1..10, got {self.query_phases}")
        if not 1 <= self.probability_bits <= 10:
            raise ValueError(f"probability_bits must lie in 1..10, got {self.probability_bits}")

    def spike_code(self) -> SpikeCode:
        """The code itself; UsageError if there is none of that name, or not with these phases and parameters."""
        return get_code(self.name, self.phases, **self.parameters)

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields, without parameters if there are none."""
        values = asdict(self)
        return values if self.parameters else {name: value for name, value in values.items() if name != "parameters"}

    @classmethod
    def from_json(cls, data: dict[str, Any], source: str = "the artefact") -> CodeConfig:
        """Inverse of to_json; ArtefactError naming `source` as DecoderConfig's."""
        return _from_json(cls, data, source)


def _from_json(cls: type[_Fields], data: Any, source: str, **parsers: Callable[[Any], Any]) -> _Fields:
    """An object of a class; a field with a parser is what that makes of its JSON value."""
    what = cls.__name__
    if not isinstance(data, dict):
        raise ArtefactError(f"{source}: {what} is {type(data).__name__}, not an object; write the artefact again")
    if unknown := set(data) - {field.name for field in fields(cls)}:  # type: ignore[arg-type]
        raise ArtefactError(f"{source}: unknown field {min(unknown)!r} in {what}; write the artefact again with this version")
    try:
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items() if name not in parsers}
        return cls(**plain, **{name: parse(data[name]) for name, parse in parsers.items() if name in data})
    except (TypeError, ValueError) as error:
        raise ArtefactError(f"{source}: {what} is not valid ({error}); write the artefact again") from error
