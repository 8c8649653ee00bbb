"""Cycles of decoded tokens by unit and by stage: they sum to the total (docs/reference/timing.md, Latency)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.chip.program import Program
from neuromorphic_llm.simulation.timing import TimingResult, host_step_cycles
from neuromorphic_llm.simulation.trace import ActivityTrace

UNITS = ("synapse", "attention", "vector", "encode", "host", "network")
"""Parts in the order of Latency.totals."""


@dataclass(frozen=True)
class Latency:
    """Cycles of decoded tokens by what the token waited for; a decoded token is in one place at a time, so that nothing is counted twice.

    `cycles` are those between two tokens of a sequence, over all tokens. Of the parts the first four are by stage [stages]: for results of
    synapse tiles, in the attention engines, in norms, additions, rotations and key/value writes of the vector tile, in its encoder and
    while it sends. `network` is what is left: between host and stages, and waits for tokens of other sequences.
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


def decode_latency(program: Program, trace: ActivityTrace, timing: TimingResult, rows: slice) -> Latency:
    """Cycles of consecutive decoded tokens `rows`, whole rounds of all sequences, by unit."""
    decoded, sequences = trace.select(rows), int(trace.sequence.max()) + 1
    stages = program.stages
    spent = {unit: np.zeros(len(stages), np.int64) for unit in UNITS}
    for number, stage in enumerate(stages):
        for instruction in stage.program:
            cycles = instruction.cycles(program.spec, decoded)
            spent[instruction.unit][number] += cycles.sum() if isinstance(cycles, np.ndarray) else cycles * decoded.tokens
    attention, vector, synapse = spent["attention"], spent["vector"], timing.value_wait[rows].sum(axis=0)
    begun = timing.site_begin_cycle[rows][:, [stage.sites[0] for stage in stages]]
    in_stage = (timing.stage_end_cycle[rows] - begun - timing.credit_wait[rows, 1:]).sum(axis=0)
    return Latency(
        tokens=decoded.tokens,
        cycles=sequences * int(timing.token_end_cycle[rows.stop - 1] - timing.token_end_cycle[rows.start - 1]),
        synapse=synapse,
        attention=attention,
        vector=vector,
        encode=in_stage - synapse - attention - vector,
        host=decoded.tokens * host_step_cycles(program),
    )
