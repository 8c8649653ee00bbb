"""Models and tasks of this package for lm-eval-harness: its model interface, and its tasks on local files.

Importing this module imports lm-eval (the extra `zero-shot`); zero_shot.py says so where it is not installed.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from typing import Any, cast

import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate
from lm_eval.models.utils import handle_stop_sequences, normalize_gen_kwargs
from lm_eval.models.utils_hf import stop_sequences_criteria
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from neuromorphic_llm.errors import DataError, UsageError
from neuromorphic_llm.evaluation.likelihood import Continued, Progress, Score
from neuromorphic_llm.evaluation.scored_model import ScoredModel
from neuromorphic_llm.evaluation.tasks import Question

_MAX_NEW_TOKENS = 256  # lm-eval's default


class HarnessModel(TemplateLM):  # type: ignore[misc]
    """A dense model or a spiking network behind lm-eval's model interface; texts are encoded as by its own `hf` model."""

    def __init__(self, model: ScoredModel, tokenizer: Any, eos_token_ids: Sequence[int], progress: Progress | None = None) -> None:
        super().__init__()
        self._model, self.tokenizer, self._progress = model, tokenizer, progress
        self._eos = tuple(eos_token_ids)

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text; DataError if the model has none."""
        own = self.tokenizer.eos_token_id
        if own is None and not self._eos:
            raise DataError("the model has no end-of-sequence token; give a model that has one")
        return int(self._eos[0] if own is None else own)

    @property
    def prefix_token_id(self) -> int:
        """The token from which the first one of a text is predicted: beginning of sequence, or end of sequence where there is none."""
        bos = self.tokenizer.bos_token_id
        return self.eot_token_id if bos is None else int(bos)

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **_: Any) -> list[int]:
        """Token ids; without add_special_tokens the tokenizer decides what a text begins with, unless it begins with that already."""
        if add_special_tokens is None and self._begins_with(string):
            add_special_tokens = False
        special = {} if add_special_tokens is None else {"add_special_tokens": add_special_tokens}
        return list(self.tokenizer(string, verbose=False, **special)["input_ids"])

    def _begins_with(self, string: str) -> bool:
        """True if the text begins with the prefix token, written out."""
        known = self.tokenizer.bos_token_id is not None or self.tokenizer.eos_token_id is not None or self._eos
        return bool(known) and string.startswith(self.tokenizer.decode(self.prefix_token_id))

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, greedy) of every (context, continuation); DataError for a continuation without tokens."""
        for context, continuation in (request.args for request in requests):
            if not context and not self.tok_encode(continuation, add_special_tokens=False):
                raise DataError(f"the continuation {continuation!r} has no tokens; give a text to score")
        return list(super().loglikelihood(requests, disable_tqdm=True))

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Log-likelihood of every text, in windows of the model's context; the first token is predicted from the prefix token."""
        windows: list[tuple[Any, list[int], list[int]]] = []
        owners: list[int] = []
        for number, (text,) in enumerate(request.args for request in requests):
            parts = get_rolling_token_windows(self.tok_encode(text), self.prefix_token_id, self._model.max_positions, 1)
            windows += [("", *make_disjoint_window(part)) for part in parts]
            owners += [number] * (len(windows) - len(owners))
        totals = [0.0] * len(requests)
        for owner, (value, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += value
        return totals

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy texts, each cut before the first of its stop strings. Raises UsageError for anything but greedy decoding."""
        texts = []
        for context, options in (request.args for request in requests):
            wanted = _greedy_options(options)
            eos = self.tokenizer.decode(self.eot_token_id, skip_special_tokens=False)
            stops = handle_stop_sequences(wanted["until"], eos=eos)
            count = min(int(wanted["max_gen_toks"]), self._model.max_positions - 1)
            prompt = self.tok_encode(context) or [self.prefix_token_id]
            prompt = prompt[-(self._model.max_positions - count) :]
            ids = self._model.generate([prompt], count, (*self._eos, self.eot_token_id))[0]
            text = self.tokenizer.decode(self._until(ids, stops), skip_special_tokens=True)
            for stop in filter(None, stops):  # one after the other, as lm-eval does
                text = text.split(stop)[0]
            texts.append(text)
            if self._progress:
                self._progress(1)
        return texts

    def _until(self, ids: list[int], stops: Sequence[str]) -> list[int]:
        """The tokens up to the one that completes a stop string: lm-eval writes no more."""
        criteria = stop_sequences_criteria(self.tokenizer, list(stops), 0, 1)
        for count in range(1, len(ids) + 1):
            if any(bool(criterion(torch.tensor([ids[:count]]), None)) for criterion in criteria):
                return ids[:count]
        return ids

    def _loglikelihood_tokens(self, requests: Sequence[tuple[Any, list[int], list[int]]], **_: Any) -> list[tuple[float, bool]]:
        """Scores of (texts, context ids, continuation ids); a context that does not fit loses its beginning, as in lm-eval."""
        longest = self._model.max_positions
        shared: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        keys = []
        for _texts, context, continuation in requests:
            if not continuation or len(continuation) > longest:
                raise DataError(f"a continuation has {len(continuation)} tokens; between 1 and {longest} fit the model")
            if not context:
                raise DataError("a context of white space has no tokens; give a context with some, or an empty one")
            key = tuple(context)[-(longest + 1 - len(continuation)) :]
            wanted = shared.setdefault(key, [])
            if tuple(continuation) not in wanted:
                wanted.append(tuple(continuation))
            keys.append((key, tuple(continuation)))
        items = [Continued(context, tuple(continuations)) for context, continuations in shared.items()]
        results = self._model.score(items, self._progress)
        found: dict[Any, Score] = {}
        for item, row in zip(items, results, strict=True):
            found.update(zip(((item.context, continuation) for continuation in item.continuations), row, strict=True))
        return [(found[key].log_likelihood, found[key].greedy) for key in keys]


_GREEDY = {"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k", "num_beams", "use_cache"}
"""Options of a generation that greedy decoding has, or has no use for."""


def _greedy_options(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options in lm-eval's form; UsageError unless they ask for greedy decoding and nothing else."""
    wanted: Mapping[str, Any] = normalize_gen_kwargs(dict(options), _MAX_NEW_TOKENS)
    if wanted["do_sample"] or wanted.get("num_beams", 1) != 1:
        raise UsageError("lm-eval tasks that sample or search with beams are not supported; choose one that decodes greedily")
    if unknown := sorted(set(wanted) - _GREEDY):
        raise UsageError(f"lm-eval tasks that generate with {', '.join(unknown)} are not supported; choose one that decodes greedily")
    return wanted


class LocalTask(ConfigurableTask):  # type: ignore[misc]
    """lm-eval's task of these questions: `acc` and `acc_norm` of the choices, or `acc` of a single one (is it the greedy text?)."""

    def __init__(self, name: str, questions: Sequence[Question]) -> None:
        single = all(len(question.choices) == 1 for question in questions)
        config: dict[str, Any]
        # Named fields rather than templates, which would take braces in the texts for their own.
        if single:
            self._rows: list[dict[str, Any]] = [{"query": question.context, "target": f" {question.choices[0]}"} for question in questions]
            config = {"output_type": "loglikelihood", "doc_to_target": "target"}
        else:
            self._rows = [{"query": each.context, "choices": list(each.choices), "gold": each.gold} for each in questions]
            config = {"output_type": "multiple_choice", "doc_to_target": "gold", "doc_to_choice": "choices"}
        metrics = ("acc",) if single else ("acc", "acc_norm")
        measured = [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in metrics]
        super().__init__(
            config={**config, "task": name, "test_split": "test", "doc_to_text": "query", "num_fewshot": 0, "metric_list": measured}
        )

    def download(self, *_: Any, **__: Any) -> None:
        """The questions as a data set: nothing is downloaded."""
        self.dataset = {"test": Dataset.from_list(self._rows)}

    def build_all_requests(self, **options: Any) -> None:
        """Build the requests as lm-eval does, without its progress bar, which would be one per task."""
        with redirect_stderr(io.StringIO()):
            super().build_all_requests(**options)


def run_harness(model: TemplateLM, tasks: Mapping[str, ConfigurableTask]) -> Mapping[str, Any]:
    """lm-eval's own result for these tasks, by task name: `results`, and `samples` with every document."""
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # One draw is enough: the standard error of a mean has a closed form.
    return cast(Mapping[str, Any], evaluate(model, dict(tasks), bootstrap_iters=1, log_samples=True))
