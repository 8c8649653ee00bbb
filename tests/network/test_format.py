"""Network folders: what is saved is loaded, and anything else is refused in one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import FAMILIES, configs, logits

from neuromorphic_llm.artefact import METADATA, TENSORS, save_artefact
from neuromorphic_llm.errors import ArtefactError, CheckpointError
from neuromorphic_llm.models.tokenizer import byte_tokenizer_files
from neuromorphic_llm.network.format import (
    FORMAT,
    VERSION,
    decoder_weights,
    network_version,
    scalar_metadata,
    spiking_parts,
    weight_arrays,
)
from neuromorphic_llm.network.spiking import SpikingNetwork
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG, random_decoder
from neuromorphic_llm.reference.weights import DecoderWeights

PARTS = ("all", "feed-forward", "attention")


def same(ours: DecoderWeights, other: DecoderWeights, parts: str) -> bool:
    """All arrays with their types, and all scalars."""
    first, second = weight_arrays(ours), weight_arrays(other)
    arrays = first.keys() == second.keys() and all((first[n] == second[n]).all() and first[n].dtype == second[n].dtype for n in first)
    flags = [ours.site(index).spiking == other.site(index).spiking for index in range(len(ours.config.sites))]
    flags += [a.attention_spiking == b.attention_spiking for a, b in zip(ours.layers, other.layers, strict=True)]
    return bool(arrays) and all(flags) and scalar_metadata(ours, parts) == scalar_metadata(other, parts)


@settings(max_examples=10)
@given(config=configs(), parts=st.sampled_from(PARTS), bias=st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, config: DecoderConfig, parts: str, bias: bool) -> None:
    weights = random_decoder(0, config=config, parts=parts, bias=bias)
    folder = tmp_path_factory.mktemp("networks") / "network"
    network = SpikingNetwork(weights, parts, {"model": "x"}, {"a.json": b"1", "b": b""})
    content_hash = network.save(folder)
    stored = SpikingNetwork.load(folder)
    assert same(stored.weights, weights, parts)
    assert stored.content_hash == network.content_hash == content_hash
    assert stored.provenance == {"model": "x"}
    assert stored.tokenizer_files == {"a.json": b"1", "b": b""}


def test_versions(tmp_path: Path) -> None:
    """What a Llama decoder has was written before there were others; a network that older versions would misread has a newer version."""
    assert network_version(random_decoder(0, bias=True)) == 1
    for family, config in FAMILIES.items():
        weights = random_decoder(0, config=config)
        assert network_version(weights) == 2
        SpikingNetwork(weights).save(tmp_path / family)
        assert json.loads((tmp_path / family / METADATA).read_text())["version"] == 2
        assert same(SpikingNetwork.load(tmp_path / family).weights, weights, "all")
    centred = random_decoder(0, key_offset=True)
    SpikingNetwork(centred).save(tmp_path / "centred")
    assert json.loads((tmp_path / "centred" / METADATA).read_text())["version"] == network_version(centred) == 3
    assert same(SpikingNetwork.load(tmp_path / "centred").weights, centred, "all")
    SpikingNetwork(random_decoder(0)).save(tmp_path / "llama")
    assert json.loads((tmp_path / "llama" / METADATA).read_text())["version"] == 1


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("gpt2", lambda _, arrays: arrays.pop("positions"), "tensor positions is missing"),
        (
            "gpt2",
            lambda _, arrays: arrays.update(positions=np.zeros((3, 32), np.int16)),
            r"positions is int16 \(3, 32\), expected int16 \(64,",
        ),
        ("gemma3", lambda _, arrays: arrays.pop("local_rope_sin"), "tensor local_rope_sin is missing"),
        ("gemma3", lambda _, arrays: arrays.pop("layers.1.key_gain"), "tensor layers.1.key_gain is missing"),
        ("gemma2", lambda _, arrays: arrays.pop("layers.0.attention_output_gain"), "layers.0.attention_output_gain is missing"),
        ("gemma2", lambda metadata, _: metadata["config"].pop("output_norms"), "output_gain is no part of this configuration"),
        ("gemma2", lambda metadata, _: metadata["config"].update(windows=[3]), r"windows must have one entry per layer \(2\), got 1"),
        ("gemma2", lambda metadata, _: metadata["config"].update(windows=[3, -1]), "windows must be a tuple of sizes"),
        ("gemma2", lambda metadata, _: metadata["config"].update(logit_softcap=-1.0), "logit_softcap must be 0 or lie between"),
        (
            "gemma2",
            lambda metadata, _: (metadata["formats"].update(logit=30), metadata["config"].update(logit_softcap=900.0)),
            "logit_softcap 900.0 does not fit 32 bits at its fraction",
        ),
        (
            "gemma2",
            lambda metadata, _: metadata["formats"].update(residual=30, gain_fraction=6),
            r"residual \(30\) must stay below 24 \+ gain_fraction \(6\)",
        ),
        (
            "qwen3",
            lambda metadata, _: (metadata["formats"].update(qkv=30), metadata["config"].update(rms_norm_eps=0.9)),
            "rms_norm_eps 0.9 is too large at fraction 30",
        ),
        ("opt", lambda metadata, _: metadata["config"].update(activation="swish"), "activation must be one of silu, gelu"),
        ("opt", lambda metadata, _: metadata["config"].update(gated=True), r"gate_up.weight is int8 \(48, 32\), expected int8 \(96, 32\)"),
    ],
)
def test_inconsistent_networks_of_other_families(
    tmp_path: Path, family: str, change: Callable[[dict[str, Any], dict[str, Any]], object], message: str
) -> None:
    weights = random_decoder(0, config=FAMILIES[family])
    metadata, arrays = scalar_metadata(weights, "all") | {"provenance": {}}, weight_arrays(weights)
    change(metadata, arrays)
    save_artefact(tmp_path / "network", format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)
    with pytest.raises(ArtefactError, match=message):
        SpikingNetwork.load(tmp_path / "network")


@pytest.mark.parametrize("parts", PARTS)
def test_flags_are_those_of_the_reference(parts: str) -> None:
    spiking, weights = spiking_parts(parts), random_decoder(0, parts=parts)
    assert all(layer.attention_spiking == spiking["attention"] for layer in weights.layers)
    assert all(weights.site(site.name).spiking == spiking[site.part] for site in weights.config.sites)


def test_a_loaded_network_runs_as_the_saved_one(tmp_path: Path) -> None:
    weights = random_decoder(1, config=replace(SMALL_CONFIG, vocab_size=288))
    network = SpikingNetwork(weights, provenance={"price": 0.5}, tokenizer_files=byte_tokenizer_files(288))
    ids = torch.tensor([[1, 2, 3]])
    expected = logits(network.functional(), ids)
    content_hash = network.save(tmp_path / "network")
    loaded = SpikingNetwork.load(tmp_path / "network")
    assert torch.equal(logits(loaded.functional(), ids), expected)
    assert loaded.content_hash == network.content_hash == content_hash
    assert loaded.parts == "all" and loaded.provenance == {"price": 0.5}
    assert loaded.tokenizer()("A river")["input_ids"] == list(b"A river")


def test_tokenizer_missing_or_damaged() -> None:
    with pytest.raises(ArtefactError, match="has no tokenizer; give token ids"):
        SpikingNetwork(random_decoder(1)).tokenizer()
    with pytest.raises(CheckpointError, match="the tokenizer cannot be read"):
        SpikingNetwork(random_decoder(1), tokenizer_files={"tokenizer.json": b"{"}).tokenizer()


def edit(**changes: Any) -> Callable[[Path], None]:
    """Changes fields of the metadata without touching the hash."""

    def change(folder: Path) -> None:
        path = folder / METADATA
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def truncate(folder: Path) -> None:
    (folder / TENSORS).write_bytes((folder / TENSORS).read_bytes()[:-100])


def flip(folder: Path) -> None:
    content = bytearray((folder / TENSORS).read_bytes())
    content[-5] ^= 1
    (folder / TENSORS).write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, "does not match its hash"),
        (flip, "does not match its hash"),
        (lambda folder: (folder / TENSORS).unlink(), "holds no tensors.safetensors"),
        (lambda folder: (folder / METADATA).unlink(), "holds no artefact.json"),
        (lambda folder: (folder / METADATA).write_text('{"format": '), "artefact.json is damaged"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").write_text("{}"), "tokenizer.json is missing or damaged"),
        (lambda folder: (folder / "tokenizer" / "tokenizer.json").unlink(), "tokenizer.json is missing or damaged"),
        (edit(version=VERSION + 1), "newer than the supported"),
        (edit(format="neuromorphic-llm-program"), "holds neuromorphic-llm-program, not neuromorphic-llm-network"),
        (edit(parts="attention"), "does not match its hash"),
    ],
)
def test_damaged_folders(tmp_path: Path, damage: Callable[[Path], object], message: str) -> None:
    folder = tmp_path / "network"
    SpikingNetwork(random_decoder(0), tokenizer_files={"tokenizer.json": b"[]"}).save(folder)
    damage(folder)
    with pytest.raises(ArtefactError, match=message) as caught:
        SpikingNetwork.load(folder)
    assert "network" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("provenance", [None, [1]])
def test_a_network_without_provenance(tmp_path: Path, provenance: Any) -> None:
    weights = random_decoder(0)
    metadata = scalar_metadata(weights, "all") | ({} if provenance is None else {"provenance": provenance})
    save_artefact(tmp_path / "network", format_name=FORMAT, version=VERSION, metadata=metadata, arrays=weight_arrays(weights))
    with pytest.raises(ArtefactError, match="field 'provenance' is missing or no object; write the artefact again"):
        SpikingNetwork.load(tmp_path / "network")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ArtefactError, match="nowhere is not a folder"):
        SpikingNetwork.load(tmp_path / "nowhere")


def without(name: str) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda _, arrays: arrays.pop(name)


def changed(name: str, value: np.ndarray) -> Callable[[dict[str, Any], dict[str, Any]], object]:
    return lambda _, arrays: arrays.update({name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("head.weight"), "tensor head.weight is missing"),
        (without("rope_cos"), "tensor rope_cos is missing"),
        (without("layers.1.query_stop"), "tensor layers.1.query_stop is missing"),
        (changed("embedding", np.zeros((3, 3), np.int16)), r"tensor embedding is int16 \(3, 3\), expected int16 \(61, 32\)"),
        (changed("layers.0.down.stop", np.zeros(48, np.int64)), "tensor layers.0.down.stop is int64"),
        (changed("rope_sin", np.zeros((9, 4), np.int16)), "tensor rope_sin is int16"),
        (changed("layers.0.qkv.bias", np.zeros(3, np.int32)), "tensor layers.0.qkv.bias is int32"),
        (lambda metadata, _: metadata.pop("config"), "config"),
        (lambda metadata, _: metadata.pop("formats"), "formats"),
        (lambda metadata, _: metadata.pop("head_shift"), "head_shift"),
        (lambda metadata, _: metadata.update(parts="some"), "parts 'some'"),
        (lambda metadata, _: metadata["layers"].pop(), "1 layers"),
        (lambda metadata, _: metadata["layers"][1].pop("down_shift"), "down_shift"),
        (lambda metadata, _: metadata["layers"][0].pop("hidden_fraction"), "hidden_fraction"),
        (lambda metadata, _: metadata["config"].update(heads=3), "heads"),
        (lambda metadata, _: metadata["config"].update(surprise=1), "unknown field 'surprise'"),
        (lambda metadata, _: metadata["code"].update(query_phases=11), "query_phases"),
        (lambda metadata, _: metadata["formats"].update(gate=3), "gate must be at least 12"),
        (lambda metadata, _: metadata["code"].update(name="nonsense"), "unknown spike code 'nonsense'; import the module or install"),
        (lambda metadata, _: metadata.update(readout={"name": "mine"}), "unknown readout 'mine'; import the module or install"),
        (
            lambda metadata, _: metadata["config"].update(stack=[{"kind": "mine", "layer": 0}]),
            "unknown kind of block 'mine'; import the module or install",
        ),
        (
            lambda metadata, _: metadata["config"].update(
                stack=[{"kind": "attention", "layer": n, "heads": 4, "kv_heads": 2, "head_dim": 8, "window": 8} for n in range(2)]
            ),
            r"stack has Attention\(layer=0, .*window=8.*, and the fields of the configuration describe Attention\(.*window=0",
        ),
        (lambda metadata, _: metadata["code"].update(phases="many"), "phases must be an integer, got 'many'"),
        (lambda metadata, _: metadata["code"].update(name=["rate"]), "name must be text"),
        (lambda metadata, _: metadata.update(code=None), "CodeConfig is NoneType, not an object"),
        (lambda metadata, _: metadata.update(config=[1]), "DecoderConfig is list, not an object"),
        (lambda metadata, _: metadata["config"].update(layers=2.0), "layers must be an integer, got 2.0"),
        (lambda metadata, _: metadata["config"].update(hidden_size=-32), "hidden_size must be at least 1, got -32"),
        (lambda metadata, _: metadata["config"].update(vocab_size=10**12), "vocab_size must be at most"),
        (lambda metadata, _: metadata["config"].update(tie_embeddings="yes"), "tie_embeddings must be true or false, got 'yes'"),
        (lambda metadata, _: metadata["config"].update(eos_token_ids=[61]), "token 61 is outside the vocabulary of 61"),
        (lambda metadata, _: metadata["config"].update(eos_token_ids=3), "eos_token_ids must be a tuple"),
        (lambda metadata, _: metadata["config"].update(bos_token_id="0"), "bos_token_id must hold integers, got '0'"),
        (lambda metadata, _: metadata["config"].update(rope_theta=None), "rope_theta must be a number, got None"),
        (lambda metadata, _: metadata["config"].update(rms_norm_eps=True), "rms_norm_eps must be a number, got True"),
        (lambda metadata, _: metadata["formats"].update(residual=3.5), "residual must be an integer, got 3.5"),
        (
            lambda metadata, _: (metadata["formats"].update(residual=30), metadata["config"].update(rms_norm_eps=1.0)),
            "rms_norm_eps 1.0 is too large at fraction 30",
        ),
        (lambda metadata, _: metadata.update(layers=7), "not those of a network"),
        (lambda metadata, _: metadata.update(head_shift="3"), "'head_shift' is '3', not an integer"),
        (lambda metadata, _: metadata.update(head_shift=10**30), "not an integer in -1024..1024"),
        (lambda metadata, _: metadata["layers"][1].update(hidden_fraction=-1), "'hidden_fraction' is -1, not an integer in 0..30"),
        (changed("head.multiplier", np.full(61, -1, np.int32)), r"head.multiplier holds -1..-1, expected 0..65535"),
        (changed("head.weight", np.full((61, 32), -128, np.int8)), r"head.weight holds -128..-128, expected -127..127"),
        (changed("layers.0.value_base", np.array([0, 99], np.int32)), r"value_base holds 0..99, expected 0..31"),
        (changed("rope_cos", np.array(1, np.int16)), "rope_cos|not those of a network"),
        (changed("rope_cos", np.zeros((0, 4), np.int16)), r"rope_cos is int16 \(0, 4\), expected int16 \(1, 4\)"),
    ],
)
def test_inconsistent_contents(tmp_path: Path, change: Callable[[dict[str, Any], dict[str, Any]], object], message: str) -> None:
    """Folders with a right hash, as another program might write them."""
    weights = random_decoder(0)
    metadata, arrays = scalar_metadata(weights, "all") | {"provenance": {}}, weight_arrays(weights)
    change(metadata, arrays)
    save_artefact(tmp_path / "network", format_name=FORMAT, version=VERSION, metadata=metadata, arrays=arrays)
    with pytest.raises(ArtefactError, match=message):
        SpikingNetwork.load(tmp_path / "network")
    with pytest.raises(ArtefactError, match=message):
        decoder_weights(metadata, arrays, source="here")
