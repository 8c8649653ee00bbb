"""Comparison of the functional simulation with the integer reference, for the tests on every device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from hypothesis import strategies as st

from neuromorphic_llm.devices.membrane import Membrane
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.network.matmul import product
from neuromorphic_llm.network.operations import AttentionResult, CodedRows
from neuromorphic_llm.reference.config import ACTIVATIONS, DecoderConfig
from neuromorphic_llm.reference.decoder import IntegerDecoder
from neuromorphic_llm.reference.random_decoder import SMALL_CONFIG
from neuromorphic_llm.reference.weights import DecoderWeights

_PLAIN = replace(SMALL_CONFIG, gated=False)
_NORMED = replace(SMALL_CONFIG, output_norms=True, activation="gelu-tanh", score_scale=0.25)

FAMILIES = {
    "mistral": replace(SMALL_CONFIG, windows=(4, 4)),
    "qwen3": replace(SMALL_CONFIG, query_key_norm=True),
    "gemma2": replace(_NORMED, windows=(3, 0), attention_softcap=2.0, logit_softcap=5.0),
    "gemma3": replace(_NORMED, windows=(5, 0), query_key_norm=True, local_rotary=True),
    "gpt2": replace(_PLAIN, learned_positions=True, activation="gelu-tanh"),
    "opt": replace(_PLAIN, learned_positions=True, activation="relu"),
    "gptneox": replace(_PLAIN, parallel_residual=True, activation="gelu"),
}
"""What each family has that Llama has not, in small."""


def logits(decoder: FunctionalDecoder, ids: torch.Tensor, *arguments: object, **options: object) -> torch.Tensor:
    """Logits on the CPU, without the hidden states."""
    result = decoder.forward(ids, *arguments, **options)  # type: ignore[arg-type]
    assert isinstance(result, torch.Tensor)
    return result.cpu()


def equal(ours: torch.Tensor, reference: np.ndarray) -> bool:
    """Same shape and same integers."""
    return tuple(ours.shape) == reference.shape and bool((ours.cpu().numpy() == reference).all())


def check_against_reference(decoder: FunctionalDecoder, tokens: Sequence[int]) -> None:
    """Logits, hidden states, coded inputs, accumulators and every count of one sequence are the reference's."""
    weights = decoder.weights
    reference = IntegerDecoder(weights)
    expected = reference.step(tokens, reference.new_cache(), full=True)
    sites: dict[int, CodedRows] = {}
    attention: list[AttentionResult] = []
    attend = decoder.operations.attention

    def recorded(*arguments: object) -> AttentionResult:
        attention.append(attend(*arguments))  # type: ignore[arg-type]
        return attention[-1]

    decoder.operations.attention = recorded  # type: ignore[method-assign, assignment]
    decoder.observer = lambda index, _, coded: sites.update({index: coded})
    decoder.statistics.reset()
    result, hidden = decoder.forward(torch.tensor([list(tokens)]), return_hidden=True)
    decoder.operations.attention, decoder.observer = attend, None  # type: ignore[method-assign]
    assert equal(result[0], expected.logits)
    assert equal(hidden[:, 0], np.stack(expected.record.hidden))
    for index, record in enumerate(expected.record.sites):
        coded, weight = sites[index], torch.from_numpy(weights.site(index).weight)
        assert equal(coded.integers(), record.coded.a)
        assert equal(coded.exponent, record.coded.exponent)
        assert equal(coded.spikes, record.coded.spikes.sum(axis=-1))
        high, low = product(coded.planes.cpu(), weight, False)
        assert record.accumulators is not None
        assert equal(128 * high.long() + low, record.accumulators)
        assert decoder.statistics.site_spikes()[index] == record.coded.spikes.sum()
    for layer, activity in zip(attention, expected.record.attention, strict=True):
        assert equal(layer.query_spikes, activity.query_spikes)
        assert equal(layer.probability_spikes, activity.probability_spikes)
        assert equal(layer.probability_keys, activity.probability_keys)


def variants(layers: int) -> st.SearchStrategy[dict[str, object]]:
    """Fields of a configuration that Llama has not, in any combination."""
    caps = st.sampled_from([0.0, 0.001, 0.7, 30.0, 1000.0])
    return st.fixed_dictionaries(
        {
            "activation": st.sampled_from(ACTIVATIONS),
            **dict.fromkeys(
                ("gated", "parallel_residual", "query_key_norm", "output_norms", "learned_positions", "local_rotary"), st.booleans()
            ),
            "windows": st.one_of(st.just(()), st.tuples(*[st.integers(0, 6)] * layers)),
            "attention_softcap": caps,
            "logit_softcap": caps,
        }
    )


@st.composite
def configs(draw: st.DrawFn) -> DecoderConfig:
    """Small shapes of any family; most are no multiples of 8, so that products take the way round the int8 kernel."""
    kv_heads, layers = draw(st.integers(1, 3)), draw(st.integers(1, 2))
    llama = draw(st.booleans())
    return DecoderConfig(
        vocab_size=draw(st.sampled_from([5, 24, 61])),
        hidden_size=draw(st.sampled_from([8, 20, 32])),
        intermediate_size=draw(st.sampled_from([7, 24, 40])),
        layers=layers,
        heads=kv_heads * draw(st.integers(1, 3)),
        kv_heads=kv_heads,
        head_dim=draw(st.sampled_from([2, 6, 8, 16])),
        max_positions=24,
        rms_norm_eps=draw(st.sampled_from([1e-6, 1e-5, 1e-2])),
        rope_theta=10000.0,
        tie_embeddings=draw(st.booleans()),
        **({} if llama else draw(variants(layers))),
    )


def tokens_of(config: DecoderConfig, count: int, seed: int = 0) -> list[int]:
    """Random token ids."""
    return list(map(int, np.random.default_rng(seed).integers(0, config.vocab_size, count)))


def with_large_prices(weights: DecoderWeights) -> DecoderWeights:
    """The same decoder where most inputs stay silent, whole vectors among them."""
    for index in range(len(weights.config.sites)):
        stop = weights.site(index).stop
        stop[:] = np.minimum(1000 * stop.astype(np.int64), 2**31 - 1)
    return weights


MEMBRANES = Membrane(rows=16, active_rows=4, converter_bits=5)


def with_membranes(weights: DecoderWeights, readout: Membrane = MEMBRANES, seed: int = 0) -> DecoderWeights:
    """The decoder with random ranges, low enough that conversions saturate."""
    rng = np.random.default_rng(seed)
    ranged = weights.with_sites(
        lambda site, linear: replace(
            linear, ranges=rng.integers(-5, 3, (readout.blocks(site.inputs), site.outputs)).astype(np.int8) if linear.spiking else None
        )
    )
    return replace(ranged, readout=readout)
