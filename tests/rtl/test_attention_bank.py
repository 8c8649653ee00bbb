"""An attention engine, its turn through the heads and its copy of the queries, against the integer reference: outputs, counters, cycles."""

from __future__ import annotations

import functools
from collections import Counter
from dataclasses import fields, replace

import numpy as np
import pytest
from attention_script import Integers, Network, Script, Shape, counts, group_cycles, random_network, random_queries

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.reference.attention import AttentionActivity, LayerCache
from neuromorphic_llm.rtl.bench import Bench

COUNTERS = (
    "encode_elements",
    "query_spikes",
    "score_operations",
    "softmax_elements",
    "maximum_elements",
    "probability_spikes",
    "value_operations",
    "divisions",
    "attention_values",
    "kv_bits_read",
    "kv_bits_written",
    "score_bits_read",
    "score_bits_written",
    "words_read",
    "words_written",
)
"""In the order of the module's `counts`."""

WORDS = 64

# All key/value heads are slots of these shapes; a bank of two engines has every other one: three and two, two each.
SHAPES = {
    "unequal": Shape(16, group=2, slots=5, lanes=8, key_lanes=16, softmax_lanes=8),
    "written": Shape(16, group=2, slots=4, lanes=8, key_lanes=16, softmax_lanes=8, head_lanes=2, maximum="written"),
    "shared-words": Shape(8, group=2, slots=4, lanes=16, key_lanes=16, softmax_lanes=4, latency=40, kv_bytes=16384),
}
ENGINES = 2


def spec(shape: Shape) -> ChipSpec:
    return shape.spec.with_fields({"vector.attention_engines": ENGINES})


