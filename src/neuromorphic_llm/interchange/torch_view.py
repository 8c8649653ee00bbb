"""A network as a torch.nn.Module whose hooks see spikes: every site is neurons that fire phase by phase, and a Linear that reads them.

For tools that count in hooks, such as NeuroBench (Yik et al., Nature Communications 16, 2025). docs/reference/interchange.md.
"""

from __future__ import annotations

import numpy as np
import torch

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.cpu_operations import CpuOperations
from neuromorphic_llm.network.format import weight_arrays
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import CodedRows, SiteTensors, split
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights
from neuromorphic_llm.spikes.code import SpikeCode, SpikeTrain
from neuromorphic_llm.spikes.dense import quantise_dense


class SpikingNeurons(torch.nn.Module):
    """The encoder of a site; each call gives the digits of one phase, int8 [rows that use it, inputs]."""

    def __init__(self, code: SpikeCode) -> None:
        super().__init__()
        self._code = code

    def encode(self, x: torch.Tensor, stop: torch.Tensor) -> SpikeTrain:
        """The spike train of x int32 [rows, inputs], whose phases are then asked for one by one."""
        return self._code.encode(x.numpy(), stop.numpy())

    def forward(self, train: SpikeTrain, phase: int) -> torch.Tensor:
        """Digits of the entry `phase` of the train's phase axis, for the rows that have it: rows of short trains have none in front."""
        return torch.from_numpy(train.digits[phase][rows_of(train, phase)])


class Synapses(torch.nn.Linear):
    """8-bit weights [outputs, inputs] as a linear layer; products are exact in float64."""

    def __init__(self, weight: torch.Tensor) -> None:
        outputs, inputs = weight.shape
        super().__init__(inputs, outputs, bias=False, device="meta")
        self.weight = torch.nn.Parameter(weight, requires_grad=False)

    def forward(self, spikes: torch.Tensor) -> torch.Tensor:
        """W a for a [rows, inputs] of any integer type, float64 [rows, outputs]."""
        return torch.nn.functional.linear(spikes.double(), self.weight.double())


class SpikingSite(torch.nn.Module):
    """A crossbar site with its encoder: accumulators W a, formed phase by phase with Horner's rule."""

    def __init__(self, site: LinearWeights, code: SpikeCode) -> None:
        super().__init__()
        self.neurons = SpikingNeurons(code)
        self.synapses = Synapses(torch.from_numpy(site.weight))
        self._spiking = site.spiking

    def forward(self, x: torch.Tensor, stop: torch.Tensor) -> torch.Tensor:
        """Accumulators int64 [rows, outputs] of x int32 [rows, inputs] with a stop table int32 [inputs]."""
        if not self._spiking:
            dense: torch.Tensor = self.synapses(torch.from_numpy(quantise_dense(x.numpy()).a)).long()
            return dense
        train = self.neurons.encode(x, stop)
        accumulators = torch.zeros(len(x), self.synapses.out_features, dtype=torch.int64)
        for phase in range(len(train.digits)):
            rows = torch.from_numpy(rows_of(train, phase))
            accumulators <<= train.horner_shift
            accumulators[rows] += self.synapses(self.neurons(train, phase)).long()
        return accumulators


class _SiteOperations(CpuOperations):
    """The operations of the functional simulation, crossbar products by the sites of a view."""

    def __init__(self, view: TorchView) -> None:
        super().__init__()
        self._view = view
        self.index = 0
        self.x = torch.zeros(0)

    def observe(self, index: int, x: torch.Tensor, _coded: CodedRows) -> None:
        """Remember which site comes next, and its input."""
        self.index, self.x = index, x

    def accumulate(self, _coded: CodedRows, site: SiteTensors) -> torch.Tensor:
        """Accumulators of the site that was announced, from its spikes."""
        return split(self._view.sites[self.index](self.x, site.stop))


class TorchView(torch.nn.Module):
    """A network as a module: parameters are the weights of its sites (int8), buffers all other tensors, logits those of the network."""

    def __init__(self, weights: DecoderWeights) -> None:
        super().__init__()
        if not weights.readout.exact:
            raise ConversionError(
                f"a view's products are exact and the network is for the readout {weights.readout.name!r}; convert for 'exact'"
            )
        self.weights = weights
        code = weights.code.spike_code()
        self.sites = torch.nn.ModuleList(SpikingSite(weights.site(site.name), code) for site in weights.config.sites)
        for name, array in weight_arrays(weights).items():
            if not name.endswith(".weight"):
                self.register_buffer(name.replace(".", "_"), torch.from_numpy(array))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits int32 [batch, tokens, vocab] of int64 ids [batch, tokens]."""
        operations = _SiteOperations(self)
        decoder = FunctionalDecoder(self.weights, operations=operations)
        decoder.observer = operations.observe
        return decoder.forward(ids)


def rows_of(train: SpikeTrain, phase: int) -> np.ndarray:
    """Rows whose train has the entry `phase` of the phase axis, int64 [rows]."""
    return np.flatnonzero(train.phases >= len(train.digits) - phase)
