"""Compensations: changes leave the predictions as they are, corrections lower the error that they are for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from neuromorphic_llm.conversion.calibrate import Calibration, calibrate
from neuromorphic_llm.conversion.compensation.corrections import SiteInputs, bias, correct, gptq
from neuromorphic_llm.conversion.compensation.gptq import rounded_against
from neuromorphic_llm.conversion.compensation.methods import COMPENSATIONS, changed_decoder, split_names
from neuromorphic_llm.conversion.compensation.rotation import hadamard
from neuromorphic_llm.conversion.compensation.sites import output_factor, site_weight
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.conversion.integers import integer_decoder
from neuromorphic_llm.errors import ConversionError, UsageError
from neuromorphic_llm.models.canonical import CanonicalDecoder, canonical_shapes, rotary_frequencies
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.operations import CodedRows
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.linear import fold_scale
from neuromorphic_llm.reference.weights import LinearWeights
from neuromorphic_llm.spikes.registry import get_code


def logits(canonical: CanonicalDecoder, window: list[int]) -> torch.Tensor:
    return FloatDecoder(canonical, dtype=torch.float64)(torch.tensor([window]))[0]


@pytest.mark.parametrize("names", [("rotation-hadamard",), ("rotation-pca",), ("means",), ("rotation-pca", "means")])
def test_changes_keep_the_predictions(tiny: Checkpoint, windows: list[list[int]], names: tuple[str, ...]) -> None:
    changed = changed_decoder(tiny.canonical, names, windows, "cpu", seed=3)
    expected = logits(tiny.canonical, windows[0][:64])
    torch.testing.assert_close(logits(changed, windows[0][:64]), expected, rtol=1e-4, atol=1e-4)
    name = "model.layers.1.self_attn.v_proj." + ("bias" if names == ("means",) else "weight")
    assert name not in tiny.canonical.tensors or not torch.equal(changed.tensors[name], tiny.canonical.tensors[name])


def random_canonical(config: DecoderConfig, seed: int) -> CanonicalDecoder:
    """Random weights, and a bias for every projection."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in canonical_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        tensors[name] = noise / shape[-1] ** 0.5 if len(shape) > 1 else 1 + 0.1 * noise
        if name.endswith("_proj.weight"):
            tensors[name.removesuffix("weight") + "bias"] = 0.1 * torch.randn(shape[:1], generator=generator)
    tensors["rotary.frequencies"] = rotary_frequencies(config)
    return CanonicalDecoder(config, tensors)


@pytest.mark.parametrize("names", [("rotation-hadamard",), ("rotation-pca",), ("means",)])
@pytest.mark.parametrize(
    "variant",
    [
        {"learned_positions": True, "gated": False, "activation": "gelu-tanh"},
        {"parallel_residual": True, "gated": False, "activation": "gelu"},
        {"query_key_norm": True},
    ],
    ids=["learned positions", "parallel residual", "norms of heads"],
)
def test_changes_keep_the_predictions_of_other_families(tiny: Checkpoint, names: tuple[str, ...], variant: dict[str, Any]) -> None:
    canonical = random_canonical(replace(tiny.config, layers=1, hidden_size=48, **variant), seed=4)
    windows = [list(range(20, 60))]
    changed = changed_decoder(canonical, names, windows, "cpu", seed=3)
    torch.testing.assert_close(logits(changed, windows[0]), logits(canonical, windows[0]), rtol=1e-4, atol=1e-4)


