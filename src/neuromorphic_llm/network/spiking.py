"""SpikingNetwork: integer weights with where they came from and the model's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromorphic_llm.artefact import artefact_hash, load_artefact, read_files, save_artefact
from neuromorphic_llm.display import Displayed
from neuromorphic_llm.errors import ArtefactError
from neuromorphic_llm.models.tokenizer import load_tokenizer
from neuromorphic_llm.network.format import FORMAT, VERSION, decoder_weights, network_version, scalar_metadata, weight_arrays
from neuromorphic_llm.reference.weights import DecoderWeights

if TYPE_CHECKING:
    from neuromorphic_llm.network.functional import FunctionalDecoder


@dataclass(frozen=True, eq=False, repr=False)
class SpikingNetwork(Displayed):
    """Converted model, as `convert` makes it and a network folder holds it.

    parts: hybrid, which parts spike (format.PARTS).
    provenance: model, options and figures of the conversion.
    tokenizer_files: those of the checkpoint.
    stored_hash: content hash of the folder that it was loaded from, empty for a network of this session.
    """

    weights: DecoderWeights
    parts: str = "all"
    provenance: dict[str, Any] = field(default_factory=dict)
    tokenizer_files: Mapping[str, bytes] = field(default_factory=dict)
    stored_hash: str = ""

    @classmethod
    def load(cls, folder: Path | str) -> SpikingNetwork:
        """Load a network folder; ArtefactError if it is missing, damaged, inconsistent or newer."""
        metadata, arrays = load_artefact(folder, format_name=FORMAT, version=VERSION)
        weights = decoder_weights(metadata, arrays, source=str(folder))
        provenance = metadata.get("provenance")
        if not isinstance(provenance, dict):
            raise ArtefactError(f"{folder}: field 'provenance' is missing or no object; write the artefact again")
        files = {name.removeprefix("tokenizer/"): content for name, content in read_files(folder, metadata).items()}
        return cls(weights, metadata["parts"], provenance, files, metadata["content_hash"])

    def save(self, folder: Path | str) -> str:
        """Write the network folder atomically; returns its content hash."""
        return save_artefact(folder, **self._content())

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the network's folder, whether it has been written or not."""
        return self.stored_hash or artefact_hash(**self._content())

    def _content(self) -> dict[str, Any]:
        """Content of the network's folder, as save_artefact takes it."""
        return {
            "format_name": FORMAT,
            "version": network_version(self.weights),
            "metadata": {**scalar_metadata(self.weights, self.parts), "provenance": self.provenance},
            "arrays": weight_arrays(self.weights),
            "extra_files": {f"tokenizer/{name}": content for name, content in self.tokenizer_files.items()},
        }

    def functional(self, device: str = "cpu") -> FunctionalDecoder:
        """Functional simulation of this network on a device."""
        from neuromorphic_llm.network.functional import FunctionalDecoder  # with torch

        return FunctionalDecoder(self.weights, device)

    def tokenizer(self) -> Any:
        """Tokenizer of the model, from transformers; ArtefactError if the network has none."""
        if not self.tokenizer_files:
            raise ArtefactError("this network has no tokenizer; give token ids, or convert a checkpoint that has one")
        return load_tokenizer(self.tokenizer_files, "the network", self.weights.config.vocab_size)

    @property
    def title(self) -> str:
        """Kind and model."""
        return f"Spiking network of {self.provenance.get('model', 'integer weights')}"

    def figures(self) -> dict[str, str]:
        """Size, code and spikes."""
        config, code = self.weights.config, self.weights.code
        rows = {
            "weights": f"{self.weights.parameters:,}",
            "layers": f"{config.layers}",
            "code": f"{code.name}, {code.phases} phases",
            "parts that spike": self.parts,
        }
        if (spikes := self.provenance.get("spikes_per_activation")) is not None:
            rows["spikes per activation, on the calibration text"] = f"{spikes:.3f}"
        for key in ("budget_note", "warning"):
            rows |= {key.removeprefix("budget_"): self.provenance[key]} if key in self.provenance else {}
        return rows
