"""Commands for the attention engine, and what the integer reference and timing.md say of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.reference.activity import most_in_sets
from neuromorphic_llm.reference.attention import AttentionActivity, LayerCache, attend
from neuromorphic_llm.reference.config import CodeConfig, Formats
from neuromorphic_llm.rtl.bench import Bench

Integers = NDArray[np.int64]
RESULTS = ["done", "output_valid", "output_word", "output_mask", "output_data"]


@dataclass(frozen=True)
class Shape:
    """An engine and the network on it."""

    head_dim: int
    group: int
    slots: int
    lanes: int
    key_lanes: int
    softmax_lanes: int
    latency: int = 24
    kv_bytes: int = 65536
    largest_dim: int = 0  # that of the hardware; 0: head_dim
    largest_group: int = 0
    encoder: str = "phase"
    head_lanes: int = 1
    maximum: str = "read"

    @property
    def spec(self) -> ChipSpec:
        return load_spec("nano").with_fields(
            {
                "vector.lanes": self.lanes,
                "vector.key_lanes": self.key_lanes,
                "vector.softmax_lanes": self.softmax_lanes,
                "vector.attend_latency": self.latency,
                "vector.kv_bytes_per_engine": self.kv_bytes,
                "vector.encoder": self.encoder,
                "vector.head_lanes": self.head_lanes,
                "vector.maximum": self.maximum,
            }
        )

    @property
    def heads(self) -> int:
        return self.group * self.slots

    @property
    def head_words(self) -> int:
        """P(D)."""
        return -(-self.head_dim // self.lanes)

    @property
    def longest(self) -> int:
        """Tokens of a slot."""
        return self.kv_bytes // (2 * (self.largest_dim or self.head_dim) + 1) // self.slots

    @property
    def parameters(self) -> dict[str, int]:
        return {"HEAD_DIM": self.largest_dim or self.head_dim, "GROUP": self.largest_group or self.group, "SLOTS": self.slots}

    def bench(self) -> Bench:
        return Bench("nmllm_attention_tb", self.parameters, spec=self.spec)


@dataclass
class Script:
    """Input values by cycle."""

    cycles: int = 0
    events: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)

    def put(self, cycle: int, **values: Any) -> None:
        for name, value in values.items():
            self.events.setdefault(name, []).append((cycle, value))
        self.cycles = max(self.cycles, cycle + 1)

    def next(self, **values: Any) -> None:
        self.put(self.cycles, **values)

    def inputs(self, bench: Bench) -> dict[str, NDArray[Any]]:
        arrays: dict[str, NDArray[Any]] = {}
        for name, entries in self.events.items():
            port = bench.ports[name]
            wide = port.size > 8
            array = np.zeros((self.cycles, port.size // 4) if wide else self.cycles, np.uint32 if wide else np.uint64)
            values = [_word(value, port.size) if isinstance(value, np.ndarray) else value for _, value in entries]
            array[[cycle for cycle, _ in entries]] = np.array(values, array.dtype)
            arrays[name] = array
        return arrays


def _word(lanes: NDArray[Any], size: int) -> Any:
    """Lanes of a packed port as words of 32 bits, or as one number if the port has no more than 64 bits."""
    raw = np.ascontiguousarray(lanes).tobytes().ljust(size, b"\0")
    return np.frombuffer(raw, "<u4") if size > 8 else int.from_bytes(raw, "little")


@dataclass
class Network:
    """Random keys, values and prices of a shape, with a code and fractions; `attend` is the reference."""

    shape: Shape
    code: CodeConfig
    formats: Formats
    cache: LayerCache
    stop: NDArray[np.int32]  # [heads, head_dim]
    value_base: NDArray[np.int32]  # [slots]

    def attend(self, q: Integers, context: int) -> tuple[Integers, AttentionActivity]:
        """Outputs and activity of one query vector, [heads, head_dim]."""
        output, activity = attend(q[None], self.cache, context - 1, self.stop, self.value_base, self.formats, self.code)
        return output[0], activity


def random_network(shape: Shape, tokens: int, rng: np.random.Generator, **choices: Any) -> Network:
    """`choices`: code, formats, cache, stop, value_base; all others are drawn."""
    vectors = (tokens, shape.slots, shape.head_dim)
    drawn: dict[str, Any] = {
        "code": CodeConfig(query_phases=int(rng.integers(1, 11)), probability_bits=int(rng.integers(1, 11))),
        "formats": Formats(),
        "cache": LayerCache(
            rng.integers(-128, 128, vectors).astype(np.int8),
            rng.integers(0, 9, vectors[:2]).astype(np.int8),
            rng.integers(-128, 128, vectors).astype(np.int8),
            rng.integers(0, 4, vectors[:2]).astype(np.int8),
        ),
        "stop": np.minimum(rng.lognormal(10.0, 4.0, (shape.heads, shape.head_dim)), 2**31 - 1).astype(np.int32),
        "value_base": rng.integers(0, 12, shape.slots).astype(np.int32),
    }
    return Network(shape, **(drawn | choices))


def random_queries(shape: Shape, tokens: int, contexts: list[int], rng: np.random.Generator) -> list[tuple[Integers, int]]:
    """Heads of very different size, some zero."""
    queries = []
    for context in contexts:
        bits = rng.integers(0, 32, shape.heads)
        q = (rng.uniform(-1, 1, (shape.heads, shape.head_dim)) * 2.0 ** bits[:, None]).astype(np.int64)
        q[rng.random(shape.heads) < 0.1] = 0
        queries.append((q, context))
    assert max(contexts) <= tokens
    return queries


def load(script: Script, network: Network, kv_order: Integers) -> None:
    """Configuration, stop prices, and the rows of keys and values in this order of tokens."""
    shape, code, formats = network.shape, network.code, network.formats
    tokens = len(network.cache.keys)
    registers = {
        0: shape.head_dim,
        1: shape.group,
        2: code.query_phases,
        3: code.probability_bits,
        4: 2 * formats.qkv - 8,
        5: 15 + formats.qkv - formats.attention,
    }
    for slot in range(shape.slots):
        first = slot * shape.group * shape.head_dim
        values = (first, slot * -(-tokens // shape.key_lanes), slot * tokens, int(network.value_base[slot]))
        registers |= {16 + 4 * slot + n: value for n, value in enumerate(values)}
    for address, value in registers.items():
        script.next(cfg_valid=1, cfg_address=address, cfg_data=value % 2**64)
    load_vector(script, network, network.stop, "load_stop")
    cache = network.cache
    for token in kv_order:
        for slot in range(shape.slots):
            for is_value, rows, exponents in ((0, cache.keys, cache.key_exponent), (1, cache.values, cache.value_exponent)):
                row = rows[token, slot].reshape(shape.head_words, -1)
                where = {"kv_slot": slot, "kv_position": int(token), "kv_exponent": int(exponents[token, slot])}
                for word in range(shape.head_words):
                    script.next(kv_valid=1, kv_is_value=is_value, kv_word=word, kv_data=row[word], **where)
    script.cycles += 1


def load_vector(script: Script, network: Network, vector: NDArray[Any], port: str) -> None:
    lanes = network.shape.lanes
    flat = np.zeros(-(-vector.size // lanes) * lanes, np.int32)
    flat[: vector.size] = vector.reshape(-1)
    for word, data in enumerate(flat.reshape(-1, lanes)):
        script.next(load_word=word, load_data=data, **{port: 1})


def group_cycles(shape: Shape, activity: AttentionActivity, context: int, slot: int) -> int:
    """Cycles of a command (timing.md, attend)."""
    heads = slice(slot * shape.group, (slot + 1) * shape.group)
    coding = int(shape.spec.encoder.coding(shape.head_words, activity.query_phases[0, heads].astype(np.int64)).sum())
    spikes = (activity.element_spikes, activity.key_spikes)
    scores, values = (int(most_in_sets(each[:, heads], shape.group, shape.head_lanes)[0].sum()) for each in spikes)
    passes = shape.group * (2 if shape.maximum == "read" else 1) + -(-shape.group // shape.head_lanes)
    words = passes * -(-context // shape.softmax_lanes) + shape.group * shape.latency
    return coding + scores * -(-context // shape.key_lanes) + words + values


def counts(shape: Shape, activity: AttentionActivity, context: int) -> Counter[str]:
    """Counters of one token over all slots (timing.md, Counters)."""
    pairs = shape.heads * context
    query, probability = int(activity.query_spikes.sum()), int(activity.probability_spikes.sum())
    row = 8 * (shape.head_dim + 1)
    keys = 8 * context * (int(activity.key_columns.sum()) + shape.slots)
    coded, outputs = shape.head_dim * int(activity.query_phases.sum()), shape.heads * shape.head_dim
    read, written = shape.spec.encoder.words(outputs, coded, coded)
    return Counter(
        encode_elements=coded,
        query_spikes=query,
        score_operations=query * context,
        softmax_elements=pairs,
        maximum_elements=pairs,
        probability_spikes=probability,
        value_operations=probability * shape.head_dim,
        divisions=shape.heads,
        attention_values=outputs,
        kv_bits_read=keys + row * int(most_in_sets(activity.key_spikes, shape.group, shape.head_lanes)[1].sum()),
        score_bits_read=(64 if shape.maximum == "read" else 40) * pairs,
        score_bits_written=40 * pairs,
        words_read=read,
        words_written=written + outputs,
    )


def check(
    bench: Bench, network: Network, queries: list[tuple[Integers, int]], rng: np.random.Generator, order: Integers | None = None
) -> int:
    """Run every query vector with its context: outputs, the cycle of `done` and counters as the reference says. Returns the cycles run."""
    shape = network.shape
    tokens = len(network.cache.keys)
    bench.reset()
    script = Script()
    load(script, network, rng.permutation(tokens) if order is None else order)
    bench.run(script.inputs(bench), outputs=[])
    cycles = script.cycles
    expected: Counter[str] = Counter(kv_bits_written=2 * tokens * shape.slots * 8 * (shape.head_dim + 1))
    for q, context in queries:
        output, activity = network.attend(q, context)
        expected += counts(shape, activity, context)
        cycles += _check_token(bench, network, q, context, output, activity, rng)
    final = bench.run({}, cycles=1)
    found = {name.removeprefix("count_"): int(final[name][0]) for name in final if name.startswith("count_")}
    assert found == {name: expected[name] for name in found}
    return cycles


def _check_token(
    bench: Bench, network: Network, q: Integers, context: int, output: Integers, activity: AttentionActivity, rng: np.random.Generator
) -> int:
    """All slots in random order, some at once after the one before, some after idle cycles."""
    shape = network.shape
    script = Script()
    load_vector(script, network, q, "load_query")
    largest = np.zeros(shape.largest_group or shape.group, np.uint32)
    ends = []
    for slot in rng.permutation(shape.slots):
        heads = slice(slot * shape.group, (slot + 1) * shape.group)
        largest[: shape.group] = np.abs(q[heads]).max(axis=1)
        script.cycles += int(rng.integers(0, 1 + rng.choice([0, 2, 400])))
        script.next(start=1, slot=int(slot), context_size=context, maximum=largest.copy())
        script.cycles += group_cycles(shape, activity, context, slot) - 1
        ends.append(script.cycles - 1)
    result = bench.run(script.inputs(bench), outputs=RESULTS)
    assert np.flatnonzero(result["done"]).tolist() == ends
    written = np.flatnonzero(result["output_valid"])
    assert len(written) == shape.heads * shape.head_words
    data = result["output_data"][written].reshape(len(written), -1)
    lanes = np.ascontiguousarray(data).view(np.int32)[:, : shape.lanes]
    found = np.full((-(-output.size // shape.lanes), shape.lanes), 2**40, np.int64)
    for word, mask, values in zip(result["output_word"][written], result["output_mask"][written], lanes, strict=True):
        chosen = (int(mask) >> np.arange(shape.lanes)) & 1 == 1
        assert (found[int(word), chosen] == 2**40).all()  # each element once
        found[int(word), chosen] = values[chosen]
    assert np.array_equal(found.reshape(-1)[: output.size].reshape(output.shape), output)
    return script.cycles
