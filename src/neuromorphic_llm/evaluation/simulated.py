"""Figures of a chip simulation: speed, energy and spikes of a decoded token (docs/reference/formats.md, `simulate`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.energy import account, chip_memories, int8_reference
from neuromorphic_llm.evaluation.stop import chop
from neuromorphic_llm.rtl.chip import Counts, RtlChip
from neuromorphic_llm.simulation.counters import Counters
from neuromorphic_llm.simulation.run import SimulationResult, check_request


@dataclass(frozen=True)
class Generation:
    """One generation on the chip, simulated or in RTL."""

    backend: str
    token_ids: tuple[int, ...]
    prefill: Counters
    decode: Counters | None  # none if one token was generated
    wall_tokens_per_s: float
    compile_s: float  # wall time of compiling and loading what simulates, apart from the above


def simulated_generation(result: SimulationResult) -> Generation:
    """The generation of a cycle simulation."""
    return Generation("cycle", result.token_ids, result.prefill, result.decode, result.wall_tokens_per_s, result.compile_s)


def rtl_generation(
    chip: RtlChip,
    prompt_ids: Sequence[int],
    max_new_tokens: int,
    stop: Sequence[int],
    compile_s: float,
    on_token: Callable[[int], None] | None = None,
) -> Generation:
    """A generation by the Verilated chip, which took `compile_s` to build or load. Raises as check_request and RtlChip do."""
    check_request(chip.program, prompt_ids, max_new_tokens)
    begin = time.perf_counter()
    result = chip.run(prompt_ids, max_new_tokens, stop, on_token)
    seconds = time.perf_counter() - begin
    decoded = len(result.token_ids) - 1
    return Generation(
        backend="rtl",
        token_ids=result.token_ids,
        prefill=_counters(result.prefill, prompt_tokens=len(prompt_ids)),
        decode=_counters(result.decode, decoded_tokens=decoded) if decoded else None,
        wall_tokens_per_s=(len(prompt_ids) + decoded) / seconds,
        compile_s=compile_s,
    )


def _counters(counts: Counts, prompt_tokens: int = 0, decoded_tokens: int = 0) -> Counters:
    return Counters(prompt_tokens=prompt_tokens, decoded_tokens=decoded_tokens, **counts)  # type: ignore[arg-type]


def simulation_figures(program: Program, result: Generation, tokenizer: Any, stop: Sequence[int]) -> dict[str, Any]:
    """The figures of formats.md for one simulated generation.

    Figures a token are means over the decoded tokens; if generation ended with the first token there are none, and they are means over
    the prompt's (`counted_phase` says which). Energy includes the leakage of the whole chip for the time of those tokens.
    """
    spec, config = program.spec, program.weights.config
    counted = result.decode or result.prefill
    first = result.prefill.tokens if result.decode else 0  # of the tokens counted, each of which sees all up to itself
    context = max(round(first + (counted.tokens + 1) / 2), 1)
    energy = account(counted, spec, chip_memories(program), counted.cycles / spec.clock_hz, tokens=counted.tokens)
    reference = int8_reference(config, context, spec)
    per_token = energy.to_json()
    weights = sum(site.inputs * site.outputs for site in config.sites[:-1])
    head_inputs, head_outputs = config.sites[config.head.index].shape
    touched = weights * counted.tokens + head_inputs * head_outputs * (counted.tokens if result.decode else 1)
    return {
        "token_ids": list(result.token_ids),
        "text": tokenizer.decode(chop(result.token_ids, stop), skip_special_tokens=True).strip(),
        "chip": spec.name,
        "backend": result.backend,
        "counted_phase": "decode" if result.decode else "prefill",
        "mean_context": context,
        "clock_hz": spec.clock_hz,
        "cycles_total": result.prefill.cycles + (result.decode.cycles if result.decode else 0),
        "cycles_per_token": counted.cycles / counted.tokens,
        "prefill_s": result.prefill.cycles / spec.clock_hz,
        "chip_tokens_per_s": spec.clock_hz * counted.tokens / counted.cycles,
        "chip_energy_j_per_token": per_token["energy_j_per_token"],
        "energy_scope": energy.scope,
        "energy_breakdown_j": per_token["energy_breakdown_j"],
        "int8_reference_energy_j_per_token": reference.chip_energy_j_per_token.to_json(),
        "synaptic_operations_per_token": counted.synaptic_operations / counted.tokens,
        "spikes_per_activation": counted.synaptic_operations / touched,
        "spikes_per_token_by_site": {config.sites[site].name: count / counted.tokens for site, count in enumerate(counted.site_spikes)},
        "counters": {"prefill": result.prefill.to_json(), "decode": result.decode.to_json() if result.decode else None},
        "wall_tokens_per_s": result.wall_tokens_per_s,
        "compile_s": result.compile_s,
        "kind": "simulated",
        "energy_kind": "estimated",
    }