class Inputs(Observer):
    """Keeps the attention outputs."""

    def __init__(self) -> None:
        self.outputs: dict[int, torch.Tensor] = {}

    def site(self, index: int, x: torch.Tensor) -> torch.Tensor:
        if index % 4 == 1:
            self.outputs[index // 4] = x[0]
        return x


def test_means_leave_the_attention_output_without_one(tiny: Checkpoint, windows: list[list[int]]) -> None:
    config = tiny.config
    changed = changed_decoder(tiny.canonical, ("means",), windows[:1], "cpu", seed=0)
    inputs = Inputs()
    FloatDecoder(changed, dtype=torch.float64).hidden(torch.tensor(windows[:1]), inputs)
    for x in inputs.outputs.values():
        groups = x.mean(0).view(config.kv_heads, -1, config.head_dim).mean(1)  # heads that share values share the mean
        assert float(groups.abs().max()) < 1e-5


def test_principal_axes_are_uncorrelated(tiny: Checkpoint, windows: list[list[int]]) -> None:
    changed = changed_decoder(tiny.canonical, ("rotation-pca",), windows, "cpu", seed=0)
    inputs = Inputs()
    FloatDecoder(changed, dtype=torch.float64).hidden(torch.tensor([windows[0]]), inputs)
    assert len(inputs.outputs) == tiny.config.layers
    decoder, rows = FloatDecoder(changed, dtype=torch.float64), []

    class Norms(Observer):
        def site(self, index: int, x: torch.Tensor) -> torch.Tensor:
            if index % 4 in (0, 2):
                rows.append(x[0])
            return x

    for window in windows:
        rows.append(decoder.hidden(torch.tensor([window]), Norms())[0])
    moments = torch.cat(rows).T @ torch.cat(rows)
    off_diagonal = moments - torch.diag(moments.diagonal())
    assert float(off_diagonal.abs().max()) < 1e-3 * float(moments.diagonal().max())


@pytest.mark.parametrize("size", [1, 2, 12, 64, 9])
def test_hadamard_is_orthogonal(size: int) -> None:
    matrix = hadamard(size, torch.Generator().manual_seed(1))
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(size, dtype=torch.float64))


def test_norms_behind_projections_refuse_a_rotation(tiny: Checkpoint, windows: list[list[int]]) -> None:
    config = replace(tiny.config, output_norms=True)
    ones = torch.ones(config.hidden_size)
    norms = {
        f"model.layers.{layer}.{name}_output_norm.weight": ones for layer in range(config.layers) for name in ("attention", "feed_forward")
    }
    with pytest.raises(ConversionError, match="cannot be rotated"):
        changed_decoder(CanonicalDecoder(config, {**tiny.canonical.tensors, **norms}), ("rotation-hadamard",), windows, "cpu", 0)


def test_rounding_against_correlated_inputs_beats_rounding_to_nearest() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 24, dtype=torch.float64, generator=generator) @ torch.randn(24, 24, dtype=torch.float64, generator=generator)
    weight = torch.randn(10, 24, dtype=torch.float64, generator=generator) * 3
    rounded = rounded_against(weight, x.T @ x)
    assert torch.equal(rounded, rounded.round()) and float(rounded.abs().max()) <= 127

    def error(integers: torch.Tensor) -> float:
        return float(((weight - integers) @ x.T).square().sum())

    assert error(rounded) < 0.6 * error(weight.round())


def test_rounding_against_independent_inputs_is_to_nearest() -> None:
    weight = torch.tensor([[0.2, 1.7, -3.6], [126.4, -127.0, 0.0]], dtype=torch.float64)
    assert torch.equal(rounded_against(weight, torch.eye(3, dtype=torch.float64)), weight.round())
    assert torch.equal(rounded_against(weight, torch.zeros(3, 3, dtype=torch.float64)), weight.round())


FACTOR = torch.full((6,), 4.0, dtype=torch.float64)  # fraction 12 to 14


def linear(weight: torch.Tensor) -> LinearWeights:
    scale = (weight.abs().amax(1) / 127).numpy()
    multiplier, shift = fold_scale(scale, 12, 14)
    integers = (weight.numpy() / scale[:, None]).round().astype(np.int8)
    return LinearWeights(integers, multiplier, shift, np.zeros(weight.shape[1], np.int32), None, True)


