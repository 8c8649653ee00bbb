"""NeuroBench's metrics from our own counters, to compare with its harness (docs/reference/interchange.md, NeuroBench)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neuromorphic_llm.network.format import weight_arrays
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.dense import quantise_dense


@dataclass
class SynapticCounts:
    """Integers over all sites and tokens of a run; weights of 0 are those that NeuroBench leaves out of what it calls effective."""

    footprint_bytes: int
    weights: int
    zero_weights: int
    spikes: int = 0
    phase_inputs: int = 0  # inputs times phases: places where a spike could be
    synaptic_operations: int = 0  # as our chip and SpikeStatistics count them: outputs of every spike
    zero_weight_operations: int = 0  # of these, with a weight of 0
    dense_operations: int = 0  # weights times phases, weights alone at sites that do not spike
    effective_macs: int = 0  # inputs and weights other than 0, at sites that do not spike

    @property
    def effective_acs(self) -> int:
        """Synaptic operations with a weight other than 0."""
        return self.synaptic_operations - self.zero_weight_operations

    @property
    def connection_sparsity(self) -> float:
        """Share of weights that are 0."""
        return self.zero_weights / self.weights

    @property
    def activation_sparsity(self) -> float:
        """Share of phases and inputs without a spike; 0.0 if nothing spikes."""
        return (self.phase_inputs - self.spikes) / self.phase_inputs if self.phase_inputs else 0.0


def count(weights: DecoderWeights, ids: torch.Tensor) -> tuple[SynapticCounts, FunctionalDecoder]:
    """Counts of the functional simulation of int64 ids [batch, tokens], from coded integers, and the decoder with its own statistics."""
    sites = [weights.site(site.name) for site in weights.config.sites]
    nonzero = [np.count_nonzero(site.weight, axis=0).astype(np.int64) for site in sites]
    zeros = sum(site.weight.size for site in sites) - sum(int(each.sum()) for each in nonzero)
    counts = SynapticCounts(sum(array.nbytes for array in weight_arrays(weights).values()), weights.parameters, zeros)
    code = weights.code.spike_code()

    def observe(index: int, x: torch.Tensor, _coded: CodedRows) -> None:
        site = sites[index]
        if not site.spiking:
            counts.dense_operations += site.weight.size * len(x)
            counts.effective_macs += int((np.count_nonzero(quantise_dense(x.numpy()).a, axis=0) * nonzero[index]).sum())
            return
        coded = code.quantise(x.numpy(), site.stop)
        spikes, phases = coded.spikes.sum(axis=0, dtype=np.int64), int(coded.phases.sum(dtype=np.int64))
        outputs, inputs = site.weight.shape
        counts.spikes += int(spikes.sum())
        counts.phase_inputs += inputs * phases
        counts.synaptic_operations += outputs * int(spikes.sum())
        counts.zero_weight_operations += int((spikes * (outputs - nonzero[index])).sum())
        counts.dense_operations += site.weight.size * phases

    decoder = FunctionalDecoder(weights)
    decoder.observer = observe
    decoder.forward(ids)
    return counts, decoder
