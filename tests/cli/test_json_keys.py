"""Every key that a command writes with --json is in docs/reference/formats.md, and the other way round."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from neuromorphic_llm.cli.main import COMMANDS, run_command_line
from neuromorphic_llm.cli.result import ENVELOPE
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.energy import records_for
from neuromorphic_llm.pipeline import pareto
from neuromorphic_llm.pipeline import run as pipeline
from neuromorphic_llm.spikes.registry import SPIKE_CODES

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "formats.md").read_text(encoding="utf-8")

Keys = tuple[str, ...]
"""A place in a JSON object; `[]` is any element of a list."""


def tables() -> dict[str, dict[Keys, str]]:
    """Documented keys and their meaning by command; the tables of `{energy}` and `{gpu}` and the envelope too."""
    found: dict[str, dict[Keys, str]] = {}
    name = ""
    for line in PAGE[PAGE.index("## JSON written by commands") :].splitlines():
        if heading := re.match(r"### (Envelope|`(\w+)`)", line):
            name = heading[2] or "Envelope"
        elif heading := re.match(r"\| `\{(\w+)\}` \|", line):
            name = heading[1]
        elif line.startswith("| `"):
            keys, meaning = line.strip("|").split(" | ")
            for key in re.findall("`([^`]+)`", keys):
                found.setdefault(name, {})[tuple(key.replace("[]", ".[]").split("."))] = meaning
    return found


DOCUMENTED = tables()


def expanded(command: str) -> dict[Keys, str]:
    """Documented keys of a command with what `{simulate}` and the like stand for."""
    keys: dict[Keys, str] = {}
    for key, meaning in DOCUMENTED[command].items():
        if key[-1].startswith("{"):
            keys |= {(*key[:-1], *inner): text for inner, text in expanded(key[-1][1:-1]).items()}
        else:
            keys[key] = meaning
    return keys


def places(value: Any, here: Keys = ()) -> Iterator[tuple[Keys, Any]]:
    """Every place of a JSON value but its own, with what is there."""
    items = value.items() if isinstance(value, dict) else (("[]", item) for item in value if isinstance(item, dict))
    for key, item in items:
        if key != "[]":
            yield (*here, key), item
        if isinstance(item, (dict, list)):
            yield from places(item, (*here, key))


def fits(place: Keys, pattern: Keys) -> bool:
    return len(place) == len(pattern) and all(p == key or p.isupper() for key, p in zip(place, pattern, strict=True))


def meanings(place: Keys, keys: dict[Keys, str]) -> list[str]:
    """Of the documented keys that the place is, or that lie inside it."""
    return [text for pattern, text in keys.items() if fits(place, pattern[: len(place)])]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """Results of every command, by command."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "text.txt").write_text("The council of Halden Bay voted to replace all the lamps of the town. " * 8)
    (folder / "documents.jsonl").write_text('{"id": "a", "article": "A river runs to the sea.", "highlights": "A river."}\n')
    for name in ("hellaswag", "piqa", "arc_easy"):
        (folder / "multiple_choice").mkdir(exist_ok=True)
        questions = [{"query": "A river runs to the", "choices": ["sea.", "lamp."], "gold": gold} for gold in (0, 1)]
        (folder / "multiple_choice" / f"{name}.jsonl").write_text("\n".join(map(json.dumps, questions)))
    (folder / "lambada").mkdir()
    (folder / "lambada" / "lambada_test.jsonl").write_text('{"text": "A river runs to the sea"}\n' * 2)
    small = ["--window", "32", "--limit-tokens", "64"]
    tuned = ["--tokens", "64", "--window", "32", "--text", "text.txt", "--layer-steps", "1", "--steps", "1"]
    lines = [
        ["fetch", "--list"],
        ["fetch", "smollm2-135m"],
        ["fetch", "--data", "--list"],
        ["fetch", "--data", "lambada", "--from", ".", "--force"],
        ["models"],
        ["chips"],
        ["tasks"],
        ["cache"],
        ["cache", "--clean", "hub"],
        ["codes"],
        ["codes", "burst", "--code-option", "gamma=7"],
        ["convert", "random-tiny", "-o", "network", "--calibration", "text.txt"],
        ["convert", "random-tiny", "-o", "burst", "--calibration", "text.txt", "--code", "burst", "--code-option", "gamma=7"],
        ["finetune", "random-tiny", "-o", "tuned", "--text", "text.txt", "--tokens", "64", "--window", "32", "--batch", "1"],
        ["compile", "network", "-o", "program", "--chip", "nano"],
        ["simulate", "program", "--prompt", "A river", "--max-new-tokens", "3"],
        ["simulate", "program", "--prompt", "A river", "--max-new-tokens", "1"],
        ["simulate", "program", "--prompt", "A river", "--max-new-tokens", "3", "--sequences", "2"],
        ["simulate", "program", "--prompt", "A river", "--max-new-tokens", "3", "--backend", "functional"],
        # The model nano, for which tests/rtl builds the chip too.
        ["convert", "nano", "-o", "nano", "--calibration", "text.txt"],
        ["compile", "nano", "-o", "nano-program", "--chip", "nano"],
        ["cosim", "nano-program", "--prompt", "A river", "--max-new-tokens", "1"],
        ["export", "network", "--site", "layers.0.down", "--bits", "22", "-o", "nir"],
        ["export", "network", "--site", "layers.0.down", "--bits", "22", "-o", "nir", "--check"],
        ["eval", "network", *small, "--against", "random-tiny"],
        ["eval", "random-tiny", *small],
        ["eval", "network", "--task", "cnn_dailymail", "--data", "documents.jsonl", "--max-new-tokens", "2"],
        ["eval", "network", "--task", "cnn_dailymail", "--data", "documents.jsonl", "--max-new-tokens", "2", "--against", "random-tiny"],
        ["ssa", "random-tiny", *tuned, "--feed-forward-steps", "8"],
        ["eval", "network", "--task", "zero-shot", "--limit-documents", "2", "--against", "random-tiny"],
        ["pareto", "random-tiny", "-o", "points", "--spikes", "1,1.5,900", "--tolerance", "0.001", "--chip", "nano", *small],
        ["pareto", "random-tiny", "-o", "points", "--codes", "burst:gamma=3", "--spikes", "all", *small],
        ["run", "random-tiny", "--article", "text.txt", "--chip", "nano", "--max-new-tokens", "4", "-o", "out"],
        ["report", "out"],
    ]
    found: dict[str, list[dict[str, Any]]] = {}
    with pytest.MonkeyPatch.context() as patch, SPIKE_CODES.temporary("of-nowhere", "nowhere:Code"):
        patch.chdir(folder)
        patch.setenv("NMLLM_DATA", str(folder))
        for name in ("models--someone--model", "models--another--model"):
            (folder / "cache" / "hub" / name).mkdir(parents=True)
        patch.setattr("neuromorphic_llm.models.fetch.fetch_checkpoint", lambda *_, **__: folder)
        for name, value in (("EVALUATED_TOKENS", 128), ("CURVE_TOKENS", 64), ("WINDOW", 64)):
            patch.setattr(pipeline, name, value)
        for module in (pipeline, pareto):
            patch.setattr(module, "calibration_windows", lambda tokenizer, **_: [calibration_windows(tokenizer)[0][:256]])
        for line in lines:
            with pytest.MonkeyPatch.context() as own:
                if line[0] == "cache":  # other commands take the build of the chip from the real one
                    own.setenv("NMLLM_CACHE", str(folder / "cache"))
                assert run_command_line([*line, "--json", "result.json"]) == 0, line
            found.setdefault(line[0], []).append(json.loads(Path("result.json").read_text()))
    return found


