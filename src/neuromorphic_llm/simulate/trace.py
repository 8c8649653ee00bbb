"""Activity trace: the counts that event execution hands to timing and energy (docs/reference/formats.md)."""

from __future__ import annotations

from dataclasses import dataclass, fields

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

    def select(self, rows: slice) -> ActivityTrace:
        """The tokens `rows` as a trace of their own (all counted as prefill)."""
        parts = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "prompt_tokens"}
        return ActivityTrace(prompt_tokens=len(parts["context"]), **parts)
