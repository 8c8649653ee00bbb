"""Spiking self-attention in both families: causality, gradients, counts, and the equations by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.ssa.attention import PARTS, SpikingSelfAttention, SsaCounts
from neuromorphic_llm.ssa.config import NeuronConfig, SsaConfig
from neuromorphic_llm.ssa.feed_forward import RateCodedLinear, rate_spikes
from neuromorphic_llm.ssa.neuron import lif
from neuromorphic_llm.ssa.replace import Places, _projections, replaced

SHAPE = DecoderConfig(
    vocab_size=8, hidden_size=6, intermediate_size=8, layers=1, heads=2, kv_heads=1, head_dim=2, max_positions=16, rms_norm_eps=1e-5,
    rope_theta=10000.0,
)  # fmt: skip


def module(config: SsaConfig) -> SpikingSelfAttention:
    torch.manual_seed(3)
    widths = {"query": (6, 4), "key": (6, 2), "value": (6, 2), "output": (4, 6)}
    made = SpikingSelfAttention(SHAPE, config, {part: nn.Linear(*width) for part, width in widths.items()})
    made.calibrate(torch.randn(3, 8, 6), None)
    return made


@pytest.mark.parametrize("score_spikes", [False, True])
def test_the_equations_one_query_and_step_at_a_time(score_spikes: bool) -> None:
    config = SsaConfig(3, score_spikes, NeuronConfig(leak=0.75, reset="hard"))
    attention = module(config)
    x = torch.randn(1, 5, 6)
    attention.counts = SsaCounts()
    result, _ = attention(x)
    q, k, v = attention.currents(x, None)
    trains = {
        part: lif(attention.gain[part] * c + attention.shift[part], config.neuron, 3) for part, c in zip(PARTS, (q, k, v), strict=False)
    }
    values: list[torch.Tensor] = []
    query_operations = value_operations = 0
    for head in range(2):
        rates = []
        for n in range(5):
            currents = torch.stack([trains["query"][t, 0, head, n] @ trains["key"][t, 0, 0, : n + 1].T for t in range(3)])
            if score_spikes:
                currents = lif(attention.score_gain[head] * currents + attention.score_shift[head], config.neuron)
                value_operations += int(currents.sum()) * 2
            weights = currents / currents.sum(1, keepdim=True).clamp_min(1)
            context = torch.stack([weights[t] @ trains["value"][t, 0, 0, : n + 1] for t in range(3)])
            rates.append(lif(attention.gain["output"][head] * context + attention.shift["output"][head], config.neuron).mean(0))
            query_operations += int(trains["query"][:, 0, head, n].sum()) * (n + 1)
            if not score_spikes:
                value_operations += int(trains["value"][:, 0, 0, : n + 1].sum())
        values.append(torch.stack(rates) * attention.decode_gain[head] + attention.decode_shift[head])
    torch.testing.assert_close(result[0], attention.output(torch.cat(values, 1)))
    counts = attention.counts
    assert (counts.tokens, counts.pairs) == (5, 2 * 15)
    assert int(counts.query_operations) == query_operations
    assert int(counts.value_operations) == value_operations
    assert int(counts.spikes["value"]) == int(trains["value"].sum())


@pytest.mark.parametrize("config", [SsaConfig(2), SsaConfig(3, True, NeuronConfig(leak=0.5, reset="hard", surrogate="sigmoid"))])
def test_later_tokens_change_nothing(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor, config: SsaConfig) -> None:
    student = replaced(dense, checkpoint.config, config, windows.tolist())
    with torch.no_grad():
        whole = student(input_ids=windows, use_cache=False).logits
        changed = windows.clone()
        changed[:, 8:] = (changed[:, 8:] + 7) % 260
        other = student(input_ids=changed, use_cache=False).logits
    torch.testing.assert_close(whole[:, :8], other[:, :8])
    assert not torch.allclose(whole[:, 8:], other[:, 8:])


def test_every_parameter_of_attention_and_nothing_else_learns(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    student = replaced(dense, checkpoint.config, SsaConfig(4, True), windows.tolist(), feed_forward_steps=8)
    student(input_ids=windows, labels=windows).loss.backward()
    inside = {id(p) for m in Places(student).spiking() for p in m.parameters()}
    for name, parameter in student.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in inside), name
        # The first query sees one key only, but the others' gradients are there.
        assert parameter.grad is None or (torch.isfinite(parameter.grad).all() and parameter.grad.abs().sum() > 0), name


def test_projections_are_the_dense_ones(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    """Softmax attention over the copied projections gives the dense module's output."""
    places, shape = Places(dense), checkpoint.config
    with places.captured() as calls, torch.no_grad():
        dense(input_ids=windows, use_cache=False)
    for number, call in enumerate(calls):
        spiking = SpikingSelfAttention(shape, SsaConfig(), _projections(places.attention(number), places.family.fused))
        with torch.no_grad():
            q, k, v = spiking.currents(call.hidden, call.position_embeddings)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            output = spiking.output(mixed.transpose(1, 2).flatten(2))
        torch.testing.assert_close(output, call.output, rtol=1e-4, atol=1e-4)


