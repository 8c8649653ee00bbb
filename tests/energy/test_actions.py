"""The actions file: what it may say, what it must say, and that the page is printed from it."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from neuromorphic_llm.chip.load import load_spec
from neuromorphic_llm.energy import Memory, Range, account, load_constants
from neuromorphic_llm.energy.actions import COUNTERS, Action, Actions, Group, all_counts, load_actions, load_groups, parse_actions
from neuromorphic_llm.energy.rtl_units import RTL_UNITS
from neuromorphic_llm.energy.tables import markdown
from neuromorphic_llm.errors import DataError
from neuromorphic_llm.simulation.counters import MEMORY_COUNTERS, SRAM, Counters
from synthesis_account import rows

ROOT = Path(__file__).parents[2]
DATA = yaml.safe_load(files("neuromorphic_llm.energy").joinpath("actions.yaml").read_text(encoding="utf-8"))
SPEC = load_spec("nano")


def changed(change: Callable[[Any], object]) -> dict[str, Any]:
    """The package's file after `change`."""
    data: dict[str, Any] = copy.deepcopy(DATA)
    change(data)
    return data


def test_the_page_is_printed() -> None:
    page = (ROOT / "docs/reference/energy.md").read_text(encoding="utf-8")
    printed = re.search(r"<!-- printed: energy actions -->\n(.*?)<!-- end -->", page, re.DOTALL)
    assert printed is not None
    assert printed[1] == markdown(), "print it again: python -m neuromorphic_llm.energy.tables"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("accounts"), "actions.yaml has no accounts"),
        (lambda d: d["groups"].update(dram=[]), "group dram: expected a list"),
        (lambda d: d["groups"].update(spare=d["groups"]["dram"]), "group spare is in no account"),
        (lambda d: d["groups"]["dram"][0].pop("operations"), "group dram, action 1 has no operations"),
        (lambda d: d["groups"]["dram"][0].update(operation=1), "unknown field 'operation'; did you mean 'operations'"),
        (lambda d: d["groups"]["dram"][0].update(counters="dram_bits_read"), "counters: expected a list"),
        (
            lambda d: d["groups"]["dram"][0].update(counters=["dram_bit_read"]),
            "'dram_bit_read'; did you mean 'dram_bits_read'",
        ),
        (lambda d: d["groups"]["dram"][0].update(counters=["dram_bits_read"] * 2), "group dram: counter dram_bits_read is there twice"),
        (lambda d: d["groups"]["dram"][0].update(per=0), "per: expected an integer above 0, got 0"),
        (lambda d: d["groups"]["dram"][0].update(operations={"dram_bits": 1}), "unknown operation 'dram_bits'; did you mean 'dram_bit'"),
        (lambda d: d["groups"]["dram"][0].update(operations={"int32_add_45nm": 1}), "unknown operation 'int32_add_45nm'"),  # another node
        (lambda d: d["groups"]["dram"][0].update(operations={"sram_leakage_bit": 1}), "unknown operation"),  # a power
        (lambda d: d["groups"]["dram"][0].update(operations={"dram_bit": 1.5}), "dram_bit: expected an integer above 0, got 1.5"),
        (lambda d: d["groups"]["dram"][0].update(operations={"dram_bit": True}), "expected an integer"),
        (
            lambda d: d["groups"]["dram"][0].update(operations={"dram_bit": "flit_bit"}),
            "quantity 'flit_bit'; did you mean 'flit_bits'",
        ),
        (lambda d: d["groups"]["dram"][0].update(operations={}), "operations: expected names"),
        (lambda d: d["groups"]["routers"][1].update(memory="routing"), "unknown memory 'routing'; did you mean 'routing_tables'"),
        (lambda d: d["groups"]["routers"][1].update(per=2), "unknown field 'per'"),
        (lambda d: d["accounts"]["chip"]["parts"].update(dram=["drum"]), "part dram: unknown group 'drum'; did you mean 'dram'"),
        (lambda d: d["accounts"]["chip"]["parts"].update(dram=["dram", "leakage"]), "group leakage is there twice"),
        (lambda d: d["accounts"]["chip"]["parts"].pop("dram"), "account chip: dram_bits_read has no action"),
        (lambda d: d["accounts"]["chip"]["without_energy"].pop(), "account chip: cycles has no action"),
        (
            lambda d: d["accounts"]["chip"]["without_energy"].append({"counters": ["flits"], "why": "free"}),
            "flits has an action and is without energy",
        ),
        (lambda d: d["accounts"]["chip"]["without_energy"][0].pop("why"), "without_energy, entry 1 has no why"),
        (lambda d: d["accounts"]["chip"]["without_energy"][0].update(counters=["sparks"]), "unknown counter 'sparks'"),
    ],
)
def test_what_a_file_may_not_say(change: Callable[[Any], object], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        parse_actions(changed(change), "actions.yaml", load_constants())


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda d: d.update(groups={}), "a.yaml: groups:"),
        (lambda d: d.update(accounts={}), "a.yaml: accounts:"),
        (lambda d: d["groups"]["routers"][1].update(per=2), "a.yaml: group routers, action 2:"),
        (lambda d: d["groups"]["routers"][1].update(memory="routes"), "a.yaml: group routers, action 2: unknown memory"),
        (lambda d: d["groups"]["dram"][0].update(counters=["sparks"]), "a.yaml: group dram, action 1: unknown counter"),
        (lambda d: d["groups"]["dram"][0].update(operations={"spark": 1}), "a.yaml: group dram, action 1: unknown operation"),
        (lambda d: d["groups"]["dram"][0].update(operations={"dram_bit": "x"}), "a.yaml: group dram, action 1: dram_bit: unknown quantity"),
        (lambda d: d["accounts"].update(chip=[]), "a.yaml: account chip:"),
        (lambda d: d["accounts"]["chip"].pop("parts"), "a.yaml: account chip has no parts;"),
        (lambda d: d["accounts"]["chip"].update(name="c"), "a.yaml: account chip: unknown field 'name'"),
        (lambda d: d["accounts"]["chip"].update(parts={}), "a.yaml: account chip: parts:"),
        (lambda d: d["accounts"]["chip"]["parts"].update(dram="dram"), "a.yaml: account chip: part dram:"),
        (lambda d: d["accounts"]["chip"]["parts"].update(dram=["dram"] * 2), "a.yaml: account chip: group dram is there twice"),
        (lambda d: d["accounts"]["chip"].update(without_energy={}), "a.yaml: account chip: without_energy:"),
        (
            lambda d: d["accounts"]["chip"]["without_energy"][0].update(counters=[]),
            "a.yaml: account chip: without_energy, entry 1: counters:",
        ),
        (
            lambda d: d["accounts"]["chip"]["without_energy"][0].update(counters=[1]),
            "a.yaml: account chip: without_energy, entry 1: unknown",
        ),
    ],
)
def test_faults_name_their_place(change: Callable[[Any], object], place: str) -> None:
    with pytest.raises(DataError, match=f"^{re.escape(place)}"):
        parse_actions(changed(change), "a.yaml", load_constants())


