"""Figures of a chip simulation: speed, energy and spikes of a decoded token (docs/reference/formats.md, `simulate`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.energy import account, chip_memories, int8_reference
from neuromorphic_llm.evaluate.scored_model import chop
from neuromorphic_llm.simulate.run import SimulationResult


def simulation_figures(program: Program, result: SimulationResult, tokenizer: Any, stop: Sequence[int]) -> dict[str, Any]:
    """The figures of formats.md for one simulated generation.

    Figures a token are means over the decoded tokens; if generation ended with the first token there are none, and they are means over
    the prompt's (`counted_phase` says which). Energy includes the leakage of the whole chip for the time of those tokens.
    """
    spec, config = program.spec, program.weights.config
    counted = result.decode or result.prefill
    rows = slice(result.trace.prompt_tokens, None) if result.decode else slice(0, result.trace.prompt_tokens)
    context = max(round(float(result.trace.context[rows].mean())), 1)
    energy = account(counted, spec, chip_memories(program), counted.cycles / result.clock_hz, tokens=counted.tokens)
    reference = int8_reference(config, context, spec)
    per_token = energy.to_json()
    weights = sum(inputs * outputs for inputs, outputs in map(config.site_shape, range(config.sites - 1)))
    head_inputs, head_outputs = config.site_shape(config.sites - 1)
    touched = weights * counted.tokens + head_inputs * head_outputs * int(result.trace.logits_wanted[rows].sum())
    return {
        "token_ids": list(result.token_ids),
        "text": tokenizer.decode(chop(result.token_ids, stop), skip_special_tokens=True).strip(),
        "chip": spec.name,
        "backend": "cycle",
        "counted_phase": "decode" if result.decode else "prefill",
        "mean_context": context,
        "clock_hz": result.clock_hz,
        "cycles_total": result.cycles_total,
        "cycles_per_token": counted.cycles / counted.tokens,
        "prefill_s": result.prefill_cycles / result.clock_hz,
        "chip_tokens_per_s": result.clock_hz * counted.tokens / counted.cycles,
        "chip_energy_j_per_token": per_token["energy_j_per_token"],
        "energy_scope": energy.scope,
        "energy_breakdown_j": per_token["energy_breakdown_j"],
        "int8_reference_energy_j_per_token": reference.chip_energy_j_per_token.to_json(),
        "synaptic_operations_per_token": counted.synaptic_operations / counted.tokens,
        "spikes_per_activation": counted.synaptic_operations / touched,
        "spikes_per_token_by_site": {config.site_name(site): count / counted.tokens for site, count in enumerate(counted.site_spikes)},
        "counters": {"prefill": result.prefill.to_json(), "decode": result.decode.to_json() if result.decode else None},
        "wall_tokens_per_s": result.wall_tokens_per_s,
        "kind": "simulated",
        "energy_kind": "estimated",
    }
