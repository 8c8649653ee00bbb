"""The whole chip in RTL, running a language model, equals the cycle simulator: tokens, cycles and counters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from chip_parity import check
from nano_chip import (
    calibrated_program,
    centred_program,
    chip,
    decay_program,
    element_program,
    gated_program,
    membrane_program,
    nano2_program,
    program,
    small_joined_program,
    small_reread_program,
)

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.evaluation.simulated import rtl_generation, simulated_generation
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.rtl.chip import SYNAPSE_COUNTERS, VECTOR_COUNTERS, RtlChip
from neuromorphic_llm.rtl.lockstep import run_lockstep
from neuromorphic_llm.simulation.recorded import record_run
from neuromorphic_llm.simulation.run import simulate, simulate_sequences

PROMPTS = [[5, 17, 3], [9], [5, 17], [60], [1], [33]]
"""More sequences than stages."""


def test_nano_decodes_as_simulated() -> None:
    (tokens,) = check(chip(), [[5, 17, 3]], 6)  # the fifth is of the second tile of the head, the others of the first
    assert check(chip(), [[5, 17, 3]], 3, stop=[tokens[1]]) == (tokens[:2],)  # from reset again, ended by a token
    check_single_counters(rows=4, wanted=2)
    # The chip is idle now; the host port reads the counters that the simulation sees at once.
    bench = chip()._bench
    counts = bench.run({}, cycles=1, outputs=("counts",))["counts"][0]
    tile, index = np.indices(counts.shape).reshape(2, -1)
    read = bench.run({"counter_tile": tile, "counter_index": index}, outputs=("counter_value",))["counter_value"]
    assert counts.any() and np.array_equal(read, counts.ravel())


def test_nano_decodes_several_sequences_as_simulated() -> None:
    """More sequences than stages, then some of which one ends with its first token; the tokens of each are those of the sequence alone."""
    tokens = check(chip(), PROMPTS, 2)
    assert tokens == tuple(simulate(program(), prompt, 2, stop=()).token_ids for prompt in PROMPTS)
    prompts, stop = PROMPTS[:2], [tokens[1][0]]
    ours, theirs = rtl_generation(chip(), prompts, 2, stop, 0.0), simulate_sequences(program(), prompts, 2, stop=stop)
    assert list(map(len, ours.generated)) == [2, 1] and ours.tail is not None
    assert replace(simulated_generation(theirs), backend="rtl", wall_tokens_per_s=ours.wall_tokens_per_s, compile_s=0.0) == ours


@pytest.mark.slow
def test_nano_decodes_many_tokens_of_several_sequences_as_simulated() -> None:
    """The same for longer, with sequences that end one by one, and event by event."""
    tokens = check(chip(), PROMPTS, 12)
    shorter = check(chip(), PROMPTS, 12, stop=[tokens[1][0], tokens[0][2], tokens[3][7]])
    assert len(set(map(len, shorter))) > 2
    result, difference = run_lockstep(chip(), record_run(program(), PROMPTS, 12, ()), ())
    assert difference is None and result.compared["token"] == 12 * len(PROMPTS)


def check_single_counters(rows: int, wanted: int) -> None:
    """Counters of single tiles that no sum above uses: spikes, their flits and key/value vectors of a vector tile; those unused are 0."""
    counts = chip()._bench.run({}, cycles=1, outputs=("counts",))["counts"][0]
    stages, config = program().stages, program().weights.config
    used = {stage.vector_tile: len(VECTOR_COUNTERS) + 3 for stage in stages}
    used |= {region.tile: len(SYNAPSE_COUNTERS) + 1 for stage in stages for regions in stage.regions for region in regions} | {0: 1}
    for tile, values in enumerate(counts):
        assert not values[used.get(tile, 0) : 32].any()
    for number, stage in enumerate(stages):
        values = counts[stage.vector_tile].astype(int)
        spikes, flits, vectors = values[len(VECTOR_COUNTERS) : len(VECTOR_COUNTERS) + 3]
        assert spikes == sum(counts[regions[0].tile, 0] for regions in stage.regions)
        sent = [rows, wanted, wanted][max(number - config.layers + 2, 0)]  # residuals; only those wanted leave the last layer
        size = 1 if number == config.layers else -(-config.hidden_size // 2)
        credits_sent = wanted if number == config.layers else rows
        assert values[32] == flits + sent * size + credits_sent
        assert vectors == (0 if number == config.layers else 2 * config.kv_heads * rows)


def test_nano_with_offsets_of_keys_decodes_as_simulated() -> None:
    (tokens,) = check(RtlChip(centred_program()), [[5, 17, 3]], 3)
    assert tokens != simulate(program(), [5, 17, 3], 3).token_ids  # as the integers say: the offsets are not of this model


@pytest.mark.slow
def test_nano_with_the_encoder_by_elements_decodes_as_simulated() -> None:
    """Tokens are those of the encoder `phase`: only cycles and words differ, and memories in banks change neither."""
    (tokens,) = check(RtlChip(element_program()), [[5, 17, 3]], 3)
    assert tokens == simulate(program(), [5, 17, 3], 3).token_ids


def check_gated(gating: str, wake_cycles: int) -> RtlChip:
    rtl = RtlChip(gated_program(gating, wake_cycles))
    check(rtl, [[5, 17, 3]], 4)
    check(rtl, PROMPTS, 3)
    return rtl


@pytest.mark.slow
def test_nano_with_gated_tiles_and_routers_decodes_as_simulated() -> None:
    """Waking takes longer than the host's step, norms and encoders. A tile whose orders go astray is found by the flit that comes."""
    rtl = check_gated("all", 200)
    stage = program().stages[1]
    of_site = (rtl._load[:, 0] == stage.regions[2][0].tile) & (rtl._load[:, 1] == 15) & (rtl._load[:, 2] == 1)
    assert rtl._load[of_site, 3].tolist() == [2]
    rtl._load[of_site, 3] = 9
    route = program().routes.spike[stage.sites[2]]
    with pytest.raises(SimulationError, match=f"awake: a flit of route {route} arrives at a tile that is off or waking"):
        rtl.run([[5, 17, 3]], 1)


