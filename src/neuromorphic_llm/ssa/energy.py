"""Energy of attention, dense and spiking, by two accounts (docs/reference/ssa.md, Energy of attention)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.chip.widths import SCORE_BITS, STORED_BITS, WEIGHT_BITS
from neuromorphic_llm.energy import load_constants
from neuromorphic_llm.energy.account import account
from neuromorphic_llm.energy.constants import Range
from neuromorphic_llm.energy.digital import int8_reference
from neuromorphic_llm.energy.memories import Banks, Memory, reference_memories
from neuromorphic_llm.network.operations import AttentionResult
from neuromorphic_llm.network.statistics import SpikeStatistics
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.simulation.counters import Counters
from neuromorphic_llm.ssa.attention import PARTS, SpikingSelfAttention, SsaCounts

MULTIPLY_ACCUMULATE_J, ACCUMULATE_J = 4.6e-12, 0.9e-12
"""32-bit floating point at 45 nm, as NeurTransformer and most works on spiking transformers take them: Horowitz, ISSCC 2014."""


@dataclass(frozen=True)
class AttentionOperations:
    """Multiply-accumulates and accumulations of attention."""

    multiply_accumulates: int = 0
    accumulates: int = 0

    @property
    def energy_j(self) -> float:
        """Energy in J by NeurTransformer's accounting."""
        return self.multiply_accumulates * MULTIPLY_ACCUMULATE_J + self.accumulates * ACCUMULATE_J

    def __add__(self, other: AttentionOperations) -> AttentionOperations:
        return AttentionOperations(self.multiply_accumulates + other.multiply_accumulates, self.accumulates + other.accumulates)


@dataclass(frozen=True)
class AttentionTotals:
    """Activity of attention over `tokens` tokens with `pairs` visible query-key pairs (all layers and query heads).

    `products` are the operations of QK and PV, `projections` those of q, k, v and output; `chip` has the counters of the part `attention`.
    """

    tokens: int
    pairs: int
    products: AttentionOperations
    projections: AttentionOperations
    chip: Counters | None  # None: the dense model, which the INT8 reference stands for

    def reduction(self, dense: AttentionTotals, *, block: bool = False) -> float:
        """Share of the dense energy per token that is saved, by NeurTransformer's accounting; with the projections if `block`."""
        own, other = (a.products + a.projections if block else a.products for a in (self, dense))
        return 1 - (own.energy_j / self.tokens) / (other.energy_j / dense.tokens)


def _projection_weights(config: DecoderConfig) -> tuple[int, int]:
    """Weights of q, k, v together and of the output projection, of one layer."""
    query = config.heads * config.head_dim
    return config.hidden_size * (query + 2 * config.kv_heads * config.head_dim), query * config.hidden_size


