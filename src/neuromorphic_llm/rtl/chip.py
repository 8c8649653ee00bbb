"""A program running in the Verilated chip: tokens, their cycles and the performance counters."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.chip.routes import entry_bits
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.loader import Writes, chip_parameters, dram_words, load_writes, request_writes

_CHUNK = 512
"""Cycles simulated by one call at most."""

_LIMIT_A_TOKEN = 10_000_000
"""Cycles without a token after which the chip is taken to hang."""

_ROUTER_COUNTERS = 32
_LINKS = 4
_POWER_COUNTERS = 41

SYNAPSE_COUNTERS = (
    "spikes",
    "crossbar_reads",
    "row_drives",
    "cell_reads",
    "conversions",
    "repeated_conversions",
    "integrations",
    "halvings",
    "output_values",
    "gate_operations",
    "maximum_elements",
    "axon_bits_read",
    "output_parameter_bits_read",
)
"""Counters of a synapse tile in the order of the host port (nmllm_chip); spikes are those of its site."""

VECTOR_COUNTERS = (
    "norm_elements",
    "square_roots",
    "divisions",
    "maximum_elements",
    "encode_elements",
    "add_elements",
    "rope_elements",
    "query_spikes",
    "probability_spikes",
    "score_operations",
    "softmax_elements",
    "value_operations",
    "attention_values",
    "vector_bits_read",
    "vector_bits_written",
    "event_bank_bits_read",
    "rotary_bits_read",
    "kv_bits_read",
    "kv_bits_written",
    "score_bits_read",
    "score_bits_written",
)
"""Counters of a vector tile in the order of the host port."""

POWER_COUNTERS = ("cycles_on", "wakes")
"""Counters of a power switch in the order of the host port: of the tile, then of its router. In timing.md what is switched stands first."""

_ABSENT = ("squared_elements", "decays", "slot_matches")
"""Counters of gains by energy, which the RTL does not have."""


Counts = dict[str, int | tuple[int, ...]]
"""Counters named as in docs/reference/timing.md."""


@dataclass(frozen=True)
class RtlResult:
    """One generation in RTL; cycles are as the timing simulation counts them."""

    token_ids: tuple[int, ...]
    token_end_cycle: tuple[int, ...]  # of each generated token
    prefill: Counts  # until the first generated token
    decode: Counts  # after it


@dataclass(frozen=True)
class Waveform:
    """Cycles `begin` .. `end` - 1 of a run as a VCD file: of a scope and all in it, empty for the whole chip."""

    path: Path
    begin: int
    end: int
    scope: str = ""


class RtlChip:
    """The chip of a program, built (or from the cache) and loaded. Raises SimulationError if it cannot be built.

    `checked`: with the assertions of the RTL and its observers, which `events` needs; without them it runs faster.
    """

    def __init__(self, program: Program, seed: int = 1, trace: bool = False, checked: bool = True) -> None:
        self.program = program
        self._checked = checked
        self._origin = 0
        self._load = load_writes(program)
        depth = 1 << max((dram_words(program) - 1).bit_length(), 1)
        # The seed fills what has no reset.
        parameters = chip_parameters(program) | {"DRAM_WORDS": depth}
        self._bench = Bench("nmllm_chip_tb", parameters, spec=program.spec, seed=seed, observe=checked, trace=trace, assertions=checked)

    @property
    def cycle(self) -> int:
        """Cycles of the run so far."""
        return self._bench.cycle - self._origin

    def events(self) -> NDArray[Any]:
        """Events of the observers since the last call, in cycles of the run; none without a `watch`."""
        events = self._bench.recorded().copy()
        events["cycle"] -= self._origin
        return events

    def channels(self) -> list[str]:
        """`path signal` by the channel numbers of events."""
        return self._bench.channels()

    def end_trace(self) -> None:
        """Complete the file of the last run's waveform."""
        self._bench.end_trace()

    def run(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        ends: Sequence[int] = (),
        on_token: Callable[[int], None] | None = None,
        watch: Callable[[int], None] | None = None,
        trace: Waveform | None = None,
    ) -> RtlResult:
        """Generate greedily from reset, up to `max_new_tokens` tokens or one of `ends`; `on_token` is called with every new token.

        `watch` is called with the number of cycles run now and then, and may take `events` and raise; `trace` needs a chip built for it.
        Raises SimulationError if an assertion of the RTL fails or no token comes.
        """
        self._bench.reset()
        self._write(np.concatenate([self._load, request_writes(prompt, max_new_tokens, ends)]))
        self._origin = self._bench.cycle
        if self._checked:
            self._bench.record(watch is not None)
        if trace is not None:
            self._bench.trace(trace.path, trace.scope, trace.begin, trace.end)
        tokens: list[int] = []
        cycles: list[int] = []
        cycle, finished = 0, False
        prefill: Counts = {}
        # After a token nothing is counted until the host has fetched the next embedding row, so the end of such a chunk is soon enough.
        chunk = max(min(_CHUNK, self.program.spec.host.latency + self.program.spec.host.dram_latency - 1), 1)
        while not finished:
            seen = self._bench.run({}, cycles=chunk, outputs=("token_valid", "token", "done"))
            for index in np.flatnonzero(seen["token_valid"]):
                tokens.append(int(seen["token"][index]))
                cycles.append(cycle + int(index) + 1)
                if on_token is not None:
                    on_token(tokens[-1])
            cycle += chunk
            if watch is not None:
                watch(cycle)
            if tokens and not prefill:
                prefill = self._counters(cycles[0])
                cycle += 1
            finished = bool(seen["done"][-1])
            if cycle - (cycles[-1] if cycles else 0) > _LIMIT_A_TOKEN * len(prompt):
                raise SimulationError(f"the RTL gave no token for {_LIMIT_A_TOKEN * len(prompt):,} cycles; compare with the cycle backend")
        return RtlResult(tuple(tokens), tuple(cycles), prefill, _minus(self._counters(cycles[-1]), prefill))

    def greedy_tokens(
        self, prompt: Sequence[int], max_new_tokens: int, ends: Collection[int], on_token: Callable[[int], None] | None = None
    ) -> list[int]:
        """Tokens of a run: the chip reports no logits, so that this is all that token choice can ask of it (generation/engine.py)."""
        return list(self.run(prompt, max_new_tokens, tuple(ends), on_token).token_ids)

    def _write(self, writes: Writes) -> None:
        tile, unit, address, data = writes.T
        dram = tile == self.program.spec.topology.tiles
        inputs = {"rst": np.ones(len(writes), np.uint64), "cfg_valid": 1, "cfg_dram": dram.astype(np.uint64)}
        inputs |= {"cfg_tile": np.where(dram, 0, tile), "cfg_unit": unit, "cfg_address": address, "cfg_data": data}
        self._bench.run(inputs, outputs=())

    def _counters(self, cycles: int) -> Counts:
        """Sums over the tiles, in one cycle."""
        program, spec, config = self.program, self.program.spec, self.program.weights.config
        values = self._bench.run({}, cycles=1, outputs=("counts",))["counts"][0].astype(np.int64)
        synapse_tiles = [region.tile for stage in program.stages for regions in stage.regions for region in regions]
        vector_tiles = [stage.vector_tile for stage in program.stages]
        total = dict.fromkeys(_ABSENT, 0)
        for kind, tiles, names in (("synapse", synapse_tiles, SYNAPSE_COUNTERS), ("vector", vector_tiles, VECTOR_COUNTERS)):
            sums = values[tiles].sum(axis=0)
            named = zip(names, sums, strict=False)
            powered = zip((f"{kind}_tile_{name}" for name in POWER_COUNTERS), sums[_POWER_COUNTERS:], strict=False)
            for name, amount in (*named, *powered):
                total[name] = total.get(name, 0) + int(amount)
        routers = values[:, _POWER_COUNTERS + len(POWER_COUNTERS) :].sum(axis=0)
        total |= {f"router_{name}": int(amount) for name, amount in zip(POWER_COUNTERS, routers, strict=True)}
        # Every region of a site gets all of its events.
        spikes = [int(values[regions[0].tile, 0]) for stage in program.stages for regions in stage.regions]
        operations = [count * config.sites[site].shape[1] for site, count in enumerate(spikes)]
        flits, hops = int(values[:, _ROUTER_COUNTERS].sum()), int(values[:, _ROUTER_COUNTERS + 1 : _ROUTER_COUNTERS + 1 + _LINKS].sum())
        counts: Counts = {**total, **_derived(total, spec.synapse.accumulator_bits), "site_spikes": tuple(spikes)}
        counts |= {"spikes": sum(spikes), "synaptic_operations": sum(operations), "site_synaptic_operations": tuple(operations)}
        counts |= {"flits": flits, "flit_hops": hops, "dram_bits_read": int(values[0, 0]), "cycles": cycles}
        return counts | {"routing_bits_read": entry_bits(len(program.route_masks)) * (flits + hops)}


def _derived(total: dict[str, int], bits: int) -> dict[str, int]:
    """Counters that are sums and multiples of others."""
    accumulations = total["conversions"] - total["repeated_conversions"]
    return {
        "accumulations": accumulations,
        "accumulator_bits_read": bits * (accumulations + total["output_values"]),
        "accumulator_bits_written": bits * accumulations,
        "axon_bits_written": total["axon_bits_read"],
        "event_bank_bits_written": total["event_bank_bits_read"],
    }


def _minus(whole: Counts, part: Counts) -> Counts:
    """Differences, name by name."""
    result: Counts = {}
    for name, value in whole.items():
        other = part[name]
        if isinstance(value, tuple) and isinstance(other, tuple):
            result[name] = tuple(a - b for a, b in zip(value, other, strict=True))
        elif isinstance(value, int) and isinstance(other, int):
            result[name] = value - other
    return result
