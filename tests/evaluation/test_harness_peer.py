"""Every request of lm-eval answered as by its own Hugging Face model, on saved checkpoints with distinct begin and end tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bos_checkpoints import BOS, CONTEXT, EOS, STORY, save_checkpoint
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.harness import HarnessModel
from neuromorphic_llm.evaluation.scored_model import DenseModel
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.text_tokens import choose_bos

KINDS = ("template", "setting", "class", "off", "none")
PAIRS = [
    ("", "The lamp"),
    ("", " a river runs to the sea"),
    ("", "<bos>The lamp"),
    ("", "<eos>The lamp"),
    ("The lamp of", " the town"),
    ("The lamp of ", "the town"),
    ("A cat sat on the   ", "mat"),
    ("A cat\n", "sat"),
    ("<bos>A cat", " sat on the mat"),
    ("<eos>A cat", " sat"),
    (STORY, " The lamp of the town"),
    (STORY * 2 + " ", "x"),
    ("q", "zxj vkw"),
    ("The lamp of", " the sea"),
    ("The lamp of", " the"),
]
TEXTS = ["The lamp of the town is bright.", STORY, STORY * 3, "<bos>The lamp", "<eos>The lamp", "x", "", " ", "A cat sat\n\n"]


@pytest.fixture(scope="module", params=KINDS)
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Checkpoint]:
    folder = save_checkpoint(tmp_path_factory.mktemp("model") / request.param, request.param)
    return folder, load_checkpoint(folder)


@pytest.fixture(scope="module")
def models(checkpoint: tuple[Path, Checkpoint]) -> tuple[HarnessModel, HFLM]:
    folder, own = checkpoint
    return HarnessModel(DenseModel(own.dense_model()), own.tokenizer(), own.config.eos_token_ids), peer(folder)


def peer(folder: Path, **options: Any) -> HFLM:
    # Its cache of logits takes the rows of another request where two have the same tokens and other continuations.
    return HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=1, logits_cache=False, **options)


def requests(kind: str, arguments: list[Any]) -> list[Instance]:
    return [Instance(kind, {}, each, number) for number, each in enumerate(arguments)]


def test_the_model_is_what_it_should_be(checkpoint: tuple[Path, Checkpoint], models: tuple[HarnessModel, HFLM]) -> None:
    ours, theirs = models
    kind = checkpoint[0].name
    assert ours.prefix_token_id == theirs.prefix_token_id == (EOS if kind == "none" else BOS)
    assert (theirs.tok_encode("The")[0] == BOS) == (kind == "template")
    assert theirs.max_length == CONTEXT
    for text in (*TEXTS, *(context for context, _ in PAIRS)):
        assert ours.tok_encode(text) == theirs.tok_encode(text), text


def test_pairs(models: tuple[HarnessModel, HFLM]) -> None:
    ours, theirs = (model.loglikelihood(requests("loglikelihood", PAIRS)) for model in models)
    for pair, (value, greedy), (expected, expected_greedy) in zip(PAIRS, ours, theirs, strict=True):
        assert value == pytest.approx(expected, rel=1e-5), pair
        assert greedy == expected_greedy, pair


def test_rolling(models: tuple[HarnessModel, HFLM]) -> None:
    ours = models[0].loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in TEXTS]))
    theirs = models[1].loglikelihood_rolling(requests("loglikelihood_rolling", [(text,) for text in TEXTS]), disable_tqdm=True)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"until": [], "max_gen_toks": 20},
        {"until": "\n", "max_gen_toks": 12},
        {"until": [" ", "the"], "max_gen_toks": 16, "do_sample": False},
        {"until": ["e", "a"], "max_new_tokens": 16, "temperature": 0.0},
    ],
)
def test_generated_texts(models: tuple[HarnessModel, HFLM], options: dict[str, Any]) -> None:
    contexts = ["The lamp of", "A cat sat on the ", STORY, "<bos>A river", "x"]
    results = []
    for model in models:
        asked = requests("generate_until", [(context, dict(options)) for context in contexts])
        results.append(model.generate_until(asked) if model is models[0] else model.generate_until(asked, disable_tqdm=True))
    assert results[0] == results[1]


def test_stop_strings_of_what_is_written(models: tuple[HarnessModel, HFLM]) -> None:
    """Pieces of the model's own text, one within and across others, in both orders."""
    asked = {"until": [], "max_gen_toks": 20}
    (whole,) = models[0].generate_until(requests("generate_until", [("The lamp", asked)]))
    for stops in ([whole[4:9], whole[5]], [whole[5], whole[4:9]], [whole[3:6], whole[2:4]], ["", whole[7:]]):
        found = []
        for model in models:
            options = {"until": list(stops), "max_gen_toks": 20}
            found.append(model.generate_until(requests("generate_until", [("The lamp", options)])))
        assert found[0] == found[1], stops


@pytest.mark.parametrize("choice", ["always", "never"])
def test_a_chosen_beginning(checkpoint: tuple[Path, Checkpoint], choice: str) -> None:
    folder, own = checkpoint
    if folder.name == "none" and choice == "always":
        with pytest.raises(UsageError, match="no beginning-of-sequence token"):
            choose_bos(own.tokenizer(), choice)
        return
    theirs = peer(folder, add_bos_token=choice == "always")
    ours = HarnessModel(DenseModel(own.dense_model()), choose_bos(own.tokenizer(), choice), own.config.eos_token_ids)
    for text in TEXTS:
        assert ours.tok_encode(text) == theirs.tok_encode(text), text
    pairs = [model.loglikelihood(requests("loglikelihood", PAIRS)) for model in (ours, theirs)]
    assert [value for value, _ in pairs[0]] == pytest.approx([value for value, _ in pairs[1]], rel=1e-5)


def test_requests_without_tokens(models: tuple[HarnessModel, HFLM], checkpoint: tuple[Path, Checkpoint]) -> None:
    ours = models[0]
    for pair in (("", ""), ("The lamp", "")):
        with pytest.raises(DataError, match="tokens"):
            ours.loglikelihood(requests("loglikelihood", [pair]))
    for options in ({"temperature": 0.7}, {"repetition_penalty": 1.2}, {"do_sample": True}, {"num_beams": 2}):
        with pytest.raises(UsageError, match="greedily"):
            ours.generate_until(requests("generate_until", [("A", {"until": [], **options})]))
