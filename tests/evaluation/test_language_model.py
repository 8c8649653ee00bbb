"""Perplexity and divergence against direct computation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.language_model import EncodedText, encode_text, evaluate_text
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint
from neuromorphic_llm.models.text_tokens import token_windows

TEXT = "The wheel shook, shed a curtain of black water, and began to move. " * 6


def test_windows_keep_every_token_but_a_lone_last_one() -> None:
    assert token_windows(list(range(10)), 4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert token_windows(list(range(9)), 4) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_perplexity_equals_transformers_loss(tiny: Checkpoint, dense: DenseModel) -> None:
    text = encode_text(tiny.tokenizer(), TEXT, 96)
    result = evaluate_text(dense, text, window=32)
    losses = [float(dense.model(input_ids=ids, labels=ids).loss) for ids in torch.tensor(text.ids).view(-1, 1, 32)]
    assert result.nll == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert result.perplexity == pytest.approx(math.exp(result.nll))
    assert result.predicted_tokens == 93 and result.tokens == 96
    assert result.word_perplexity == pytest.approx(math.exp(result.nll * 93 / result.words))


def test_words_are_those_of_the_evaluated_text(tiny: Checkpoint) -> None:
    assert encode_text(tiny.tokenizer(), "one two three four", 9).words == 3  # "one two t"


def test_batch_does_not_change_the_figures(tiny: Checkpoint, dense: DenseModel, spiking: SpikingModel) -> None:
    text = encode_text(tiny.tokenizer(), TEXT, 130)
    one, many = (evaluate_text(spiking, text, window=40, batch=batch, against=dense) for batch in (1, 3))
    assert one.nll == pytest.approx(many.nll, rel=1e-12) and one.top1_agreement == many.top1_agreement  # sums in another order
    assert one.kl_to_dense == pytest.approx(many.kl_to_dense)


def test_a_model_agrees_with_itself(tiny: Checkpoint, dense: DenseModel) -> None:
    result = evaluate_text(dense, encode_text(tiny.tokenizer(), TEXT, 64), window=32, against=dense)
    assert result.kl_to_dense == 0.0 and result.top1_agreement == 1.0


class FixedModel:
    """Always the same logits."""

    scale = 0.5
    max_positions = 64
    device = torch.device("cpu")

    def __init__(self, row: list[float]) -> None:
        self.row = torch.tensor(row)
        self.vocab_size = len(row)

    def logits(self, ids: torch.Tensor) -> torch.Tensor:
        return self.row.expand(*ids.shape, -1)

    def generate(self, prompts: Sequence[list[int]], *_: object) -> list[list[int]]:
        return [[0] for _ in prompts]


def test_divergence_by_hand() -> None:
    model, reference = FixedModel([2.0, 0.0]), FixedModel([0.0, 0.0])
    result = evaluate_text(model, EncodedText((0, 1, 0), 2), window=4, against=reference)
    p = 1 / (1 + math.exp(-1.0))
    assert result.kl_to_dense == pytest.approx(0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p)))
    assert result.nll == pytest.approx(-(math.log(1 - p) + math.log(p)) / 2)


def test_bad_requests(tiny: Checkpoint, dense: DenseModel) -> None:
    text = EncodedText((1, 2, 3), 1)
    with pytest.raises(UsageError, match="--window"):
        evaluate_text(dense, text, window=4096)
    with pytest.raises(DataError, match="same tokenizer"):
        evaluate_text(dense, text, window=16, against=FixedModel([0.0, 0.0]))
    with pytest.raises(DataError, match="not finite"):
        evaluate_text(FixedModel([float("nan"), 0.0]), EncodedText((0, 1), 1), window=4)
    with pytest.raises(DataError, match="at least 2"):
        encode_text(tiny.tokenizer(), "a")
    with pytest.raises(UsageError, match="--limit-tokens"):
        encode_text(tiny.tokenizer(), "abc", 1)