@functools.cache
def bench(name: str) -> Bench:
    shape = SHAPES[name]
    parameters = {"HEAD_DIM": shape.head_dim, "GROUP": shape.group, "SLOTS": -(-shape.slots // ENGINES), "WORDS": WORDS}
    return Bench("nmllm_attention_bank", parameters, spec=spec(shape))


def load(script: Script, network: Network, index: int, kv_heads: int, part: int, order: Integers) -> None:
    """Configuration, stop prices, and all keys and values as nmllm_kv_write gives them: several vectors a word where they are short.

    Tokens come in this order, and every `part` of them are a sequence.
    """
    shape, code, formats, tokens = network.shape, network.code, network.formats, len(network.cache.keys)
    registers = {0: shape.head_dim, 1: shape.group, 2: code.query_phases, 3: code.probability_bits}
    registers |= {4: 2 * formats.qkv - 8, 5: 15 + formats.qkv - formats.attention}
    for slot, head in enumerate(range(index, kv_heads, ENGINES)):
        first = head * shape.group * shape.head_dim
        values = (first, slot * -(-tokens // shape.key_lanes), slot * tokens, int(network.value_base[head]))
        registers |= {16 + 4 * slot + n: value for n, value in enumerate(values)}
    for address, value in registers.items():
        script.next(cfg_valid=1, cfg_address=address, cfg_data=value % 2**64)
    for word, prices in enumerate(network.stop.reshape(-1, shape.lanes)):
        script.next(stop_mask=2**shape.lanes - 1, stop_address=word, stop_data=prices)
    cache = network.cache
    together = max(shape.lanes // shape.head_dim, 1)  # vectors a word
    for token in order:
        vectors = np.concatenate([cache.keys[token], cache.values[token]])[: 2 * kv_heads]
        exponents = np.concatenate([cache.key_exponent[token], cache.value_exponent[token]])
        for first in range(0, 2 * kv_heads, together):
            numbers = range(first, first + together)
            of_word = {"kv_valid": 2**together - 1, "position": token % part, "base": token - token % part}
            of_word |= {"kv_vector": sum(n << 6 * g for g, n in enumerate(numbers))}
            of_word |= {"kv_exponent": sum(int(exponents[n]) << 5 * g for g, n in enumerate(numbers))}
            for word, data in enumerate(vectors[first : first + together].reshape(-1, shape.lanes)):
                script.next(kv_word=word, kv_data=data, **of_word)
    script.cycles += 2


def of_engine(activity: AttentionActivity, shape: Shape, index: int) -> tuple[Shape, AttentionActivity]:
    """The part of the heads that this engine has."""
    own = [head * shape.group + i for head in range(index, shape.slots, ENGINES) for i in range(shape.group)]
    parts = {field.name: getattr(activity, field.name)[:, own] for field in fields(activity)}
    return replace(shape, slots=len(own) // shape.group), AttentionActivity(**parts)


def attend(bench: Bench, network: Network, base: int, q: Integers, context: int, index: int) -> Counter[str]:
    """Load queries, start, and read this engine's outputs back; counters expected of it, with the tokens from `base` on visible."""
    shape, script = network.shape, Script()
    own = (getattr(network.cache, each.name)[base:] for each in fields(LayerCache))
    network = replace(network, cache=LayerCache(*own))
    output, activity = network.attend(q, context)
    for word, data in enumerate(q.reshape(-1, shape.lanes).astype(np.int32)):
        script.next(query_mask=2**shape.lanes - 1, query_address=word, query_data=data)
    heads = range(index, shape.slots, ENGINES)
    maxima = np.zeros(bench.ports["maxima"].size // 4, np.uint32)
    maxima[: shape.heads] = np.abs(q).max(axis=1)
    begin = script.cycles
    end = begin + sum(group_cycles(shape, activity, context, head) for head in heads)
    script.next(start=1)
    script.cycles = end
    words = output.size // shape.lanes
    for word in range(words):
        script.next(output_read=1, output_address=word)
    script.cycles += 1
    held = {"maxima": maxima, "position": context - 1, "base": base, "index": index, "kv_heads": shape.slots}
    seen = bench.run(script.inputs(bench) | held, outputs=["done", "output_data", "output_maximum"])
    assert np.flatnonzero(seen["done"] == 0).tolist() == list(range(begin + 1, end - 1))  # high without work, and as the last head ends
    found = np.ascontiguousarray(seen["output_data"][end + 1 :]).view(np.int32).reshape(output.shape)
    for head in heads:
        group = slice(head * shape.group, (head + 1) * shape.group)
        assert np.array_equal(found[group], output[group])
    own_outputs = np.concatenate([output[head * shape.group : (head + 1) * shape.group] for head in heads])
    assert seen["output_maximum"][end] == (np.abs(own_outputs).max() if shape.maximum == "written" else 0)
    own, part = of_engine(activity, shape, index)
    return counts(own, part, context)


def run(name: str, seed: int, rounds: int) -> None:
    rng, shape = np.random.default_rng(seed), SHAPES[name]
    for number in range(rounds):
        index, sequences = number % ENGINES, int(rng.choice([1, 1, 2, 3]))
        part = int(rng.integers(1, 80)) if sequences == 1 else shape.key_lanes * int(rng.integers(1, 5))
        tokens = sequences * part
        network = random_network(shape, tokens, rng)
        bench(name).reset()
        script = Script()
        load(script, network, index, shape.slots, part, np.arange(tokens) if number % 3 else rng.permutation(tokens))
        bench(name).run(script.inputs(bench(name)) | {"index": index, "kv_heads": shape.slots}, outputs=[])
        own = len(range(index, shape.slots, ENGINES))
        expected: Counter[str] = Counter(kv_bits_written=2 * tokens * own * 8 * (shape.head_dim + 1))
        for q, context in random_queries(shape, part, [1, part, int(rng.integers(1, part + 1))], rng):
            expected += attend(bench(name), network, part * int(rng.integers(sequences)), q, context, index)
        found = bench(name).run({}, cycles=1, outputs=["counts"])["counts"][0]
        assert dict(zip(COUNTERS, found.tolist(), strict=True)) == {counter: expected[counter] for counter in COUNTERS}


@pytest.mark.parametrize("name", SHAPES)
def test_heads_in_turn(name: str) -> None:
    run(name, 1, 8)


def test_an_engine_without_heads_is_always_done() -> None:
    bench("unequal").reset()
    seen = bench("unequal").run({"start": np.arange(40) == 9, "index": 1, "kv_heads": 1}, outputs=["done", "counts"])
    assert seen["done"].all() and not seen["counts"].any()


@pytest.mark.slow
@pytest.mark.parametrize("name", SHAPES)
def test_heads_in_turn_long(name: str) -> None:
    run(name, 2, 480)
