"""Interpretation of a graph over the reference functions: the meaning of every operation (docs/reference/graph.md)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.graph.ir import HOST, Graph, Node, ValueType
from neuromorphic_llm.reference.attention import AttentionActivity, LayerCache, attend
from neuromorphic_llm.reference.fixed_point import Integers, saturate
from neuromorphic_llm.reference.gate import activated, gated_product
from neuromorphic_llm.reference.linear import accumulate, read_out, scaled, with_bias
from neuromorphic_llm.reference.norm import apply_gain, norm_epsilon, normalise
from neuromorphic_llm.reference.rotary import rotate
from neuromorphic_llm.reference.soft_cap import SoftCap, apply_soft_cap
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.registry import Registry
from neuromorphic_llm.spikes.code import Coded, SpikeTrain
from neuromorphic_llm.spikes.dense import quantise_dense


@dataclass
class Cache:
    """State of one sequence: of every node that has one, by the name of its value, and the tokens processed."""

    states: dict[str, Any] = field(default_factory=dict)
    length: int = 0


@dataclass(frozen=True)
class Sums:
    """Accumulators [tokens, outputs] of a matrix product and the exponents k_min [tokens] of its inputs."""

    accumulators: Integers
    exponent: NDArray[np.int32]


@dataclass
class SiteRecord:
    """Work of one crossbar site on the tokens of one step; what stands after `coded` in full records only."""

    coded: Coded  # spikes per input, integers, exponents and phases; no spikes and phases at a site that does not spike
    train: SpikeTrain | None = field(default=None, repr=False)  # None at a site that does not spike
    accumulators: Integers | None = field(default=None, repr=False)  # [tokens, outputs]
    output: Integers | None = field(default=None, repr=False)  # [tokens, outputs] at the site's output fraction
    repeats: Integers | None = field(default=None, repr=False)  # [tokens], conversions that were repeated; None if none can be


@dataclass
class Step:
    """Tokens that a run of the graph processes, and the records that it leaves."""

    weights: DecoderWeights
    tokens: NDArray[np.int64]
    cache: Cache
    full: bool = False
    sites: dict[str, SiteRecord] = field(default_factory=dict)
    attention: list[AttentionActivity] = field(default_factory=list)
    logits: Integers | None = None
    types: dict[str, ValueType] = field(default_factory=dict)  # of the values computed so far

    @property
    def position(self) -> int:
        """Position of the first token."""
        return self.cache.length

    @property
    def rows(self) -> slice:
        """Positions of the tokens."""
        return slice(self.position, self.position + len(self.tokens))

    def fraction(self, node: Node) -> int:
        """Fraction of the first operand of a node."""
        return self.types[node.operands[0]].fraction

    def state(self, node: Node, empty: Callable[[], Any]) -> Any:
        """State of a node in this sequence, `empty()` at its start."""
        if node.name not in self.cache.states:
            self.cache.states[node.name] = empty()
        return self.cache.states[node.name]


Operation = Callable[..., Any]
"""Called with the step, the node and the values of its operands; yields the value of the node, [tokens, size] for integers."""

OPERATIONS: Registry[Operation] = Registry("meaning of the operation")
"""Meaning of every operation by its name."""


def operation(name: str) -> Callable[[Operation], Operation]:
    """Decorator: a function as the meaning of an operation. UsageError if it has one already."""

    def register(function: Operation) -> Operation:
        OPERATIONS.register(name, function)
        return function

    return register


def run_graph(graph: Graph, step: Step, *, all_logits: bool = True) -> dict[int, Integers]:
    """Run a graph for the tokens of a step and extend its cache; the last value of every stage by its number.

    With `all_logits` false the last stage runs for the last token only. SimulationError for an operation without a meaning.
    """
    values: dict[str, Any] = {}
    ends: dict[int, Integers] = {}
    last_use = {operand: node.name for node in graph.nodes for operand in node.operands}
    head, stage = graph.stages - 1, HOST
    for node in graph.nodes:
        if node.stage == head != stage and not all_logits:
            values = {name: value[-1:] if isinstance(value, np.ndarray) else value for name, value in values.items()}
        stage = node.stage
        if node.operation not in OPERATIONS:
            raise SimulationError(f"%{node.name} = {node.operation} has no meaning in the reference; register one")
        step.types[node.name] = node.type
        values[node.name] = ends[stage] = OPERATIONS[node.operation](step, node, *(values[operand] for operand in node.operands))
        for operand in node.operands:
            if last_use[operand] == node.name:
                values.pop(operand, None)
    step.cache.length += len(step.tokens)
    return ends


@operation("token")
def _token(step: Step, node: Node) -> Integers:
    return step.tokens[:, None]


@operation("embedding")
def _embedding(step: Step, node: Node, token: Integers) -> Integers:
    rows: Integers = step.weights.embedding[token[:, 0]].astype(np.int64)
    return rows << np.int64(node.integer("left") if "left" in node.attributes else 0)


@operation("positions")
def _positions(step: Step, node: Node, token: Integers) -> Integers:
    assert step.weights.positions is not None
    rows: Integers = step.weights.positions[step.rows].astype(np.int64)
    return rows


@operation("shift")
def _shift(step: Step, node: Node, x: Integers) -> Integers:
    return x << node.integer("left")


@operation("normalise")
def _normalise(step: Step, node: Node, x: Integers) -> Integers:
    channels = node.integer("channels") if "channels" in node.attributes else x.shape[1]
    epsilon = norm_epsilon(step.weights.config.rms_norm_eps, channels, step.fraction(node))
    return normalise(x.reshape(-1, channels), epsilon).reshape(x.shape)


@operation("gain")
def _gain(step: Step, node: Node, u: Integers) -> Integers:
    gain = step.weights.parameter(str(node.attributes["gain"]))
    return apply_gain(u.reshape(-1, len(gain)), gain, step.weights.formats, node.type.fraction).reshape(u.shape)


@operation("norm")
def _norm(step: Step, node: Node, x: Integers) -> Integers:
    gained: Integers = _gain(step, node, _normalise(step, node, x))
    return gained


@operation("encode")
def _encode(step: Step, node: Node, x: Integers) -> tuple[Coded, SpikeTrain | None]:
    site = step.weights.site(str(node.attributes["site"]))
    if not site.spiking:
        return quantise_dense(x), None
    code = step.weights.code.spike_code()
    wanted = step.full or not step.weights.readout.exact
    return code.quantise(x, site.stop), code.encode(x, site.stop) if wanted else None


@operation("matmul")
def _matmul(step: Step, node: Node, x: Integers | tuple[Coded, SpikeTrain | None]) -> Sums:
    name = str(node.attributes["site"])
    site, readout = step.weights.site(name), step.weights.readout
    coded, train = x if isinstance(x, tuple) else _encode(step, node, x)
    repeats = None
    if train is None or readout.exact:
        accumulators = accumulate(coded, site, name)
    else:
        accumulators, repeats = read_out(train, site, readout, name)
    step.sites[name] = SiteRecord(coded, train, accumulators, repeats=repeats) if step.full else SiteRecord(coded)
    return Sums(accumulators, coded.exponent)


def _output(step: Step, name: str, y: Integers) -> Integers:
    """y, the output of a site, recorded."""
    if step.full:
        step.sites[name].output = y
    return y


@operation("scale")
def _scale(step: Step, node: Node, sums: Sums) -> Integers:
    name = str(node.attributes["site"])
    wide = scaled(sums.accumulators, sums.exponent, step.weights.site(name))
    return wide if node.type.kind == "wide" else _output(step, name, saturate(wide, 32))


@operation("bias")
def _bias(step: Step, node: Node, wide: Integers) -> Integers:
    name = str(node.attributes["site"])
    return _output(step, name, with_bias(wide, step.weights.site(name)))


@operation("linear")
def _linear(step: Step, node: Node, x: tuple[Coded, SpikeTrain | None]) -> Integers:
    name = str(node.attributes["site"])
    sums, site = _matmul(step, node, x), step.weights.site(name)
    wide = scaled(sums.accumulators, sums.exponent, site)
    y = _output(step, name, with_bias(wide, site) if "bias" in node.attributes else saturate(wide, 32))
    epilogue = node.attributes.get("epilogue", "")
    if epilogue == "gate":
        return gated_product(y, step.weights.output_fraction(name), node.type.fraction, str(node.attributes["activation"]))
    return _argmax(step, node, y) if epilogue == "argmax" else y


@operation("slice")
def _slice(step: Step, node: Node, x: Integers) -> Integers:
    return x[:, node.integer("start") : node.integer("start") + node.type.size]


@operation("rope")
def _rope(step: Step, node: Node, x: Integers) -> Integers:
    cos, sin = (table[step.rows] for table in step.weights.rope(str(node.attributes.get("table", "rope"))))
    first = x[:, : node.integer("rotated")]
    turned = rotate(first.reshape(len(x), -1, node.integer("head_dim")), cos, sin).reshape(first.shape)
    return np.concatenate([turned, x[:, first.shape[1] :]], axis=1)


@operation("kv_write")
def _kv_write(step: Step, node: Node, *x: Integers) -> LayerCache:
    kv_heads, head_dim = node.integer("kv_heads"), node.integer("head_dim")
    whole = np.concatenate(x, axis=1)[:, -2 * kv_heads * head_dim :]
    keys, values = whole.reshape(len(whole), 2, kv_heads, head_dim).swapaxes(0, 1)
    offset = step.weights.parameter(str(node.attributes["key_offset"])) if "key_offset" in node.attributes else None
    cache: LayerCache = step.state(node, lambda: LayerCache.empty(step.weights.config.max_positions, kv_heads, head_dim))
    cache.write(step.position, keys, values, step.weights.parameter(str(node.attributes["base"])), offset)
    return cache


@operation("attention")
def _attention(step: Step, node: Node, queries: Integers, cache: LayerCache) -> Integers:
    weights = step.weights
    heads, head_dim = node.integer("heads"), node.type.size // node.integer("heads")
    output, activity = attend(
        queries[:, : heads * head_dim].reshape(len(queries), heads, head_dim),
        cache,
        step.position,
        weights.parameter(str(node.attributes["stop"])),
        weights.parameter(str(node.attributes["base"])),
        weights.formats,
        weights.code,
        spiking="dense" not in node.attributes,
        window=node.integer("window") if "window" in node.attributes else 0,
        cap=SoftCap(*node.integers("cap")) if "cap" in node.attributes else None,
    )
    step.attention.append(activity)
    return output.reshape(len(output), -1)


@operation("gate")
def _gate(step: Step, node: Node, y: Integers) -> Integers:
    return gated_product(y, step.fraction(node), node.type.fraction, str(node.attributes["activation"]))


@operation("activate")
def _activate(step: Step, node: Node, y: Integers) -> Integers:
    return activated(y, step.fraction(node), node.type.fraction, str(node.attributes["activation"]))


@operation("add")
def _add(step: Step, node: Node, first: Integers, second: Integers) -> Integers:
    return saturate(first + second, 32)


@operation("soft_cap")
def _soft_cap(step: Step, node: Node, x: Integers) -> Integers:
    return apply_soft_cap(x, SoftCap(*node.integers("cap")))


@operation("argmax")
def _argmax(step: Step, node: Node, logits: Integers) -> Integers:
    step.logits = logits
    chosen: Integers = logits.argmax(axis=1)[:, None]
    return chosen


def check_tokens(tokens: Sequence[int], cache_length: int, weights: DecoderWeights) -> None:
    """UsageError for no tokens or one outside the vocabulary, SimulationError beyond the context."""
    config = weights.config
    if not len(tokens):
        raise UsageError("no tokens to process; give at least one")
    if min(tokens) < 0 or max(tokens) >= config.vocab_size:
        raise UsageError(f"token ids must lie in 0..{config.vocab_size - 1}, got {min(tokens)}..{max(tokens)}")
    if cache_length + len(tokens) > config.max_positions:
        raise SimulationError(
            f"{cache_length + len(tokens)} tokens exceed the context of {config.max_positions} positions; shorten the prompt"
        )
