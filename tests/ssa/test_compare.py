"""Metrics by their definitions, and the rows of the comparison in both families."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.language_model import EncodedText
from neuromorphic_llm.evaluation.scored_model import DenseModel
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.ssa.compare import SsaComparison
from neuromorphic_llm.ssa.config import SsaConfig
from neuromorphic_llm.ssa.metrics import model_states, quality
from neuromorphic_llm.ssa.replace import replaced


def test_quality_by_its_definitions(dense: Any, checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    student = replaced(dense, checkpoint.config, SsaConfig(4), windows.tolist())
    ids = windows[:2].flatten().tolist()
    found = quality(DenseModel(student), model_states(student), dense, EncodedText(tuple(ids), 5), 12)
    with torch.no_grad():
        own, reference = (m(input_ids=windows[:2], use_cache=False).logits[:, :-1].double() for m in (student, dense))
        targets = windows[:2, 1:]
        nll = functional.cross_entropy(own.flatten(0, 1), targets.flatten())
        hidden = [m.base_model(input_ids=windows[:2], use_cache=False).last_hidden_state.double() for m in (student, dense)]
    assert found.perplexity == pytest.approx(float(nll.exp()), rel=1e-5)
    assert found.token_accuracy == float((own.argmax(-1) == reference.argmax(-1)).double().mean())
    cosine = functional.cosine_similarity(*hidden, dim=-1).mean()
    assert found.cosine_loss == pytest.approx(1 - float(cosine), rel=1e-5)
    assert len(found.layer_cosine) == 2 and all(-1 <= value <= 1 for value in found.layer_cosine)


def test_the_dense_row_loses_nothing_and_rows_count_one_pass(checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    comparison = SsaComparison(checkpoint, EncodedText(tuple(windows.flatten().tolist()), 9), 12)
    reference = comparison.dense_row()
    content = reference.to_json(reference)
    assert content["cosine_loss"] == pytest.approx(0, abs=1e-9) and content["token_accuracy"] == 1.0
    assert content["perplexity_change"] == content["products_energy_reduction"] == content["block_energy_reduction"] == 0
    assert content["spikes"] is None and content["spikes_reason"]
    student = replaced(comparison.dense, checkpoint.config, SsaConfig(4), windows.tolist(), feed_forward_steps=8)
    row, converted = comparison.ssa_row("ssa", student), comparison.ssa_row("ssa+ffn", student, feed_forward=True)
    assert row.activity.tokens == converted.activity.tokens == windows.numel()
    assert row.activity.pairs == reference.activity.pairs
    assert row.feed_forward_spikes_per_value is None and converted.feed_forward_spikes_per_value is not None
    assert 0 < converted.feed_forward_spikes_per_value < 8
    assert row.quality.perplexity != converted.quality.perplexity


@pytest.mark.slow
def test_own_rows(checkpoint: Checkpoint, windows: torch.Tensor) -> None:
    comparison = SsaComparison(checkpoint, EncodedText(tuple(windows.flatten().tolist()), 9), 12)
    dense = comparison.dense_row()
    longest = checkpoint.config.max_positions  # few queries reach their spikes in jumps
    text = torch.randint(checkpoint.config.vocab_size, (4, longest), generator=torch.Generator().manual_seed(2))
    attention, whole = comparison.network_rows(1.0, 1.2, text.tolist())
    assert [row.name for row in (attention, whole)] == ["ours-attention", "ours"]
    assert attention.quality.cosine_loss < whole.quality.cosine_loss < 0.2
    for row in (attention, whole):
        assert row.activity.tokens == dense.activity.tokens and row.activity.pairs == dense.activity.pairs
        assert row.query_spikes_per_value == pytest.approx(1.2, abs=0.15)
        assert 0 < row.activity.reduction(dense.activity) < 1


def test_a_window_longer_than_the_context_is_refused(checkpoint: Checkpoint) -> None:
    longest = checkpoint.config.max_positions
    with pytest.raises(UsageError, match=f"--window must lie in 2..{longest}, the context of the model; got {longest + 1}"):
        SsaComparison(checkpoint, EncodedText((1, 2), 1), longest + 1)
