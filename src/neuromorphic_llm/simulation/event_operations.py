"""Operations of the event simulation: one token at a time, by compiled kernels whose work is proportional to the spikes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.arithmetic import vectors
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.graph.ir import Node
from neuromorphic_llm.graph.plan import EngineOperation, Types
from neuromorphic_llm.reference.fixed_point import SIG
from neuromorphic_llm.reference.norm import NORMALISED_FRACTION, norm_epsilon
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.registry import Registry
from neuromorphic_llm.simulation import attention_kernels, crossbar_kernels

if TYPE_CHECKING:
    from neuromorphic_llm.simulation.events import EventDecoder

Vector = NDArray[np.int32]

_NO_BIAS = np.zeros(0, np.int32)
_NO_OFFSET = np.zeros((0, 0), np.int32)


def _embedding(decoder: EventDecoder, _: None, __: None, token: int) -> Vector:
    row: Vector = decoder.program.weights.embedding[token].astype(np.int32)
    return row


def _bind_shift(_: EventDecoder, node: Node, __: Types) -> int:
    return node.integer("left")


def _shift(_: EventDecoder, left: int, __: None, x: Vector) -> Vector:
    return x << np.int32(left)


def _bind_norm(decoder: EventDecoder, node: Node, types: Types) -> tuple[Vector, int, int]:
    """Gains, E and the shift."""
    weights = decoder.program.weights
    gain = weights.parameter(str(node.attributes["gain"]))
    epsilon = norm_epsilon(weights.config.rms_norm_eps, types[0].size, types[0].fraction)
    return gain, epsilon, NORMALISED_FRACTION + weights.formats.gain_fraction - node.type.fraction


def _norm(_: EventDecoder, own: tuple[Vector, int, int], __: None, x: Vector) -> Vector:
    values = np.empty_like(x)
    vectors.rms_norm(x, *own, values)
    return values


def _bind_linear(decoder: EventDecoder, node: Node, _: Types) -> tuple[int, LinearWeights, NDArray[np.int8]]:
    """Index, weights, and the weights transposed, of a site. SimulationError if it does not spike."""
    site = decoder.program.weights.config.site(str(node.attributes["site"]))
    linear = decoder.program.weights.site(site.name)
    if not linear.spiking:
        raise SimulationError(f"{site.name} does not spike and the chip runs spiking sites only; use the functional backend")
    return site.index, linear, decoder.program.weights_t[site.index]


def _linear(decoder: EventDecoder, own: tuple[int, LinearWeights, NDArray[np.int8]], _: None, x: Vector) -> Vector:
    """Code x, let every spike add its row of weights, scale: one crossbar site."""
    site, linear, weights_t = own
    exponent, total = decoder.accumulate(site, linear.stop, weights_t, x)
    result = np.empty_like(total)
    bias = _NO_BIAS if linear.bias is None else linear.bias
    crossbar_kernels.scale(total, linear.multiplier, linear.shift - exponent, bias, result)
    return result


@dataclass
class KeyValues:
    """Keys and values of one layer and sequence, as the attention kernels take them."""

    keys: NDArray[np.int8]  # [kv_heads, head_dim, context]
    values: NDArray[np.int8]  # [kv_heads, context, head_dim]
    key_exponents: Vector  # [kv_heads, context]
    value_exponents: Vector  # [kv_heads, context]

    @property
    def arrays(self) -> tuple[Any, ...]:
        """Keys, values and their exponents, in the kernels' order."""
        return self.keys, self.values, self.key_exponents, self.value_exponents

    def copied(self) -> KeyValues:
        """Keys and values of a sequence that goes on in its own way."""
        return KeyValues(*(array.copy() for array in self.arrays))


def _no_key_values(decoder: EventDecoder, node: Node) -> KeyValues:
    heads, dim, context = node.integer("kv_heads"), node.integer("head_dim"), decoder.program.max_context
    exponents = (np.zeros((heads, context), np.int32) for _ in range(2))
    return KeyValues(np.zeros((heads, dim, context), np.int8), np.zeros((heads, context, dim), np.int8), *exponents)


