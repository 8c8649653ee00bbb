"""Rotary scaling as GGUF metadata spell it, read as llama.cpp does, and given as an entry that transformers' classes read.

Source: llama.cpp (src/llama-model.cpp, src/llama-context.cpp, ggml's rope): a type left out is linear, `scale_linear` is the older name of
`scaling.factor`, type `none` scales nothing, and `rope_freqs.weight` divides the frequencies, pair by pair.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

_UNUSED = {"yarn_log_multiplier": 0.0, "yarn_beta_fast": 32.0, "yarn_beta_slow": 1.0, "alpha": 0.0}
"""Keys behind `rope.scaling.` that some versions of llama.cpp heed -> the value that changes nothing."""


def rotary_scaling(rest: dict[str, Any], context: int, head_dim: int, factors: NDArray[np.float32] | None) -> dict[str, Any]:
    """`rope_scaling` of a Hugging Face configuration; empty if there is none.

    Takes what it uses out of `rest`, the metadata without the architecture. `factors` are the tensor `rope_freqs.weight` [head_dim / 2].
    Raises ValueError for a scaling that is not known.
    """
    prefix = "rope.scaling."
    kind = rest.pop(prefix + "type", "linear")
    rest.pop(prefix + "finetuned", None)  # says how the model was trained
    older = rest.pop("rope.scale_linear", 0.0)
    factor = float(rest.pop(prefix + "factor", older)) or 1.0
    original = rest.pop(prefix + "original_context_length", context)
    for key, neutral in {**_UNUSED, "attn_factor": 1.0, "yarn_ext_factor": float(kind == "yarn")}.items():
        if rest.get(prefix + key) == neutral:
            del rest[prefix + key]
    if kind not in ("none", "linear", "yarn"):
        raise ValueError(f"rope scaling {kind!r} is not supported")
    if kind == "none":
        factor = 1.0
    if not 1.0 <= factor <= 1e6:
        raise ValueError(f"{prefix}factor must lie between 1 and 1e6, got {factor}")
    if factors is not None and factors.shape != (head_dim // 2,):
        raise ValueError(f"rope_freqs.weight has the shape {list(factors.shape)}, not [{head_dim // 2}]")
    if factors is not None and not np.all(factors == 1.0):
        if kind == "yarn" and factor != 1.0:
            raise ValueError("rope_freqs.weight together with rope scaling 'yarn' is not supported")
        return _by_pairs(factors, factor, context)
    if factor == 1.0:
        return {}
    if kind != "yarn":
        return {"rope_type": "linear", "factor": factor}
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if prefix + "attn_factor" in rest:
        scaling["attention_factor"] = float(rest.pop(prefix + "attn_factor")) * (1.0 + 0.1 * math.log(factor))
    return scaling


def _by_pairs(factors: NDArray[np.float32], factor: float, context: int) -> dict[str, Any]:
    """Every pair with its own factor: LongRoPE with the same factors for short and for long texts."""
    if not np.all(np.isfinite(factors)) or not np.all(factors > 0):
        raise ValueError("rope_freqs.weight must hold positive numbers")
    each = [float(value) * factor for value in factors]
    scaling = {"rope_type": "longrope", "short_factor": each, "long_factor": each, "factor": 1.0}
    return {**scaling, "attention_factor": 1.0, "original_max_position_embeddings": context}
