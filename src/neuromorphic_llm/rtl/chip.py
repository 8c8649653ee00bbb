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
from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.rtl.bench import Bench
from neuromorphic_llm.rtl.loader import Writes, chip_parameters, dram_words, load_writes, request_writes

_CHUNK = 512
"""Cycles simulated by one call at most."""

_LIMIT_A_TOKEN = 10_000_000
"""Cycles without a token after which the chip is taken to hang."""

_TOLD = 2
"""Cycles from the end of a token to the counters of the power switches that hear of it."""

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
    "slot_matches",
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

_ABSENT = ("squared_elements", "decays")
"""Counters that no tile has under this name: of gains by energy, which the RTL does not have, and decays, which count as halvings there."""


Counts = dict[str, int | tuple[int, ...]]
"""Counters named as in docs/reference/timing.md."""


@dataclass(frozen=True)
class RtlResult:
    """Generations of the sequences of one run in RTL; cycles are as the timing simulation counts them."""

    prompts: tuple[tuple[int, ...], ...]
    generated: tuple[tuple[int, ...], ...]  # by each sequence
    token_end_cycle: tuple[tuple[int, ...], ...]  # of each generated token
    counts: Counts  # of the run
    prefill: Counts | None  # of one sequence; none of several, whose prompts and decoded tokens overlap

    @property
    def rounds(self) -> int:
        """Rounds of the steady window: decoded tokens of the sequence that has fewest."""
        return min(map(len, self.generated)) - 1

    def round_end(self, number: int) -> int:
        """Cycle in which the last token of a round ends that all sequences have, 0 that of the prompts."""
        return max(ends[number] for ends in self.token_end_cycle)

    @property
    def cycles(self) -> int:
        """Cycle in which the last token ends."""
        return max(ends[-1] for ends in self.token_end_cycle)


