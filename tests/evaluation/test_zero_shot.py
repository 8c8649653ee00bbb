"""Zero-shot tasks: scores equal lm-eval's own model's and a direct computation; data, averages and paired differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation import spiking_likelihood, zero_shot
from neuromorphic_llm.evaluation.harness import HarnessModel, LocalTask, run_harness
from neuromorphic_llm.evaluation.likelihood import Continued, Score, batches
from neuromorphic_llm.evaluation.open_model import OpenedModel
from neuromorphic_llm.evaluation.scored_model import DenseModel, ScoredModel, SpikingModel
from neuromorphic_llm.evaluation.tasks import TASKS, Question, load_questions
from neuromorphic_llm.evaluation.zero_shot import Figure, TaskResult, average, average_difference, evaluate_zero_shot, load_task_questions
from neuromorphic_llm.models.checkpoint import Checkpoint

QUESTIONS = [
    Question("The lamp is", ("bright.", "made of {{water}} and of wood.", "x"), 0),
    Question("Question: What does a river carry?\nAnswer:", ("water to the sea", "lamps"), 0),
    Question("A", ("b", "c", "d", "e long one that goes on and on"), 3),
    Question("A cat sat on the ", ("mat", "moon"), 1),
]
WORDS = [Question("The lamp of the", ("town",), 0), Question("A river runs to the", ("sea",), 0)]
ITEMS = [
    Continued((5, 6, 7, 8, 9, 10, 11), ((1, 2, 3), (4,), (1, 9))),
    Continued((3,), ((200, 7), (8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 9))),
    Continued(tuple(range(40)), ((250,),)),
]


def opened(model: ScoredModel, tiny: Checkpoint) -> OpenedModel:
    return OpenedModel("tiny", model, tiny.tokenizer(), tiny.config.eos_token_ids, "")


def directly(model: ScoredModel, item: Continued) -> list[Score]:
    """One sequence at a time, from all its logits."""
    found = []
    for continuation in item.continuations:
        ids = torch.tensor([[*item.context, *continuation]])
        logits = model.logits(ids)[0, len(item.context) - 1 : -1]
        log_p = torch.log_softmax(logits.double() * model.scale, -1)
        total = sum(float(row[token]) for row, token in zip(log_p, continuation, strict=True))
        found.append(Score(total, all(int(row.argmax()) == token for row, token in zip(logits, continuation, strict=True))))
    return found


def compare(found: Sequence[Sequence[Score]], expected: Sequence[Sequence[Score]], tolerance: float) -> None:
    for row, other in zip(found, expected, strict=True):
        assert [score.log_likelihood for score in row] == pytest.approx([score.log_likelihood for score in other], rel=tolerance)
        assert [score.greedy for score in row] == [score.greedy for score in other]


def test_scores_of_a_dense_model(dense: DenseModel) -> None:
    compare(dense.score(ITEMS), [directly(dense, item) for item in ITEMS], 1e-5)


def test_scores_of_a_network_equal_a_direct_computation(spiking: SpikingModel) -> None:
    """Its logits are the same integers, so that only the order of float64 sums differs."""
    compare(spiking.score(ITEMS), [directly(spiking, item) for item in ITEMS], 1e-12)


def test_scores_in_chunks_of_one_shape(spiking: SpikingModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU does: all sequences in passes of one shape, some of them padding."""
    shapes = set()
    hidden = spiking.decoder.hidden

    def watched(ids: torch.Tensor, *arguments: Any) -> torch.Tensor:
        shapes.add((tuple(ids.shape), arguments[0].capacity))
        return hidden(ids, *arguments)

    monkeypatch.setattr(spiking.decoder, "hidden", watched)
    monkeypatch.setattr(spiking_likelihood, "_SEQUENCES", 4)
    monkeypatch.setattr(spiking_likelihood, "_many_at_once", lambda _: 100)
    compare(spiking.score(ITEMS), [directly(spiking, item) for item in ITEMS], 1e-12)
    assert shapes == {((4, 16), 64)}


def test_greedy_continuation_is_found(dense: DenseModel, spiking: SpikingModel) -> None:
    for model in (dense, spiking):
        context = [7, 8, 9]
        written = model.generate([context], 3, ())[0]
        item = Continued(tuple(context), (tuple(written), (*written[:2], (written[2] + 1) % 256)))
        assert [score.greedy for score in model.score([item])[0]] == [True, False]


