"""What a spike costs: differences of the account add up, and a budget in joules is what the account of the network says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import calibrate_checkpoint, convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.energy import account, chip_memories
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.pipeline.spike_costs import DECODED_TOKENS, PROMPT_TOKENS, costs_of_checkpoint, spike_costs
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.counters import count
from neuromorphic_llm.simulation.run import simulate


def test_costs_of_the_sites_add_up_to_the_account() -> None:
    weights, spec, prompt = random_decoder(2), load_spec("nano"), [1, 2, 3, 4, 5]
    costs = spike_costs(weights, spec, prompt)
    program = compile_network(weights, spec)
    result = simulate(program, prompt, DECODED_TOKENS + 1, stop=())
    assert result.decode is not None
    spikes = np.array(result.decode.site_spikes) / DECODED_TOKENS

    def joules(events: np.ndarray) -> float:
        counters = count(program, replace(result.trace, events=events), result.timing, slice(len(prompt), None))
        seconds = counters.cycles / spec.clock_hz
        return account(counters, spec, chip_memories(program), seconds, tokens=DECODED_TOKENS).chip_energy_j_per_token.nominal

    assert float(spikes @ costs.spike_j) + costs.fixed_j == pytest.approx(joules(result.trace.events), rel=1e-9, abs=0)
    # No site's spikes change what those of another cost.
    assert costs.fixed_j == pytest.approx(joules(np.zeros_like(result.trace.events)), rel=1e-9, abs=0)
    assert (costs.spike_j > 0).all() and costs.fixed_j > 0


def test_a_budget_in_joules_is_what_the_account_says() -> None:
    checkpoint, spec = load_checkpoint("random-tiny"), load_spec("nano")
    windows = [window[:256] for window in calibration_windows(checkpoint.tokenizer(), count=2)]
    calibration = calibrate_checkpoint(checkpoint, windows)
    costs = costs_of_checkpoint(checkpoint, ConvertConfig(), windows, calibration, spec, "cpu")
    options = ConvertConfig(spikes=None, energy_j=costs.fixed_j * 1.3)
    network = convert(checkpoint, options, windows, calibration=calibration, costs=costs)
    assert network.provenance["energy_j"] == pytest.approx(options.energy_j, rel=0.01, abs=0)
    again = spike_costs(network.weights, spec, windows[0])
    result = simulate(compile_network(network.weights, spec), windows[0][:PROMPT_TOKENS], DECODED_TOKENS + 1, stop=())
    assert result.decode is not None
    whole = float(np.array(result.decode.site_spikes) / DECODED_TOKENS @ again.spike_j) + again.fixed_j
    assert whole == pytest.approx(options.energy_j, rel=0.15, abs=0)  # other tokens, and costs of a spike at 1.5 spikes
