"""Methods of allocation by name, and the search that a conversion asks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from neuromorphic_llm.conversion.allocation.fisher import fisher
from neuromorphic_llm.conversion.allocation.prices import Allocation, SpikeCosts
from neuromorphic_llm.conversion.allocation.search import SearchInput
from neuromorphic_llm.conversion.budget import Target
from neuromorphic_llm.conversion.calibrate import Calibration, Progress
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.registry import Registry

_PACKAGE = "neuromorphic_llm.conversion.allocation"
_ASKED = ("spikes", "energy_j", "price", "code", "phases", "code_parameters", "parts", "weights")
"""Options that an allocation is searched for."""

DEFAULT = "fisher"


def _start(given: SearchInput) -> Allocation:
    """The prices that every search starts from, which are the default's."""
    return given.base


ALLOCATIONS: Registry[Callable[[SearchInput], Allocation]] = Registry(
    "allocation", ((DEFAULT, _start), *((name, f"{_PACKAGE}.{name}:{name}") for name in ("greedy", "teal", "knunyants")))
)
"""Name -> method, the default first."""


def allocate(
    canonical: CanonicalDecoder,
    integers: DecoderWeights,
    calibration: Calibration,
    options: ConvertConfig,
    windows: Sequence[Sequence[int]],
    device: str,
    costs: SpikeCosts | None = None,
    progress: Progress | None = None,
) -> Allocation:
    """The allocation that `options` asks for: one kept in the calibration if it was searched for the same, or a new search.

    costs: what a spike costs where the budget is in joules. Raises UsageError for an unknown method.
    """
    search = ALLOCATIONS[options.allocation]
    target = Target.of(options, costs)
    base = fisher(integers.config, calibration, target.costs)
    if options.allocation == DEFAULT:
        return base
    wanted = {name: getattr(options, name) for name in _ASKED} | {"spike_j": None if costs is None else costs.spike_j.tolist()}
    asked: dict[str, Any] = json.loads(json.dumps(wanted))  # as the calibration's file gives it back
    kept = calibration.allocations.get(options.allocation)
    if kept is not None and dict(kept.asked) == asked:
        return kept
    found = search(SearchInput(canonical, integers, calibration, base, options, target, windows, device, progress))
    return replace(found, asked=asked)