@dataclass(frozen=True)
class RtlPhases:
    """Counters of a run's prompts, of its steady window and of what is decoded behind it; None where there is nothing."""

    prefill: Counts
    decode: Counts | None
    tail: Counts | None


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
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        ends: Sequence[int] = (),
        on_token: Callable[[int, int], None] | None = None,
        watch: Callable[[int], None] | None = None,
        trace: Waveform | None = None,
    ) -> RtlResult:
        """Generate greedily from reset, a sequence for each prompt, each up to `max_new_tokens` tokens or one of `ends`.

        `on_token` is called with (number of the sequence, new token), `watch` with the number of cycles run now and then, and may take
        `events` and raise; `trace` needs a chip built for it. Raises SimulationError if an assertion of the RTL fails or no token comes.
        """
        self._bench.reset()
        self._write(np.concatenate([self._load, request_writes(self.program, prompts, max_new_tokens, ends)]))
        self._origin = self._bench.cycle
        if self._checked:
            self._bench.record(watch is not None)
        if trace is not None:
            self._bench.trace(trace.path, trace.scope, trace.begin, trace.end)
        generated: list[list[int]] = [[] for _ in prompts]
        cycles: list[list[int]] = [[] for _ in prompts]
        latest, finished, limit = 0, False, _LIMIT_A_TOKEN * sum(map(len, prompts))
        prefill: Counts | None = None
        # Behind a token of a single sequence nothing is counted until its row is fetched, so the end of such a chunk is soon enough.
        chunk = max(min(_CHUNK, self.program.spec.host.latency + self.program.spec.host.dram_latency - 1), 1)
        while not finished:
            begin = self.cycle
            seen = self._bench.run({}, cycles=chunk, outputs=("token_valid", "token", "token_sequence", "done"))
            for index in np.flatnonzero(seen["token_valid"]):
                number, token, latest = int(seen["token_sequence"][index]), int(seen["token"][index]), begin + int(index) + 1
                generated[number].append(token)
                cycles[number].append(latest)
                if on_token is not None:
                    on_token(number, token)
            if watch is not None:
                watch(self.cycle)
            if len(prompts) == 1 and latest and prefill is None:
                prefill = self._counters(latest)
            finished = bool(seen["done"][-1])
            if self.cycle - latest > limit:
                raise SimulationError(f"the RTL gave no token for {limit:,} cycles; compare with the cycle backend")
        given = tuple(map(tuple, prompts)), tuple(map(tuple, generated)), tuple(map(tuple, cycles))
        return RtlResult(*given, self._counters(latest), prefill)

    def phases(self, result: RtlResult) -> RtlPhases:
        """Counters of the phases of a run of this chip, which runs again for those of several sequences (docs/reference/rtl/network.md)."""
        rounds, last = result.rounds, result.cycles
        first, window = result.round_end(0), result.round_end(rounds)

        def counted(number: int, end: int) -> Counts:
            return result.counts if end == last else self.run(result.prompts, number + 1).counts

        prefill = result.prefill or counted(0, first)
        until = counted(rounds, window) if rounds else prefill
        return RtlPhases(
            prefill=prefill | {"cycles": first},
            decode=_minus(until, prefill) | {"cycles": window - first} if rounds else None,
            tail=_minus(result.counts, until) | {"cycles": last - window} if window < last else None,
        )

    def greedy_tokens(
        self, prompt: Sequence[int], max_new_tokens: int, ends: Collection[int], on_token: Callable[[int], None] | None = None
    ) -> list[int]:
        """Tokens of a run: the chip reports no logits, so that this is all that token choice can ask of it (generation/engine.py)."""
        told = None if on_token is None else lambda _, token: on_token(token)
        return list(self.run([prompt], max_new_tokens, tuple(ends), told).generated[0])

    def _write(self, writes: Writes) -> None:
        tile, unit, address, data = writes.T
        dram = tile == self.program.spec.topology.tiles
        inputs = {"rst": np.ones(len(writes), np.uint64), "cfg_valid": 1, "cfg_dram": dram.astype(np.uint64)}
        inputs |= {"cfg_tile": np.where(dram, 0, tile), "cfg_unit": unit, "cfg_address": address, "cfg_data": data}
        self._bench.run(inputs, outputs=())

    def _counters(self, cycles: int) -> Counts:
        """Sums over the tiles in a cycle in which the power switches have heard of the token that ended with the last of `cycles`."""
        program, spec, config = self.program, self.program.spec, self.program.weights.config
        values = self._bench.run({}, cycles=max(cycles + _TOLD - self.cycle, 0) + 1, outputs=("counts",))["counts"][-1].astype(np.int64)
        synapse_tiles = [region.tile for stage in program.stages for regions in stage.regions for region in regions]
        vector_tiles = [stage.vector_tile for stage in program.stages]
        total = dict.fromkeys(_ABSENT, 0)
        for kind, tiles, names in (("synapse", synapse_tiles, SYNAPSE_COUNTERS), ("vector", vector_tiles, VECTOR_COUNTERS)):
            sums = values[tiles].sum(axis=0)
            named = zip(names, sums, strict=False)
            powered = zip((f"{kind}_tile_{name}" for name in POWER_COUNTERS), sums[_POWER_COUNTERS:], strict=False)
            for name, amount in (*named, *powered):
                total[name] = total.get(name, 0) + int(amount)
        if spec.stamped:
            total["decays"], total["halvings"] = total["halvings"], 0
        routers = values[:, _POWER_COUNTERS + len(POWER_COUNTERS) :].sum(axis=0)
        total |= {f"router_{name}": int(amount) for name, amount in zip(POWER_COUNTERS, routers, strict=True)}
        # Every region of a site gets all of its events.
        spikes = [int(values[regions[0].tile, 0]) for stage in program.stages for regions in stage.regions]
        operations = [count * config.sites[site].shape[1] for site, count in enumerate(spikes)]
        flits, hops = int(values[:, _ROUTER_COUNTERS].sum()), int(values[:, _ROUTER_COUNTERS + 1 : _ROUTER_COUNTERS + 1 + _LINKS].sum())
        counts: Counts = {**total, **_derived(total, spec), "site_spikes": tuple(spikes)}
        counts |= {"spikes": sum(spikes), "synaptic_operations": sum(operations), "site_synaptic_operations": tuple(operations)}
        counts |= {"flits": flits, "flit_hops": hops, "dram_bits_read": int(values[0, 0]), "cycles": cycles}
        return counts | {"routing_bits_read": entry_bits(len(program.route_masks)) * (flits + hops)}


def _derived(total: dict[str, int], spec: ChipSpec) -> dict[str, int]:
    """Counters that are sums and multiples of others."""
    bits, repeated = spec.synapse.accumulator_bits, total["repeated_conversions"]
    accumulations = spec.readout_circuit.accumulations(total["conversions"] - repeated, repeated)
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
