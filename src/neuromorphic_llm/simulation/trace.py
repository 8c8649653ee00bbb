"""Activity trace: the counts that event execution hands to timing and energy (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ActivityTrace:
    """One row per token, in order; the first `prompt_tokens` rows are the prefill."""

    prompt_tokens: int
    context: NDArray[np.int32]  # [tokens]
    logits_wanted: NDArray[np.bool_]  # [tokens]
    phases: NDArray[np.int32]  # [tokens, sites]
    events: NDArray[np.int32]  # [tokens, sites, max_phases, max_row_blocks]
    repeats: NDArray[np.int64]  # [tokens, sites], repeated conversions
    query_phases: NDArray[np.int32]  # [tokens, layers, heads]
    query_spikes: NDArray[np.int32]  # [tokens, layers, heads]
    key_columns: NDArray[np.int32]  # [tokens, layers, heads], at the first head of each group
    probability_spikes: NDArray[np.int32]  # [tokens, layers, heads]
    probability_keys: NDArray[np.int32]  # [tokens, layers, heads]

    def __post_init__(self) -> None:
        tokens = len(self.context)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name != "prompt_tokens" and len(value) != tokens:
                raise ValueError(f"{field.name} has {len(value)} rows, expected {tokens}")
        if not 1 <= self.prompt_tokens <= tokens:
            raise ValueError(f"prompt_tokens must lie in 1..{tokens}, got {self.prompt_tokens}")

    @property
    def tokens(self) -> int:
        """Number of tokens processed, prefill and decode."""
        return len(self.context)

    def without_logits(self, rows: Collection[int]) -> ActivityTrace:
        """The same activity as if the logits of these tokens had not been wanted: the head stage did not run for them."""
        chosen = sorted(rows)
        wanted, phases, events, repeats = self.logits_wanted.copy(), self.phases.copy(), self.events.copy(), self.repeats.copy()
        wanted[chosen], phases[chosen, -1], events[chosen, -1], repeats[chosen, -1] = False, 0, 0, 0
        return replace(self, logits_wanted=wanted, phases=phases, events=events, repeats=repeats)

    def decoding(self, rows: slice) -> ActivityTrace:
        """Consecutive tokens as decoded ones behind a prompt of the token before them; the logits of all were wanted."""
        return replace(self.select(slice(rows.start - 1, rows.stop)), prompt_tokens=1)

    def decoding_start(self) -> ActivityTrace:
        """The first token alone."""
        return self.select(slice(0, 1))

    def select(self, rows: slice | NDArray[np.bool_]) -> ActivityTrace:
        """The tokens `rows`, a slice or a mask, as a trace of their own (all counted as prefill)."""
        parts = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "prompt_tokens"}
        return ActivityTrace(prompt_tokens=len(parts["context"]), **parts)
