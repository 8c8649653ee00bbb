"""NIR files, whole or not there."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from neuromorphic_llm.errors import ArtefactError, NeuromorphicLLMError
from neuromorphic_llm.interchange.nir_graph import import_nir
from neuromorphic_llm.places import refuse_inside_artefact

if TYPE_CHECKING:
    import nir


def write_nir(path: Path, graph: nir.NIRGraph) -> None:
    """Write a graph so that the file is whole or not there; NeuromorphicLLMError if it cannot be written."""
    library = import_nir()
    refuse_inside_artefact(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as folder:
            partial = Path(folder) / path.name
            library.write(partial, graph)
            partial.replace(path)
    except OSError as error:
        raise NeuromorphicLLMError(f"{path} cannot be written ({error.strerror or error}); choose another folder") from error


def read_nir(path: Path) -> nir.NIRGraph:
    """Read a graph; ArtefactError if the file is missing or no NIR."""
    library = import_nir()
    try:
        graph: nir.NIRGraph = library.read(path)
    except FileNotFoundError as error:
        raise ArtefactError(f"{path}: no such file; write it with nmllm export") from error
    # What h5py and nir raise for a damaged file is not documented.
    except (OSError, KeyError, ValueError, TypeError, AssertionError) as error:
        raise ArtefactError(f"{path} is not a NIR file ({error}); write it again with nmllm export") from error
    return graph
