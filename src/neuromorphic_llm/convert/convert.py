"""Conversion of a checkpoint into a spiking network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from neuromorphic_llm import __version__
from neuromorphic_llm.convert.budget import measure_spikes, price_for_spikes, with_price
from neuromorphic_llm.convert.calibrate import Calibration, Progress, calibrate
from neuromorphic_llm.convert.config import ConvertConfig
from neuromorphic_llm.convert.integers import integer_decoder
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.spikes.registry import get_code

if TYPE_CHECKING:
    from neuromorphic_llm.models.checkpoint import Checkpoint

_START_PRICE, _START_QUERY_PRICE = 1e-9, 1e-7
_QUERY_TOLERANCE = 0.03


def calibrate_checkpoint(
    checkpoint: Checkpoint, windows: Sequence[Sequence[int]], *, device: str = "cpu", seed: int = 0, progress: Progress | None = None
) -> Calibration:
    """Calibration of a checkpoint on token windows."""
    model = checkpoint.dense_model(device=device)
    return calibrate(model, checkpoint.config, windows, checkpoint_hash=checkpoint.content_hash, seed=seed, progress=progress)


def convert(
    checkpoint: Checkpoint,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    *,
    calibration: Calibration | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> SpikingNetwork:
    """Convert a checkpoint into a new spiking network.

    windows: token windows of the calibration text, for ranges, sensitivities (unless `calibration` is given) and the spike budget.
    Raises ConversionError if the calibration is of another checkpoint, the spike target cannot be met, or an accumulator could overflow.
    """
    code = get_code(options.code, options.phases)
    if calibration is None:
        calibration = calibrate_checkpoint(checkpoint, windows, device=device, seed=options.seed, progress=progress)
    elif calibration.checkpoint_hash != checkpoint.content_hash:
        raise ConversionError("the calibration was made for another checkpoint; calibrate this one")
    integers = integer_decoder(checkpoint.config, checkpoint.tensors, calibration, options, code)
    budget_windows = list(windows)[:4]

    def measure(price: float, query_price: float) -> tuple[float, float]:
        return measure_spikes(with_price(integers, calibration, price, query_price), budget_windows, device)

    query_price = _query_price(lambda price: measure(_START_PRICE, price)[1], options, progress)
    if options.price is not None:
        price = options.price
        reached = measure(price, query_price)[0]
    else:
        assert options.spikes is not None
        price, reached = price_for_spikes(
            lambda price: measure(price, query_price)[0], options.spikes, options.tolerance, _START_PRICE, progress
        )
    provenance = {
        "model": checkpoint.name,
        "checkpoint_hash": checkpoint.content_hash,
        "calibration_tokens": calibration.tokens,
        "options": options.to_json(),
        "price": price,
        "query_price": query_price,
        "spikes_per_activation": reached,
        "package_version": __version__,
    }
    weights = with_price(integers, calibration, price, query_price)
    return SpikingNetwork(weights, parts=options.parts, provenance=provenance, tokenizer_files=checkpoint.tokenizer_files)


def _query_price(measure: Callable[[float], float], options: ConvertConfig, progress: Progress | None) -> float:
    """Price of a query spike that meets options.query_spikes; 0 where the queries do not spike that often at all."""
    if options.parts == "feed-forward" or measure(0.0) <= options.query_spikes:
        return 0.0
    return price_for_spikes(measure, options.query_spikes, _QUERY_TOLERANCE, _START_QUERY_PRICE, progress)[0]