def test_batches_hold_every_item_once() -> None:
    groups = list(batches(ITEMS, 60))
    assert sorted(index for group in groups for index in group) == [0, 1, 2]
    assert all(
        len(group) == 1 or max(ITEMS[i].tokens for i in group) * sum(len(ITEMS[i].continuations) for i in group) <= 60 for group in groups
    )


def test_same_result_as_the_harness_own_model(dense: DenseModel, tiny: Checkpoint) -> None:
    from lm_eval.models.huggingface import HFLM

    theirs = HFLM(pretrained=dense.model, tokenizer=tiny.tokenizer(), batch_size=2, max_length=dense.max_positions)
    results = []
    for model in (HarnessModel(dense, tiny.tokenizer(), tiny.config.eos_token_ids), theirs):
        results.append(run_harness(model, {"choices": LocalTask("choices", QUESTIONS), "words": LocalTask("words", WORDS)}))
    ours, reference = results
    assert ours["results"] == reference["results"] and set(ours["results"]) == {"choices", "words"}
    for name in ("choices", "words"):
        for sample, other in zip(ours["samples"][name], reference["samples"][name], strict=True):
            values, greedy = zip(*sample["filtered_resps"], strict=True)
            other_values, other_greedy = zip(*other["filtered_resps"], strict=True)
            assert values == pytest.approx(other_values, rel=1e-5) and greedy == other_greedy
            assert sample["arguments"] == other["arguments"]


def test_rolling_and_generated_texts_as_the_harness_own_model(dense: DenseModel, tiny: Checkpoint) -> None:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    class Short(DenseModel):
        """A context of 16 tokens, so that a text takes several windows."""

        def __init__(self) -> None:
            super().__init__(dense.model)
            self.max_positions = 16

    tokenizer = tiny.tokenizer()
    tokenizer.pad_token = tokenizer.eos_token or tokenizer.decode([0])
    text = Instance("loglikelihood_rolling", {}, ("The council of Halden Bay voted to replace all lamps.",), 0)
    theirs = HFLM(pretrained=dense.model, tokenizer=tokenizer, batch_size=2, max_length=16)
    ours = HarnessModel(Short(), tokenizer, tiny.config.eos_token_ids)
    assert ours.loglikelihood_rolling([text]) == pytest.approx(theirs.loglikelihood_rolling([text], disable_tqdm=True), rel=1e-5)
    free = HarnessModel(dense, tokenizer, tiny.config.eos_token_ids)
    whole = free.generate_until([Instance("generate_until", {}, ("A river", {"until": [], "max_gen_toks": 12}), 0)])[0]
    stop = whole[3:5]
    cut = free.generate_until([Instance("generate_until", {}, ("A river", {"until": [stop], "max_gen_toks": 12}), 0)])[0]
    assert cut == whole.split(stop)[0] and len(cut) < len(whole)
    with pytest.raises(UsageError, match="greedily"):
        free.generate_until([Instance("generate_until", {}, ("A", {"do_sample": True}), 0)])


def test_a_long_context_loses_its_beginning(dense: DenseModel, tiny: Checkpoint) -> None:
    model = HarnessModel(dense, tiny.tokenizer(), tiny.config.eos_token_ids)
    context = [index % 250 for index in range(dense.max_positions + 20)]
    continuation = [1, 2, 3]
    kept = context[-(dense.max_positions + 1 - len(continuation)) :]
    (found,) = model._loglikelihood_tokens([("", context, continuation)])
    assert found[0] == pytest.approx(directly(dense, Continued(tuple(kept), (tuple(continuation),)))[0].log_likelihood, rel=1e-5)
    with pytest.raises(DataError, match="0 tokens"):
        model._loglikelihood_tokens([("", context, [])])


def test_marks_and_means_are_the_harness_ones(spiking: SpikingModel, tiny: Checkpoint) -> None:
    done: list[int] = []
    results = evaluate_zero_shot(opened(spiking, tiny), {"choices": QUESTIONS, "words": WORDS}, done.append)
    assert sum(done) == 13
    tokenizer = tiny.tokenizer()

    def encoded(text: str) -> list[int]:
        return list(tokenizer(text)["input_ids"])

    for number, question in enumerate(QUESTIONS):
        context = question.context.rstrip()
        ids = encoded(context)
        rest = [encoded(f"{question.context} {choice}")[len(ids) :] for choice in question.choices]
        values = [score.log_likelihood for score in directly(spiking, Continued(tuple(ids), tuple(map(tuple, rest))))]
        best = values.index(max(values))
        normalised = [value / len(choice) for value, choice in zip(values, question.choices, strict=True)]
        best_normalised = normalised.index(max(normalised))
        marks = results["choices"].marks
        assert (marks["acc"][number], marks["acc_norm"][number]) == (best == question.gold, best_normalised == question.gold)
    assert set(results["words"].figures) == {"acc"} and spiking.decoder.statistics.spikes_per_activation() > 0


