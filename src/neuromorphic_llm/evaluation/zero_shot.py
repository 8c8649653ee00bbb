"""Zero-shot tasks through lm-eval-harness: accuracies, and their paired differences between two models (docs/reference/evaluation.md)."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.evaluation.summaries import PairedDifference, paired_difference
from neuromorphic_llm.evaluation.tasks import TASKS, Question, Task, load_questions

if TYPE_CHECKING:
    from neuromorphic_llm.evaluation.open_model import OpenedModel

ACC = "acc"
MEASURES = (ACC, "acc_norm")
_MANY = 1000
"""Questions for which a GPU compiles the spiking network's layers at once."""


@dataclass(frozen=True)
class Figure:
    """A mean over documents, and its standard error (None: a single document, or a task of one among those averaged)."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class TaskResult:
    """One task: lm-eval's figures by measure (acc; acc_norm only where a question has several choices), and every document's marks."""

    figures: Mapping[str, Figure]
    marks: Mapping[str, tuple[float, ...]]

    def to_json(self) -> dict[str, Any]:
        """JSON object of the figures."""
        return {"documents": len(self.marks[ACC]), **figures_json(self.figures)}

    def measure(self, wanted: str) -> str:
        """The measure that enters the average of `wanted`: acc where there is no acc_norm."""
        return wanted if wanted in self.figures else ACC


def figures_json(figures: Mapping[str, Figure]) -> dict[str, float | None]:
    """Keys MEASURE and MEASURE_standard_error."""
    return {name: value for key, figure in figures.items() for name, value in _pair(key, figure)}


def _pair(key: str, figure: Figure) -> tuple[tuple[str, float | None], ...]:
    return (key, figure.value), (f"{key}_standard_error", figure.standard_error)


def check_harness() -> None:
    """UsageError unless lm-eval-harness is installed."""
    if importlib.util.find_spec("lm_eval") is None:
        raise UsageError("zero-shot tasks need the package lm-eval; install it with pip install 'neuromorphic-llm[zero-shot]'")


def load_task_questions(task: Task, data: Path | None, limit: int | None) -> dict[str, list[Question]]:
    """Questions by task name: of the task, or of all its members. Raises DataError, or UsageError for --data with several tasks."""
    if task.members and data is not None:
        raise UsageError(
            f"--data is one file, and task {task.name!r} stands for {', '.join(task.members)}; leave it out, or name one of them"
        )
    return {name: load_questions(TASKS[name], data, limit) for name in task.members or (task.name,)}


def evaluate_zero_shot(
    opened: OpenedModel, questions: Mapping[str, Sequence[Question]], progress: Callable[[int], None] | None = None
) -> dict[str, TaskResult]:
    """Results by task name; progress is called with the number of continuations scored. Raises UsageError without lm-eval."""
    check_harness()
    from neuromorphic_llm.evaluation.harness import HarnessModel, LocalTask, run_harness
    from neuromorphic_llm.evaluation.scored_model import SpikingModel

    if isinstance(opened.model, SpikingModel) and sum(map(len, questions.values())) >= _MANY:
        opened.model.decoder.compile_windows()
    tasks = {name: LocalTask(name, each) for name, each in questions.items()}
    outcome = run_harness(HarnessModel(opened.model, opened.tokenizer, opened.eos_token_ids, progress), tasks)
    return {name: _result(outcome["results"][name], outcome["samples"][name]) for name in tasks}


def _result(means: Mapping[str, Any], samples: Sequence[Mapping[str, Any]]) -> TaskResult:
    ordered = sorted(samples, key=lambda sample: int(sample["doc_id"]))
    measures = [name for name in MEASURES if f"{name},none" in means]
    figures = {}
    for name in measures:
        error = means.get(f"{name}_stderr,none")
        # Of a single document lm-eval gives a text or no number.
        known = isinstance(error, float) and isfinite(error)
        figures[name] = Figure(float(means[f"{name},none"]), error if known else None)
    return TaskResult(figures, {name: tuple(float(sample[name]) for sample in ordered) for name in measures})


def differences(evaluated: TaskResult, reference: TaskResult) -> dict[str, PairedDifference]:
    """Paired differences of the measures, document by document."""
    return {name: paired_difference(marks, reference.marks[name]) for name, marks in evaluated.marks.items()}


def average(results: Mapping[str, TaskResult]) -> dict[str, Figure]:
    """Means over the tasks by measure, every task counting the same; acc_norm takes acc of a task that has no acc_norm."""
    return {name: _mean([result.figures[result.measure(name)] for result in results.values()]) for name in MEASURES}


def average_difference(evaluated: Mapping[str, TaskResult], reference: Mapping[str, TaskResult]) -> dict[str, Figure]:
    """Means over the tasks of the paired differences by measure, chosen as in `average`."""
    figures: dict[str, list[Figure]] = {name: [] for name in MEASURES}
    for task, result in evaluated.items():
        pairs = differences(result, reference[task])
        for name in MEASURES:
            pair = pairs[result.measure(name)]
            figures[name].append(Figure(pair.difference, pair.standard_error))
    return {name: _mean(each) for name, each in figures.items()}


def _mean(figures: Sequence[Figure]) -> Figure:
    """Mean of independent figures."""
    errors = [figure.standard_error for figure in figures if figure.standard_error is not None]
    known = len(errors) == len(figures)
    return Figure(fmean(figure.value for figure in figures), sqrt(sum(error**2 for error in errors)) / len(errors) if known else None)