@pytest.mark.slow
@pytest.mark.parametrize(("gating", "wake_cycles"), [("tiles", 0), ("all", 1), ("all", 64), ("tiles", 5000)])
def test_nano_with_other_times_to_wake(gating: str, wake_cycles: int) -> None:
    check_gated(gating, wake_cycles)


@pytest.mark.slow
def test_nano_with_membranes_decodes_as_simulated() -> None:
    """Phases arrive most significant first and are integrated in reverse; and the same event by event."""
    rtl = RtlChip(membrane_program())
    check(rtl, [[5, 17, 3]], 3)
    counted = rtl.run([[5, 17, 3]], 1).counts
    assert all(counted[name] for name in ("repeated_conversions", "integrations", "halvings"))
    result, difference = run_lockstep(rtl, record_run(membrane_program(), [[5, 17, 3]], 2, ()), ())
    assert difference is None and result.compared["accumulator"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("made", [small_joined_program, small_reread_program], ids=["joined", "rereads"])
def test_small_chip_decodes_as_simulated(made: Callable[[], Program]) -> None:
    """Row blocks that are converted together, and tiles that wait for the halves of their own macros; and the same event by event."""
    rtl = RtlChip(made())
    check(rtl, PROMPTS[:2], 4)
    assert rtl.run([[5, 17, 3]], 1).counts["repeated_conversions"]
    result, difference = run_lockstep(rtl, record_run(rtl.program, PROMPTS[:3], 3, ()), ())
    assert difference is None and result.compared["accumulator"] > 0


@pytest.mark.slow
def test_nano2_decodes_as_simulated() -> None:
    """Phases arrive least significant first and are integrated as they come; tiles are off in between; and the same event by event."""
    rtl = RtlChip(nano2_program())
    check(rtl, [[5, 17, 3]], 3)
    check(rtl, PROMPTS, 3)
    counted = rtl.run([[5, 17, 3]], 1).counts
    assert all(counted[name] for name in ("repeated_conversions", "integrations", "halvings", "vector_tile_wakes", "synapse_tile_wakes"))
    result, difference = run_lockstep(rtl, record_run(nano2_program(), PROMPTS[:3], 2, ()), ())
    assert difference is None and result.compared["query_spike"] > 0


@pytest.mark.slow
def test_nano2_with_membranes_that_decay_decodes_as_simulated() -> None:
    """Trains are stamped, each spike one pulse; and the same event by event."""
    rtl = RtlChip(decay_program())
    check(rtl, [[5, 17, 3]], 3)
    counted = rtl.run([[5, 17, 3]], 1).counts
    assert all(counted[name] for name in ("repeated_conversions", "integrations", "decays", "slot_matches")) and not counted["halvings"]
    result, difference = run_lockstep(rtl, record_run(decay_program(), [[5, 17, 3]], 2, ()), ())
    assert difference is None and result.compared["accumulator"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("checked", [False, True])
def test_nano_writes_32_tokens(checked: bool) -> None:
    """Also without assertions and observers, as `simulate --backend rtl` builds the chip."""
    tokenizer = load_checkpoint("nano").tokenizer()
    rtl = chip() if checked else RtlChip(program(), checked=False)
    check(rtl, [tokenizer("Once upon a time", add_special_tokens=False)["input_ids"]], 32)


@pytest.mark.slow
def test_nano2_writes_32_tokens() -> None:
    tokenizer = load_checkpoint("nano").tokenizer()
    prompt = tokenizer("Once upon a time", add_special_tokens=False)["input_ids"]
    check(RtlChip(calibrated_program()), [prompt], 32)
