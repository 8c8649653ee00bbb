"""Prompts, generation and ROUGE."""

from __future__ import annotations

from statistics import fmean

import pytest
import torch

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.baseline import measure_dense
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.evaluation.stop import chop, stop_tokens
from neuromorphic_llm.evaluation.summaries import (
    INSTRUCTION,
    SummariesResult,
    Summary,
    evaluate_summaries,
    paired_differences,
    summary_prompt,
)
from neuromorphic_llm.evaluation.tasks import Document
from neuromorphic_llm.models.checkpoint import Checkpoint

PROMPTS = [list(range(5, 20)), list(range(40, 44)), [7]]


def test_prompt_is_cut_to_fit(tiny: Checkpoint) -> None:
    tokenizer = tiny.tokenizer()
    whole = summary_prompt(tokenizer, "word " * 40, 1000)
    cut = summary_prompt(tokenizer, "word " * 40, 120)
    assert len(whole) > 120 >= len(cut) > 110
    assert tokenizer.decode(cut).startswith(INSTRUCTION) and tokenizer.decode(cut).endswith("Summary:")


def test_prompt_without_room_or_article(tiny: Checkpoint) -> None:
    with pytest.raises(UsageError, match="no room"):
        summary_prompt(tiny.tokenizer(), "word " * 40, 20)
    with pytest.raises(DataError, match="empty"):
        summary_prompt(tiny.tokenizer(), " \n", 100)


def test_ragged_batch_equals_one_by_one(dense: DenseModel, spiking: SpikingModel) -> None:
    for model in (dense, spiking):
        alone = [model.generate([prompt], 6, ())[0] for prompt in PROMPTS]
        assert model.generate(PROMPTS, 6, ()) == alone
        assert all(len(tokens) == 6 for tokens in alone)


def test_spiking_generation_is_greedy(spiking: SpikingModel) -> None:
    output = spiking.generate([PROMPTS[0]], 4, ())[0]
    ids = list(PROMPTS[0])
    for token in output:
        assert int(spiking.logits(torch.tensor([ids]))[0, -1].argmax()) == token
        ids.append(token)


def test_generation_stops(spiking: SpikingModel) -> None:
    free = spiking.generate([PROMPTS[0]], 8, ())[0]
    assert spiking.generate([PROMPTS[0]], 8, (free[2],))[0] == chop(free, (free[2],))


def test_perfect_summary_scores_one(tiny: Checkpoint, dense: DenseModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny.tokenizer()
    monkeypatch.setattr(dense, "generate", lambda prompts, *_: [tokenizer("the cats sat")["input_ids"] for _ in prompts])
    documents = [Document(str(i), "some article", highlights) for i, highlights in enumerate(("The cat sat", "dogs ran"))]
    result = evaluate_summaries(dense, tokenizer, documents, stop=stop_tokens(tokenizer, (256,)), max_new_tokens=4, batch=2)
    assert [summary.rougeL for summary in result.documents] == [1.0, 0.0]  # stemmed
    assert result.rouge1 == 0.5 and result.documents[0].summary == "the cats sat"


def test_paired_differences() -> None:
    def result(*scores: float) -> SummariesResult:
        documents = tuple(Summary(str(index), "", 1, score, score, score / 2) for index, score in enumerate(scores))
        return SummariesResult(documents, fmean(scores), fmean(scores), fmean(scores) / 2)

    differences = paired_differences(result(0.5, 0.3), result(0.2, 0.2))
    assert differences["rouge1"].difference == pytest.approx(0.2) and differences["rouge1"].relative == pytest.approx(1.0)
    assert differences["rougeL"].standard_error == pytest.approx(0.05)  # differences 0.15 and 0.05
    assert differences["rougeL"].relative_standard_error == pytest.approx(0.5)
    alone = paired_differences(result(0.1), result(0.0))["rouge2"]
    assert (alone.difference, alone.standard_error, alone.relative, alone.relative_standard_error) == (0.1, None, None, None)
    assert paired_differences(result(0.3), result(0.2))["rouge1"].relative == pytest.approx(0.5)
    with pytest.raises(ValueError, match="different documents"):
        paired_differences(result(0.5, 0.3), result(0.5))


def test_baseline_counts_tokens_and_explains_missing_energy(dense: DenseModel) -> None:
    result = measure_dense(dense, [PROMPTS[0]], 5, ())
    written = result.to_json()
    assert result.generated_tokens == 5 and result.tokens_per_s > 0 and written["kind"] == "measured"
    assert (result.energy_j_per_token is None) == (result.energy_j_per_token_reason is not None)


def test_baseline_of_a_single_token(dense: DenseModel) -> None:
    assert measure_dense(dense, PROMPTS, 1, ()).tokens_per_s > 0
