"""What the documentation quotes is what the commands beside it print."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from neuromorphic_llm.cli.main import run_command_line

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TESTED = {"docs/models/nano.md", "docs/results/rtl-nano.md"}
"""Pages with quotations that this file compares."""
ELSEWHERE = {"docs/results/rtl-smollm2-layer.md"}
"""Quotations that need the real checkpoint and the RTL, which tests/rtl compares."""


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def words(text: str) -> str:
    return " ".join(text.split())


def commands(text: str) -> list[list[str]]:
    """Commands of the first block of a page."""
    block = re.search(r"(?:^    nmllm .*\n)+", text, re.MULTILINE)
    assert block is not None
    return [shlex.split(line)[1:] for line in block[0].splitlines()]


class Nano:
    """The commands at the top of docs/models/nano.md, run as they stand there, and their results."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = [self.run(line) for line in commands(page("docs/models/nano.md"))]

    def run(self, line: list[str]) -> dict[str, Any]:
        assert run_command_line([*line, "--json", "result.json"]) == 0, line
        found: dict[str, Any] = json.loads((self.folder / "result.json").read_text())
        return found


@pytest.fixture(scope="module")
def nano(tmp_path_factory: pytest.TempPathFactory) -> Nano:
    folder = tmp_path_factory.mktemp("quoted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (folder / "runs").mkdir()
        return Nano(folder)


@pytest.fixture(autouse=True)
def _beside_the_network(nano: Nano, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(nano.folder)


def test_the_story_of_nano(nano: Nano) -> None:
    quoted = words(" ".join(line.removeprefix(">") for line in page("docs/models/nano.md").splitlines() if line.startswith(">")))
    simulated = nano.results[2]
    prompt = simulated["arguments"]["prompt"]
    assert quoted == words(f"{prompt} {simulated['text']}") and len(simulated["token_ids"]) == 100


def test_the_figures_of_nano(nano: Nano) -> None:
    """Counts are integers, energies products of them and constants."""
    text = words(page("docs/models/nano.md"))
    _, compiled, simulated = nano.results
    energy, reference = simulated["chip_energy_j_per_token"], simulated["int8_reference_energy_j_per_token"]
    assert f"{simulated['spikes_per_activation']:.2f} spikes per activation" in text
    assert f"{simulated['cycles_per_token']:,.0f} cycles per token, {simulated['chip_tokens_per_s']:,.0f} tokens/s" in text
    low, nominal, high = (energy[name] * 1e6 for name in ("low", "nominal", "high"))
    assert f"{nominal:.2f} µJ per token ({low:.2f} to {high:.2f})" in text
    assert f"an INT8 array {reference['nominal'] * 1e6:.2f} µJ" in text
    kinds = compiled["tiles_by_kind"]
    assert f"the host, {kinds['vector']['used']} vector tiles, {kinds['synapse']['used']} synapse tiles" in text
    assert f"{compiled['crossbars']} of their {compiled['crossbars_available']} crossbars" in text and compiled["utilisation"] == 1.0


def test_the_perplexity_of_nano_on_the_default_text(nano: Nano) -> None:
    found = nano.run(["eval", "nano"])
    assert f"On the default text of `nmllm eval`, which is no story, its perplexity is {found['perplexity']:.0f}." in words(
        page("docs/models/nano.md")
    )


def test_the_graph_in_text(nano: Nano, capsys: pytest.CaptureFixture[str]) -> None:
    nano.run(["compile", "runs/nano", "--chip", "nano", "-o", "runs/again", "--print-between-passes"])
    printed = capsys.readouterr().out.split("--- after place ---\n")[1].split("--- after")[0].splitlines()
    block = re.search(r"(?:^    .*\n)+", page("docs/reference/compiler.md").split("prints and parses to the same graph")[1], re.MULTILINE)
    assert block is not None and len(block[0].splitlines()) == 3
    for line in block[0].splitlines():
        assert line.removeprefix("    ") in printed


def test_what_the_simulator_says_of_the_rtl_run(nano: Nano) -> None:
    """The tokens and cycles that docs/results/rtl-nano.md has of `cosim`, by the simulator, which that command compares with the RTL."""
    text = page("docs/results/rtl-nano.md")
    one, several = re.findall(r"nmllm cosim runs/nano-program (.*)", text)
    found = nano.run(["simulate", "runs/nano-program", *shlex.split(one)])
    assert f'prints "{words(found["text"])}"' in words(text)
    assert f"| tokens, with their cycle | {len(found['token_ids'])} |" in text and f"| cycles | {found['cycles_total']:,} |" in text
    prompts = re.findall(r'"([^"]+)"', re.search(r"with the prompts (.*?), a line each", text, re.DOTALL)[1])
    (nano.folder / "prompts.txt").write_text("\n".join(prompts) + "\n")
    found = nano.run(["simulate", "runs/nano-program", *shlex.split(several)])
    tokens = sum(len(each["token_ids"]) for each in found["generated"])
    assert f"| tokens, with their cycle | {tokens} |" in text and f"| cycles | {found['cycles_total']:,} |" in text


def test_every_quotation_is_compared() -> None:
    """A new one, in a block of quotation or after `prints "`, needs a test here."""
    pages = [ROOT / "README.md", *DOCS.rglob("*.md")]
    quoting = {path for path in pages if re.search(r'^>|prints "', path.read_text(encoding="utf-8"), re.MULTILINE)}
    assert {str(path.relative_to(ROOT)) for path in quoting} == TESTED | ELSEWHERE