def test_every_command_has_a_table() -> None:
    assert set(DOCUMENTED) == {"Envelope", "energy", "gpu", *COMMANDS}
    assert {key[0] for key in DOCUMENTED["Envelope"]} == set(ENVELOPE)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_what_is_written_is_documented(results: dict[str, list[dict[str, Any]]], command: str) -> None:
    keys = expanded(command) | DOCUMENTED["Envelope"]
    for result in results[command]:
        written = dict(places(result))
        for place in written:
            name = place[-1].removesuffix("_reason")
            assert meanings((*place[:-1], name), keys), f"{command} writes {'.'.join(place)}, which formats.md does not list"
            if name != place[-1]:
                assert (*place[:-1], name) in written, place


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_what_is_documented_is_written(results: dict[str, list[dict[str, Any]]], command: str) -> None:
    written = {place for result in results[command] for place, _ in places(result)}
    without_options = {("arguments", "OPTION")} if command in ("models", "chips", "tasks") else set()
    for pattern in (DOCUMENTED[command] | DOCUMENTED["Envelope"]).keys() - without_options:
        if not pattern[-1].startswith("{"):
            assert any(fits(place, pattern) for place in written), f"{command} never writes {'.'.join(pattern)}"


def objects(value: Any, place: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object of a result with its place; elements of a list share one, so a key and its reason are looked up in the object itself."""
    if isinstance(value, dict):
        yield place, value
        for name, member in value.items():
            yield from objects(member, (*place, name))
    elif isinstance(value, list):
        for member in value:
            yield from objects(member, (*place, "[]"))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_null_has_a_reason_or_a_meaning(results: dict[str, list[dict[str, Any]]], command: str) -> None:
    keys = expanded(command) | DOCUMENTED["Envelope"]
    for result in results[command]:
        for place, members in objects(result):
            for name, value in members.items():
                reason = members.get(f"{name}_reason")
                if value is None and not name.endswith("_reason"):
                    told = reason or any("null" in text for text in meanings((*place, name), keys))
                    assert told, f"{command}: nothing says why {(*place, name)} is null"
                elif reason is not None:
                    pytest.fail(f"{command}: {(*place, name)} is {value!r} and has a reason to be null")


def test_parts_of_a_run_have_all_their_keys(results: dict[str, list[dict[str, Any]]]) -> None:
    """What `{energy}`, `{gpu}`, `{simulate}`, `{compile}` and `{eval}` stand for."""
    report = results["run"][0]
    for name in ("int8", "int8_sram", "fp16"):
        written = {place for place, _ in places(report["references"][name])}
        assert all(any(fits(place, pattern) for place in written) for pattern in DOCUMENTED["energy"])
    assert {(key,) for key in records_for("smollm2-135m")[0].to_json()} == set(DOCUMENTED["gpu"])
    absent = {"simulate": {"prompt_tokens", "bos_token"}, "compile": {"program_hash", "pass_seconds"}}
    for name, missing in absent.items():
        assert set(report[name]) - {"kind"} == {key[0] for key in DOCUMENTED[name]} - missing - {"kind"}
