"""The verdict says better, worse or the same as the figures do, in every case, and how sure it is."""

from __future__ import annotations

import copy
import shlex
from typing import Any

import pytest
from example_report import REPORT, with_curves

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.report.html import html_page
from neuromorphic_llm.report.tables import all_tables
from neuromorphic_llm.report.verdict import headline, repeat_command, sentences
from neuromorphic_llm.repository import REPOSITORY


def energy(nominal: float, spread: float = 2.0) -> dict[str, float]:
    return {"low": nominal / spread, "nominal": nominal, "high": nominal * spread}


UNSURE = {"low": 0.98, "high": 1.04}


def report_with(chip: float, int8: float, sram: float, fp16: float, spread: float = 2.0) -> dict[str, Any]:
    """The example with these nominal energies in J."""
    report = copy.deepcopy(REPORT)
    report["simulate"]["chip_energy_j_per_token"] = energy(chip, spread)
    for name, value in (("int8", int8), ("int8_sram", sram), ("fp16", fp16)):
        report["references"][name]["energy_j_per_token"] = energy(value, spread)
    return report


def sentence(report: dict[str, Any], subject: str) -> str:
    return {each[0]: each[1] for each in sentences(report)}[subject]


@pytest.mark.parametrize(
    ("ours", "spread", "factor", "verdict"),
    [
        (2.5e-6, 2.0, "2.5 times", "worse, bounds overlap"),
        (2.5e-6, 1.1, "2.5 times", "worse, at all constants within their bounds"),
        (0.4e-6, 2.0, "0.40 times", "better, bounds overlap"),
        (0.4e-6, 1.1, "0.40 times", "better, at all constants within their bounds"),
        (1.01e-6, 2.0, "1.01 times", "the same, bounds overlap"),
        (1.05e-6, 1.01, "1.05 times", "worse, at all constants within their bounds"),
        (0.05e-6, 2.0, "0.05 times", "better, at all constants within their bounds"),
    ],
)
def test_energy_against_one_reference(ours: float, spread: float, factor: str, verdict: str) -> None:
    text = sentence(report_with(ours, 1e-6, 1e-6, 1e-6, spread), "Energy")
    assert f"{factor} INT8 with weights in registers (1 µJ): {verdict}" in text
    assert ("could reverse the order" in text) == ("overlap" in verdict)


def test_headline_groups_the_references() -> None:
    text = headline(report_with(2e-6, 1e-6, 2e-6, 4e-6))
    assert text.startswith(
        "At 6 visible tokens and nominal constants the spiking chip takes more energy than INT8 with weights in registers, "
    )
    assert "as much energy as INT8 with weights in SRAM and less energy than FP16 with weights in registers;" in text
    assert "more energy" not in headline(report_with(1e-6, 2e-6, 2e-6, 4e-6)) and "less energy" not in headline(
        report_with(9e-6, 2e-6, 2e-6, 4e-6)
    )


def test_rivals_that_earlier_reports_lack() -> None:
    """Each is named in the headline, the verdict on energy and that on the context, and only where the report has it."""
    earlier, report = REPORT, with_curves()
    for name in ("improved INT8", "bit-serial crossbars"):
        assert name not in headline(earlier) and name not in sentence(earlier, "Energy")
        assert name in headline(report) and name in sentence(report, "Energy") and name in sentence(report, "Context")


@pytest.mark.parametrize(
    ("spiking", "interval", "words"),
    [
        (21.0, None, "+5.0%, worse; no interval was computed"),
        (19.0, None, "-5.0%, better; no interval"),
        (20.002, None, "+0.0%, the same; no interval"),
        (21.0, {"low": 1.02, "high": 1.08}, "+5.0%, worse; 95 % interval of the change +2.0% to +8.0%"),
        (19.0, {"low": 0.91, "high": 0.98}, "-5.0%, better; 95 % interval of the change -9.0% to -2.0%"),
        (
            20.2,
            UNSURE,
            "+1.0%, no difference shown; 95 % interval of the change -2.0% to +4.0%",
        ),
    ],
)
def test_quality(spiking: float, interval: dict[str, float] | None, words: str) -> None:
    report = copy.deepcopy(REPORT)
    report["perplexity"]["spiking"] = spiking
    if interval is not None:
        report["eval"]["perplexity_ratio_interval"] = interval
    assert f"({words}" in sentence(report, "Quality")
    verdict = words.split(", ")[1].split(";")[0]
    clause = f"is {verdict} {'as' if verdict == 'the same' else 'than'}" if interval != UNSURE else "shows no difference from"
    assert f"its perplexity {clause} the dense model's ({spiking / 20 - 1:+.1%}" in headline(report)


