"""Programs forged by someone who makes the hash right again: refused in one line, or harmless to simulate."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromorphic_llm import artefact
from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.chip.program_io import FORMAT, VERSION, load_program, save_program
from neuromorphic_llm.compiler.pipeline import compile_network
from neuromorphic_llm.errors import NeuromorphicLLMError
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import random_decoder
from neuromorphic_llm.simulation.run import simulate

TINY = DecoderConfig(11, 8, 12, 1, 2, 1, 4, 8, 1e-5, 1e4, tie_embeddings=False)

Place = tuple[Any, ...]


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], artefact.Arrays, Path]:
    """Metadata and tensors of a valid program, and a folder to forge it in."""
    folder = tmp_path_factory.mktemp("forged") / "program"
    save_program(compile_network(random_decoder(1, config=TINY, bias=True), load_spec("nano")), folder)
    metadata, arrays = artefact.load_artefact(folder, format_name=FORMAT, version=VERSION)
    for key in ("format", "version", "files", "content_hash"):
        del metadata[key]
    return metadata, arrays, folder


def places(value: Any, here: Place = ()) -> list[Place]:
    """Paths of everything inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, item in items for path in [(*here, key), *places(item, (*here, key))]]


ODD_VALUES = st.one_of(
    st.sampled_from([None, True, -1, 0, 1, 2**31, 2**63, 10**30, -(10**30), 1.5, 1e308, "", "7", [], {}, [0], ["a"], {"a": 1}]),
    st.integers(-70, 70),
)


def forge_field(data: st.DataObject, metadata: dict[str, Any]) -> None:
    """Replace, change a little, or remove one field; the report is what `compile` printed and is not executed."""
    path = data.draw(st.sampled_from([path for path in places(metadata) if path[0] != "report"]))
    holder = metadata
    for key in path[:-1]:
        holder = holder[key]
    old = holder[path[-1]]
    how = data.draw(st.sampled_from(["replace", "remove", "repeat", "nudge"]))
    if how == "remove":
        del holder[path[-1]]
    elif how == "repeat" and isinstance(old, list) and old:
        old.append(copy.deepcopy(old[-1]))
    elif how == "nudge" and type(old) in (int, float):
        holder[path[-1]] = old + data.draw(st.sampled_from([-1, 1, 64]))
    else:
        holder[path[-1]] = data.draw(ODD_VALUES)


def forge_tensor(data: st.DataObject, arrays: artefact.Arrays) -> None:
    """Another type or shape, extreme elements, or no tensor at all."""
    name = data.draw(st.sampled_from(sorted(arrays)))
    array = arrays[name]
    how = data.draw(st.sampled_from(["remove", "type", "scalar", "empty", "shorter", "longer", "flat", "elements", "elements", "elements"]))
    if how == "remove":
        del arrays[name]
    elif how == "type":
        arrays[name] = array.astype(data.draw(st.sampled_from([np.int8, np.uint8, np.int16, np.int64, np.float32, np.bool_])))
    elif how == "elements":
        limits = np.iinfo(array.dtype)
        array = array.copy()
        for _ in range(data.draw(st.integers(1, 4))):
            array.flat[data.draw(st.integers(0, array.size - 1))] = data.draw(st.sampled_from([limits.min, limits.max, 0, 1, 31]))
        arrays[name] = array
    else:
        forms = {"scalar": array.flat[0].reshape(()), "empty": array[:0], "shorter": array[:-1], "flat": array.reshape(-1, 1)}
        arrays[name] = np.asarray(forms.get(how, np.concatenate([array, array])))


@settings(max_examples=250)
@given(data=st.data())
def test_forged_program(contents: tuple[dict[str, Any], artefact.Arrays, Path], data: st.DataObject) -> None:
    metadata, arrays = copy.deepcopy(contents[0]), dict(contents[1])
    if data.draw(st.booleans()):
        forge_field(data, metadata)
    else:
        forge_tensor(data, arrays)
    artefact.save_artefact(contents[2], format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)
    refused = ""
    try:
        result = simulate(load_program(contents[2]), [1, 2, 3], 2, stop=(), threads=1)
    except NeuromorphicLLMError as error:
        refused = str(error)
    if refused:
        assert "; " in refused and "\n" not in refused
    else:
        assert len(result.token_ids) == 2 and result.cycles_total > 0
