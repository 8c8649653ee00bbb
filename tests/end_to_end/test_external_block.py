"""A kind of block from outside the package, all of it in this file: a gated linear recurrence with a state per head.

It is converted, interpreted, run by the functional and the event simulation, compiled, timed and counted (docs/how-to/own-block.md).
"""

# ruff: noqa: ARG002, ARG003 - interfaces have more than this block needs

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from neuromorphic_llm.chip.instruction import WORK, Activity, Instruction, Scope, passes
from neuromorphic_llm.chip.instructions import INSTRUCTIONS
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.floorplan import floorplan, floorplan_svg
from neuromorphic_llm.compiler.module import Module
from neuromorphic_llm.compiler.pipeline import compile_network, default_pipeline, run_passes
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.float_decoder import FLOAT_BLOCKS, FloatDecoder, LayerRun
from neuromorphic_llm.conversion.integers import Converter
from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.graph.ir import Node, ValueType
from neuromorphic_llm.graph.operations import OPERATIONS, Operation
from neuromorphic_llm.graph.plan import EngineOperation
from neuromorphic_llm.models.canonical import BLOCK_SHAPES, CanonicalDecoder, canonical_shapes, rotary_frequencies
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.functional_operations import FUNCTIONAL_OPERATIONS, StageRun
from neuromorphic_llm.network.operations import saturate
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.blocks import KINDS, Attention, Block, FeedForward, Parameter, Site
from neuromorphic_llm.reference.build import GraphBuilder, build_graph
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.fixed_point import Integers, rsh_saturate_32
from neuromorphic_llm.reference.gate import sigmoid
from neuromorphic_llm.reference.interpreter import OPERATIONS as MEANINGS
from neuromorphic_llm.reference.interpreter import Step
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.event_operations import EVENT_OPERATIONS
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.simulation.run import simulate
from neuromorphic_llm.simulation.timing import simulate_timing

# The block: s <- a s + (1 - a) v, with v and a = sigmoid(g) from one projection of the normalised stream, s through another.


@dataclass(frozen=True)
class Recurrence(Block):
    """Gated linear recurrence; the state has `heads * head_dim` elements."""

    heads: int
    head_dim: int
    kind: ClassVar[str] = "gated-recurrence"

    def sites(self, config: DecoderConfig) -> tuple[Site, ...]:
        """Values and gates in one site; the projection of the state."""
        n, hidden = self.heads * self.head_dim, config.hidden_size
        return (
            Site(f"{self.prefix}.value_gate", hidden, 2 * n, "norm", "gate", "attention", stage=self.layer),
            Site(f"{self.prefix}.state_output", n, hidden, "gate", "residual", "attention", stage=self.layer),
        )

    def parameters(self, config: DecoderConfig) -> tuple[Parameter, ...]:
        """Gains of the norm."""
        return (Parameter("recurrence_gain", shape=(config.hidden_size,)),)

    def build(self, graph: GraphBuilder, residual: str, before: str) -> str:
        """Norm, projection, recurrence, projection, sum."""
        normed = graph.norm(f"{self.prefix}.recurrence", residual, f"{self.prefix}.recurrence_gain")
        value_gate = graph.linear(f"{self.prefix}.value_gate", normed)
        state = graph.add(f"{self.prefix}.state", "gated_recurrence", value_gate, shape=(self.heads * self.head_dim,))
        return graph.add(f"{self.prefix}.mixed", "add", residual, graph.linear(f"{self.prefix}.state_output", state))