def test_actions_are_those_of_the_file() -> None:
    counters = {name: tuple(counter for counter in MEMORY_COUNTERS[name] if counter) for name in MEMORY_COUNTERS}

    def action(said: dict[str, Any]) -> Action:
        if memory := said.get("memory"):
            return Action(counters[memory], {f"{memory}.bit": 1})
        return Action(tuple(said["counters"]), said["operations"], said.get("per", 1), said.get("note", ""))

    groups = {name: Group(name, tuple(map(action, entries))) for name, entries in DATA["groups"].items()}
    assert parse_actions(DATA, "actions.yaml", load_constants()) == {
        name: Actions(
            {part: tuple(groups[group] for group in named) for part, named in entry["parts"].items()},
            {counter: said["why"] for said in entry["without_energy"] for counter in said["counters"]},
        )
        for name, entry in DATA["accounts"].items()
    }


def test_counts_of_sites_are_added_up() -> None:
    per_site = next(name for name, value in vars(Counters()).items() if isinstance(value, tuple))
    counts = all_counts(Counters(flits=3, **{per_site: (2, 5)}), 0.5)
    assert counts[per_site] == 7 and counts["flits"] == 3 and counts["seconds"] == 0.5
    assert set(counts) == set(COUNTERS)


@pytest.mark.parametrize("data", [None, [], "text"])
def test_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(DataError, match="expected names and their values"):
        parse_actions(data, "actions.yaml", load_constants())


def test_working_memories_are_those_of_the_counters_sum() -> None:
    counters = [action.counters for action in load_groups()["working_memories"].actions]
    assert counters == [tuple(name for name in MEMORY_COUNTERS[memory] if name) for memory in SRAM]


def test_counted_bits_need_their_memory() -> None:
    counters = Counters(flits=2, routing_bits_read=18)
    with pytest.raises(ValueError, match=r"group routers: 18 of 'routing_tables\.bit' have no price"):
        account(counters, SPEC, {}, 0.0)
    energy = account(counters, SPEC, {"routing_tables": Memory(64, 8)}, 0.0)
    assert energy.parts["noc"].nominal > account(Counters(flits=2), SPEC, {}, 0.0).parts["noc"].nominal > 0


