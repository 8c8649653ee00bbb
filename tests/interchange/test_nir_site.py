"""Sites as NIR graphs: executed by nirtorch with snnTorch's neurons they give the network's spikes and accumulators, whatever the input."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neuromorphic_llm.errors import ArtefactError, ConversionError, SimulationError, UsageError
from neuromorphic_llm.interchange.nir_check import Execution, compare, digits_by_exponent, execute, site_inputs
from neuromorphic_llm.interchange.nir_file import read_nir, write_nir
from neuromorphic_llm.interchange.nir_signed_digit import phases_of
from neuromorphic_llm.interchange.nir_site import site_graph
from neuromorphic_llm.interchange.sayable import chosen_sites, other_nodes
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

nir = pytest.importorskip("nir", reason="needs the extra interchange")
pytest.importorskip("nirtorch", reason="needs the extra interchange")
pytest.importorskip("snntorch", reason="needs the extra interchange")


@pytest.fixture(scope="module")
def weights() -> DecoderWeights:
    return random_decoder(seed=5, bias=True)


def with_site(weights: DecoderWeights, site: LinearWeights, phases: int = 14, code: str = "signed-digit") -> DecoderWeights:
    """The decoder with `site` as layers.0.qkv and a code of so many phases."""
    layer = weights.layers[0].replaced(qkv=site)
    return replace(weights, layers=(layer, *weights.layers[1:]), code=replace(weights.code, name=code, phases=phases))


def edge_inputs(inputs: int, bits: int, seed: int) -> np.ndarray:
    """Vectors whose largest input lies at every edge of k_top, 3 * 2^j and beside it, both signs, at every scale up to the range."""
    rng = np.random.default_rng(seed)
    rows = [np.zeros(inputs, np.int64)]
    for j in range(bits - 1):
        for top in (3 << j, (3 << j) - 1, (3 << j) + 1, 1 << j):
            if 0 < top <= 1 << (bits - 1):
                row = rng.integers(-top, top + 1, inputs)
                row[rng.integers(inputs)] = rng.choice([-top, top])
                rows.append(row)
    return np.stack([*rows, np.where(rng.random(inputs) < 0.5, -(1 << (bits - 1)), 3 << (bits - 4))])


@pytest.mark.parametrize("index", [0, 3, 8])
def test_another_library_gives_our_spikes_on_real_activations(weights: DecoderWeights, index: int, tmp_path: Path) -> None:
    inputs = site_inputs(weights, [3, 5, 7, 11, 2, 60, 33, 1], [index])[index]
    path = tmp_path / "site.nir"
    write_nir(path, site_graph(weights, index, bits=23))
    found = compare(weights, index, inputs, execute(read_nir(path), inputs))
    assert (found.tokens, found.accumulators) == (8, 8 * len(weights.site(index).weight))
    assert found.spikes == weights.code.spike_code().quantise(inputs, weights.site(index).stop).spikes.sum() > 0


@pytest.mark.parametrize("code", ["signed-digit", "first-spike"])
@pytest.mark.parametrize(("bits", "phases", "price"), [(12, 14, 0), (16, 5, 0), (16, 3, 300), (23, 14, 5000), (32, 14, 10**6)])
def test_it_does_at_every_edge_of_the_exponent_and_the_prices(
    weights: DecoderWeights, bits: int, phases: int, price: int, code: str
) -> None:
    rng = np.random.default_rng(bits)
    site = weights.site(0)
    stop = rng.integers(0, price + 1, site.weight.shape[1]).astype(np.int32)
    changed = with_site(weights, replace(site, stop=stop), phases, code)
    inputs = edge_inputs(site.weight.shape[1], bits, seed=phases)
    graph = site_graph(changed, 0, bits=bits)
    exact = execute(graph, inputs)
    assert compare(changed, 0, inputs, exact).spikes > 0
    if bits <= 23:
        # Spikes are exact in float32, too; accumulators need not be.
        assert compare(changed, 0, inputs, Execution(execute(graph, inputs, torch.float32).digits, exact.output)).tokens == len(inputs)


def test_the_upper_gate_matters(weights: DecoderWeights) -> None:
    """Without it a vector whose largest input is 3 * 2^j would start one phase too early."""
    graph = site_graph(with_site(weights, replace(weights.site(0), stop=np.zeros_like(weights.site(0).stop))), 0, bits=12)
    inputs = np.zeros((1, weights.config.hidden_size), np.int64)
    inputs[0, 4] = 3 << 5
    assert [k for k, digits in execute(graph, inputs).digits.items() if digits.any()] == [6, 5]
    for k in (6, 7):
        graph.nodes[f"opens_{k}"].weight[:] = 1 << 12
    graph.nodes["plus_7"].threshold -= 1 << 11
    assert [k for k, digits in execute(graph, inputs).digits.items() if digits.any()] == [7, 5]


def test_phases_left_out_never_fire(weights: DecoderWeights) -> None:
    stop = np.full(weights.config.hidden_size, 40000, np.int32)
    exponents = [phase.k for phase in phases_of(stop, 1 << 15)]
    inputs = np.arange(-(1 << 15), 1 << 15).reshape(-1, len(stop))
    fired = {k for k, digits in digits_by_exponent(weights.code.spike_code().encode(inputs, stop)).items() if digits.any()}
    assert fired <= set(exponents)
    assert exponents == list(range(15, min(exponents) - 1, -1)) and min(exponents) > 0


def test_a_difference_names_its_place(weights: DecoderWeights) -> None:
    inputs = site_inputs(weights, [3, 5], [0])[0]
    graph = site_graph(weights, 0, bits=20)
    execution = execute(graph, inputs)
    k, (token, neuron) = next((k, np.argwhere(digits)[0]) for k, digits in execution.digits.items() if digits.any())
    execution.digits[k][token, neuron] = 0
    with pytest.raises(SimulationError, match=rf"layers\.0\.qkv, phase 2\^{k}, token {token}, input {neuron}: digit 0, expected"):
        compare(weights, 0, inputs, execution)
    execution = execute(graph, inputs)
    execution.output[1, 7] += 1
    with pytest.raises(SimulationError, match=r"layers\.0\.qkv, token 1, output 7: accumulator"):
        compare(weights, 0, inputs, execution)
    with pytest.raises(SimulationError, match="beyond the 8 bits"):
        execute(site_graph(with_site(weights, replace(weights.site(0), stop=np.zeros(32, np.int32))), 0, bits=8), inputs)


def test_metadata_has_the_output_stage(weights: DecoderWeights, tmp_path: Path) -> None:
    write_nir(tmp_path / "site.nir", site_graph(weights, 1, bits=20, network_hash="abc"))
    graph, site = read_nir(tmp_path / "site.nir"), weights.site(1)
    assert site.bias is not None
    for name, expected in (("multiplier", site.multiplier), ("bias", site.bias), ("shift", site.shift), ("bits", 20), ("phases", 14)):
        np.testing.assert_array_equal(graph.metadata[name], expected)
    assert [graph.metadata[name] for name in ("site", "code", "network_hash")] == ["layers.0.output", "signed-digit", "abc"]
    np.testing.assert_array_equal(graph.nodes["synapses"].weight, site.weight)
    assert {type(node).__name__ for node in graph.nodes.values()} == {"Input", "Output", "Scale", "Threshold", "Linear"}


def test_what_nir_cannot_say_is_named(weights: DecoderWeights) -> None:
    with pytest.raises(ConversionError, match="NIR cannot say the whole network: row: it looks rows up"):
        chosen_sites(weights, ())
    for node, reason in other_nodes(weights.config).items():
        with pytest.raises(ConversionError) as caught:
            chosen_sites(weights, [node])
        assert str(caught.value).startswith(f"NIR cannot say {node}: {reason}")
    with pytest.raises(UsageError, match=r"--site layers\.9\.\* matches no site"):
        chosen_sites(weights, ["layers.9.*"])
    assert chosen_sites(weights, ["layers.1.*", "head", "layers.1.qkv"]) == [4, 5, 6, 7, 8]
    with pytest.raises(ConversionError, match=r"layers\.0\.qkv: it does not spike"):
        site_graph(random_decoder(seed=1, parts="feed-forward"), 0)
    for code in ("rate", "bit-planes"):
        with pytest.raises(ConversionError, match=rf"layers\.0\.down in the code {code}: "):
            site_graph(random_decoder(seed=1, code=code), 3)
    with pytest.raises(UsageError, match=r"2\.\.32, got 33"):
        site_graph(weights, 0, bits=33)
    with pytest.raises(ConversionError, match="no input of 4 bits ever fires"):
        site_graph(weights, 0, bits=4)


def test_nodes_of_other_families_are_named() -> None:
    plain = replace(SMALL_CONFIG, gated=False, activation="gelu", learned_positions=True, output_norms=True, query_key_norm=True)
    nodes = other_nodes(plain)
    assert "position" in nodes and "position" not in other_nodes(SMALL_CONFIG)
    assert {"layers.1.q.normalised", "layers.1.output.normalised", "layers.1.down.normalised"} <= set(nodes) - set(
        other_nodes(SMALL_CONFIG)
    )
    assert "table" in nodes["layers.0.hidden"] and "two activations" in other_nodes(SMALL_CONFIG)["layers.0.hidden"]


def test_accumulators_beyond_float64_are_refused(weights: DecoderWeights) -> None:
    wide = 1 << 15
    site = LinearWeights(np.full((1, wide), 127, np.int8), np.full(1, 1 << 15, np.int32), 20, np.zeros(wide, np.int32))
    with pytest.raises(ConversionError, match=r"layers\.0\.qkv: accumulators of inputs of 32 bits"):
        site_graph(with_site(weights, site), 0)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="no such file"):
        read_nir(tmp_path / "none.nir")
    (tmp_path / "text.nir").write_text("no HDF5")
    with pytest.raises(ArtefactError, match="is not a NIR file"):
        read_nir(tmp_path / "text.nir")
    nir.write(tmp_path / "node.nir", nir.Scale(scale=np.ones(3)))
    with pytest.raises(ArtefactError, match="is not a NIR file"):
        read_nir(tmp_path / "node.nir")