def type_rule(node: Node, operands: tuple[ValueType, ...]) -> str | None:
    wanted = ValueType("i32", operands[0].fraction, (operands[0].size // 2,))
    return None if node.type == wanted else f"has type {node.type}, expected {wanted}"


def meaning(step: Step, node: Node, value_gate: Integers) -> Integers:
    state, states = step.state(node, lambda: np.zeros(node.type.size, np.int64)), []
    value, gate = np.split(value_gate, 2, axis=1)
    keep = sigmoid(gate, step.fraction(node))
    for token in range(len(value)):
        state[:] = rsh_saturate_32(keep[token] * state + ((1 << 15) - keep[token]) * value[token], 15)
        states.append(state.copy())
    return np.stack(states)


@dataclass
class TorchState:
    slots: torch.Tensor  # int32 [slots, n]

    def grown(self, capacity: int) -> TorchState:
        return self

    def reordered(self, index: torch.Tensor) -> TorchState:
        return TorchState(self.slots[index])


def functional(run: StageRun, fraction: int, state: TorchState, value_gate: torch.Tensor) -> torch.Tensor:
    rows, n = run.rows, run.rows.per_sequence
    value, gate = (half.reshape(-1, n, half.shape[1]) for half in value_gate.long().chunk(2, 1))
    keep = torch.from_numpy(sigmoid(gate.cpu().numpy(), fraction)).to(gate.device)
    slot = rows.slot[::n]
    now, states = state.slots[slot].long(), []
    for token in range(n):
        new = saturate((keep[:, token] * now + ((1 << 15) - keep[:, token]) * value[:, token] + (1 << 14)) >> 15).long()
        now = torch.where(token < rows.valid[:, None], new, now)
        states.append(now)
    state.slots[slot] = now.int()
    return torch.stack(states, 1).int().view(-1, now.shape[1])


@dataclass
class EventState:
    values: np.ndarray

    def copied(self) -> EventState:
        return EventState(self.values.copy())


def event(decoder: EventDecoder, fraction: int, state: EventState, value_gate: np.ndarray) -> np.ndarray:
    value, gate = np.split(value_gate.astype(np.int64), 2)
    keep = sigmoid(gate, fraction)
    state.values[:] = rsh_saturate_32(keep * state.values + ((1 << 15) - keep) * value, 15)
    return state.values.astype(np.int32)


def fraction_of(engine: Any, node: Node, types: tuple[ValueType, ...]) -> int:
    return types[0].fraction


@dataclass(frozen=True)
class Recur(Instruction):
    """Unit of the vector tile: the table of sigmoids, two products and a sum per element."""

    size: int
    name: ClassVar[str] = "recur"
    operation: ClassVar[str] = "gated_recurrence"
    reads: ClassVar[tuple[str, ...]] = (WORK,)
    writes: ClassVar[str] = WORK

    @classmethod
    def of(cls, node: Node, scope: Scope) -> Recur:
        return cls(node.type.size)

    def __str__(self) -> str:
        return f"{self.name} {self.size}"

    def cycles(self, chip: ChipSpec, activity: Activity) -> int:
        return 3 * passes(self.size, chip) + chip.vector.latency

    def counts(self, chip: ChipSpec, activity: Activity) -> dict[str, int]:
        elements = self.size * len(activity.context)
        return {"gate_operations": elements, "vector_bits_read": 96 * elements, "vector_bits_written": 64 * elements}

    def memory(self, chip: ChipSpec, context: int) -> dict[str, int]:
        return {"vector_memory": 4 * self.size}  # the state


def shapes(config: DecoderConfig, block: Recurrence) -> dict[str, tuple[int, ...]]:
    prefix, n, hidden = f"model.layers.{block.layer}.", block.heads * block.head_dim, config.hidden_size
    projections = {"value": (n, hidden), "gate": (n, hidden), "output": (hidden, n)}
    return {f"{prefix}recurrence_norm.weight": (hidden,), **{f"{prefix}recurrence.{k}_proj.weight": v for k, v in projections.items()}}


class FloatRecurrence:
    def forward(self, run: LayerRun, block: Recurrence, x: torch.Tensor, before: torch.Tensor) -> torch.Tensor:
        decoder, config, prefix = run.decoder, run.decoder.config, f"model.layers.{block.layer}.recurrence"
        y = run.observer.site(config.site(f"{block.prefix}.value_gate").index, decoder.norm(f"{prefix}_norm", x))
        value, gate = decoder.linear(f"{prefix}.value_proj", y), decoder.linear(f"{prefix}.gate_proj", y)
        run.observer.value("gate", block.layer, torch.cat((value, gate), -1))
        keep, state, states = gate.sigmoid(), torch.zeros_like(value[:, 0]), []
        for token in range(x.shape[1]):
            state = keep[:, token] * state + (1 - keep[:, token]) * value[:, token]
            states.append(state)
        o = run.observer.site(config.site(f"{block.prefix}.state_output").index, torch.stack(states, 1))
        return x + decoder.linear(f"{prefix}.output_proj", o)

    def integers(self, converter: Converter, block: Recurrence) -> dict[str, Any]:
        prefix, key = f"model.layers.{block.layer}.recurrence", block.prefix
        return {
            "recurrence_gain": converter.gain(f"{prefix}_norm.weight"),
            "value_gate": converter.site(f"{key}.value_gate", f"{prefix}.", ["value_proj", "gate_proj"]),
            "state_output": converter.site(f"{key}.state_output", f"{prefix}.", ["output_proj"]),
        }


@pytest.fixture(autouse=True)
def block() -> Iterator[None]:
    """The block and its operation, known everywhere."""
    operation, bind = "gated_recurrence", fraction_of
    with ExitStack() as stack:
        for registry, name, entry in (
            (KINDS, Recurrence.kind, Recurrence),
            (BLOCK_SHAPES, Recurrence.kind, shapes),
            (FLOAT_BLOCKS, Recurrence.kind, FloatRecurrence()),
            (OPERATIONS, operation, Operation((1,), (), (), type_rule)),
            (MEANINGS, operation, meaning),
            (FUNCTIONAL_OPERATIONS, operation, EngineOperation(functional, bind, lambda decoder, node, slots, _: TorchState(
                torch.zeros(slots, node.type.size, dtype=torch.int32, device=decoder.device)))),
            (EVENT_OPERATIONS, operation, EngineOperation(event, bind, lambda _, node: EventState(np.zeros(node.type.size, np.int64)))),
            (INSTRUCTIONS, Recur.name, Recur),
        ):  # fmt: skip
            stack.enter_context(registry.temporary(name, entry))  # type: ignore[attr-defined]
        yield


# From here on tests.


class RecurrentCheckpoint(Checkpoint):
    """A checkpoint whose tensors have canonical names."""

    @cached_property
    def canonical(self) -> CanonicalDecoder:
        return CanonicalDecoder(self.config, self.tensors)


def checkpoint() -> RecurrentCheckpoint:
    """Attention and feed-forward, a layer with the recurrence and a feed-forward, one with the recurrence alone."""
    stack = (Attention(0, 4, 2, 8), FeedForward(0, 48), Recurrence(1, 4, 6), FeedForward(1, 48), Recurrence(2, 2, 5))
    config = DecoderConfig(61, 32, 48, 3, 4, 2, 8, 64, 1e-5, 1e4, tie_embeddings=False, stack=stack)
    generator = torch.Generator().manual_seed(3)
    tensors = {}
    for name, shape in canonical_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        tensors[name] = 2 * noise / shape[-1] ** 0.5 if len(shape) > 1 else 1 + 0.1 * noise
    tensors["rotary.frequencies"] = rotary_frequencies(config)
    return RecurrentCheckpoint("recurrent", config, tensors, {})


@pytest.fixture(scope="module")
def tokens() -> list[int]:
    return np.random.default_rng(0).integers(0, 61, 40).tolist()


@pytest.fixture
def network(tokens: list[int]) -> SpikingNetwork:
    return convert(checkpoint(), ConvertConfig(spikes=1.5), [tokens])


def test_converted_without_prices_it_is_the_float_model(tokens: list[int]) -> None:
    dense = FloatDecoder(checkpoint().canonical)(torch.tensor([tokens]))[0].detach()
    logits = IntegerDecoder(convert(checkpoint(), ConvertConfig(spikes=None, price=0.0, query_spikes=5.0), [tokens]).weights).forward(
        tokens
    )
    ours = torch.from_numpy(logits).double() * 2.0**-16
    cosine = torch.nn.functional.cosine_similarity(ours, dense.double(), dim=1)
    assert float(cosine.mean()) > 0.999 and float(cosine.min()) > 0.995


def test_every_engine_gives_the_same(network: SpikingNetwork, tokens: list[int]) -> None:
    reference = IntegerDecoder(network.weights)
    expected = reference.step(tokens, reference.new_cache(), full=True)
    functional = network.functional()
    assert np.array_equal(functional.forward(torch.tensor([tokens]))[0].numpy(), expected.logits)
    program = compile_network(network, load_spec("nano"))
    events = EventDecoder(program, record=True)
    assert np.array_equal(np.stack([events.step(token) for token in tokens]), expected.logits)  # type: ignore[misc]
    assert events.records is not None
    for row, record in enumerate(events.records):
        assert all(np.array_equal(ours, theirs[row]) for ours, theirs in zip(record.hidden, expected.record.hidden, strict=True))
        for ours, theirs in zip(record.sites, expected.record.sites, strict=True):
            assert theirs.accumulators is not None and np.array_equal(ours.accumulators, theirs.accumulators[row])


def test_ragged_batches_and_copies_keep_their_states(network: SpikingNetwork, tokens: list[int]) -> None:
    decoder = network.functional()
    alone = decoder.forward(torch.tensor([tokens[:7]]), last_only=True)[0, -1]
    cache = decoder.new_cache(2, 16)
    ids = torch.tensor([tokens[:9], [*tokens[:6], 0, 0, 0]])
    decoder.forward(ids, cache, valid=[9, 6])
    cache.reorder([1, 1])
    both = decoder.forward(torch.tensor([[tokens[6]], [tokens[6]]]), cache)[:, -1]
    assert torch.equal(both[0], alone) and torch.equal(both[1], alone)


def test_it_is_compiled_timed_and_counted(network: SpikingNetwork, tokens: list[int], tmp_path: Any) -> None:
    network.save(tmp_path / "network")
    loaded = SpikingNetwork.load(tmp_path / "network")
    assert loaded.weights.config == network.weights.config
    program = compile_network(loaded, load_spec("nano"))
    assert [str(line) for line in program.stages[2].program] == [
        "receive residual 32", "norm 32", "encode value_gate 32", "receive value_gate 20", "recur 10", "encode state_output 10",
        "receive state_output 32", "add 32", "send 32",
    ]  # fmt: skip
    assert [tile.part for tile in floorplan(program) if tile.site == "layers.2.value_gate"] == ["other"]
    assert ">other<" in floorplan_svg(program)
    save_program(program, tmp_path / "program")
    program = load_program(tmp_path / "program")
    result = simulate(program, tokens[:8], 4, stop=())
    assert list(result.token_ids) == IntegerDecoder(network.weights).generate_greedy(tokens[:8], 4)
    assert count(program, result.trace, result.timing).gate_operations == len(result.trace.context) * (48 + 24 + 48 + 10)
    slower = replace(program, spec=program.spec.with_fields({"vector.latency": program.spec.vector.latency + 100}))
    assert simulate_timing(slower, result.trace).cycles_total > result.timing.cycles_total


def test_its_constants_and_its_state_take_memory_of_the_chip(network: SpikingNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load_spec("nano")
    memory = run_passes(Module(build_graph(network.weights), network.weights, spec), default_pipeline()).memory
    assert memory is not None
    gain_and_stops, state, streams = 4 * (32 + 32 + 10), 4 * 10, 3 * 4 * 32
    assert min(buffer.offset for buffer in memory.buffers[2]) == gain_and_stops + state + streams
    assert memory.sram["key_value"] == 2 * (2 * 8 + 1) * memory.max_context  # of the one layer with attention
    monkeypatch.setattr(Recur, "memory", lambda *_: {"vector_memory": 1_000_000})
    with pytest.raises(CompileError, match=r"stage 1 needs 100\d{4} bytes of vector memory.*it fits with vector.memory_bytes: 100\d{4}"):
        compile_network(network, spec)