def test_calibration_centres_the_currents(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    student, places = replaced(dense, checkpoint.config, SsaConfig(4), windows.tolist()), Places(dense)
    with places.captured() as calls, torch.no_grad():
        dense(input_ids=windows[:4], use_cache=False)
    for attention, call in zip(Places(student).spiking(), calls, strict=True):
        for part, values in zip(PARTS, attention.currents(call.hidden, call.position_embeddings), strict=False):
            currents = attention.gain[part] * values + attention.shift[part]
            torch.testing.assert_close(
                currents.mean((0, 2)), torch.full_like(currents.mean((0, 2)), 0.125 + (0.5 if part == "value" else 0.25)), atol=1e-4, rtol=0
            )
            torch.testing.assert_close(currents.std((0, 2)), torch.full_like(currents.mean((0, 2)), 0.25), atol=1e-4, rtol=0)


def test_the_dense_model_stays_as_it_was(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    before = dense(input_ids=windows).logits
    replaced(dense, checkpoint.config, SsaConfig(), windows.tolist(), feed_forward_steps=4)
    torch.testing.assert_close(dense(input_ids=windows).logits, before, rtol=0, atol=0)


def test_rate_code_is_a_signed_neuron_with_a_soft_reset() -> None:
    """Half a threshold of initial charge, thresholds +-1, soft reset, T steps of constant input."""
    x, steps = torch.linspace(-1.5, 1.5, 49, dtype=torch.float64) + 1e-9, 5
    membrane, emitted = torch.where(x < 0, -0.5, 0.5).double(), torch.zeros_like(x)
    for _ in range(steps):
        membrane = membrane + x
        fired = torch.where(membrane >= 1, 1.0, torch.where(membrane <= -1, -1.0, 0.0)).double()
        membrane, emitted = membrane - fired, emitted + fired
    assert rate_spikes(x, torch.ones((), dtype=torch.float64), steps).tolist() == emitted.tolist()


def test_rate_coded_linear_counts_and_switches_off() -> None:
    linear = RateCodedLinear(nn.Linear(3, 2), torch.tensor([1.0, 2.0, 4.0]), 4)
    x = torch.tensor([[1.0, -1.0, 0.3], [0.0, 9.0, 0.0]])
    linear.counting = True
    torch.testing.assert_close(linear(x), linear.linear(torch.tensor([[1.0, -1.0, 0.0], [0.0, 2.0, 0.0]])))
    assert int(linear.spikes) == 4 + 2 + 4 and linear.values == 6
    linear.enabled = False
    torch.testing.assert_close(linear(x), linear.linear(x))


def test_many_steps_of_the_feed_forward_code_lose_little(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    for steps, error in ((64, 0.6), (4096, 0.03)):
        student = Places(replaced(dense, checkpoint.config, SsaConfig(), windows.tolist(), steps))
        block: Any = student.layers[0].mlp
        x = student.rate_coded()[0].largest * (torch.rand(9, 32, generator=torch.Generator().manual_seed(0)) - 0.5) / 2
        with torch.no_grad():
            plain, coded = Places(dense).layers[0].mlp(x), block(x)  # type: ignore[operator]
        assert error / 300 < float((coded - plain).norm() / plain.norm()) < error


def test_refuses(dense: Any, checkpoint: Checkpoint) -> None:
    with pytest.raises(ConversionError, match="no calibration windows"):
        replaced(dense, checkpoint.config, SsaConfig(), [])
    with pytest.raises(ValueError, match="time_steps"):
        SsaConfig(0)
    with pytest.raises(ValueError, match="projection query is 5 wide"):
        SpikingSelfAttention(SHAPE, SsaConfig(), {part: nn.Linear(6, 5) for part in PARTS})
    with pytest.raises(ConversionError, match="'mamba'"):
        Places(SimpleNamespace(config=SimpleNamespace(model_type="mamba")))
