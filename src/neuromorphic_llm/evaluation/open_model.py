"""Open what a user names: a checkpoint as the dense model, a network folder as the spiking one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.text_tokens import Bos, choose_bos
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.places import METADATA


@dataclass(frozen=True)
class OpenedModel:
    """A model ready for evaluation."""

    name: str
    model: ScoredModel
    tokenizer: Any
    eos_token_ids: tuple[int, ...]
    content_hash: str

    @property
    def spiking(self) -> bool:
        """A spiking network, not a dense model."""
        return isinstance(self.model, SpikingModel)


def checked_device(name: str) -> torch.device:
    """The torch device `cpu` or `cuda`; UsageError if there is none of the kind."""
    if name not in ("cpu", "cuda"):
        raise UsageError(f"--device must be cpu or cuda, got {name!r}")
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch finds no CUDA device here; use --device cpu")
    return torch.device(name)


def open_model(argument: str | Path | SpikingNetwork | Checkpoint, device: torch.device, bos: Bos | str = Bos.AUTO) -> OpenedModel:
    """A network, its folder (it holds artefact.json), a checkpoint or anything that load_checkpoint takes.

    `bos` is how its tokenizer begins a text. Raises ArtefactError or CheckpointError with what is wrong.
    """
    name = "the network" if isinstance(argument, SpikingNetwork) else str(argument)
    if isinstance(argument, (str, Path)) and (Path(argument) / METADATA).is_file():
        argument = SpikingNetwork.load(argument)
    if isinstance(argument, SpikingNetwork):
        config = argument.weights.config
        model = SpikingModel(argument.functional(str(device)))
        tokenizer = choose_bos(load_tokenizer(argument.tokenizer_files, name, config.vocab_size), bos)
        return OpenedModel(name, model, tokenizer, config.eos_token_ids, argument.content_hash)
    checkpoint = argument if isinstance(argument, Checkpoint) else load_checkpoint(argument)
    dense = DenseModel(checkpoint.dense_model(device=device))
    tokenizer = choose_bos(checkpoint.tokenizer(), bos)
    return OpenedModel(checkpoint.name, dense, tokenizer, checkpoint.config.eos_token_ids, checkpoint.content_hash)
