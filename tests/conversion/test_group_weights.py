"""4-bit weights with a multiplier per group: what they are made of, how close they are, stored and loaded, on the chip."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromorphic_llm.artefact import save_artefact
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import load_program, save_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.conversion.calibrate import Calibration
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.group_weights import quantise_groups
from neuromorphic_llm.conversion.integers import integer_decoder, quantise_rows
from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.network.format import FORMAT, VERSION, scalar_metadata, weight_arrays
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.operations import Operations
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.simulation.events import EventDecoder
from neuromorphic_llm.spikes.registry import get_code


def random_weight(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Gaussian weights whose groups differ in size."""
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.rand(rows, -(-columns // 32), generator=generator).repeat_interleave(32, 1)[:, :columns] + 0.1
    return torch.randn(rows, columns, generator=generator) * sizes


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 100), st.integers(0, 2**32 - 1), st.floats(1e-6, 1e6))
def test_products_of_4_bit_weights_and_multipliers(rows: int, columns: int, seed: int, size: float) -> None:
    weight = random_weight(rows, columns, seed) * size
    weight[0, :32] = 0.0
    products, multiplier, scale = quantise_groups(weight)
    assert (products.shape, multiplier.shape, scale.shape) == ((rows, columns), (rows, -(-columns // 32)), (rows,))
    assert (products.dtype, multiplier.dtype) == (np.int8, np.uint8)
    assert multiplier.min() >= 1 and multiplier.max() <= 15
    expanded = multiplier.astype(int).repeat(32, axis=1)[:, :columns]
    assert (products % expanded == 0).all() and np.abs(products // expanded).max() <= 7
    assert not products[0, :32].any()
    # The search keeps the scale at which nothing is clipped among its choices: no worse than half a step of the largest group.
    largest = np.abs(weight.numpy()).max(axis=1)
    error = np.square(products * scale[:, None] - weight.numpy()).sum(axis=1)
    assert (error <= columns * np.square(largest / 14) * (1 + 1e-4) + 1e-300).all()


def test_no_other_choice_of_a_group_is_better() -> None:
    weight = random_weight(2, 32, 3).double()
    products, _, scale = quantise_groups(weight)
    errors = np.square(products * scale[:, None] - weight.numpy()).sum(axis=1)
    full = weight.abs().amax(1).numpy() / 105
    for row, (shrink, m) in itertools.product(range(2), itertools.product((1.0, 0.95, 0.9, 0.85, 0.8), (12, 13, 14, 15))):
        step = full[row] * shrink * m
        other = np.clip(np.round(weight[row].numpy() / step), -7, 7) * step
        assert errors[row] <= np.square(other - weight[row].numpy()).sum() * (1 + 1e-5)


def test_error_is_that_of_4_bits_a_group() -> None:
    weight = random_weight(64, 256, 0)
    products, _, scale = quantise_groups(weight)
    integers, rows = quantise_rows(weight)
    power = float(weight.square().mean())
    groups, eight = (float(np.square(a * s[:, None] - weight.numpy()).mean()) / power for a, s in ((products, scale), (integers, rows)))
    assert eight < 1e-3 < groups < 0.012


def converted(checkpoint: Checkpoint, calibration: Calibration) -> DecoderWeights:
    options = ConvertConfig(weights="4-bit-groups")
    return integer_decoder(checkpoint.config, checkpoint.canonical.tensors, calibration, options, get_code("signed-digit"))


def test_every_site_of_a_decoder_is_grouped(tiny: Checkpoint, calibration: Calibration, tmp_path: Path) -> None:
    weights = converted(tiny, calibration)
    SpikingNetwork(weights).save(tmp_path / "network")
    loaded = SpikingNetwork.load(tmp_path / "network").weights
    for index in range(len(weights.config.sites)):
        site, stored = weights.site(index), loaded.site(index)
        assert site.group_multiplier is not None and stored.group_multiplier is not None
        assert (site.group_multiplier == stored.group_multiplier).all() and (site.weight == stored.weight).all()
    tokens = list(b"Once upon a time")
    logits = FunctionalDecoder(loaded, operations=Operations()).forward(torch.tensor([tokens]))
    assert isinstance(logits, torch.Tensor)
    assert (logits[0].numpy() == IntegerDecoder(weights).forward(tokens)).all()


def test_the_chip_holds_their_products(tiny: Checkpoint, calibration: Calibration, tmp_path: Path) -> None:
    weights, tokens = converted(tiny, calibration), list(b"Once")
    save_program(compile_network(weights, load_spec("nano")), tmp_path / "program")
    decoder = EventDecoder(load_program(tmp_path / "program"), threads=1)
    logits = [decoder.step(token) for token in tokens]
    assert (np.stack([row for row in logits if row is not None]) == IntegerDecoder(weights).forward(tokens)).all()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("head.group_multiplier", 0, r"head.group_multiplier holds 0\.\.\d+, expected 1\.\.15"),
        ("head.group_multiplier", 16, r"head.group_multiplier holds \d+\.\.16, expected 1\.\.15"),
        ("head.group_multiplier", 13, r"head.weight is not made of 4-bit weights and group_multiplier"),
    ],
)
def test_damaged_groups(tiny: Checkpoint, calibration: Calibration, tmp_path: Path, name: str, value: int, message: str) -> None:
    weights = converted(tiny, calibration)
    metadata, arrays = scalar_metadata(weights, "all") | {"provenance": {}}, weight_arrays(weights)
    arrays[name] = arrays[name].copy()
    arrays[name][0, 0] = value
    save_artefact(tmp_path / "network", format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)
    with pytest.raises(ArtefactError, match=message):
        SpikingNetwork.load(tmp_path / "network")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": "3-bit"}, "weights must be one of 8-bit, 4-bit-groups, got '3-bit'"),
        ({"weights": "4-bit-groups", "compensation": ("gptq",)}, "compensation gptq rounds to 8-bit weights"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvertConfig(**options)
    assert "weights" not in ConvertConfig().to_json()
