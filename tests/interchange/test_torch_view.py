"""A network as a torch module: its logits, its modules' spikes, and NeuroBench's metrics equal ours."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.interchange.counters import count
from neuromorphic_llm.interchange.torch_view import SpikingNeurons, Synapses, TorchView
from neuromorphic_llm.network.format import weight_arrays
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights

IDS = torch.tensor([[3, 5, 7, 11, 2], [60, 33, 1, 1, 8]])
NETWORKS = {
    "signed-digit": lambda: random_decoder(seed=5, bias=True),
    "feed-forward": lambda: random_decoder(seed=6, parts="feed-forward"),
    "rate": lambda: random_decoder(seed=7, code="rate"),
    "first-spike": lambda: random_decoder(seed=8, code="first-spike"),
    "bit-planes": lambda: random_decoder(seed=9, code="bit-planes"),
}


@pytest.fixture(params=NETWORKS, scope="module")
def weights(request: pytest.FixtureRequest) -> DecoderWeights:
    made: DecoderWeights = NETWORKS[request.param]()
    return made


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """benchmarks/neurobench_table.py, where NeuroBench is there."""
    path = Path(__file__).parents[2] / "benchmarks" / "neurobench_table.py"
    specification = importlib.util.spec_from_file_location("benchmark_neurobench_table", path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    before = list(sys.path)
    try:
        module.import_neurobench()
    except NeuromorphicLLMError as error:
        pytest.skip(str(error))
    finally:
        sys.path[:] = before
    return module


def test_the_view_is_the_network(weights: DecoderWeights) -> None:
    view = TorchView(weights)
    fired: list[int] = []
    for site in view.sites:
        site.neurons.register_forward_hook(lambda _module, _inputs, digits: fired.append(int(torch.count_nonzero(digits))))
    logits = view(IDS)
    for row, tokens in enumerate(IDS.tolist()):
        np.testing.assert_array_equal(logits[row].numpy(), IntegerDecoder(weights).forward(tokens))
    records = [IntegerDecoder(weights).step(tokens, IntegerDecoder(weights).new_cache()).record for tokens in IDS.tolist()]
    assert sum(fired) == sum(int(site.coded.spikes.sum()) for record in records for site in record.sites) > 0
    assert {type(module) for site in view.sites for module in site.children()} == {SpikingNeurons, Synapses}


def test_counts_are_those_of_the_statistics(weights: DecoderWeights) -> None:
    counts, decoder = count(weights, IDS)
    spikes = decoder.statistics.site_spikes()
    assert counts.spikes == sum(spikes) > 0
    outputs = [weights.config.sites[index].shape[1] for index in range(len(weights.config.sites))]
    assert counts.synaptic_operations == sum(s * o for s, o in zip(spikes, outputs, strict=True))
    assert 0 < counts.zero_weight_operations < counts.synaptic_operations
    assert (counts.effective_macs > 0) == (not weights.head.spiking)


def test_neurobench_counts_the_same(benchmark: ModuleType, weights: DecoderWeights) -> None:
    counts, _ = count(weights, IDS)
    found = {name: (theirs, ours) for name, theirs, ours in benchmark.rows(benchmark.harness(weights, IDS), counts, len(IDS))}
    assert len(found) == 6 and found["SynapticOperations, Effective_ACs"][0] > 0
    assert {name: theirs for name, (theirs, _) in found.items()} == {name: ours for name, (_, ours) in found.items()}
    assert counts.footprint_bytes == sum(array.nbytes for array in weight_arrays(weights).values())
