"""The front door: what README and docstrings show, errors, reprs."""

from __future__ import annotations

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any

import pytest

import neuromorphic_llm as nl
from neuromorphic_llm import api

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK, OUTPUT = re.search(r"```python\n(.*?)```\n\n((?:    [^\n]*\n)+)", README, re.DOTALL).groups()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def shown() -> dict[str, Any]:
    """Names of the README's example after it has run, and what it printed."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(BLOCK, names)
    return names | {"printed": printed.getvalue()}


def test_the_readme_prints_what_it_says(shown: dict[str, Any]) -> None:
    said, written = shown["printed"].splitlines(), [line.strip() for line in OUTPUT.splitlines()]
    assert said[0] == written[0] and len(said) == len(written)
    for ours, theirs in zip(said, written, strict=True):  # a conversion's rounding may differ in the last digit
        assert re.sub(r"[\d.]+", "N", ours) == re.sub(r"[\d.]+", "N", theirs)
        numbers = [[float(number) for number in re.findall(r"\d[\d.]*", line)] for line in (ours, theirs)]
        assert numbers[0] == pytest.approx(numbers[1], rel=0.02)


@pytest.mark.parametrize("name", [name for name in dir(api) if getattr(getattr(api, name), "__module__", "") == api.__name__])
def test_examples_of_docstrings(name: str, shown: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if name.startswith("_"):
        return
    (found,) = doctest.DocTestFinder(recurse=False).find(getattr(api, name), name, globs=dict(shown))
    assert found.examples, f"{name} has no example"
    with contextlib.redirect_stdout(io.StringIO()) as said:
        failed = doctest.DocTestRunner().run(found).failed
    assert not failed, said.getvalue()


def test_results_show_themselves(shown: dict[str, Any]) -> None:
    network, program, result = (shown[name] for name in ("network", "program", "result"))
    assert repr(network).splitlines()[0] == "Spiking network of nano"
    assert repr(program).splitlines()[0] == "Program for chip nano"
    for each in (network, program, result):
        assert each._repr_html_().startswith("<table>") and all(len(line) < 120 for line in repr(each).splitlines())
    assert result.energy.low < result.energy.nominal < result.energy.high
    assert result.latency == pytest.approx(result.to_json()["cycles_per_token"] / program.spec.clock_hz)
    assert result.energy.to_json() == result.to_json()["chip_energy_j_per_token"]
    assert "Energy per token by part (estimated)\n  sram" in result.report()


def test_the_same_program_from_a_folder(shown: dict[str, Any], tmp_path: Path) -> None:
    shown["network"].save(tmp_path / "network")
    nl.compile(tmp_path / "network", "nano").save(tmp_path / "program")
    assert repr(nl.load(tmp_path / "program")) == repr(shown["program"])
    with pytest.raises(nl.NeuromorphicLLMError, match=r"holds no config.json, but a network or program of this package"):
        nl.convert(tmp_path / "network")
    assert shown["program"].save(tmp_path / "again") == nl.load(tmp_path / "program").save(tmp_path / "third")
    assert nl.simulate(tmp_path / "program", "Once upon a time", max_new_tokens=4).token_ids == shown["result"].token_ids[:4]


def test_parameters_of_a_code_as_a_mapping(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("The dog ran to the river and saw a big red boat.", encoding="utf-8")
    options: dict[str, Any] = {"code": "burst", "calibration": tmp_path / "story.txt"}
    network = nl.convert("random-tiny", code_parameters={"gamma": 7}, **options)
    assert network.weights.code.parameters == {"gamma": 7}
    assert network.content_hash == nl.convert("random-tiny", code_parameters=(("gamma", 7),), **options).content_hash


def test_texts_of_networks_programs_and_models(shown: dict[str, Any]) -> None:
    options: dict[str, Any] = {"max_new_tokens": 6}
    text = nl.generate(shown["network"], "Once upon a time", **options)
    assert text == nl.generate(shown["program"], "Once upon a time", **options) == nl.generate("nano", "Once upon a time", **options)
    sampled = {"do_sample": True, "temperature": 3.0, "seed": 3}
    assert nl.generate(shown["network"], "Once", **options, **sampled) == nl.generate(shown["network"], "Once", **options, **sampled)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: nl.convert("nano", spiks=1), "a conversion has no option 'spiks'; did you mean 'spikes'"),
        (lambda _: nl.convert("nano", spikes=-1), "spikes must be positive"),
        (lambda _: nl.convert("nano", spikes=1, price=2.0), "exactly one of spikes, energy_j and price"),
        (lambda _: nl.convert("nanoo"), "is not a known model"),
        (lambda _: nl.convert("nano", allocation="fischer"), "did you mean 'fisher'"),
        (lambda names: nl.compile(names["network"], chip="nanno"), "no chip is called 'nanno'; did you mean 'nano'"),
        (lambda names: nl.simulate(names["program"], "Hi", max_new_tokens=0), "max_new_tokens must be an integer of at least 1"),
        (lambda _: nl.generate("nano", "Hi", do_sample=True), "do_sample is for spiking networks"),
        (lambda names: nl.generate(names["network"], "Hi", beams=2), "a generation has no option 'beams'; did you mean 'num_beams'"),
        (
            lambda names: nl.evaluate(names["network"], limit_token=4),
            "an evaluation has no option 'limit_token'; did you mean 'limit_tokens'",
        ),
        (lambda names: nl.evaluate(names["network"], "defalt"), "did you mean 'default'"),
        (lambda names: nl.simulate(names["network"], "Hi"), "expected a program; nl.compile makes one of a network, or its folder, got"),
        (lambda names: nl.compile(names["program"]), "expected a spiking network; nl.convert makes one of a model, or its folder, got"),
        (lambda _: nl.load("nowhere"), "nowhere is no network or program"),
        (lambda _: nl.convert("nano", spikes="1.5"), "spikes must be a number, got '1.5'"),
        (lambda _: nl.convert(None), "a model is a known name, a folder, a file or a hub id, got NoneType"),  # type: ignore[arg-type]
        (lambda names: nl.evaluate(names["program"]), "a model is a known name, a folder, a file or a hub id, got Program"),
        (lambda names: nl.simulate(names["program"], "Hi", max_new_tokens=2.5), "max_new_tokens must be an integer of at least 1, got 2.5"),
        (lambda names: nl.generate(names["network"], "Hi", max_new_tokens="2"), "max_new_tokens must be an integer of at least 1, got '2'"),
        (lambda _: nl.convert("nano", phases="8"), "phases must be an integer, got '8'"),
        (lambda _: nl.convert("nano", code="burst", code_parameters="gamma"), "code_parameters must be pairs of a name and a value"),
        (lambda names: nl.generate(names["network"], "Hi", top_k=2.5), "top_k must be an integer, got 2.5"),
        (lambda names: nl.generate(names["network"], "Hi", do_sample="yes"), "do_sample must be true or false, got 'yes'"),
        (lambda names: nl.evaluate(names["network"], limit_tokens="64"), "limit_tokens must be an integer, got '64'"),
        (lambda names: nl.evaluate(names["network"], data="nowhere.txt"), "nowhere.txt"),
        (lambda names: nl.simulate(names["program"], [3, 4]), "prompt 0 of the list must be text, got 3"),
        (lambda names: nl.simulate(names["program"], 3), "the prompt must be one text, got int"),
        (lambda names: nl.simulate(names["program"], "Hi", sequences=0), "sequences must be an integer of at least 1, got 0"),
        (lambda names: nl.simulate(names["program"], ["Hi"] * 2, sequences=3), "2 prompts for 3 sequences; give one for each"),
        (lambda names: nl.simulate(names["program"], [], sequences=1), "the list of prompts is empty"),
        (lambda names: nl.simulate(names["program"], ["Hi"] * 2, on_token=print), "on_token is for one sequence, got 2"),
        (lambda names: nl.generate(names["network"], ["Hi", "Ho"]), "the prompt must be one text, got list"),
    ],
)
def test_errors_are_one_line(call: Any, message: str, shown: dict[str, Any]) -> None:
    with pytest.raises(nl.NeuromorphicLLMError, match=re.escape(message)) as caught:
        call(shown)
    assert "\n" not in str(caught.value)
