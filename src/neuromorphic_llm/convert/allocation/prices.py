"""What an allocation is: relative prices, from which one price for the whole network makes all stop tables.

A spike at site s of an input i costs `costs[s]`, an error e of it `sensitivity[s][i] e^2 / 2`. Minimising the sum of both makes

    R_i = price * costs[s] / sensitivity[s][i]        (in units of x squared)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.reference.weights import DecoderConfig, DecoderWeights


@dataclass(frozen=True)
class SpikeCosts:
    """What a spike costs: joules of one at each site [sites], and joules a token whatever the spikes.

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
    return np.array([config.site_shape(site)[1] for site in range(config.sites)], np.float64)


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


def restored(described: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]], sites: int) -> dict[str, Allocation]:
    """Inverse of stored; ArtefactError naming what is missing or of another shape."""
    found = {}
    for name, data in described.items():
        try:
            costs = arrays[f"allocation.{name}.costs"]
            sensitivity = tuple(arrays[f"allocation.{name}.sensitivity.{site}"] for site in range(sites))
            found[name] = Allocation(name, costs, sensitivity, tuple(data["history"]), data["asked"], float(data["start_price"]))
        except (KeyError, TypeError) as error:
            raise ArtefactError(f"the allocation {name!r} of the calibration lacks {error}; search it again") from error
        if costs.shape != (sites,) or not (np.isfinite(costs).all() and (costs > 0).all() and found[name].start_price > 0):
            raise ArtefactError(
                f"the allocation {name!r} of the calibration has costs that are not positive for {sites} sites; search it again"
            )
    return found
