"""The dense model: a family's own class in transformers, with the weights of a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from neuromorphic_llm.errors import CheckpointError
from neuromorphic_llm.models.family import Family
from neuromorphic_llm.reference.config import DecoderConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def build_dense_model(
    family: Family, settings: Mapping[str, Any], config: DecoderConfig, tensors: Mapping[str, Tensor], dtype: torch.dtype,
    device: str | torch.device,
) -> PreTrainedModel:  # fmt: skip
    """The model in eval mode, with its own copy of the weights."""
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig

    # Its own copy: transformers writes into the objects of a configuration, and the checkpoint's hash would change.
    try:
        described = AutoConfig.for_model(**{**copy.deepcopy(dict(settings)), "model_type": family.model_type})
        with _parameters_without_memory():
            model: PreTrainedModel = AutoModelForCausalLM.from_config(described, dtype=dtype)  # type: ignore[no-untyped-call]
    except Exception as error:  # It checks types of entries that nothing here reads, by errors of several libraries.
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"transformers cannot make the dense model of this configuration ({reason}); correct its config.json"
        ) from error
    names = [name for name in tensors if name != family.head or not config.tie_embeddings]
    state = {name: tensors[name].to(device=device, dtype=dtype, copy=True) for name in names}
    if config.tie_embeddings:
        state[family.head] = state[family.embedding]
    model.load_state_dict(state, strict=True, assign=True)
    model.tie_weights()
    nn.Module.to(model, device)  # what follows from the configuration: rotary frequencies, the scale of an embedding
    eos = list(config.eos_token_ids) or None
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=config.bos_token_id, eos_token_id=eos, pad_token_id=eos[0] if eos else None
    )
    model.requires_grad_(False)
    model.eval()  # type: ignore[no-untyped-call]
    return model


@contextmanager
def _parameters_without_memory() -> Iterator[None]:
    """Modules made within hold no weights, so that 13B of them are not first filled with random numbers; their buffers are real."""
    original = nn.Module.register_parameter

    def register(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        original(module, name, None if parameter is None else nn.Parameter(parameter.to("meta"), requires_grad=False))

    nn.Module.register_parameter = register  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        nn.Module.register_parameter = original  # type: ignore[method-assign]