def points(*factors: float) -> list[dict[str, Any]]:
    """Points at 8, 16 .. visible tokens at which the chip takes these factors of every reference."""
    names = ("int8", "int8_sram", "fp16")
    return [
        {
            "context": 8 * 2**place,
            "tokens": 5,
            "cycles_per_token": 1.0,
            "chip_energy_j_per_token": energy(factor * 1e-6),
            **{f"{name}_energy_j_per_token": energy(1e-6) for name in names},
            "kind": "estimated",
        }
        for place, factor in enumerate(factors)
    ]


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ((4.7, 3.0, 2.5), "falls from 4.7 to 2.5 (worse throughout)"),
        ((0.5, 0.8), "rises from 0.5 to 0.8 (better throughout)"),
        ((1.5, 1.2, 1.0, 0.7), "falls from 1.5 to 0.7 (worse at 8 to 16, the same at 32, better at 64)"),
        ((1.0, 1.01), "stays near 1 (the same throughout)"),
        ((0.9, 1.2, 0.9), "stays near 0.9 (better at 8, worse at 16, better at 32)"),
    ],
)
def test_context(factors: tuple[float, ...], words: str) -> None:
    text = sentence({**copy.deepcopy(REPORT), "energy_over_context": points(*factors)}, "Context")
    assert f"that of INT8 with weights in registers {words}" in text and text.count(words) == 3


def test_a_curve_of_one_point_or_none_has_no_sentence() -> None:
    for curve in (None, [], points(2.0)):
        assert "Context" not in {subject for subject, _, _ in sentences({**REPORT, "energy_over_context": curve})}


def test_the_command_repeats_the_run() -> None:
    arguments = {"model": "nano", "article": "my article.txt", "output": "runs/x", "spikes": 1.25, "tolerance": 0.01, "chip": "nano"}
    report = {**REPORT, "arguments": {**arguments, "max_new_tokens": 8, "force": False}, "seed": 3}
    line = repeat_command(report)
    assert shlex.split(line) == [
        *("nmllm", "run", "nano", "--article", "my article.txt", "--spikes", "1.25", "--chip", "nano"),
        *("--max-new-tokens", "8", "--seed", "3", "-o", "runs/x"),
    ]
    example = {**arguments, "article": str(REPOSITORY / "examples" / "article.txt"), "chip": "nc1", "spikes": 1.5, "max_new_tokens": 96}
    assert repeat_command({**REPORT, "arguments": example}) == "nmllm run nano -o runs/x"
    assert shlex.split(line)[1] == "run" and run_command_line([*shlex.split(line)[1:], "--help"]) == 0


def test_the_page_begins_with_verdict_words_command_and_links() -> None:
    page = html_page(REPORT)
    order = [
        page.index(text)
        for text in ("<h2>Verdict", "What the words mean", "This run is repeated by", "report-docs/energy.html", "<h2>Summaries")
    ]
    assert order == sorted(order)
    assert headline(REPORT) in page.replace("&#x27;", "'")


def test_several_sequences_are_said_wherever_figures_depend_on_them() -> None:
    report = with_curves()
    assert "in flight" not in html_page(report)
    report["simulate"] |= {"sequences": 31}
    assert "At 6 visible tokens with 31 sequences in flight and nominal constants the spiking chip" in headline(report)
    said = {subject: text for subject, text, _ in sentences(report)}
    assert all("with 31 sequences in flight" in said[subject] for subject in ("Energy", "Context", "Speed"))
    tables = " ".join(" ".join((table.note, *(cell for row in table.rows for cell in row))) for table in all_tables(report))
    assert tables.count("31 sequences in flight") == 4 and "waits for tokens of other sequences count as network" in tables
