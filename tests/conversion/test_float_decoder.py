"""The canonical decoder in floating point equals transformers for every family, and shows everything that is coded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from family_models import SETTINGS, change_config, family_model, saved
from torch import Tensor

from neuromorphic_llm.conversion.float_decoder import LOG2_E, FloatDecoder, Observer
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint

IDS = torch.randint(0, 261, (2, 23), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Checkpoint]:
    home = tmp_path_factory.mktemp("float")
    return {name: load_checkpoint(saved(family_model(name), home / name)) for name in SETTINGS}


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_logits_are_those_of_transformers(name: str, checkpoints: dict[str, Checkpoint]) -> None:
    checkpoint = checkpoints[name]
    ours = FloatDecoder(checkpoint.canonical)(IDS)
    torch.testing.assert_close(ours, checkpoint.dense_model()(IDS).logits, rtol=1e-5, atol=1e-5)
    # Its norms, softmax and angles stay in float32.
    ours = FloatDecoder(checkpoint.canonical, dtype=torch.float64)(IDS)
    torch.testing.assert_close(ours, checkpoint.dense_model(torch.float64)(IDS).logits, rtol=4e-6, atol=4e-6)
    # The models are no trifles: another order of tokens changes the last prediction.
    assert float((ours[:, -1] - FloatDecoder(checkpoint.canonical)(IDS.flip(1).roll(-1, 1))[:, -1]).abs().max()) > 0.1


@pytest.mark.parametrize("name", ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2", "opt", "gptneox"])
@torch.no_grad()
def test_entries_that_are_left_out_mean_what_transformers_takes(name: str, tmp_path: Path) -> None:
    """Sizes stay; everything else is the default, long windows and large heads included."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes = {"vocab_size", "hidden_size", "intermediate_size", "ffn_dim", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"}
    sizes |= {"n_embd", "n_layer", "n_head", "n_inner", "architectures", "model_type", "eos_token_id"}
    folder = saved(family_model(name), tmp_path / name)
    kept = {key: value for key, value in json.loads((folder / "config.json").read_text()).items() if key in sizes}
    config = AutoConfig.for_model(**{"pad_token_id": None, "bos_token_id": None, **kept})
    torch.manual_seed(2)
    model = AutoModelForCausalLM.from_config(config).eval()
    saved(model, folder)
    (folder / "config.json").write_text(json.dumps(kept))
    ours = FloatDecoder(load_checkpoint(folder).canonical)(IDS)
    torch.testing.assert_close(ours, model(IDS).logits, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_older_spellings_of_the_rotary_embedding(tmp_path: Path) -> None:
    llama3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    old: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
        "llama3": ({"rope_scaling": llama3, "rope_theta": 5000.0}, {}),
        "llama-linear": ({"rope_scaling": {"type": "linear", "factor": 2.5}, "rope_theta": 900.0}, {}),
        "gptneox": ({"rotary_pct": 0.25, "rotary_emb_base": 900}, {}),
        "gemma3": (
            {"rope_theta": 1e5, "rope_local_base_freq": 700.0, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            {"layer_types": ..., "sliding_window_pattern": 2},
        ),
    }
    for name, (entries, others) in old.items():
        folder = saved(family_model(name), tmp_path / name)
        before = load_checkpoint(folder)
        after = load_checkpoint(change_config(folder, rope_parameters=..., **entries, **others))
        assert after.config == before.config
        torch.testing.assert_close(FloatDecoder(after.canonical)(IDS), FloatDecoder(before.canonical)(IDS), rtol=0, atol=0)
        torch.testing.assert_close(after.dense_model()(IDS).logits, before.dense_model()(IDS).logits, rtol=0, atol=0)


class Everything(Observer):
    """Keeps what is shown, and adds `change` to one site."""

    def __init__(self, place: int = -1, change: float = 0.0) -> None:
        self.sites: dict[int, Tensor] = {}
        self.queries: dict[int, Tensor] = {}
        self.values: dict[tuple[str, int], list[Tensor]] = {}
        self.place, self.change = place, change

    def site(self, index: int, x: Tensor) -> Tensor:
        self.sites[index] = x
        return x + self.change if index == self.place else x

    def query(self, layer: int, q: Tensor) -> Tensor:
        self.queries[layer] = q
        return q

    def value(self, name: str, layer: int, x: Tensor) -> None:
        self.values.setdefault((name, layer), []).append(x)


@pytest.mark.parametrize("name", SETTINGS)
@torch.no_grad()
def test_the_observer_sees_every_site_and_may_change_it(name: str, checkpoints: dict[str, Checkpoint]) -> None:
    decoder, seen = FloatDecoder(checkpoints[name].canonical), Everything()
    config, logits = decoder.config, decoder(IDS, seen)
    assert torch.equal(logits, decoder(IDS))
    assert sorted(seen.sites) == list(range(len(config.sites))) and sorted(seen.queries) == list(range(config.layers))
    for site, x in seen.sites.items():
        assert x.shape == (2, 23, config.sites[site].shape[0])
    assert all(q.shape == (2, config.heads, 23, config.head_dim) for q in seen.queries.values())
    expected = {("residual", -1), ("logit", -1)}
    layer_values = ["query", "key", "value", "gate", "residual"] + ["attention_output", "feed_forward_output"] * config.output_norms
    assert set(seen.values) == expected | {(value, layer) for layer in range(config.layers) for value in layer_values}
    for site in range(len(config.sites)):
        # A constant at the input of the head or of the query and key alone could cancel; at these sites it cannot.
        assert not torch.equal(decoder(IDS, Everything(site, 0.1)), logits)


@torch.no_grad()
def test_queries_are_scores_in_base_two(checkpoints: dict[str, Checkpoint]) -> None:
    """Scores of query and rotated key, as softmax takes them, against the definition from the projections."""
    decoder, seen = FloatDecoder(checkpoints["gpt2"].canonical, dtype=torch.float64), Everything()
    decoder(IDS, seen)
    config = decoder.config
    q, k = (seen.values[name, 2][0].view(2, 23, config.heads, config.head_dim).transpose(1, 2) for name in ("query", "key"))
    score = seen.queries[2] @ seen.values["key", 2][1].transpose(2, 3)
    torch.testing.assert_close(score, q @ k.transpose(2, 3) * config.head_dim**-0.5 * LOG2_E)


def test_residual_streams_of_layer_norms_have_mean_zero(checkpoints: dict[str, Checkpoint]) -> None:
    for name in ("gpt2", "opt", "gptneox", "gptneox-serial"):
        decoder, seen = FloatDecoder(checkpoints[name].canonical, dtype=torch.float64), Everything()
        decoder(IDS, seen)
        for layer in range(-1, decoder.config.layers):
            # Centred in float64, kept in float32.
            assert float(seen.values["residual", layer][0].mean(-1).abs().max()) < 1e-6


def test_gradients_reach_every_weight(checkpoints: dict[str, Checkpoint]) -> None:
    for name in ("qwen2", "gemma3", "gptneox"):
        decoder = FloatDecoder(checkpoints[name].canonical, dtype=torch.float64)
        leaves = {key: value.clone().requires_grad_(True) for key, value in decoder.weights.items() if not key.startswith("rotary.")}
        decoder.weights |= leaves
        decoder(IDS).log_softmax(-1)[:, :, 7].sum().backward()
        assert all(leaf.grad is not None and bool(leaf.grad.any()) for leaf in leaves.values())


def test_types_and_ownership(checkpoints: dict[str, Checkpoint]) -> None:
    canonical: CanonicalDecoder = checkpoints["gemma2"].canonical
    decoder = FloatDecoder(canonical, dtype=torch.bfloat16)
    assert decoder(IDS).dtype == torch.bfloat16 and decoder.weights["rotary.frequencies"].dtype == torch.float64
    assert FloatDecoder(canonical).weights["lm_head.weight"] is canonical.tensors["lm_head.weight"]
    with pytest.raises(ValueError, match="97 tokens do not fit the 96 learned positions"):
        FloatDecoder(checkpoints["opt"].canonical)(torch.zeros(1, 97, dtype=torch.int64))
