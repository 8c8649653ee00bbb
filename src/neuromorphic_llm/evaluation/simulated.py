"""Text generated on a chip, with its speed, energy and spikes per token (docs/reference/formats.md, `simulate`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from neuromorphic_llm.area import area_figures
from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.display import Displayed
from neuromorphic_llm.energy import account, chip_memories, rival_accounts
from neuromorphic_llm.energy.account import EnergyAccount
from neuromorphic_llm.energy.constants import Range
from neuromorphic_llm.evaluation.stop import chop
from neuromorphic_llm.rtl.chip import Counts, RtlChip
from neuromorphic_llm.simulation.counters import Counters
from neuromorphic_llm.simulation.run import SimulationResult, check_request
from neuromorphic_llm.units import Quantity, format_si


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


@dataclass(frozen=True)
class EnergyPerToken(Range):
    """Estimated joules per token of the chip and its DRAM accesses, with bounds."""

    def __str__(self) -> str:
        low, high = format_si(self.low, "J"), format_si(self.high, "J")
        return f"{format_si(self.nominal, 'J')} per token ({low} to {high})"


@dataclass(frozen=True, repr=False)
class ChipText(Displayed):
    """Text generated on a chip with what it took: cycles and counts simulated, energy estimated from them.

    Figures per token are means over the decoded tokens; if generation ended with the first token there are none, and they are means over
    the prompt's (`counted_phase` says which). Energy includes the leakage of the whole chip for the time of those tokens.
    """

    program: Program
    generation: Generation
    tokenizer: Any
    stop: Sequence[int]

    @cached_property
    def text(self) -> str:
        """Generated text."""
        tokens = chop(self.generation.token_ids, self.stop)
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True).strip())

    @property
    def token_ids(self) -> tuple[int, ...]:
        """Generated tokens, an end-of-sequence token included."""
        return self.generation.token_ids

    @property
    def counted_phase(self) -> str:
        """Phase that the figures per token are of: decode or prefill."""
        return "decode" if self.generation.decode else "prefill"

    @property
    def counters(self) -> Counters:
        """Counters of that phase."""
        return self.generation.decode or self.generation.prefill

    @property
    def latency(self) -> Quantity:
        """Time per token on the chip, s."""
        return Quantity(self.counters.cycles / self.counters.tokens / self.program.spec.clock_hz, "s")

    @property
    def energy(self) -> EnergyPerToken:
        """Energy per token, J, with bounds."""
        per_token = self.account.chip_energy_j_per_token
        return EnergyPerToken(per_token.low, per_token.nominal, per_token.high)

    @cached_property
    def account(self) -> EnergyAccount:
        """Energy by part of the chip."""
        spec, counted = self.program.spec, self.counters
        return account(counted, spec, chip_memories(self.program), counted.cycles / spec.clock_hz, tokens=counted.tokens)

    @property
    def mean_context(self) -> int:
        """Tokens that a counted token sees in the mean, itself included."""
        first = self.generation.prefill.tokens if self.generation.decode else 0
        return max(round(first + (self.counters.tokens + 1) / 2), 1)

    @property
    def spikes_per_activation(self) -> float:
        """Mean spikes per value that enters a crossbar."""
        config, counted = self.program.weights.config, self.counters
        weights = sum(site.inputs * site.outputs for site in config.sites[:-1])
        head_inputs, head_outputs = config.sites[config.head.index].shape
        touched = weights * counted.tokens + head_inputs * head_outputs * (counted.tokens if self.generation.decode else 1)
        return counted.synaptic_operations / touched

    def to_json(self) -> dict[str, Any]:
        """Figures of formats.md, `simulate`."""
        result, counted, spec, config = self.generation, self.counters, self.program.spec, self.program.weights.config
        per_token = self.account.to_json()
        accounts = rival_accounts(config, self.mean_context, spec)
        rivals = {name: rival.chip_energy_j_per_token.to_json() for name, rival in accounts.items()}
        return {
            "token_ids": list(result.token_ids),
            "text": self.text,
            "chip": spec.name,
            "backend": result.backend,
            "counted_phase": self.counted_phase,
            "mean_context": self.mean_context,
            "clock_hz": spec.clock_hz,
            "cycles_total": result.prefill.cycles + (result.decode.cycles if result.decode else 0),
            "cycles_per_token": counted.cycles / counted.tokens,
            "prefill_s": result.prefill.cycles / spec.clock_hz,
            "chip_tokens_per_s": spec.clock_hz * counted.tokens / counted.cycles,
            "chip_energy_j_per_token": per_token["energy_j_per_token"],
            "energy_scope": self.account.scope,
            "energy_breakdown_j": per_token["energy_breakdown_j"],
            "int8_reference_energy_j_per_token": rivals["int8"],
            "rival_energy_j_per_token": rivals,
            **area_figures(self.program),
            "synaptic_operations_per_token": counted.synaptic_operations / counted.tokens,
            "spikes_per_activation": self.spikes_per_activation,
            "spikes_per_token_by_site": {
                site.name: count / counted.tokens for site, count in zip(config.sites, counted.site_spikes, strict=True)
            },
            "counters": {"prefill": result.prefill.to_json(), "decode": result.decode.to_json() if result.decode else None},
            "wall_tokens_per_s": result.wall_tokens_per_s,
            "compile_s": result.compile_s,
            "kind": "simulated",
            "energy_kind": "estimated",
        }

    @property
    def title(self) -> str:
        """Chip and backend."""
        return f"Text of chip {self.program.spec.name}, {self.generation.backend} backend"

    def figures(self) -> dict[str, str]:
        """Text, and what a token took."""
        counted = self.counters
        return {
            "text": self.text,
            "tokens generated": str(len(self.token_ids)),
            f"time per token ({self.counted_phase}, simulated)": str(self.latency),
            "tokens/s on the chip": f"{1 / self.latency:,.0f}",
            "energy (estimated)": str(self.energy),
            "cycles per token": f"{counted.cycles / counted.tokens:,.0f}",
            "synaptic operations per token": f"{counted.synaptic_operations / counted.tokens:,.0f}",
            "spikes per activation": f"{self.spikes_per_activation:.3f}",
        }

    def report(self) -> str:
        """Figures, and the energy per token by part of the chip, as text."""
        parts = sorted(self.account.to_json()["energy_breakdown_j"].items(), key=lambda part: -part[1]["nominal"])
        width = max(len(name) for name, _ in parts)
        lines = [f"  {name.replace('_', ' '):<{width}}  {format_si(part['nominal'], 'J')}" for name, part in parts]
        return "\n".join([repr(self), "Energy per token by part (estimated)", *lines])
