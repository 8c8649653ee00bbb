"""Allocations: relative prices, from which one price for the whole network makes all stop tables.

A spike at site s of an input i costs `costs[s]`, an error e of it `sensitivity[s][i] e^2 / 2`. Minimising the sum of both makes

    R_i = price * costs[s] / sensitivity[s][i]        (in units of x squared)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights

LARGEST = 1e100
"""Bound of everything that is stored: sums of squared gradients of float32 stay below it, and products of two such numbers are finite."""


@dataclass(frozen=True)
class SpikeCosts:
    """Energy of spikes: joules per spike at each site [sites], and joules per token whatever the spikes.

    Made by the account of a chip (pipeline.spike_costs); conversion itself knows no chip.
    """

    spike_j: NDArray[np.float64]
    fixed_j: float


@dataclass(frozen=True)
class Allocation:
    """Relative prices of one method; `history` has a JSON object for every decision of its search, `asked` the options that it was for.

    `start_price` is about the price that meets them.
    """

    method: str
    costs: NDArray[np.float64]  # [sites]
    sensitivity: tuple[NDArray[np.float64], ...]  # per site [inputs]
    history: tuple[dict[str, Any], ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    start_price: float = 1e-9


def operation_costs(config: DecoderConfig) -> NDArray[np.float64]:
    """Synaptic operations of a spike at each site: its outputs, [sites]."""
    return np.array([site.outputs for site in config.sites], np.float64)


def stop_table(cost: float, sensitivity: NDArray[np.float64], fraction: int) -> NDArray[np.int32]:
    """R = cost / sensitivity at the given fraction, as integers in 0 .. 2^31 - 1."""
    floor = max(float(sensitivity.max()) * 1e-9, 1e-30)
    table = cost / np.maximum(sensitivity, floor) * 4.0**fraction
    return np.minimum(np.round(table), 2**31 - 1).astype(np.int32)


def site_stop(weights: DecoderWeights, allocation: Allocation, site: int, price: float) -> NDArray[np.int32]:
    """Stop table [inputs] of one site at a price."""
    return stop_table(price * float(allocation.costs[site]), allocation.sensitivity[site], weights.input_fraction(site))


def stored(allocations: Mapping[str, Allocation]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """(JSON objects by method, arrays by tensor name) that keep allocations in an artefact."""
    described, arrays = {}, dict[str, NDArray[Any]]()
    for name, allocation in allocations.items():
        described[name] = {
            "asked": dict(allocation.asked),
            "history": list(allocation.history),
            "start_price": allocation.start_price,
        }
        arrays[f"allocation.{name}.costs"] = allocation.costs
        arrays |= {f"allocation.{name}.sensitivity.{site}": array for site, array in enumerate(allocation.sensitivity)}
    return described, arrays


def real_tensor(arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], source: str) -> NDArray[np.float64]:
    """The tensor of that name, float64 of this shape with values in 0 .. LARGEST; ArtefactError naming `source` and it otherwise."""
    array = arrays.get(name)
    if array is None:
        raise ArtefactError(f"{source}: tensor {name} is missing; calibrate again")
    if array.dtype != np.float64 or array.shape != shape:
        raise ArtefactError(f"{source}: tensor {name} is {array.dtype} {array.shape}, expected float64 {shape}; calibrate again")
    wrong = array[~((array >= 0) & (array <= LARGEST))]
    if wrong.size:
        raise ArtefactError(f"{source}: tensor {name} holds {wrong[0]}, expected 0 to {LARGEST:g}; calibrate again")
    return array


def restored(described: object, arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int], source: str) -> dict[str, Allocation]:
    """Inverse of stored for sites of these inputs; ArtefactError naming `source` and what is missing or wrong."""
    if not isinstance(described, dict):
        raise ArtefactError(f"{source}: field 'allocations' is {described!r}, not an object; calibrate again")
    return {name: _restored(name, data, arrays, sizes, source) for name, data in described.items()}


def _restored(name: str, data: Any, arrays: Mapping[str, NDArray[Any]], sizes: Sequence[int], source: str) -> Allocation:
    what = f"{source}: the allocation {name!r} of the calibration"
    tensors = [f"allocation.{name}.sensitivity.{site}" for site in range(len(sizes))]
    if not isinstance(data, dict):
        raise ArtefactError(f"{what} is {data!r}, not an object; search it again")
    for key in ("asked", "history", "start_price"):
        if key not in data:
            raise ArtefactError(f"{what} lacks {key!r}; search it again")
    for tensor in (f"allocation.{name}.costs", *tensors):
        if tensor not in arrays:
            raise ArtefactError(f"{what} lacks {tensor!r}; search it again")
    asked, history, price = data["asked"], data["history"], data["start_price"]
    if not isinstance(asked, dict) or not isinstance(history, list) or not all(isinstance(step, dict) for step in history):
        raise ArtefactError(f"{what} has an 'asked' or 'history' that is not of objects; search it again")
    if type(price) not in (int, float) or not 0 < price <= LARGEST:
        raise ArtefactError(f"{what} has the start_price {price!r}, not a positive number; search it again")
    costs = arrays[f"allocation.{name}.costs"]
    expected = costs.dtype == np.float64 and costs.shape == (len(sizes),)
    if not expected or not ((costs > 0) & (costs <= LARGEST)).all():
        raise ArtefactError(f"{what} has costs that are not positive float64 for {len(sizes)} sites; search it again")
    sensitivity = tuple(real_tensor(arrays, tensor, (size,), source) for tensor, size in zip(tensors, sizes, strict=True))
    return Allocation(name, costs, sensitivity, tuple(history), asked, float(price))
