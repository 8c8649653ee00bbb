"""Energy of attention against hand counts, and the counters against the project's own accounts."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.energy import load_constants
from neuromorphic_llm.energy.constants import sram_bit
from neuromorphic_llm.energy.digital import int8_reference
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.ssa.attention import SsaCounts
from neuromorphic_llm.ssa.config import SsaConfig
from neuromorphic_llm.ssa.energy import (
    AttentionOperations,
    AttentionStatistics,
    AttentionTotals,
    chip_energy_j_per_token,
    dense_activity,
    spike_rates,
    ssa_activity,
)
from neuromorphic_llm.ssa.replace import Places, replaced

SHAPE = DecoderConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, layers=2, heads=4, kv_heads=2, head_dim=8, max_positions=64, rms_norm_eps=1e-5,
    rope_theta=10000.0,
)  # fmt: skip


def test_dense_operations_by_hand() -> None:
    activity = dense_activity(SHAPE, [3, 2])
    assert activity.pairs == 2 * 4 * (6 + 3) and activity.tokens == 5
    assert activity.products == AttentionOperations(2 * 72 * 8)  # QK and PV
    # q 32 x 32, k and v 32 x 16 each, output 32 x 32
    assert activity.projections == AttentionOperations(2 * (32 * 32 + 2 * 32 * 16 + 32 * 32) * 5)
    assert activity.products.energy_j == pytest.approx(1152 * 4.6e-12, rel=1e-9, abs=0)


def test_reduction_by_hand() -> None:
    dense = AttentionTotals(10, 50, AttentionOperations(1000), AttentionOperations(3000), None)
    own = AttentionTotals(5, 25, AttentionOperations(0, 400), AttentionOperations(500, 1000), None)
    assert own.reduction(dense) == pytest.approx(1 - (400 / 5 * 0.9) / (1000 / 10 * 4.6))
    assert own.reduction(dense, block=True) == pytest.approx(1 - ((500 * 4.6 + 1400 * 0.9) / 5) / (4000 * 4.6 / 10))


@pytest.mark.parametrize("score_spikes", [False, True])
def test_ssa_operations_from_its_counts(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, score_spikes: bool) -> None:
    student, shape = replaced(dense, checkpoint.config, SsaConfig(3, score_spikes), windows.tolist()), checkpoint.config
    modules = Places(student).spiking()
    with pytest.raises(ValueError, match="0 of 2 layers have counts"):
        ssa_activity(shape, modules)
    for module in modules:
        module.counts = SsaCounts()
    with torch.no_grad():
        student(input_ids=windows, use_cache=False)
    activity, counts = ssa_activity(shape, modules), [module.counts for module in modules if module.counts]
    reference = dense_activity(shape, [12] * 6)
    assert (activity.tokens, activity.pairs) == (reference.tokens, reference.pairs)
    events = sum(int(each.query_operations) + int(each.value_operations) for each in counts)
    assert activity.products == AttentionOperations(0, events)
    if score_spikes:
        assert sum(int(each.score_spikes) for each in counts) * 8 == sum(int(each.value_operations) for each in counts)
    outputs = sum(int(each.spikes["output"]) for each in counts)
    assert activity.projections.accumulates == outputs * 32
    key_value = 2 * shape.kv_heads * 8
    assert activity.projections.multiply_accumulates == 2 * 32 * (32 + key_value) * 72
    rates = spike_rates(modules)
    assert rates["output"] == pytest.approx(outputs / (72 * 3 * 32 * 2))
    assert all(0 < rate < 1 for rate in rates.values())


def test_rates_of_one_make_the_formula_of_the_paper(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    """All neurons fire in every step: T accumulations for each multiply-accumulate."""
    student, shape = replaced(dense, checkpoint.config, SsaConfig(3), windows.tolist()), checkpoint.config
    modules = Places(student).spiking()
    for module in modules:
        module.counts = SsaCounts()
        for part in ("query", "key", "value"):
            module.gain[part].data.zero_()
            module.shift[part].data.fill_(1.0)
    with torch.no_grad():
        student(input_ids=windows, use_cache=False)
    activity, reference = ssa_activity(shape, modules), dense_activity(shape, [12] * 6)
    assert activity.products.accumulates == 3 * reference.products.multiply_accumulates
    assert activity.reduction(reference) == pytest.approx(1 - 3 * 0.9 / 4.6)


def test_dense_energy_on_the_chip_is_the_int8_references() -> None:
    spec = load_spec("nc1")
    energy = chip_energy_j_per_token(dense_activity(SHAPE, [7]), SHAPE, spec)
    assert energy == int8_reference(SHAPE, 4, spec).parts["attention"]


def test_own_counts_are_those_of_the_spikes() -> None:
    weights = random_decoder(2, config=SHAPE)
    decoder = FunctionalDecoder(weights)
    decoder.statistics = statistics = AttentionStatistics(SHAPE)
    with pytest.raises(ValueError, match="no token has been counted"):
        statistics.activity(SHAPE)
    ids = torch.randint(64, (1, 9), generator=torch.Generator().manual_seed(0))
    before, score_operations = 0, 0
    cache = decoder.new_cache()
    for token in range(9):
        decoder.forward(ids[:, token : token + 1], cache)
        spikes = statistics.activity(SHAPE).chip.query_spikes  # type: ignore[union-attr]
        score_operations += (spikes - before) * (token + 1)
        before = spikes
    activity = statistics.activity(SHAPE)
    assert activity.chip is not None
    assert activity.pairs == 2 * 4 * 45 and activity.tokens == 9
    assert activity.chip.score_operations == score_operations
    values = round(statistics.probability_spikes_per_pair() * activity.pairs) * 8
    assert activity.products == AttentionOperations(0, score_operations + values)
    sites = statistics.site_spikes()
    assert activity.projections == AttentionOperations(0, sum(sites[4 * n] * 64 + sites[4 * n + 1] * 32 for n in range(2)))
    # a second pass over the same tokens doubles everything
    decoder.forward(ids)
    assert statistics.activity(SHAPE).products.accumulates == 2 * activity.products.accumulates


def test_own_energy_on_the_chip_by_hand() -> None:
    """One additional probability spike costs 2 D + 3 additions, D registers of 32 bits, and nothing else."""
    from dataclasses import replace

    from neuromorphic_llm.simulation.counters import Counters

    constants, spec = load_constants(), load_spec("nc1")
    chip = Counters(decoded_tokens=1, score_operations=100, value_operations=80, probability_spikes=10, kv_bits_read=640)
    activity = AttentionTotals(1, 8, AttentionOperations(), AttentionOperations(), chip)
    more = replace(activity, chip=replace(chip, value_operations=88, probability_spikes=11))
    difference = chip_energy_j_per_token(more, SHAPE, spec).nominal - chip_energy_j_per_token(activity, SHAPE, spec).nominal
    add, register = constants["int32_add"].value.nominal, constants["register_bit"].value.nominal
    assert difference == pytest.approx((2 * 8 + 3) * add + 8 * 32 * register, rel=1e-9, abs=0)
    read = replace(activity, chip=replace(chip, kv_bits_read=641))
    difference = chip_energy_j_per_token(read, SHAPE, spec).nominal - chip_energy_j_per_token(activity, SHAPE, spec).nominal
    assert difference == pytest.approx(sram_bit(constants, spec.vector.kv_bytes_per_engine).nominal, rel=1e-9, abs=0)
    divided = replace(activity, chip=replace(chip, divisions=1))
    difference = chip_energy_j_per_token(divided, SHAPE, spec).nominal - chip_energy_j_per_token(activity, SHAPE, spec).nominal
    assert difference == pytest.approx(64 * add, rel=1e-9, abs=0)
