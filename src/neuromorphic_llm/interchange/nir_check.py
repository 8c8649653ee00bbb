"""Other libraries execute an exported site: nirtorch wires the graph, snnTorch's neurons fire, and every spike is compared with ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from neuromorphic_llm.errors import NeuromorphicLLMError, SimulationError
from neuromorphic_llm.interchange.nir_graph import INSTALL
from neuromorphic_llm.reference.linear import accumulate
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.spikes.code import SpikeTrain, coded

if TYPE_CHECKING:
    import nir

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Execution:
    """Results of another library for a site's inputs."""

    digits: dict[int, Integers]  # exponent of the phase -> [tokens, inputs] in -1, 0, 1
    output: Integers  # [tokens, outputs], acc * 2^k_min


@dataclass(frozen=True)
class NirComparison:
    """Numbers of values compared and found equal."""

    tokens: int
    phases: int
    spikes: int
    accumulators: int


class _Neurons(torch.nn.Module):
    """A Threshold node as snnTorch neurons without memory: fire if input > threshold, [.., inputs]."""

    def __init__(self, threshold: NDArray[np.float64]) -> None:
        super().__init__()
        import snntorch

        self.leaky = snntorch.Leaky(beta=torch.tensor(0.0), threshold=torch.from_numpy(threshold), reset_mechanism="none", init_hidden=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes: torch.Tensor = self.leaky(x)
        return spikes.to(x.dtype)  # snnTorch's are float32


class _Scale(torch.nn.Module):
    """A Scale node: x times the factors, elementwise."""

    def __init__(self, scale: NDArray[np.float64]) -> None:
        super().__init__()
        self.register_buffer("scale", torch.from_numpy(scale))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.get_buffer("scale")


def execute(graph: nir.NIRGraph, x: Integers, dtype: torch.dtype = torch.float64) -> Execution:
    """Run a site's graph on x [tokens, inputs] with nirtorch and snnTorch; NeuromorphicLLMError if they are not installed."""
    try:
        import nir
        import nirtorch
        import snntorch  # noqa: F401
    except ImportError as error:
        raise NeuromorphicLLMError(f"the check needs nirtorch and snntorch ({error}); {INSTALL}") from error
    node_map: dict[Any, Any] = {nir.Threshold: lambda node: _Neurons(node.threshold), nir.Scale: lambda node: _Scale(node.scale)}
    _check_range(graph, x)
    # Files list nodes by name; nirtorch puts a node off, again and again, until it has seen those before it.
    ordered = nir.NIRGraph({name: graph.nodes[name] for name in _in_order(graph.nodes, graph.edges)}, graph.edges)
    module = nirtorch.nir_to_torch(ordered, node_map, dtype=dtype)
    spikes: dict[str, Integers] = {}

    def keep(name: str) -> Any:
        def hook(_module: torch.nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            spikes[name] = output.long().numpy()

        return hook

    for name, child in module.named_children():
        if re.fullmatch(r"(plus|minus)_\d+", name):
            child.register_forward_hook(keep(name))
    with torch.inference_mode():
        output, _state = module(torch.from_numpy(np.asarray(x)).to(dtype))
    exponents = sorted((int(name.removeprefix("plus_")) for name in spikes if name.startswith("plus_")), reverse=True)
    return Execution({k: spikes[f"plus_{k}"] - spikes[f"minus_{k}"] for k in exponents}, output.double().round().long().numpy())


def _in_order(nodes: Iterable[str], edges: Iterable[tuple[str, str]]) -> list[str]:
    """Names of nodes, each after those it reads."""
    sources: dict[str, list[str]] = {name: [] for name in nodes}
    for source, target in edges:
        sources[target].append(source)
    return list(TopologicalSorter(sources).static_order())


def _check_range(graph: nir.NIRGraph, x: Integers) -> None:
    """SimulationError for inputs that the graph is not made for."""
    bits, largest = int(graph.metadata["bits"]), int(np.abs(x).max(initial=0))
    if largest > 1 << (bits - 1):
        raise SimulationError(f"an input of {largest} is beyond the {bits} bits of the graph; export it with a larger --bits")


def compare(weights: DecoderWeights, index: int, x: Integers, execution: Execution) -> NirComparison:
    """Compare all spikes and accumulators of a site with those of the network for its inputs x [tokens, inputs].

    SimulationError that names the first difference: site, phase, token and input or output.
    """
    site, name = weights.site(index), weights.config.sites[index].name
    train = weights.code.spike_code().encode(x, site.stop)
    expected = digits_by_exponent(train)
    for k in sorted(expected.keys() | execution.digits.keys(), reverse=True):
        nothing = np.zeros(x.shape, np.int64)
        ours, theirs = expected.get(k, nothing), execution.digits.get(k, nothing)
        if (ours != theirs).any():
            token, neuron = np.argwhere(ours != theirs)[0]
            found = f"digit {theirs[token, neuron]}, expected {ours[token, neuron]}"
            raise SimulationError(f"{name}, phase 2^{k}, token {token}, input {neuron}: {found} for x = {x[token, neuron]}")
    integers = coded(train)
    accumulators = accumulate(integers, site, name) << integers.exponent.astype(np.int64)[:, None]
    if (accumulators != execution.output).any():
        token, neuron = np.argwhere(accumulators != execution.output)[0]
        found = f"accumulator {execution.output[token, neuron]}, expected {accumulators[token, neuron]}"
        raise SimulationError(f"{name}, token {token}, output {neuron}: {found}")
    return NirComparison(len(x), len(execution.digits), int(np.abs(train.digits.astype(np.int64)).sum()), accumulators.size)


def digits_by_exponent(train: SpikeTrain) -> dict[int, Integers]:
    """Digits of a positional code's train by the exponent of their weight 2^k, [tokens, inputs] each."""
    phases, tokens, inputs = train.digits.shape
    found: dict[int, Integers] = {}
    for token in range(tokens):
        for phase in range(phases - int(train.phases[token]), phases):
            k = int(train.exponent[token]) + phases - 1 - phase
            found.setdefault(k, np.zeros((tokens, inputs), np.int64))[token] = train.digits[phase, token]
    return found


def site_inputs(weights: DecoderWeights, tokens: list[int], sites: list[int]) -> dict[int, Integers]:
    """Inputs x [tokens, inputs] of crossbar sites when the network reads these tokens."""
    from neuromorphic_llm.network.functional import FunctionalDecoder

    decoder = FunctionalDecoder(weights)
    found: dict[int, Integers] = {}

    def observe(index: int, x: torch.Tensor, _coded: Any) -> None:
        if index in sites:
            found[index] = x.long().numpy().copy()

    decoder.observer = observe
    decoder.forward(torch.tensor([tokens]))
    return found