def dense_activity(config: DecoderConfig, lengths: list[int]) -> AttentionTotals:
    """Activity of the dense model on windows of these lengths in tokens."""
    tokens = sum(lengths)
    pairs = config.layers * config.heads * sum(n * (n + 1) // 2 for n in lengths)
    weights = config.layers * sum(_projection_weights(config)) * tokens
    return AttentionTotals(tokens, pairs, AttentionOperations(2 * pairs * config.head_dim), AttentionOperations(weights), None)


def ssa_activity(config: DecoderConfig, modules: list[SpikingSelfAttention]) -> AttentionTotals:
    """Activity of spiking self-attention, from the counts of its layers. ValueError if one has counted nothing."""
    counts = [module.counts for module in modules if module.counts is not None and module.counts.tokens]
    if len(counts) != config.layers:
        raise ValueError(f"{len(counts)} of {config.layers} layers have counts; run a text with counting on")
    steps, tokens = modules[0].config.time_steps, counts[0].tokens
    pairs = sum(each.pairs for each in counts)
    query_operations = sum(int(each.query_operations) for each in counts)
    value_operations = sum(int(each.value_operations) for each in counts)
    output_spikes = sum(int(each.spikes["output"]) for each in counts)
    qkv_weights, _ = _projection_weights(config)
    query, key_value = config.heads * config.head_dim, 2 * config.kv_heads * config.head_dim
    neurons = steps * (config.layers * tokens * (2 * query + key_value) + (pairs if modules[0].config.score_spikes else 0))
    per_group = pairs * config.kv_heads // config.heads
    chip = Counters(
        decoded_tokens=tokens,
        query_spikes=sum(int(each.spikes["query"]) for each in counts),
        score_operations=query_operations,
        value_operations=value_operations,
        # The account has no field for a neuron's update: three additions each, as it charges a probability spike.
        probability_spikes=neurons,
        divisions=steps * config.layers * config.heads * tokens,
        kv_bits_read=steps * 2 * per_group * config.head_dim,
        kv_bits_written=steps * config.layers * key_value * tokens,
        score_bits_read=steps * SCORE_BITS * pairs,
        score_bits_written=steps * SCORE_BITS * pairs,
    )
    products = AttentionOperations(0, query_operations + value_operations)
    projections = AttentionOperations(config.layers * qkv_weights * tokens, output_spikes * config.hidden_size)
    return AttentionTotals(tokens, pairs, products, projections, chip)


class AttentionStatistics(SpikeStatistics):
    """Spike statistics that also weigh each query's spikes by the keys that it sees."""

    def reset(self) -> None:
        """Forget all counts."""
        super().reset()
        self._score_operations: torch.Tensor | int = 0
        self._attention_sums: torch.Tensor | int = 0  # query spikes, probability spikes, keys with a probability spike, visible keys

    def add_attention(self, layer: int, result: AttentionResult, position: torch.Tensor, kept: torch.Tensor | None = None) -> None:
        """Count as SpikeStatistics does, and the score operations."""
        super().add_attention(layer, result, position, kept)
        rows = slice(None) if kept is None else kept
        context = (position[rows] + 1).unsqueeze(-1)
        query = result.query_spikes[rows]
        self._score_operations = self._score_operations + (query * context).sum()
        parts = (query, result.probability_spikes[rows], result.probability_keys[rows], context.expand_as(query))
        self._attention_sums = self._attention_sums + torch.stack([part.sum() for part in parts])

    def activity(self, config: DecoderConfig) -> AttentionTotals:
        """Activity of the integer network on all tokens since the last reset. ValueError if there were none."""
        if not isinstance(self._attention_sums, torch.Tensor):
            raise ValueError("no token has been counted; run a text first")
        query_spikes, probability_spikes, probability_keys, pairs = (int(value) for value in self._attention_sums.tolist())
        per_layer = list(zip(self.site_spikes()[::4], self.site_spikes()[1::4], strict=False))
        qkv_outputs = (config.heads + 2 * config.kv_heads) * config.head_dim
        accumulates = sum(qkv * qkv_outputs + output * config.hidden_size for qkv, output in per_layer)
        values = probability_spikes * config.head_dim
        per_group, vector_bits = pairs * config.kv_heads // config.heads, STORED_BITS * (config.head_dim + 1)
        chip = Counters(
            decoded_tokens=self.tokens,
            query_spikes=query_spikes,
            score_operations=int(self._score_operations),
            softmax_elements=pairs,
            probability_spikes=probability_spikes,
            value_operations=values,
            kv_bits_read=vector_bits * (per_group + probability_keys),
            kv_bits_written=2 * vector_bits * config.layers * config.kv_heads * self.tokens,
            score_bits_read=(2 * SCORE_BITS + WEIGHT_BITS) * pairs,
            score_bits_written=(SCORE_BITS + WEIGHT_BITS) * pairs,
        )
        return AttentionTotals(
            self.tokens, pairs, AttentionOperations(0, int(self._score_operations) + values), AttentionOperations(0, accumulates), chip
        )


def chip_energy_j_per_token(activity: AttentionTotals, config: DecoderConfig, spec: ChipSpec) -> Range:
    """Energy of attention a token in J by this project's account, on the chip `spec`; of the dense model that of the INT8 reference."""
    if activity.chip is None:
        context = max(round(activity.pairs / (config.layers * config.heads * activity.tokens)), 1)
        return int8_reference(config, context, spec).parts["attention"]
    memories: dict[str, Memory] = {
        "key_value": reference_memories(config, spec, STORED_BITS, False, Banks.of(spec))["key_value"],
        "attention_scores": reference_memories(config, spec, WEIGHT_BITS, False, Banks.of(spec))["attention_scores"],
    }
    found = account(activity.chip, spec, memories, 0.0, tokens=activity.tokens)
    divisions = account(Counters(divisions=activity.chip.divisions), spec, {}, 0.0, constants=load_constants()).parts["soma"]
    return (found.parts["attention"] + divisions) * (1 / activity.tokens)


def spike_rates(modules: list[SpikingSelfAttention]) -> dict[str, float]:
    """Spikes of queries, keys, values and outputs per neuron and step, over all layers; counts must be there."""
    shape, steps = modules[0].shape, modules[0].config.time_steps
    counts = [module.counts or SsaCounts() for module in modules]
    tokens = sum(each.tokens for each in counts)
    heads = dict(zip(PARTS, (shape.heads, shape.kv_heads, shape.kv_heads, shape.heads), strict=True))
    rates: dict[str, Any] = {
        part: float(sum(float(each.spikes[part]) for each in counts)) / max(tokens * steps * heads[part] * shape.head_dim, 1)
        for part in PARTS
    }
    return rates
