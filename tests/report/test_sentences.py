"""Summaries end with a sentence: as they are where the model ended them, else at the last full one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from example_report import REPORT

from neuromorphic_llm.report.sentences import shown_summary, summaries_note, whole_sentences


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("One. Two! Three? Fo", "One. Two! Three?"),
        ("It ended.", "It ended."),
        ('He said "Stop." Then', 'He said "Stop."'),
        ("The lamps (all of them.) The", "The lamps (all of them.)"),
        ("Mr. Smith and Dr. Jones went to the U.S. in", ""),
        ("He left. Mr. Smith and J. R. Jones of Acme Inc. then", "He left."),
        ("It cost 3.5 million. The 4.", "It cost 3.5 million. The 4."),
        ("It began in 2024. The", "It began in 2024."),
        ("Points:\n1. First of all\n2. Sec", ""),
        ("Done.\n1. First of all\n2. Sec", "Done."),
        ("And so it goes... and", "And so it goes..."),
        ("So it was I. Then", "So it was I."),
        ("See e.g. the first, i.e. one", ""),
        ("終わりました。次は", "終わりました。"),
        ("no end at all", ""),
        ("", ""),
        ("At 5 p.m. the council", ""),
        ("It closed. www.example.com is", "It closed."),
        ("Then.\n\n", "Then."),
    ],
)
def test_whole_sentences(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


def report_of(text: str, made: int | None, limit: int = 8) -> dict[str, Any]:
    report = copy.deepcopy(REPORT)
    report["summary"]["spiking"] = text
    report["arguments"]["max_new_tokens"] = limit
    if made is None:
        del report["simulate"]["token_ids"]
    else:
        report["simulate"]["token_ids"] = [1] * made
    return report


def test_only_what_the_limit_stopped_is_cut() -> None:
    assert shown_summary(report_of("One. Two", 7), "spiking").text == "One. Two"  # the model ended there
    shown = shown_summary(report_of("One. Two", 8), "spiking")
    assert shown.text == "One." and shown.remark == "Stopped by the limit of 8 tokens; shown up to its last full sentence."
    ended = shown_summary(report_of("One. Two.", 8), "spiking")
    assert ended.text == "One. Two." and not ended.remark
    open_end = shown_summary(report_of("One two", 8), "spiking")
    assert open_end.text == "One two …" and open_end.remark == "Stopped in mid-sentence by the limit of 8 tokens."
    assert shown_summary(report_of("One. Two", None), "spiking").text == "One. Two"
    assert shown_summary(report_of("", 8), "spiking").text == ""


@pytest.mark.parametrize(("weights", "size"), [(134_515_008, "135 million"), (427_136, "0.4 million"), (None, "so small a model")])
def test_the_reader_is_told_what_such_a_model_does(weights: int | None, size: str) -> None:
    report = copy.deepcopy(REPORT)
    if weights is not None:
        report["compile"]["weights"] = weights
    assert size in summaries_note(report) and "invent names, numbers and quotations" in summaries_note(report)
