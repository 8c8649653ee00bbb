"""Cycles of decoded tokens by unit and by stage: they sum to the total (docs/reference/timing.md, Latency)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.simulation.timing import host_step_cycles, simulate_timing
from neuromorphic_llm.simulation.trace import ActivityTrace

UNITS = ("synapse", "attention", "vector", "encode", "host", "network")
"""Parts in the order of Latency.totals."""


@dataclass(frozen=True)
class Latency:
    """Cycles of decoded tokens by what the token waited for; a decoded token is in one place at a time, so that nothing is counted twice.

    The first four are by stage [stages]: for results of synapse tiles, in the attention engines, in norms, additions, rotations and
    key/value writes of the vector tile, in its encoder and while it sends. `network` is what is left: between host and stages.
    """

    tokens: int
    cycles: int
    synapse: NDArray[np.int64]
    attention: NDArray[np.int64]
    vector: NDArray[np.int64]
    encode: NDArray[np.int64]
    host: int

    @property
    def network(self) -> int:
        """Cycles in which neither the host nor a stage was at work on the token."""
        return self.cycles - self.host - int(sum(part.sum() for part in (self.synapse, self.attention, self.vector, self.encode)))

    def totals(self) -> dict[str, int]:
        """Cycles of all tokens by unit; their sum is `cycles`."""
        return {name: int(np.sum(getattr(self, name))) for name in UNITS}

    def to_json(self) -> dict[str, Any]:
        """JSON object, cycles per token, by unit and by stage."""
        stages = range(len(self.synapse))
        return {
            "tokens": self.tokens,
            "cycles_per_token": self.cycles / self.tokens,
            "units": {name: cycles / self.tokens for name, cycles in self.totals().items()},
            "stages": [{name: float(getattr(self, name)[stage]) / self.tokens for name in UNITS[:4]} for stage in stages],
            "kind": "simulated",
        }


def decode_latency(program: Program, trace: ActivityTrace, rows: slice) -> Latency:
    """Cycles of the tokens `rows` by unit when they are decoded one after another, each with its logits wanted.

    The counters of the token before them are those of a run of it alone, which is subtracted. SimulationError as simulate_timing.
    """
    part = trace.decoding(rows)
    timing, before = (simulate_timing(program, each) for each in (part, part.decoding_start()))
    decoded = part.select(slice(1, None))
    busy = timing.vector_busy_cycles - before.vector_busy_cycles
    spent = {unit: np.zeros(len(busy), np.int64) for unit in UNITS}
    for number, stage in enumerate(program.stages):
        for instruction in stage.program:
            cycles = instruction.cycles(program.spec, decoded)
            spent[instruction.unit][number] += cycles.sum() if isinstance(cycles, np.ndarray) else cycles * decoded.tokens
    attention, vector = spent["attention"], spent["vector"]
    return Latency(
        tokens=decoded.tokens,
        cycles=timing.cycles_total - int(timing.token_end_cycle[0]),
        synapse=timing.value_wait_cycles - before.value_wait_cycles,
        attention=attention,
        vector=vector,
        encode=busy - attention - vector,
        host=decoded.tokens * host_step_cycles(program),
    )
