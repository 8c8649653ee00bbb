"""SpikingNetwork: the object users hold. Integer weights, tokenizer, save and load, functional simulation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.network.format import load_network, save_network
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights


class SpikingNetwork:
    """A converted model.

    weights: the integer decoder; parts: which parts spike; provenance: where it came from; tokenizer_files: as in the checkpoint.
    """

    def __init__(
        self,
        weights: DecoderWeights,
        *,
        parts: str = "all",
        provenance: Mapping[str, Any] | None = None,
        tokenizer_files: Mapping[str, bytes] | None = None,
        content_hash: str = "",
    ) -> None:
        self.weights, self.parts = weights, parts
        self.provenance, self.tokenizer_files = dict(provenance or {}), dict(tokenizer_files or {})
        self.content_hash = content_hash

    @classmethod
    def load(cls, folder: Path | str) -> SpikingNetwork:
        """Load a network folder; ArtefactError if it is missing, damaged or newer."""
        stored = load_network(folder)
        provenance = stored.metadata.get("provenance")
        if not isinstance(provenance, dict):
            raise ArtefactError(f"{folder}: field 'provenance' is missing or no object; write the artefact again")
        return cls(
            stored.weights,
            parts=stored.metadata["parts"],
            provenance=provenance,
            tokenizer_files=stored.tokenizer_files,
            content_hash=stored.content_hash,
        )

    def save(self, folder: Path | str) -> str:
        """Write the network folder atomically; returns its content hash."""
        self.content_hash = save_network(
            folder, self.weights, parts=self.parts, provenance=self.provenance, tokenizer_files=self.tokenizer_files
        )
        return self.content_hash

    def functional(self, device: str = "cpu") -> FunctionalDecoder:
        """Functional simulation of this network on a device."""
        return FunctionalDecoder(self.weights, device)

    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer of the model; ArtefactError if the network has none."""
        if not self.tokenizer_files:
            raise ArtefactError("this network has no tokenizer; give token ids, or convert a checkpoint that has one")
        return load_tokenizer(self.tokenizer_files, "the network")