def test_bias_takes_out_the_mean_error() -> None:
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(6, 16, dtype=torch.float64, generator=generator)
    x = (torch.randn(300, 16, generator=generator) + 0.7) * 4096
    coded = torch.where(x.abs() < 2000, torch.zeros_like(x), x.round())
    site = bias(linear(weight), SiteInputs(weight, FACTOR, coded, x.double().mean(0)))
    assert site.bias is not None
    outputs = torch.from_numpy(site.weight).double() @ coded.double().T * torch.from_numpy(site.multiplier.astype(np.float64))[:, None]
    got = (outputs * 2.0**-site.shift + torch.from_numpy(site.bias)[:, None]).mean(1)
    torch.testing.assert_close(got, weight @ x.double().mean(0) * 4, rtol=1e-3, atol=1.0)
    again = bias(site, SiteInputs(weight, FACTOR, coded, x.double().mean(0)))
    assert again.bias is not None and (again.bias != site.bias).any()  # it adds to a bias that is there


def test_gptq_changes_weights_only() -> None:
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(6, 16, dtype=torch.float64, generator=generator)
    x = torch.randn(100, 16, generator=generator) @ torch.randn(16, 16, generator=generator)
    site = linear(weight)
    corrected = gptq(site, SiteInputs(weight, FACTOR, x, x.double().mean(0)))
    assert corrected.weight.dtype == np.int8 and (corrected.weight != site.weight).any()
    assert np.abs(corrected.weight.astype(int) - site.weight).max() <= 3
    assert corrected.bias is None and (corrected.multiplier == site.multiplier).all()

    def error(integers: np.ndarray[Any, Any]) -> float:
        scale = weight.abs().amax(1, keepdim=True) / 127
        return float(((weight - torch.from_numpy(integers) * scale) @ x.double().T).norm())

    assert error(corrected.weight) < 0.85 * error(site.weight)


def test_corrected_accumulators_that_could_overflow_are_refused(tiny: Checkpoint) -> None:
    """Inputs that are all alike: rounded to nearest every weight loses a part, rounded against the inputs their sum keeps it."""
    config = replace(tiny.config, layers=1, hidden_size=16, intermediate_size=1405, heads=1, kv_heads=1)
    tensors, prefix = dict(random_canonical(config, seed=5).tensors), "model.layers.0.mlp."
    for name in ("gate_proj.weight", "gate_proj.bias", "up_proj.weight", "up_proj.bias"):
        tensors[prefix + name] = tensors[prefix + name][:1].expand_as(tensors[prefix + name]).contiguous()
    tensors[prefix + "down_proj.weight"] = torch.full((16, 1405), 124.49)
    tensors[prefix + "down_proj.weight"][:, 0] = 127.0
    canonical, ids = CanonicalDecoder(config, tensors), [list(range(20, 60))]
    ranges = calibrate(FloatDecoder(canonical), ids, checkpoint_hash="")
    integers = integer_decoder(config, tensors, ranges, ConvertConfig(), get_code("signed-digit"))
    with pytest.raises(ConversionError, match=r"layers\.0\.down: an accumulator could reach 2\.15e\+09.*; leave gptq out, or use fewer"):
        correct(canonical, integers, [gptq], ids, "cpu")
    assert correct(canonical, integers, [bias], ids, "cpu").layers[0].down.bias is not None


def test_sites_are_stacked_as_the_integers(
    tiny: Checkpoint, corrected: SpikingNetwork, calibration: Calibration, windows: list[list[int]]
) -> None:
    plain = convert(tiny, ConvertConfig(price=0.0, spikes=None), windows, calibration=calibration).weights
    for site in (0, 1, 2, 3, tiny.config.head.index):
        weight = site_weight(tiny.canonical, site)
        rounded = (weight / (weight.abs().amax(1, keepdim=True) / 127)).round()
        assert torch.equal(rounded.to(torch.int8), torch.from_numpy(plain.site(site).weight))
        unit = weight.abs().amax(1) / 127 * output_factor(plain, site)  # of an integer weight, in integers of the output
        multiplier = torch.from_numpy(plain.site(site).multiplier.astype(np.float64)) * 2.0 ** -plain.site(site).shift
        largest = float(multiplier.max())
        torch.testing.assert_close(multiplier, unit, rtol=0, atol=largest * 2.0**-16)


