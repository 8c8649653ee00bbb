"""Compensations by name: those that change the decoder before it is calibrated, and those that correct the integer weights after."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from neuromorphic_llm.conversion.calibrate import Progress
from neuromorphic_llm.conversion.compensation.corrections import CORRECTIONS, Correction, correct
from neuromorphic_llm.conversion.compensation.means import centred_values
from neuromorphic_llm.conversion.compensation.rotation import hadamard_rotation, principal_rotation
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights
from neuromorphic_llm.registry import Registry

Change = Callable[[CanonicalDecoder, Sequence[Sequence[int]], str, int], CanonicalDecoder]
"""(decoder, token windows, device, seed) -> an equivalent decoder."""

_CHANGES: dict[str, Change] = {
    "rotation-hadamard": hadamard_rotation,
    "rotation-pca": principal_rotation,
    "means": centred_values,
}
"""Changes of the decoder by name, in the order in which they are applied."""


COMPENSATIONS: Registry[Change | Correction] = Registry("compensation", (*_CHANGES.items(), *CORRECTIONS.items()))
"""Compensations by name, in the order in which they are applied."""


def split_names(names: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(changes, corrections) of these names. UsageError for an unknown one, with the nearest, and for two rotations."""
    for name in names:
        COMPENSATIONS.check(name)
    if sum(name.startswith("rotation-") for name in names) > 1:
        raise UsageError("two rotations after each other are one rotation; choose rotation-hadamard or rotation-pca")
    return tuple(name for name in _CHANGES if name in names), tuple(name for name in CORRECTIONS if name in names)


def changed_decoder(
    canonical: CanonicalDecoder,
    names: Sequence[str],
    windows: Sequence[Sequence[int]],
    device: str,
    seed: int,
    progress: Progress | None = None,
) -> CanonicalDecoder:
    """A decoder that predicts the same, with inputs that are easier to code. ConversionError for one that it cannot be done to."""
    for done, name in enumerate(names):
        if progress:
            progress("change the decoder", done, len(names))
        canonical = _CHANGES[name](canonical, windows, device, seed)
    if progress:
        progress("change the decoder", len(names), len(names))
    return canonical


def corrected_weights(
    canonical: CanonicalDecoder,
    weights: DecoderWeights,
    names: Sequence[str],
    windows: Sequence[Sequence[int]],
    device: str,
    progress: Progress | None = None,
) -> DecoderWeights:
    """Integer weights corrected for what their stop tables lose on the windows, site by site in network order."""
    chosen: list[Correction] = [CORRECTIONS[name] for name in names]
    return correct(canonical, weights, chosen, windows, device, progress)
