"""Counts of spikes in the shape of the activity trace (docs/reference/formats.md)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.decoder import Record
from neuromorphic_llm.spikes.code import SpikeTrain


def events(train: SpikeTrain, rows: int) -> NDArray[np.int32]:
    """Spikes per phase and block of `rows` inputs, [tokens, phases, blocks]; phase 0 is each token's first."""
    phases, tokens, inputs = train.digits.shape
    blocks = -(-inputs // rows)
    fired = np.zeros((phases, tokens, blocks * rows), np.int32)
    fired[:, :, :inputs] = train.spike_counts()
    counts = fired.reshape(phases, tokens, blocks, rows).sum(axis=3, dtype=np.int32)
    result = np.zeros((tokens, phases, blocks), np.int32)
    for token, used in enumerate(train.phases):
        result[token, :used] = counts[phases - used :, token]
    return result


def sets_of_heads(heads: int, group: int, lanes: int) -> Iterator[slice]:
    """Query heads that an engine takes at once: of every group up to `lanes` consecutive ones (docs/reference/timing.md, attend)."""
    for first in range(0, heads, group):
        for head in range(first, first + group, lanes):
            yield slice(head, min(head + lanes, first + group))


def most_in_sets(spikes: NDArray[np.int8], group: int, lanes: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(Sum over the places of the most spikes that a head of a set has there, places with a spike), [tokens, heads], at its first head.

    spikes [tokens, heads, places].
    """
    steps, places = np.zeros((2, *spikes.shape[:2]), np.int32)
    for heads in sets_of_heads(spikes.shape[1], group, lanes):
        most = spikes[:, heads].max(axis=1)
        steps[:, heads.start], places[:, heads.start] = most.sum(axis=1), np.count_nonzero(most, axis=1)
    return steps, places


def trace_fields(config: DecoderConfig, records: Sequence[Record], rows: int, head_lanes: int = 1) -> dict[str, NDArray[Any]]:
    """The arrays of an ActivityTrace from the full records of consecutive steps, `rows` inputs to a block, sets of `head_lanes` heads.

    A site that did not run for a token, or does not spike, has no phases and no events.
    """
    parts = [_step_fields(config, record, rows) | _attention_fields(config, record, head_lanes) for record in records]
    phases = max(part["events"].shape[2] for part in parts)
    for part in parts:
        missing = phases - part["events"].shape[2]
        part["events"] = np.pad(part["events"], ((0, 0), (0, 0), (0, missing), (0, 0)))
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    tokens, sites = joined["phases"].shape
    sizes = {"rereads": (tokens, sites, 3), "halves": (tokens, 0, phases)}  # of macros and regions, which only a chip has
    return joined | {name: np.zeros(size, np.int64) for name, size in sizes.items()}


def _step_fields(config: DecoderConfig, record: Record, rows: int) -> dict[str, NDArray[Any]]:
    """The arrays of one step."""
    trains = [site.train for site in record.sites]
    longest = max((train.digits.shape[0] for train in trains if train is not None), default=1)
    blocks = max(-(-site.inputs // rows) for site in config.sites)
    phases = np.zeros((record.tokens, len(config.sites)), np.int32)
    counts = np.zeros((record.tokens, len(config.sites), longest, blocks), np.int32)
    repeats = np.zeros_like(phases, np.int64)
    for index, (train, site) in enumerate(zip(trains, record.sites, strict=True)):
        if site.repeats is not None:
            repeats[-len(site.repeats) :, index] = site.repeats
        if train is not None:
            used = events(train, rows)
            # The head may have run for the last token only.
            phases[-len(used) :, index] = train.phases
            counts[-len(used) :, index, : used.shape[1], : used.shape[2]] = used
    head_tokens = len(record.sites[-1].coded.a)
    return {
        "sequence": np.zeros(record.tokens, np.int32),
        "context": np.arange(record.position + 1, record.position + record.tokens + 1, dtype=np.int32),
        "logits_wanted": np.arange(record.tokens) >= record.tokens - head_tokens,
        "phases": phases,
        "events": counts,
        "repeats": repeats,
    }


def _attention_fields(config: DecoderConfig, record: Record, lanes: int) -> dict[str, NDArray[Any]]:
    """The arrays of one step's attention."""
    own = ("query_phases", "query_spikes", "key_columns", "probability_spikes")
    group = config.heads // config.kv_heads
    found: dict[str, list[NDArray[np.int32]]] = {name: [getattr(layer, name) for layer in record.attention] for name in own}
    found["score_steps"] = [most_in_sets(layer.element_spikes, group, lanes)[0] for layer in record.attention]
    values = [most_in_sets(layer.key_spikes, group, lanes) for layer in record.attention]
    found["value_steps"], found["probability_keys"] = [steps for steps, _ in values], [keys for _, keys in values]
    return {name: np.stack(layers, axis=1) for name, layers in found.items()}


def spikes_per_activation(config: DecoderConfig, records: Sequence[Record]) -> float:
    """Mean spikes per input over all sites, weighted by the parameters they touch (synaptic operations per weight and token)."""
    operations = weights = 0
    for record in records:
        for index, site in enumerate(record.sites):
            inputs, outputs = config.sites[index].shape
            operations += outputs * int(site.coded.spikes.sum(dtype=np.int64))
            weights += outputs * inputs * len(site.coded.a)
    return operations / weights