@pytest.fixture(scope="module")
def corrected(tiny: Checkpoint, calibration: Calibration, windows: list[list[int]]) -> SpikingNetwork:
    return convert(tiny, ConvertConfig(spikes=0.8, compensation=("gptq", "bias")), windows, calibration=calibration)


def mean_errors(network: SpikingNetwork, canonical: CanonicalDecoder, windows: list[list[int]]) -> float:
    """Mean error of the outputs against the float weights on inputs that are not coded: norms, summed over the sites but the head."""
    decoder, errors = network.functional(), []

    def observe(index: int, x: torch.Tensor, coded: CodedRows) -> None:
        if index < network.weights.config.head.index:
            tensors, operations = decoder.site_tensors(index), decoder.operations
            got = operations.scale(operations.accumulate(coded, tensors), coded.exponent, tensors).double().mean(0)
            exact = site_weight(canonical, index) @ x.double().mean(0) * output_factor(network.weights, index)
            errors.append(float((got - exact).norm() / exact.norm()))

    decoder.observer = observe
    decoder.forward(torch.tensor(windows), last_only=True)
    return sum(errors)


def test_corrections_take_out_the_mean_error_of_the_network(
    tiny: Checkpoint, corrected: SpikingNetwork, calibration: Calibration, windows: list[list[int]]
) -> None:
    assert corrected.provenance["spikes_per_activation"] == pytest.approx(0.8, rel=0.01)
    assert corrected.provenance["options"]["compensation"] == ["gptq", "bias"]
    plain = convert(tiny, ConvertConfig(spikes=0.8), windows, calibration=calibration)
    # Not all of it: what a spike costs is fitted once more after the correction.
    assert mean_errors(corrected, tiny.canonical, windows) < 0.5 * mean_errors(plain, tiny.canonical, windows)


def test_a_corrected_network_equals_the_reference(corrected: SpikingNetwork, windows: list[list[int]]) -> None:
    tokens = windows[0][:8]
    assert (corrected.functional().forward(torch.tensor([tokens]))[0].numpy() == IntegerDecoder(corrected.weights).forward(tokens)).all()


@pytest.mark.parametrize("name", ["means", *(pytest.param(f"rotation-{kind}", marks=pytest.mark.slow) for kind in ("hadamard", "pca"))])
def test_a_changed_network_is_close_to_the_dense_model(
    tiny: Checkpoint, windows: list[list[int]], calibration: Calibration, name: str
) -> None:
    options = ConvertConfig(price=0.0, spikes=None, query_spikes=900.0, compensation=(name,))
    network = convert(tiny, options, windows, calibration=calibration)
    decoder = network.functional()
    ours = decoder.forward(torch.tensor(windows[:1]))[0].double() * 2.0**-network.weights.formats.logit
    dense = logits(tiny.canonical, windows[0])
    assert float(torch.nn.functional.cosine_similarity(ours, dense, dim=-1).mean()) > 0.999


def test_names() -> None:
    assert split_names(("bias", "rotation-pca", "gptq")) == (("rotation-pca",), ("gptq", "bias"))
    assert set(COMPENSATIONS) == {"gptq", "bias", "means", "rotation-hadamard", "rotation-pca"}
    with pytest.raises(UsageError, match=r"unknown compensation 'gtpq'; did you mean 'gptq'\?"):
        split_names(("gtpq",))
    with pytest.raises(UsageError, match="two rotations after each other are one rotation"):
        split_names(("rotation-pca", "rotation-hadamard"))
