"""Finding and replacing the attention of a transformers decoder of the Llama or GPT-2 kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.ssa.attention import SpikingSelfAttention
from neuromorphic_llm.ssa.config import SsaConfig
from neuromorphic_llm.ssa.feed_forward import RateCodedLinear

_CALIBRATION_WINDOWS = 4


@dataclass(frozen=True)
class PartPaths:
    """Places of a transformers decoder's parts; `fused` if q, k and v are one transposed projection."""

    body: str
    layers: str
    attention: str
    final_norm: str
    feed_forward: tuple[str, ...]
    fused: bool


FAMILIES = {
    "llama": PartPaths("model", "layers", "self_attn", "norm", ("gate_proj", "up_proj", "down_proj"), False),
    "gpt2": PartPaths("transformer", "h", "attn", "ln_f", ("c_fc", "c_proj"), True),
}
"""transformers' model_type -> places."""


@dataclass(frozen=True)
class AttentionInput:
    """Input and output of one attention module."""

    hidden: Tensor
    position_embeddings: tuple[Tensor, Tensor] | None
    output: Tensor


class Places:
    """Layers, attention modules and norm of a transformers decoder; ConversionError for another kind."""

    def __init__(self, model: Any) -> None:
        kind = str(model.config.model_type)
        if kind not in FAMILIES:
            raise ConversionError(f"spiking self-attention replaces that of {' and '.join(FAMILIES)} decoders; this is {kind!r}")
        self.model, self.family = model, FAMILIES[kind]
        body = getattr(model, self.family.body)
        self.layers: list[nn.Module] = list(getattr(body, self.family.layers))
        self.final_norm: nn.Module = getattr(body, self.family.final_norm)

    def attention(self, layer: int) -> nn.Module:
        """Attention module of a layer."""
        module: nn.Module = getattr(self.layers[layer], self.family.attention)
        return module

    def spiking(self) -> list[SpikingSelfAttention]:
        """The spiking attention modules, in the order of layers."""
        modules = [self.attention(number) for number in range(len(self.layers))]
        return [module for module in modules if isinstance(module, SpikingSelfAttention)]

    def rate_coded(self) -> list[RateCodedLinear]:
        """The rate-coded linear layers of all feed-forward blocks."""
        return [module for layer in self.layers for module in layer.modules() if isinstance(module, RateCodedLinear)]

    @contextmanager
    def captured(self) -> Iterator[list[AttentionInput]]:
        """A list that every pass inside fills with the inputs and outputs of all attention modules."""
        calls: list[AttentionInput] = []

        def note(_module: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], output: Any) -> None:
            hidden = inputs[0] if inputs else keywords["hidden_states"]
            calls.append(AttentionInput(hidden.detach(), keywords.get("position_embeddings"), output[0].detach()))

        handles = [self.attention(number).register_forward_hook(note, with_kwargs=True) for number in range(len(self.layers))]
        try:
            yield calls
        finally:
            for handle in handles:
                handle.remove()


def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear layer with copies of weight [outputs, inputs] and bias."""
    outputs, inputs = weight.shape
    linear = nn.Linear(inputs, outputs, bias=bias is not None, device="meta")
    linear.weight = nn.Parameter(weight.detach().clone().float().contiguous())
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach().clone().float())
    return linear


def _projections(attention: Any, fused: bool) -> dict[str, nn.Linear]:
    """Copies of a dense module's four projections."""
    if not fused:
        modules = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
        return {part: _linear(m.weight, m.bias) for part, m in zip(("query", "key", "value", "output"), modules, strict=True)}
    weights, biases = attention.c_attn.weight.t().chunk(3), attention.c_attn.bias.chunk(3)
    parts = {part: _linear(w, b) for part, w, b in zip(("query", "key", "value"), weights, biases, strict=True)}
    return {**parts, "output": _linear(attention.c_proj.weight.t(), attention.c_proj.bias)}


@torch.no_grad()
def replaced(
    model: Any, shape: DecoderConfig, config: SsaConfig, windows: Sequence[Sequence[int]], feed_forward_steps: int | None = None
) -> Any:
    """A copy of a dense decoder with spiking self-attention, calibrated on the first windows of token ids [windows][tokens].

    shape: the checkpoint's configuration.
    With `feed_forward_steps` the inputs of its feed-forward layers are rate coded too. Only the spiking attention has gradients.
    Raises ConversionError for a decoder of another kind or without calibration text.
    """
    if not windows:
        raise ConversionError("no calibration windows; give a longer text")
    device = next(model.parameters()).device
    student = copy.deepcopy(model).float().eval().requires_grad_(False)
    dense, places = Places(model), Places(student)
    length = min(map(len, windows[:_CALIBRATION_WINDOWS]))
    ids = torch.tensor([list(window[:length]) for window in windows[:_CALIBRATION_WINDOWS]], device=device)
    largest = _largest_inputs(dense, ids) if feed_forward_steps else {}
    with dense.captured() as calls:
        model(input_ids=ids, use_cache=False)
    for number, (layer, call) in enumerate(zip(places.layers, calls, strict=True)):
        with torch.enable_grad():
            spiking = SpikingSelfAttention(shape, config, _projections(dense.attention(number), places.family.fused)).to(device)
        spiking.calibrate(call.hidden.float(), call.position_embeddings)
        setattr(layer, places.family.attention, spiking)
        for name in places.family.feed_forward if feed_forward_steps else ():
            block: Any = layer.mlp
            setattr(block, name, RateCodedLinear(getattr(block, name), largest[number, name], feed_forward_steps or 0))
    return student


def _largest_inputs(places: Places, ids: Tensor) -> dict[tuple[int, str], Tensor]:
    """Largest magnitude of every input channel of the feed-forward layers: (layer, name) -> [inputs]."""
    found: dict[tuple[int, str], Tensor] = {}

    def watch(key: tuple[int, str]) -> Any:
        def note(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            found[key] = inputs[0].abs().flatten(0, -2).amax(0).float()

        return note

    blocks: list[Any] = [layer.mlp for layer in places.layers]
    handles = [
        getattr(block, name).register_forward_pre_hook(watch((number, name)))
        for number, block in enumerate(blocks)
        for name in places.family.feed_forward
    ]
    try:
        places.model(input_ids=ids, use_cache=False)
    finally:
        for handle in handles:
            handle.remove()
    return found
