"""Part of a network that NIR can express: crossbar sites in the codes of EXACT_CODES; an error names everything else."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from neuromorphic_llm.errors import ConversionError, UsageError
from neuromorphic_llm.reference.build import build_graph, outline
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights

_REASONS = {
    "embedding": "it looks rows up by token id, and NIR's inputs are signals",
    "positions": "it looks rows up by position, and NIR's inputs are signals",
    "normalise": "it divides by the root of a sum over the token, and NIR has neither",
    "rope": "its factors depend on the position, and NIR's weights are constants",
    "attention": "it multiplies activations with each other and keeps a growing cache, and NIR's nodes multiply by constants",
    "gate": "it multiplies two activations, and NIR's nodes multiply by constants",
    "activate": "it is a table with interpolation and a rounding shift, and NIR has neither",
    "soft_cap": "it is a table with interpolation and a rounding shift, and NIR has neither",
    "argmax": "it compares all logits with each other, and NIR's nodes do not",
}
"""Operation of the graph -> obstacle to saying it in NIR."""

_PARTS = {"token", "shift", "gain", "matmul", "scale", "bias", "slice", "kv_write", "add"}
"""Steps of crossbar sites, sums, and of the operations that have a reason."""

EXACT_CODES = ("signed-digit", "first-spike")
"""Codes that NIR's stateless nodes give exactly."""

_RESETS = "its neurons subtract the threshold when they fire and start from a rounded value, and NIR's IF sets a voltage and rounds nothing"
_CODES = {"rate": _RESETS, "qcfs": _RESETS, "st-bif": _RESETS}


def other_nodes(config: DecoderConfig) -> dict[str, str]:
    """Values of a decoder's graph that are no crossbar sites, in the order of execution -> obstacle to saying their node in NIR."""
    nodes = (node for node in build_graph(outline(config)).nodes if node.operation not in _PARTS)
    return {node.name: _REASONS.get(node.operation, f"NIR has no operation like {node.operation}") for node in nodes}


def chosen_sites(weights: DecoderWeights, patterns: Sequence[str]) -> list[int]:
    """Indices of the sites that names or patterns (`layers.0.*`) choose, in the order of execution.

    A pattern takes the sites among what it matches. UsageError for none; ConversionError that names the node if it is one that NIR cannot
    say, or if no pattern is given: a whole decoder has such nodes.
    """
    others = other_nodes(weights.config)
    if not patterns:
        node, reason = next(iter(others.items()))
        raise ConversionError(f"NIR cannot say the whole network: {node}: {reason}; choose sites, as in --site layers.0.qkv")
    names = [site.name for site in weights.config.sites]
    chosen: set[int] = set()
    for pattern in patterns:
        matched = {index for index, name in enumerate(names) if fnmatchcase(name, pattern)}
        if not matched and pattern in others:
            raise ConversionError(f"NIR cannot say {pattern}: {others[pattern]}; choose a site, as in --site layers.0.qkv")
        if not matched:
            where = f"layers.0 .. layers.{weights.config.layers - 1}"
            roles = ", ".join(dict.fromkeys(site.role for site in weights.config.sites[:-1]))
            raise UsageError(f"--site {pattern} matches no site; sites are {roles} of {where}, and head")
        chosen |= matched
    return sorted(chosen)


def check_sayable(weights: DecoderWeights, index: int) -> None:
    """ConversionError that names the site unless it spikes in a code with an exact form in NIR's nodes."""
    name, code = weights.config.sites[index].name, weights.code.name
    if not weights.site(index).spiking:
        raise ConversionError(f"NIR cannot say {name}: it does not spike, its inputs are rounded numbers; convert with --parts all")
    if not weights.readout.exact:
        raise ConversionError(
            f"NIR cannot say {name} read out by {weights.readout.name!r}: its sums are exact; convert for the readout 'exact'"
        )
    if code not in EXACT_CODES:
        reason = _CODES.get(code, "no exact form in NIR's nodes is known here")
        raise ConversionError(f"NIR cannot say {name} in the code {code}: {reason}; convert with --code {EXACT_CODES[0]}")
