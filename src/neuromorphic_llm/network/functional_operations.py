"""Operations of the functional simulation over tensors: their parameters, and their values by the kernels of its device."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.graph.ir import Node
from neuromorphic_llm.graph.plan import EngineOperation, Types
from neuromorphic_llm.network.cache import SlotCache
from neuromorphic_llm.network.operations import NO_WINDOW, AttentionResult, Rows, SiteTensors
from neuromorphic_llm.reference.norm import NORMALISED_FRACTION, norm_epsilon
from neuromorphic_llm.reference.soft_cap import SoftCap
from neuromorphic_llm.registry import Registry

if TYPE_CHECKING:
    from neuromorphic_llm.network.functional import FunctionalDecoder


@dataclass
class StageRun:
    """Rows of tokens on their way through one stage, and what it counts."""

    decoder: FunctionalDecoder
    rows: Rows
    observed: tuple[int, ...] | None = None  # sites of the stage, for an observer
    spikes: list[torch.Tensor] = field(default_factory=list)  # of its sites, int64 [rows]
    attention: list[AttentionResult] = field(default_factory=list)


def _parameter(decoder: FunctionalDecoder, node: Node, attribute: str) -> torch.Tensor:
    """The parameter that an attribute names, on the device."""
    return decoder.tensor(decoder.weights.parameter(str(node.attributes[attribute])))


def _bind_rows(decoder: FunctionalDecoder, node: Node, _: Types) -> torch.Tensor:
    """Rows that enter the residual stream, a parameter that has the name of its operation."""
    return decoder.tensor(decoder.weights.parameter(node.operation))


def _embedding(_: StageRun, table: torch.Tensor, __: None, ids: torch.Tensor) -> torch.Tensor:
    return table[ids].int()


def _positions(run: StageRun, table: torch.Tensor, _: None, __: torch.Tensor) -> torch.Tensor:
    return table[run.rows.position].int()


def _bind_shift(_: FunctionalDecoder, node: Node, __: Types) -> int:
    return node.integer("left")


def _shift(_: StageRun, left: int, __: None, x: torch.Tensor) -> torch.Tensor:
    return x << left


def _bind_norm(decoder: FunctionalDecoder, node: Node, types: Types) -> tuple[torch.Tensor, int, int]:
    """Gains, E and the shift."""
    gain = _parameter(decoder, node, "gain")
    epsilon = norm_epsilon(decoder.config.rms_norm_eps, len(gain), types[0].fraction)
    return gain, epsilon, NORMALISED_FRACTION + decoder.weights.formats.gain_fraction - node.type.fraction


def _norm(run: StageRun, own: tuple[torch.Tensor, int, int], _: None, x: torch.Tensor) -> torch.Tensor:
    channels = own[0].shape[0]
    if channels == x.shape[1]:
        return run.decoder.operations.norm(x, *own)
    return run.decoder.operations.norm(x.reshape(-1, channels), *own).view(x.shape)


def _bind_linear(decoder: FunctionalDecoder, node: Node, _: Types) -> SiteTensors:
    return decoder.site_tensors(decoder.config.site(str(node.attributes["site"])).index)


def _linear(run: StageRun, site: SiteTensors, _: None, x: torch.Tensor) -> torch.Tensor:
    decoder = run.decoder
    coded = decoder.encode(x, site.stop) if site.spiking else decoder.operations.encode_dense(x)
    if run.observed is not None and decoder.observer is not None:
        decoder.observer(run.observed[len(run.spikes)], x, coded)
    run.spikes.append(coded.spikes)
    return decoder.operations.scale(decoder.accumulate(x, coded, site), coded.exponent, site)


def _bind_slice(_: FunctionalDecoder, node: Node, __: Types) -> tuple[int, int]:
    return node.integer("start"), node.integer("start") + node.type.size


def _slice(_: StageRun, bounds: tuple[int, int], __: None, x: torch.Tensor) -> torch.Tensor:
    return x[:, bounds[0] : bounds[1]]


@dataclass
class _SelfAttention:
    """Parameters of the attention of a layer; tensors as Operations.attention takes them."""

    query_stop: torch.Tensor
    value_base: torch.Tensor
    rope: tuple[torch.Tensor, torch.Tensor]
    query_phases: int  # 0: it does not spike
    window: torch.Tensor | None
    cap: SoftCap | None
    key_offset: torch.Tensor | None


def _bind_attention(decoder: FunctionalDecoder, node: Node, _: Types) -> _SelfAttention:
    windows = any(block.window for block in decoder.config.attention_blocks)
    # A tensor, also of a layer without a window beside others: a number would make every window a compilation of its own.
    seen = node.integer("window") if "window" in node.attributes else NO_WINDOW
    return _SelfAttention(
        _parameter(decoder, node, "stop"),
        _parameter(decoder, node, "base"),
        decoder.rope(str(node.attributes.get("table", "rope"))),
        0 if "dense" in node.attributes else decoder.weights.code.query_phases,
        torch.tensor(seen, device=decoder.device) if windows else None,
        SoftCap(*node.integers("cap")) if "cap" in node.attributes else None,
        _parameter(decoder, node, "key_offset") if "key_offset" in node.attributes else None,
    )


def _empty_cache(decoder: FunctionalDecoder, node: Node, slots: int, capacity: int) -> SlotCache:
    return SlotCache.empty(slots, capacity, node.integer("kv_heads"), node.integer("head_dim"), decoder.device)


def _attention(run: StageRun, own: _SelfAttention, cache: SlotCache, *parts: torch.Tensor) -> torch.Tensor:
    qkv, decoder = parts[0] if len(parts) == 1 else torch.cat(parts, 1), run.decoder
    result = decoder.operations.attention(
        qkv, own.query_stop, own.value_base, own.rope, run.rows, cache, decoder.weights.formats, own.query_phases,
        decoder.weights.code.probability_bits, own.window, own.cap, own.key_offset,
    )  # fmt: skip
    run.attention.append(result)
    return result.output


def _bind_gate(decoder: FunctionalDecoder, node: Node, types: Types) -> tuple[int, torch.Tensor, str]:
    """Fractions of operand and value (a tensor: layers differ in it) and the activation."""
    return types[0].fraction, torch.tensor(node.type.fraction, device=decoder.device), str(node.attributes["activation"])


def _gate(run: StageRun, own: tuple[int, torch.Tensor, str], _: None, y: torch.Tensor) -> torch.Tensor:
    return run.decoder.operations.gate(y, *own)


def _activate(run: StageRun, own: tuple[int, torch.Tensor, str], _: None, y: torch.Tensor) -> torch.Tensor:
    return run.decoder.operations.activate(y, *own)


def _add(run: StageRun, _: None, __: None, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return run.decoder.operations.add(first, second)


def _bind_cap(_: FunctionalDecoder, node: Node, __: Types) -> SoftCap:
    return SoftCap(*node.integers("cap"))


def _soft_cap(run: StageRun, cap: SoftCap, _: None, x: torch.Tensor) -> torch.Tensor:
    return run.decoder.operations.soft_cap(x, cap)


FUNCTIONAL_OPERATIONS: Registry[EngineOperation] = Registry(
    "operation of the functional simulation",
    (
        ("embedding", EngineOperation(_embedding, _bind_rows)),
        ("positions", EngineOperation(_positions, _bind_rows)),
        ("shift", EngineOperation(_shift, _bind_shift)),
        ("norm", EngineOperation(_norm, _bind_norm)),
        ("linear", EngineOperation(_linear, _bind_linear)),
        ("slice", EngineOperation(_slice, _bind_slice)),
        ("self_attention", EngineOperation(_attention, _bind_attention, _empty_cache, in_place=True)),
        ("gate", EngineOperation(_gate, _bind_gate)),
        ("activate", EngineOperation(_activate, _bind_gate)),
        ("add", EngineOperation(_add, in_place=True)),
        ("soft_cap", EngineOperation(_soft_cap, _bind_cap, in_place=True)),
    ),
    error=SimulationError,
)
"""Operations over tensors: values int32 [rows, size], parameters on the device, `empty(decoder, node, slots, tokens)` a cache.State."""
