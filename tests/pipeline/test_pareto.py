"""Comparison of conversions: points that are kept, points that fail, runs that were interrupted, the frontier."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.pipeline import pareto
from neuromorphic_llm.pipeline.options import ParetoOptions
from neuromorphic_llm.pipeline.pareto import Pareto, mark_frontier, point_name
from neuromorphic_llm.pipeline.steps import StepRecord
from neuromorphic_llm.report.pareto import markdown, pareto_plot, pareto_table

FEW, MANY, TOO_MANY = (ConvertConfig(spikes=spikes) for spikes in (1.0, 1.5, 900.0))
IMPOSSIBLE = ConvertConfig(spikes=1.0, tolerance=1e-7)
PLAIN = ConvertConfig(spikes=None, price=0.0)
"""Converts fast: no price is searched for."""
ALL = ConvertConfig(code="sign-magnitude", spikes=None, price=0.0)


@pytest.fixture(autouse=True, scope="module")
def _little() -> Iterator[None]:
    """Little text to calibrate on, and a short generation on the chip."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pareto, "calibration_windows", lambda tokenizer, **_: [calibration_windows(tokenizer)[0][:128]])
        patch.setattr(pareto, "PROMPT_TOKENS", 4)
        patch.setattr(pareto, "DECODED_TOKENS", 2)
        yield


def run(folder: Path, *configs: ConvertConfig, **options: Any) -> tuple[dict[str, Any], list[StepRecord]]:
    steps: list[StepRecord] = []
    given = ParetoOptions("random-tiny", folder, configs, **{"limit_tokens": 64, "window": 32, **options})
    return Pareto(given, lambda *_: None, steps.append).run(), steps


def forbidden(*_: Any, **__: Any) -> Any:
    raise AssertionError("this point is there already")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A finished run with a chip, one point of which cannot be made, one that asks for too much, and one that the chip cannot run."""
    folder = tmp_path_factory.mktemp("pareto")
    return folder, run(folder, FEW, MANY, IMPOSSIBLE, ALL, TOO_MANY, chip="nano")[0]


def test_points_and_reasons(made: tuple[Path, dict[str, Any]]) -> None:
    few, many, impossible, every, too_many = made[1]["points"]
    assert few["spikes_per_activation"] < many["spikes_per_activation"] and few["kl_to_dense"] > many["kl_to_dense"]
    assert few["phases"] == 14 and 0 < few["chip_energy_j_per_token"]["nominal"] < many["chip_energy_j_per_token"]["nominal"]
    assert few["cycles_per_token"] > 0 and few["failed"] is None
    assert "cannot be met" in impossible["failed"] and "--tolerance" in impossible["failed"] and not impossible["frontier"]
    assert few["note"] is None and too_many["failed"] is None and too_many["asked_spikes"] == 900.0
    assert re.fullmatch(
        r"900 spikes per activation cannot be met: this code emits [\d.]+ with no stop rule; all of them are kept", too_many["note"]
    )
    assert many["spikes_per_activation"] < too_many["spikes_per_activation"]
    assert every["asked_spikes"] is None and every["failed"] is None
    assert every["chip_energy_j_per_token"] is None and "sign-magnitude" in every["chip_energy_j_per_token_reason"]


def test_a_finished_run_is_reused_and_a_changed_option_is_not(made: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, first = made
    with monkeypatch.context() as patch:
        patch.setattr(pareto, "convert", forbidden)
        again, steps = run(folder, FEW, MANY, IMPOSSIBLE, ALL, TOO_MANY, chip="nano")
    assert again == first and all(step.reused for step in steps)
    other, steps = run(folder, FEW, limit_tokens=32, chip="nano")
    assert other["points"][0]["perplexity"] != first["points"][0]["perplexity"]
    assert [step.name for step in steps if not step.reused] == ["calibration", "dense", point_name(FEW)]


def test_an_interrupted_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pareto.convert

    def interrupted(checkpoint: Any, config: ConvertConfig, *rest: Any, **options: Any) -> Any:
        if config == ALL:
            raise KeyboardInterrupt
        return real(checkpoint, config, *rest, **options)

    monkeypatch.setattr(pareto, "convert", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, PLAIN, ALL)
    assert json.loads((tmp_path / "steps" / f"{point_name(PLAIN)}.json").read_text())["result"]["failed"] is None
    monkeypatch.setattr(pareto, "convert", real)
    result, steps = run(tmp_path, PLAIN, ALL)
    assert {step.name for step in steps if step.reused} == {"calibration", "dense", point_name(PLAIN)}
    assert [point["failed"] for point in result["points"]] == [None, None]
    assert result["points"][0]["chip_energy_j_per_token_reason"] == pareto.NO_CHIP


def test_a_fault_of_one_method_leaves_the_others_alone_and_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = pareto.convert

    def faulty(checkpoint: Any, config: ConvertConfig, *rest: Any, **options: Any) -> Any:
        if config == ALL:
            raise MemoryError("no room")
        return real(checkpoint, config, *rest, **options)

    monkeypatch.setattr(pareto, "convert", faulty)
    result, _ = run(tmp_path, PLAIN, ALL)
    assert [point["failed"] for point in result["points"]] == [None, "MemoryError: no room"]
    assert not (tmp_path / "steps" / f"{point_name(ALL)}.json").exists()
    monkeypatch.setattr(pareto, "convert", real)
    assert [point["failed"] for point in run(tmp_path, PLAIN, ALL)[0]["points"]] == [None, None]


def test_nothing_to_compare(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="nothing to compare"):
        run(tmp_path)


def test_names_differ_wherever_options_do() -> None:
    configs = [FEW, MANY, ALL, ConvertConfig(spikes=1.0, seed=1), ConvertConfig(spikes=1.0, phases=8)]
    assert len({point_name(config) for config in configs}) == len(configs)
    assert point_name(ALL).startswith("sign-magnitude_all_fisher_")


def test_frontier_by_hand() -> None:
    places = [(1.0, 10.0), (1.0, 10.0), (1.0, 11.0), (0.5, 12.0), (2.0, 10.0), (2.0, 9.0)]
    points: list[dict[str, Any]] = [{"failed": None, "spikes_per_activation": s, "perplexity": p} for s, p in places]
    points.append({"failed": "why"})
    mark_frontier(points)
    assert [point["frontier"] for point in points] == [True, True, False, True, False, True, False]


def test_table_and_plot(made: tuple[Path, dict[str, Any]]) -> None:
    result = made[1]
    text = markdown(pareto_table(result))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 1 + 1 + len(result["points"])  # columns, rule, dense
    assert f"{result['points'][0]['spikes_per_activation']:.3f}" in text and "J (" in text
    assert "signed-digit, fisher, 1 spikes" in rows[-1] and "failed: " in rows[-1] and "No energy: " in text
    assert f"signed-digit, 14 phases, fisher: {result['points'][4]['note']}." in text
    picture = pareto_plot(result)
    assert picture is not None and picture.count("perplexity") >= 2 and "energy per decoded token" in picture
    assert pareto_plot({**result, "points": [result["points"][2]]}) is None
    spikes_only = pareto_plot({**result, "points": [result["points"][3]]})
    assert spikes_only is not None and "energy" not in spikes_only