@dataclass
class _SelfAttention:
    layer: int
    heads: int
    kv_heads: int
    head_dim: int
    query_stop: Vector
    value_base: Vector
    key_offset: Vector
    rope: tuple[NDArray[np.int16], NDArray[np.int16]]
    formats: tuple[int, int, int, int, int]  # query phases, probability bits, fractions of queries and output, heads taken at once


def _bind_attention(decoder: EventDecoder, node: Node, types: Types) -> _SelfAttention:
    weights = decoder.program.weights
    if "dense" in node.attributes or "cap" in node.attributes:
        what = "does not spike" if "dense" in node.attributes else "has soft caps"
        raise SimulationError(f"layers.{node.stage}.attention {what}, which the chip cannot run; use the functional backend")
    offset = weights.parameter(str(node.attributes["key_offset"])) if "key_offset" in node.attributes else _NO_OFFSET
    phases, bits, lanes = weights.code.query_phases, weights.code.probability_bits, decoder.program.spec.vector.head_lanes
    return _SelfAttention(
        layer=node.stage,
        heads=node.integer("heads"),
        kv_heads=node.integer("kv_heads"),
        head_dim=node.integer("head_dim"),
        query_stop=weights.parameter(str(node.attributes["stop"])),
        value_base=weights.parameter(str(node.attributes["base"])),
        key_offset=offset,
        rope=weights.rope(str(node.attributes.get("table", "rope"))),
        formats=(phases, bits, types[0].fraction, node.type.fraction, lanes),
    )


def _attention(decoder: EventDecoder, own: _SelfAttention, state: KeyValues, *parts: Vector) -> Vector:
    """Rotate queries and keys, store keys and values, attend; parts are queries, keys and values, or one vector of all."""
    heads = (parts[0] if len(parts) == 1 else np.concatenate(parts)).reshape(-1, own.head_dim)
    rotated, values = heads[: own.heads + own.kv_heads], heads[own.heads + own.kv_heads :]
    position, stored = decoder.position, state.arrays
    cosines, sines = own.rope
    vectors.rotate(rotated, cosines[position], sines[position])
    attention_kernels.write_key_value(rotated[own.heads :], values, own.value_base, own.key_offset, position, *stored)
    output = np.empty((own.heads, own.head_dim), np.int32)
    attention_kernels.attend(
        rotated[: own.heads],
        own.query_stop,
        own.value_base,
        *stored,
        position + 1,
        own.formats,
        output,
        decoder.attention_counts(own.layer),
    )
    return output.reshape(-1)


def _bind_gate(_: EventDecoder, node: Node, types: Types) -> tuple[int, int]:
    """Fractions of operand and value. SimulationError for an activation that the chip's output stages have not."""
    if node.attributes["activation"] != "silu":
        raise SimulationError(f"%{node.name} has the activation {node.attributes['activation']}, which the chip cannot run")
    return types[0].fraction, node.type.fraction


def _gate(_: EventDecoder, fractions: tuple[int, int], __: None, y: Vector) -> Vector:
    hidden = np.empty(len(y) // 2, np.int32)
    vectors.gate(y, SIG, *fractions, hidden)
    return hidden


def _add(_: EventDecoder, __: None, ___: None, first: Vector, second: Vector) -> Vector:
    vectors.add(first, second)
    return first


EVENT_OPERATIONS: Registry[EngineOperation] = Registry(
    "operation of the event simulation",
    (
        ("embedding", EngineOperation(_embedding)),
        ("shift", EngineOperation(_shift, _bind_shift)),
        ("norm", EngineOperation(_norm, _bind_norm)),
        ("linear", EngineOperation(_linear, _bind_linear)),
        ("self_attention", EngineOperation(_attention, _bind_attention, _no_key_values, in_place=True)),
        ("gate", EngineOperation(_gate, _bind_gate)),
        ("add", EngineOperation(_add, in_place=True)),
    ),
    error=SimulationError,
)
"""Operations of one token: values int32 [size], context the EventDecoder; `empty(decoder, node)` makes a state with `copied()`."""
