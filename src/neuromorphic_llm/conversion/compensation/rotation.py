"""Rotation of the residual stream and of the values, folded into the weights: RMSNorm without its gain does not see a rotation.

With the gains g of the norms folded into the weights behind them and an orthogonal Q,

    embedding <- embedding Q^T,   W_in <- W_in diag(g) Q^T,   W_out <- Q W_out,   gains <- 1

leaves every prediction as it is; values and output projection are rotated per key/value head in the same way. Nothing is added on the chip.
The head gets weights of its own, as embedding and head have anyway in the integer network.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from neuromorphic_llm.conversion.float_decoder import FloatDecoder, Observer
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.reference.config import DecoderConfig

_READERS = (
    ("input_layernorm", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")),
    ("post_attention_layernorm", ("mlp.gate_proj", "mlp.up_proj")),
)
_WRITERS = ("self_attn.o_proj", "mlp.down_proj")


def folded_gains(canonical: CanonicalDecoder) -> CanonicalDecoder:
    """The same decoder with the gains of the norms in the weights behind them."""
    tensors = dict(canonical.tensors)
    for layer in range(canonical.config.layers):
        for norm, readers in _READERS:
            name = f"model.layers.{layer}.{norm}.weight"
            for reader in (f"model.layers.{layer}.{linear}.weight" for linear in readers):
                if reader in tensors:
                    tensors[reader] = (tensors[reader].double() * tensors[name].double()).float()
            tensors[name] = torch.ones_like(tensors[name])
    tensors["lm_head.weight"] = (tensors["lm_head.weight"].double() * tensors["model.norm.weight"].double()).float()
    tensors["model.norm.weight"] = torch.ones_like(tensors["model.norm.weight"])
    return CanonicalDecoder(replace(canonical.config, tie_embeddings=False), tensors)


def rotated(canonical: CanonicalDecoder, stream: Tensor, values: Sequence[Tensor]) -> CanonicalDecoder:
    """The decoder with its stream rotated by `stream` [hidden, hidden] and the values of layer l by values[l] [kv_heads, D, D], float64.

    Raises ConversionError for a decoder with norms behind its projections: they would see the rotation.
    """
    if canonical.config.output_norms:
        raise ConversionError("a decoder with norms behind its projections cannot be rotated; leave the rotation out")
    folded = folded_gains(canonical)
    config, tensors = folded.config, dict(folded.tensors)

    def change(name: str, how: Callable[[Tensor], Tensor]) -> None:
        if name in tensors:
            tensors[name] = how(tensors[name].double()).float()

    for name in ("model.embed_tokens.weight", "model.embed_positions.weight", "lm_head.weight"):
        change(name, lambda w: w @ stream.T)
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        for _, readers in _READERS:
            for linear in readers:
                change(f"{prefix}{linear}.weight", lambda w: w @ stream.T)
        for linear in _WRITERS:
            change(f"{prefix}{linear}.weight", lambda w: stream @ w)
            change(f"{prefix}{linear}.bias", lambda b: stream @ b)
        by_head = torch.block_diag(*values[layer])  # type: ignore[no-untyped-call]
        shared = values[layer].repeat_interleave(config.heads // config.kv_heads, 0)
        by_query_head = torch.block_diag(*shared)  # type: ignore[no-untyped-call]
        for kind in ("weight", "bias"):
            change(f"{prefix}self_attn.v_proj.{kind}", lambda w, turn=by_head: turn @ w)  # type: ignore[misc]
        change(f"{prefix}self_attn.o_proj.weight", lambda w, turn=by_query_head: w @ turn.T)  # type: ignore[misc]
    return CanonicalDecoder(config, tensors)


def hadamard(size: int, generator: torch.Generator) -> Tensor:
    """Orthogonal [size, size], float64: a Hadamard matrix for the power of two in `size`, a random rotation for the odd rest."""
    power = size & -size
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < power:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1))) / 2**0.5
    rest = size // power
    random, _ = torch.linalg.qr(torch.randn(rest, rest, dtype=torch.float64, generator=generator))
    signs = torch.randint(2, (size,), generator=generator).double() * 2 - 1
    return torch.kron(random.contiguous(), matrix.contiguous()) * signs


def hadamard_rotation(canonical: CanonicalDecoder, windows: Sequence[Sequence[int]], device: str, seed: int) -> CanonicalDecoder:
    """Rotated so that every channel is a mixture of all; windows and device are not used."""
    config, generator = canonical.config, torch.Generator().manual_seed(seed)
    head = torch.stack([hadamard(config.head_dim, generator) for _ in range(config.kv_heads)])
    return rotated(canonical, hadamard(config.hidden_size, generator), [head] * config.layers)


class _Covariances(Observer):
    """Second moments of what the norms give, summed over sites [hidden, hidden], and of the attention output per head [kv_heads, D, D]."""

    def __init__(self, config: DecoderConfig) -> None:
        self.config = config
        self.stream = torch.zeros(config.hidden_size, config.hidden_size, dtype=torch.float64)
        self.values = torch.zeros(config.layers, config.kv_heads, config.head_dim, config.head_dim, dtype=torch.float64)

    def site(self, index: int, x: Tensor) -> Tensor:
        site = self.config.sites[index]
        if site.input_fraction == "attention":
            heads = x.double().flatten(0, 1).view(-1, self.config.kv_heads, self.config.heads // self.config.kv_heads, self.config.head_dim)
            self.values[site.stage] += torch.einsum("tkgi,tkgj->kij", heads, heads).cpu()
        elif site.input_fraction == "norm":
            rows = x.double().flatten(0, 1)
            self.stream += (rows.T @ rows).cpu()
        return x


@torch.no_grad()
def principal_rotation(canonical: CanonicalDecoder, windows: Sequence[Sequence[int]], device: str, seed: int) -> CanonicalDecoder:
    """Rotated to the principal axes of what the norms give, without gain, and of the attention output of each head. `seed` is not used."""
    folded = folded_gains(canonical)
    decoder, moments = FloatDecoder(folded, device=device), _Covariances(folded.config)
    for window in windows:
        moments.site(folded.config.head.index, decoder.hidden(torch.tensor([list(window)]), moments))
    _, stream = torch.linalg.eigh(moments.stream)
    _, values = torch.linalg.eigh(moments.values)
    return rotated(canonical, stream.T, list(values.transpose(-1, -2)))
