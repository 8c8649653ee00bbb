"""`nmllm run` from checkpoint to report on a small random model."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from family_models import family_model, saved

from neuromorphic_llm.cli.main import run_command_line
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.pipeline import run as pipeline

ARTICLE = "The council of Halden Bay voted to replace all the lamps of the town. Work will begin in March. Fishermen are not convinced."
STEPS = ["convert", "compile", "simulate", "baseline", "evaluate", "layers", "quality"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with an article; less text is evaluated than usual."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "article.txt").write_text(ARTICLE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "EVALUATED_TOKENS", 256)
        patch.setattr(pipeline, "CURVE_TOKENS", 128)
        patch.setattr(pipeline, "WINDOW", 64)
        patch.setattr(pipeline, "calibration_windows", lambda tokenizer, **_: [calibration_windows(tokenizer)[0][:256]])
        yield folder


def run(workplace: Path, *options: str) -> int:
    arguments = ["run", "random-tiny", "--article", str(workplace / "article.txt"), "--chip", "nano", "--max-new-tokens", "6"]
    return run_command_line([*arguments, "-o", str(workplace / "out"), *options])


@pytest.fixture(scope="module")
def report(workplace: Path) -> dict[str, Any]:
    """The report of a first run."""
    assert run(workplace, "--json", str(workplace / "result.json")) == 0
    return dict(json.loads((workplace / "out" / "report.json").read_text()))


def numbers(value: Any) -> Iterator[float]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from numbers(item)
    elif isinstance(value, (int, float)):
        yield value


def test_report_has_the_keys_of_the_contract(report: dict[str, Any], workplace: Path) -> None:
    assert report["schema"] == "neuromorphic-llm-result" and report["command"] == "run"
    assert report["summary"].keys() == {"dense", "spiking"} == report["perplexity"].keys()
    assert {"task", "tokens", "perplexity", "word_perplexity", "kl_to_dense", "top1_agreement", "spikes_per_activation"} <= report[
        "eval"
    ].keys()
    simulated = report["simulate"]
    assert simulated["cycles_total"] > simulated["cycles_per_token"] > 0
    parts = [part["nominal"] for part in simulated["energy_breakdown_j"].values()]
    assert sum(parts) == pytest.approx(simulated["chip_energy_j_per_token"]["nominal"])
    baseline = report["baseline"]
    assert baseline["tokens_per_s"] > 0 and baseline["device"]
    assert (baseline["energy_j_per_token"] is None) == bool(baseline["energy_j_per_token_reason"])
    assert report["wall_s"] >= sum(step["wall_s"] for step in report["steps"])
    assert json.loads((workplace / "result.json").read_text())["perplexity"] == report["perplexity"]


def test_several_sequences_in_flight(report: dict[str, Any], workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The article is told to each: the same text as of one, more of them per second, and parts of the latency that add up."""
    folder = workplace / "several"
    assert run(workplace, "--sequences", "3", "-o", str(folder)) == 0
    several = json.loads((folder / "report.json").read_text())
    one, three = report["simulate"], several["simulate"]
    assert three["sequences"] == 3 and [each["text"] for each in three["generated"]] == [one["text"]] * 3
    assert three["chip_tokens_per_s"] > 2 * one["chip_tokens_per_s"]
    assert several["references"]["int8"]["energy_j_per_token"]["nominal"] < report["references"]["int8"]["energy_j_per_token"]["nominal"]
    latency, cycles = several["latency"], three["latency_s_per_token"] * three["clock_hz"]
    assert sum(latency["units"].values()) == pytest.approx(latency["cycles_per_token"]) == pytest.approx(cycles)
    assert all(part >= 0 for part in latency["units"].values())
    assert [point["context"] for point in several["energy_over_context"]] == [point["context"] for point in report["energy_over_context"]]
    assert "with 3 sequences in flight" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert run(workplace, "--sequences", "1000", "-o", str(folder)) == 1
    assert "1000 sequences do not fit a key/value memory of chip nano" in capsys.readouterr().err
    assert run(workplace, "--sequences", "100", "--max-new-tokens", "16", "-o", str(folder)) == 2
    assert "--max-new-tokens must be below 16, the context of each of 100 sequences; got 16" in capsys.readouterr().err


def test_numbers_are_finite(report: dict[str, Any]) -> None:
    assert all(math.isfinite(number) for number in numbers(report))


def test_spikes_are_as_asked_and_quality_is_kept(report: dict[str, Any]) -> None:
    assert report["convert"]["spikes_per_activation_on_calibration_text"] == pytest.approx(1.5, rel=0.02)
    assert report["perplexity"]["spiking"] == pytest.approx(report["perplexity"]["dense"], rel=0.1)
    assert report["eval"]["kl_to_dense"] < 0.05
    assert min(report["layers"]["cosine"]) > 0.95


