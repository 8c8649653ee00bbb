"""Where cycles go: the parts of a decoded token's latency, and tokens of a prompt taken for decoded ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from small_programs import make_program

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.latency import UNITS, decode_latency
from neuromorphic_llm.simulation.run import SimulationResult, simulate, simulate_sequences
from neuromorphic_llm.simulation.timing import simulate_timing

PROMPT = [7, 1, 42, 3, 9, 30, 12]
TEST = ChipSpec("test").with_fields({"mesh.width": 7, "mesh.height": 6, "synapse.rows": 16, "readout.active_rows": 16})


@pytest.fixture(scope="module", params=["random", "compiled"])
def run(request: pytest.FixtureRequest) -> tuple[Program, SimulationResult]:
    """A program and a generation of six tokens that observes the prompt's tokens from the third to the fifth."""
    weights = random_decoder(9)
    program = make_program(weights, TEST) if request.param == "random" else compile_network(weights, load_spec("nano"))
    return program, simulate(program, PROMPT, 6, stop=(), observe=[2, 3, 4])


def test_what_is_observed_changes_nothing_else(run: tuple[Program, SimulationResult]) -> None:
    program, observing = run
    plain = simulate(program, PROMPT, 6, stop=())
    assert plain.token_ids == observing.token_ids and plain.prefill == observing.prefill and plain.decode == observing.decode
    for name in ("logits_wanted", "phases", "events", "query_spikes", "context"):
        assert np.array_equal(getattr(plain.trace, name), getattr(observing.trace, name))
    assert observing.observed.logits_wanted.tolist() == [False, False, True, True, True, False, True, True, True, True, True, True]
    assert (plain.observed.phases == plain.trace.phases).all()


def test_units_sum_to_the_cycles_of_the_decoded_tokens(run: tuple[Program, SimulationResult]) -> None:
    program, result = run
    assert result.decode is not None
    latency = decode_latency(program, result.trace, result.timing, slice(len(PROMPT), result.trace.tokens))
    assert latency.tokens == 5 and latency.cycles == result.decode.cycles
    assert sum(latency.totals().values()) == result.decode.cycles and tuple(latency.totals()) == UNITS
    assert all(cycles > 0 for cycles in latency.totals().values())
    content = latency.to_json()
    assert sum(content["units"].values()) == pytest.approx(content["cycles_per_token"]) == result.cycles_per_token
    assert len(content["stages"]) == program.weights.config.layers + 1
    for name in UNITS[:4]:
        assert sum(stage[name] for stage in content["stages"]) == pytest.approx(content["units"][name])


def test_units_by_the_rules_of_the_page(run: tuple[Program, SimulationResult]) -> None:
    """docs/reference/timing.md by hand for what does not depend on the spikes; the network's share is bounded by its links."""
    program, result = run
    spec, config, tokens = program.spec, program.weights.config, 5
    latency = decode_latency(program, result.trace, result.timing, slice(len(PROMPT), result.trace.tokens))

    def passes(count: int) -> int:
        return -(-count // spec.vector.lanes)

    hidden = config.hidden_size
    norm, add = 3 * passes(hidden) + spec.vector.norm_latency, passes(hidden) + spec.vector.latency
    rope = passes((config.heads + config.kv_heads) * config.head_dim) + spec.vector.latency
    write = passes(2 * config.kv_heads * config.head_dim) + spec.vector.latency
    assert latency.vector.tolist() == [tokens * (2 * norm + 2 * add + rope + write)] * config.layers + [tokens * norm]
    row = -(-2 * hidden // spec.host.dram_bytes_per_cycle)
    assert latency.host == tokens * (spec.host.latency + spec.host.dram_latency + row)
    # The row's flits, and at least a cycle for each of the trips host, layers, head, host.
    flits = -(-hidden // 2)
    trips = config.layers + 2
    assert tokens * (flits + trips) <= latency.network <= tokens * (flits + trips * (spec.mesh.width + spec.mesh.height + 4))
    # An encoder takes its maximum and a scan of a phase at least, and a layer sends its residual.
    least = sum(2 * passes(config.sites[site].shape[0]) for site in range(4)) + flits
    assert (latency.encode[:-1] >= tokens * least).all() and latency.attention[-1] == 0


def test_given_tokens_are_decoded_like_generated_ones(run: tuple[Program, SimulationResult]) -> None:
    """A prompt of all tokens but the last, with all logits wanted, has the decoded tokens' cycles and counts."""
    program, result = run
    assert result.decode is not None
    ids = [*PROMPT, *result.token_ids[:-1]]
    given = simulate(program, ids, 1, stop=(), observe=range(len(ids)))
    part = given.observed.decoding(slice(len(PROMPT), len(ids)))
    assert count(program, part, simulate_timing(program, part), slice(1, None)) == result.decode
    early = result.observed.decoding(slice(3, 5))
    alone = replace(early, prompt_tokens=1)
    assert early.context.tolist() == [3, 4, 5] and (simulate_timing(program, alone).decode_cycles > 0).all()


@pytest.mark.parametrize("sequences", [2, 5])
def test_units_of_several_sequences(run: tuple[Program, SimulationResult], sequences: int) -> None:
    """What a token does is what it does alone but for flits that meet; what is left waits for other tokens, more of them for longer."""
    program, alone = run
    result = simulate_sequences(program, [PROMPT] * sequences, 6, stop=())
    assert result.decode is not None and result.decode.tokens == 5 * sequences
    start = result.trace.prompt_tokens
    latency = decode_latency(program, result.trace, result.timing, slice(start, start + result.decode.tokens))
    one = decode_latency(program, alone.trace, alone.timing, slice(len(PROMPT), alone.trace.tokens))
    assert latency.cycles == sequences * result.decode.cycles and sum(latency.totals().values()) == latency.cycles
    for name in ("attention", "vector"):
        assert (getattr(latency, name) == sequences * getattr(one, name)).all()
    assert latency.host == sequences * one.host
    for name in ("synapse", "encode"):
        assert getattr(latency, name).sum() == pytest.approx(sequences * getattr(one, name).sum(), rel=0.02)
    stages = len(program.stages)
    assert (latency.network > 1.5 * sequences * one.network) == (sequences > stages - 1)