def result(*marks: float) -> TaskResult:
    return TaskResult({"acc": Figure(sum(marks) / len(marks), 0.3)}, {"acc": marks})


def test_average_and_its_difference_by_hand() -> None:
    other = TaskResult({"acc": Figure(0.5, 0.4), "acc_norm": Figure(1.0, 0.0)}, {"acc": (1.0, 0.0), "acc_norm": (1.0, 1.0)})
    ours, theirs = {"a": result(1, 1, 0, 0), "b": other}, {"a": result(0, 1, 0, 0), "b": other}
    means = average(ours)
    assert means["acc"].value == 0.5 and means["acc"].standard_error == pytest.approx(0.25)
    assert means["acc_norm"].value == 0.75 and means["acc_norm"].standard_error == pytest.approx(0.15)
    difference = average_difference(ours, theirs)["acc"]
    # The paired differences of a are 1, 0, 0, 0: mean 1/4, sample deviation 1/2; those of b are 0.
    assert difference.value == pytest.approx(0.125) and difference.standard_error == pytest.approx(0.125)


def test_a_single_document_has_no_standard_error(dense: DenseModel, tiny: Checkpoint) -> None:
    figures = evaluate_zero_shot(opened(dense, tiny), {"one": QUESTIONS[:1]})["one"].figures
    assert figures["acc"].standard_error is None and figures["acc"].value in (0.0, 1.0)


def test_without_the_harness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zero_shot, "importlib", SimpleNamespace(util=SimpleNamespace(find_spec=lambda _: None)))
    with pytest.raises(UsageError, match=r"pip install 'neuromorphic-llm\[zero-shot\]'"):
        zero_shot.check_harness()


def test_questions_of_files(tmp_path: Path) -> None:
    rows = [{"query": "Question: Why? \n", "choices": ["a", "b"], "gold": 1}, {"query": "He", "choices": ["ran.", "sat."], "gold": 0}]
    (tmp_path / "q.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert load_questions(TASKS["piqa"], tmp_path / "q.jsonl") == [
        Question("Question: Why?\nAnswer:", ("a", "b"), 1),
        Question("He", ("ran.", "sat."), 0),
    ]
    (tmp_path / "l.jsonl").write_text('{"text": "to the sea"}\n{"text": "and back"}')
    assert load_questions(TASKS["lambada"], tmp_path / "l.jsonl", 1) == [Question("to the", ("sea",), 0)]


@pytest.mark.parametrize(
    ("task", "line", "message"),
    [
        ("piqa", "[1]", "not a JSON object"),
        ("piqa", '{"choices": ["a", "b"], "gold": 0}', "'query'"),
        ("piqa", '{"query": "a", "choices": ["a"], "gold": 0}', "'choices'"),
        ("piqa", '{"query": "a", "choices": ["a", "b"], "gold": 2}', "'gold'"),
        ("piqa", "", "no questions"),
        ("lambada", '{"text": "word"}', "fewer than two words"),
    ],
)
def test_bad_questions(task: str, line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(line)
    with pytest.raises(DataError, match=message):
        load_questions(TASKS[task], tmp_path / "q.jsonl")


def test_a_group_takes_no_single_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="name one of them"):
        load_task_questions(TASKS["zero-shot"], tmp_path, None)
    monkeypatch.setenv("NMLLM_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"hellaswag\.jsonl.*--data"):
        load_task_questions(TASKS["zero-shot"], None, None)


def test_files_of_the_real_tasks(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NMLLM_DATA", str(data_dir))
    counts = {name: len(each) for name, each in load_task_questions(TASKS["zero-shot"], None, None).items()}
    assert counts == {"hellaswag": 10042, "piqa": 1838, "arc_easy": 2376, "lambada": 5153}
    assert len(load_questions(TASKS["arc_challenge"])) == 1172