def test_another_chip_brings_its_own_actions() -> None:
    """A read-out that adds up plates: a group of the file and its name in a part, nothing else."""

    def membranes(data: Any) -> None:
        data["groups"]["plates"] = [{"counters": ["crossbar_reads"], "per": 2, "operations": {"int32_add": 3, "register_bit": "flit_bits"}}]
        data["accounts"]["chip"]["parts"]["plates"] = ["plates"]
        data["accounts"]["chip"]["without_energy"] = [
            each for each in data["accounts"]["chip"]["without_energy"] if each["counters"] != ["crossbar_reads"]
        ]

    actions = parse_actions(changed(membranes), "own.yaml", load_constants())["chip"]
    counters = Counters(crossbar_reads=10, conversions=4, cell_reads=7)
    own, usual = (account(counters, SPEC, {}, 1e-6, actions=which).parts for which in (actions, None))
    assert {name: part for name, part in own.items() if name != "plates"} == usual
    constants = load_constants()
    assert own["plates"] == constants["int32_add"].value * 15 + constants["register_bit"].value * (5 * 64)


def test_a_group_adds_up_before_it_prices() -> None:
    prices = {"int32_multiply": Range(1, 10, 100), "int32_add": Range(0.5, 1, 2), "table.bit": Range(0, 0.25, 1)}
    counts = {"gate_operations": 2, "kv_bits_written": 24, "divisions": 1}
    energy = load_groups()["vector"].energy(counts, prices, {})
    assert energy == Range(1, 10, 100) * 6 + Range(0.5, 1, 2) * (18 + 6 + 64) + Range(0, 0.25, 1) * 64
    assert load_groups()["vector"].energy({}, {}, {}) == Range(0, 0, 0)


def test_parts_of_the_accounts() -> None:
    """Names of the JSON contract, docs/reference/formats.md."""
    assert [*load_actions("chip").parts] == ["cells", "converters", "accumulators", "soma", "attention", "sram", "noc", "dram", "leakage"]
    assert [*load_actions("digital").parts] == ["macs", "weights", "soma", "attention", "sram", "noc", "dram", "leakage"]


def synthesis_rows(heading: str) -> list[list[str]]:
    """Cells of the table of docs/results/synthesis.md under `heading`."""
    page = re.split(r"\n##", (ROOT / "docs/results/synthesis.md").read_text(encoding="utf-8").split(f"### {heading}")[1])[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")][1:]


def test_synthesis_page_charges_what_the_actions_say() -> None:
    """Units of one operation: their energy depends on no stimulus."""
    compared = 0
    for unit, operation, *_, charged, _ in synthesis_rows("Energy of an operation against the account, 22 nm")[1:]:
        entry = RTL_UNITS[unit]
        assert entry.per.replace("_", " ").removesuffix("s") == operation
        if len(entry.operations) == 1:
            energy = entry.energy({entry.per: 3}, SPEC, load_constants())
            figures = [float(figure.replace(",", "")) for figure in re.findall(r"[\d.,]+", charged)]
            expected = pytest.approx([energy.nominal * 1e15, energy.low * 1e15, energy.high * 1e15], rel=5e-3)
            assert figures == expected, unit
            compared += 1
    assert compared == 16


def test_a_token_at_the_energies_of_synthesis() -> None:
    """Counts of the page come back from counters that hold them."""
    counts = {name: int(number.replace(",", "")) for name, number, *_ in synthesis_rows("A decoded token with these energies")[1:]}
    gates, values = counts["output stage (gate): gates"], counts["output stage: values"]
    counters = {
        "decoded_tokens": 1,
        "flits": 1000,
        "flit_hops": counts["router: flits"] - 1000,
        "output_values": values + 2 * gates,
        "gate_operations": gates,
        "kv_bits_written": 8 * counts["kv write: elements"],
        "accumulations": counts["accumulators (exact): accumulations"],
        "attention_values": counts["attention output: attention values"],
    }
    same = ("add_elements", "norm_elements", "rope_elements", "encode_elements", "score_operations", "softmax_elements", "value_operations")
    counters |= {name: next(n for key, n in counts.items() if name.replace("_", " ") in key.replace(":", "")) for name in same}
    unit = {"account": {"nominal": 1.0}, "scaled": {"nominal": 2.0}}
    comparisons = [{"unit": name, "operation": entry.per, **unit} for name, entry in RTL_UNITS.items()]
    found = rows(comparisons, counters, load_spec("nc1"))
    assert {name.replace("_", " "): number for name, number, _, _ in found} == counts
    assert all((ours, theirs) == (number, 2 * number) for _, number, ours, theirs in found)
