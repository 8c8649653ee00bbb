"""The event simulation equals the integer reference: spikes, accumulators, residual stream, logits and tokens."""

from __future__ import annotations

from dataclasses import replace

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_programs import make_program

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.conversion.convert import ConvertConfig, convert
from neuromorphic_llm.errors import SimulationError, UsageError
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.reference.activity import trace_fields
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation import crossbar_kernels
from neuromorphic_llm.simulation.attention_kernels import COUNTS
from neuromorphic_llm.simulation.events import EventDecoder

SPEC = ChipSpec("test").with_fields({"mesh.width": 7, "mesh.height": 6, "synapse.rows": 16, "readout.active_rows": 16})


def check_parity(weights: DecoderWeights, tokens: list[int], spec: ChipSpec = SPEC) -> None:
    """Run `tokens` through both and compare everything."""
    program = make_program(weights, spec)
    decoder = EventDecoder(program, record=True)
    logits = [decoder.step(token) for token in tokens]
    reference = IntegerDecoder(weights)
    result = reference.step(tokens, reference.new_cache(), full=True)
    assert np.array_equal(np.stack([row for row in logits if row is not None]), result.logits)
    trace = decoder.trace(len(tokens))
    counted = trace_fields(weights.config, [result.record], spec.synapse.rows, spec.vector.head_lanes)
    for name in COUNTS:
        assert np.array_equal(getattr(trace, name), counted[name]), name
    assert decoder.records is not None
    for n, record in enumerate(decoder.records):
        for site, (ours, theirs) in enumerate(zip(record.sites, result.record.sites, strict=True)):
            assert theirs.train is not None and theirs.accumulators is not None
            phases = int(theirs.train.phases[n])
            digits = theirs.train.digits[-phases:, n]
            assert ours.exponent == theirs.train.exponent[n]
            assert np.array_equal(ours.digits, digits), weights.config.sites[site].name
            assert np.array_equal(ours.accumulators, theirs.accumulators[n])
            assert trace.phases[n, site] == phases
            expected = np.zeros_like(trace.events[n, site])
            for block in range(0, digits.shape[1], spec.synapse.rows):
                expected[:phases, block // spec.synapse.rows] = np.count_nonzero(digits[:, block : block + spec.synapse.rows], axis=1)
            assert np.array_equal(trace.events[n, site], expected)
        for ours, theirs in zip(record.hidden, result.record.hidden, strict=True):
            assert np.array_equal(ours, theirs[n])


@pytest.mark.parametrize("code", ["signed-digit", "rate", "first-spike", "bit-planes"])
@pytest.mark.parametrize("bias", [False, True])
def test_every_code_equals_the_reference(code: str, bias: bool) -> None:
    check_parity(random_decoder(3, code=code, bias=bias), [5, 60, 0, 17, 17, 33, 2, 9])


def test_offsets_of_keys_equal_the_reference() -> None:
    check_parity(random_decoder(6, bias=True, key_offset=True), [5, 60, 0, 17, 17, 33, 2, 9])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    code=st.sampled_from(["signed-digit", "rate", "first-spike", "bit-planes"]),
    hidden=st.integers(2, 40),
    intermediate=st.integers(1, 70),
    group=st.integers(1, 3),
    kv_heads=st.integers(1, 2),
    half=st.integers(1, 9),
    lanes=st.integers(1, 4),
    tokens=st.lists(st.integers(0, 60), min_size=1, max_size=6),
)
def test_random_shapes_equal_the_reference(
    seed: int, code: str, hidden: int, intermediate: int, group: int, kv_heads: int, half: int, lanes: int, tokens: list[int]
) -> None:
    config = replace(
        SMALL_CONFIG,
        hidden_size=hidden,
        intermediate_size=intermediate,
        heads=group * kv_heads,
        kv_heads=kv_heads,
        head_dim=2 * half,
    )
    check_parity(random_decoder(seed, config=config, code=code), tokens, SPEC.with_fields({"vector.head_lanes": lanes}))


def test_more_rows_than_one_partial_sum_takes() -> None:
    config = replace(SMALL_CONFIG, hidden_size=600, intermediate_size=1100)
    weights = random_decoder(1, config=config, code="rate")
    check_parity(weights, [1, 2])


def test_extreme_weights_and_no_price() -> None:
    config = replace(SMALL_CONFIG, hidden_size=600, layers=1)
    weights = random_decoder(1, config=config, code="rate")
    gate_up = replace(weights.layers[0].gate_up, weight=np.full_like(weights.layers[0].gate_up.weight, -127), stop=np.zeros(600, np.int32))
    check_parity(replace(weights, layers=(weights.layers[0].replaced(gate_up=gate_up),)), [1, 2])


@pytest.mark.skipif(numba.config.NUMBA_NUM_THREADS < 2, reason="needs two processor cores")
def test_threads_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crossbar_kernels, "PARALLEL_GRAIN", 1 << 18)
    config = replace(SMALL_CONFIG, vocab_size=5000, hidden_size=300, layers=1)
    program = make_program(random_decoder(5, config=config), SPEC)
    one, two = (EventDecoder(program, threads=threads, record=True) for threads in (1, 2))
    for token in (4, 4999):
        first, second = one.step(token), two.step(token)
        assert first is not None and second is not None
        assert np.array_equal(first, second)
    assert one.records is not None and two.records is not None
    for ours, theirs in zip(one.records, two.records, strict=True):
        for a, b in zip(ours.sites, theirs.sites, strict=True):
            assert np.array_equal(a.accumulators, b.accumulators)


def test_without_logits_the_head_does_not_run() -> None:
    program = make_program(random_decoder(2), SPEC)
    decoder = EventDecoder(program)
    assert decoder.step(3, logits_wanted=False) is None
    assert decoder.trace(1).phases[0, -1] == 0
    assert not decoder.trace(1).logits_wanted[0]


def test_errors() -> None:
    weights = random_decoder(2, config=replace(SMALL_CONFIG, max_positions=2))
    decoder = EventDecoder(make_program(weights, SPEC))
    with pytest.raises(UsageError, match=r"token ids must lie in 0\.\.60, got 61"):
        decoder.step(61)
    decoder.step(0)
    decoder.step(0)
    with pytest.raises(SimulationError, match="context of 2 tokens is full"):
        decoder.step(0)
    with pytest.raises(SimulationError, match=r"layers\.0\.qkv does not spike"):
        EventDecoder(make_program(random_decoder(2, parts="feed-forward"), SPEC))
    with pytest.raises(UsageError, match="threads must lie in"):
        EventDecoder(make_program(weights, SPEC), threads=0)


@pytest.mark.model
@pytest.mark.slow
def test_the_real_model_equals_the_reference(smollm2: Checkpoint) -> None:
    tokens = smollm2.tokenizer()("The river was higher than anyone in the village could remember.", add_special_tokens=False)["input_ids"]
    network = convert(smollm2, ConvertConfig(), [tokens * 8])
    check_parity(network.weights, tokens[:10], load_spec("nc1"))