def test_page_is_self_contained(report: dict[str, Any], workplace: Path) -> None:
    page = (workplace / "out" / "report.html").read_text()
    links = page.replace("http://www.w3.org/2000/svg", "").replace("http://www.w3.org/1999/xlink", "")
    assert "http" not in links and "<script" not in page and "@import" not in page
    assert page.count("<figure>") == 9 and ARTICLE[:40] in page
    for kind in ("measured", "simulated", "estimated"):
        assert f'class="kind {kind}"' in page
    assert report["model"] in page
    pages = re.findall(r'href="(report-docs/[^"]+)"', page)
    assert len(pages) >= 5 and all((workplace / "out" / name).is_file() for name in pages)


def test_energies_over_the_context_and_latency(report: dict[str, Any]) -> None:
    points, simulated, latency = report["energy_over_context"], report["simulate"], report["latency"]
    assert [point["context"] for point in points] == sorted(point["context"] for point in points) and len(points) > 2
    own = next(point for point in points if point["context"] == simulated["mean_context"])
    assert own["chip_energy_j_per_token"] == simulated["chip_energy_j_per_token"]
    assert own["int8_energy_j_per_token"] == report["references"]["int8"]["energy_j_per_token"]
    assert own["fp16_energy_j_per_token"] == report["references"]["fp16"]["energy_j_per_token"]
    assert sum(latency["units"].values()) == pytest.approx(simulated["cycles_per_token"]) == latency["cycles_per_token"]
    assert simulated["cycles_per_token"] * latency["tokens"] == pytest.approx(simulated["counters"]["decode"]["cycles"])


def test_second_run_reuses_everything_and_says_so(report: dict[str, Any], workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(workplace) == 0
    shown = capsys.readouterr()
    assert shown.err.count("reused") == len(STEPS) and "--force" in shown.out
    again = json.loads((workplace / "out" / "report.json").read_text())
    assert [step["name"] for step in again["steps"]] == STEPS and all(step["reused"] for step in again["steps"])
    assert again["simulate"] == report["simulate"]


def reused(workplace: Path) -> dict[str, bool]:
    steps = json.loads((workplace / "out" / "report.json").read_text())["steps"]
    return {step["name"]: step["reused"] for step in steps}


@pytest.mark.usefixtures("report")
def test_only_what_changed_runs_again(workplace: Path) -> None:
    assert run(workplace, "--max-new-tokens", "5") == 0
    assert {name for name, again in reused(workplace).items() if not again} == {"simulate", "baseline"}


@pytest.mark.usefixtures("report")
def test_damaged_artefact_is_made_again(workplace: Path) -> None:
    tensors = workplace / "out" / "program" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-7])
    assert run(workplace, "--max-new-tokens", "5") == 0
    assert {name for name, again in reused(workplace).items() if not again} == {"compile"}


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("report")
def test_interruption_leaves_nothing_broken(workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = workplace / "interrupted"
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "compile_network", interrupt)
        assert run(workplace, "-o", str(out)) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "nmllm: error: interrupted"
    assert sorted(path.name for path in out.iterdir()) == ["network", "steps"]
    assert [path.name for path in (out / "steps").iterdir()] == ["convert.json"]


def test_a_model_that_no_chip_can_run_is_not_converted_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(pipeline, "convert")
    (tmp_path / "article.txt").write_text(ARTICLE)
    folder = saved(family_model("gpt2"), tmp_path / "gpt2")
    assert run_command_line(["run", str(folder), "--article", str(tmp_path / "article.txt"), "-o", str(tmp_path / "out")]) == 1
    assert "the chip has no unit for learned positions and a feed-forward without a gate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--article", "absent.txt"], 1, "no such file"),
        (["--article", "EMPTY"], 1, "is empty"),
        (["--spikes", "-1"], 2, "spikes must be positive"),
        (["--spikes", "900"], 1, "spikes"),
        (["--chip", "nc9"], None, "nc9"),
        (["--max-new-tokens", "100000"], 2, "--max-new-tokens must be below 2,048, the context of the model"),
        (["-o", "FILE"], 2, "choose another output folder"),
    ],
)
def test_bad_requests(
    workplace: Path, tmp_path: Path, options: list[str], code: int | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    names = {"EMPTY": str(tmp_path / "empty.txt"), "FILE": str(tmp_path / "empty.txt")}
    result = run(
        workplace, *(["-o", str(tmp_path / "out")] if "-o" not in options else []), *(names.get(option, option) for option in options)
    )
    lines = capsys.readouterr().err.strip().splitlines()
    assert result in ((1, 2) if code is None else (code,))
    assert lines[-1].startswith("nmllm: error:") and message in lines[-1]
    assert not (tmp_path / "out" / "report.json").exists()
