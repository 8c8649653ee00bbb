"""Activity trace: the counts that event execution hands to timing and energy (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

READS, ROWS, CELLS = range(3)
"""Columns of ActivityTrace.rereads: reads of macros, rows that they drive, cells of these rows."""


@dataclass(frozen=True)
class ActivityTrace:
    """One row per token, in the order in which the host takes them; the first `prompt_tokens` rows are the prefill."""

    prompt_tokens: int
    sequence: NDArray[np.int32]  # [tokens], number of its sequence
    context: NDArray[np.int32]  # [tokens]
    logits_wanted: NDArray[np.bool_]  # [tokens]
    phases: NDArray[np.int32]  # [tokens, sites]
    events: NDArray[np.int32]  # [tokens, sites, max_phases, max_row_blocks]
    repeats: NDArray[np.int64]  # [tokens, sites], repeated conversions
    rereads: NDArray[np.int64]  # [tokens, sites, 3], reads of macros for halves, their rows and cells
    halves: NDArray[np.int64]  # [tokens, regions, max_phases], that a phase waits for; no regions unless reads have halves
    query_phases: NDArray[np.int32]  # [tokens, layers, heads]
    query_spikes: NDArray[np.int32]  # [tokens, layers, heads]
    key_columns: NDArray[np.int32]  # [tokens, layers, heads], at the first head of each group
    score_steps: NDArray[np.int32]  # [tokens, layers, heads], at the first head of each set, as the next but one
    probability_spikes: NDArray[np.int32]  # [tokens, layers, heads]
    value_steps: NDArray[np.int32]  # [tokens, layers, heads]
    probability_keys: NDArray[np.int32]  # [tokens, layers, heads], at the first head of each set

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

    @property
    def previous(self) -> NDArray[np.int64]:
        """Row of the token before each one in its sequence, -1 of a first one, [tokens]."""
        rows = np.full(self.tokens, -1, np.int64)
        order = np.argsort(self.sequence, kind="stable")
        same = np.flatnonzero(np.diff(self.sequence[order]) == 0)
        rows[order[same + 1]] = order[same]
        return rows

    def without_logits(self, rows: Collection[int]) -> ActivityTrace:
        """The same activity as if the logits of these tokens had not been wanted: the head stage did not run for them."""
        chosen = sorted(rows)
        wanted = self.logits_wanted.copy()
        wanted[chosen] = False
        parts = {name: getattr(self, name).copy() for name in ("phases", "events", "repeats", "rereads")}
        for part in parts.values():
            part[chosen, -1] = 0
        return replace(self, logits_wanted=wanted, **parts)

    def first_sequences(self, count: int) -> ActivityTrace:
        """The tokens of the first so many sequences."""
        own = self.sequence < count
        return replace(self.select(own), prompt_tokens=int(own[: self.prompt_tokens].sum()))

    def decoding(self, rows: slice) -> ActivityTrace:
        """Consecutive tokens as decoded ones behind a prompt of the token before them; the logits of all were wanted."""
        return replace(self.select(slice(rows.start - 1, rows.stop)), prompt_tokens=1)

    def select(self, rows: slice | NDArray[np.bool_]) -> ActivityTrace:
        """The tokens `rows`, a slice or a mask, as a trace of their own (all counted as prefill)."""
        parts = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "prompt_tokens"}
        return ActivityTrace(prompt_tokens=len(parts["context"]), **parts)


def joined(traces: Sequence[ActivityTrace]) -> ActivityTrace:
    """Trace of several sequences in flight, from that of each alone: all prompts, then decoded tokens in rounds (timing.md)."""
    sequence = np.repeat(np.arange(len(traces), dtype=np.int32), [trace.tokens for trace in traces])
    rounds = np.concatenate([np.maximum(np.arange(trace.tokens) - trace.prompt_tokens + 1, 0) for trace in traces])
    order = np.lexsort((sequence, rounds))
    names = [each.name for each in fields(ActivityTrace) if each.name not in ("prompt_tokens", "sequence")]
    parts = {name: np.concatenate([getattr(trace, name) for trace in traces])[order] for name in names}
    return ActivityTrace(sum(trace.prompt_tokens for trace in traces), sequence[order], **parts)
