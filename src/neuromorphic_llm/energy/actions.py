"""Energy actions: the operations that every count of a counter stands for, read from actions.yaml (docs/reference/energy.md, Actions)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from neuromorphic_llm.energy.constants import Constant, Range, load_constants
from neuromorphic_llm.energy.prices import QUANTITIES, operation_names
from neuromorphic_llm.errors import DataError
from neuromorphic_llm.registry import name_advice
from neuromorphic_llm.simulation.counters import MEMORY_COUNTERS, Counters

COUNTERS = (*(field.name for field in fields(Counters)), "seconds")
"""Names that an action may count."""


@dataclass(frozen=True)
class Action:
    """Operations for every `per` counts of `counters` together."""

    counters: tuple[str, ...]
    operations: Mapping[str, int | str]  # how many, or the name of a quantity
    per: int = 1
    note: str = ""


@dataclass(frozen=True)
class Group:
    """Actions whose equal operations are added up before they are priced."""

    name: str
    actions: tuple[Action, ...]

    def energy(self, counts: Mapping[str, float], prices: Mapping[str, Range], quantities: Mapping[str, int]) -> Range:
        """Energy in J of `counts` by counter; a counter that is not there counts zero.

        prices: J of an operation; quantities: numbers by the names of QUANTITIES. ValueError if an operation that happened has no price.
        """
        performed: dict[str, float] = {}
        for action in self.actions:
            times = sum(counts.get(counter, 0) for counter in action.counters) / action.per
            if not times:
                continue
            for operation, each in action.operations.items():
                number = quantities[each] if isinstance(each, str) else each
                performed[operation] = performed.get(operation, 0) + times * number
        for operation, total in performed.items():
            if operation not in prices:
                raise ValueError(f"group {self.name}: {total:,.0f} of {operation!r} have no price; give its memory or price")
        return Range.total([prices[operation] * total for operation, total in performed.items()])


@dataclass(frozen=True)
class Actions:
    """Groups of an account by part, and the counters that carry no energy with the reason."""

    parts: Mapping[str, tuple[Group, ...]]
    without_energy: Mapping[str, str]

    def energy(self, counts: Mapping[str, float], prices: Mapping[str, Range], quantities: Mapping[str, int]) -> dict[str, Range]:
        """Energy in J by part; arguments as those of Group.energy."""
        return {part: Range.total([group.energy(counts, prices, quantities) for group in groups]) for part, groups in self.parts.items()}


def all_counts(counters: Counters, seconds: float) -> dict[str, float]:
    """Counts by the names of COUNTERS; those of single sites added up."""
    return {name: sum(value) if isinstance(value, tuple) else value for name, value in vars(counters).items()} | {"seconds": seconds}


@cache
def load_actions(account: str = "chip") -> Actions:
    """The package's actions of an account, `chip`, `digital` or `bit_serial`; DataError if the file is wrong."""
    return _load()[account]


@cache
def load_groups() -> Mapping[str, Group]:
    """The package's groups of actions by name."""
    return {group.name: group for actions in _load().values() for groups in actions.parts.values() for group in groups}


@cache
def _load() -> dict[str, Actions]:
    text = files("neuromorphic_llm.energy").joinpath("actions.yaml").read_text(encoding="utf-8")
    return parse_actions(yaml.safe_load(text), "energy/actions.yaml", load_constants())


def parse_actions(data: Any, where: str, constants: Mapping[str, Constant]) -> dict[str, Actions]:
    """Accounts by name from the parsed YAML.

    Raises DataError naming `where`, the entry and the field: an unknown name, a number below 1, a counter or group that is there twice,
    a counter that has neither an action nor a reason to have none.
    """
    data = _mapping(data, where, required=("groups", "accounts"))
    operations, groups = operation_names(constants), {}
    for name, entries in _mapping(data["groups"], f"{where}: groups").items():
        here = f"{where}: group {name}"
        actions = tuple(_action(entry, f"{here}, action {n}", operations) for n, entry in enumerate(_list(entries, here), 1))
        _check_once((counter for action in actions for counter in action.counters), "counter", here)
        groups[name] = Group(name, actions)
    entries = _mapping(data["accounts"], f"{where}: accounts")
    accounts = {name: _account(entry, f"{where}: account {name}", groups) for name, entry in entries.items()}
    used = {group.name for account in accounts.values() for part in account.parts.values() for group in part}
    for name in groups:
        if name not in used:
            raise DataError(f"{where}: group {name} is in no account; name it in a part, or leave it out")
    return accounts


def _action(entry: Any, where: str, operations: Collection[str]) -> Action:
    if isinstance(entry, dict) and "memory" in entry:
        memory = _mapping(entry, where, required=("memory",))["memory"]
        _check_name(memory, "memory", MEMORY_COUNTERS, where)
        return Action(tuple(counter for counter in MEMORY_COUNTERS[memory] if counter is not None), {f"{memory}.bit": 1})
    entry = _mapping(entry, where, required=("counters", "operations"), optional=("per", "note"))
    for counter in _list(entry["counters"], f"{where}: counters"):
        _check_name(counter, "counter", COUNTERS, where)
    numbers = _mapping(entry["operations"], f"{where}: operations")
    for operation, number in numbers.items():
        _check_name(operation, "operation", sorted(operations), where)
        if isinstance(number, str):
            _check_name(number, "quantity", QUANTITIES, f"{where}: {operation}")
        else:
            _check_count(number, f"{where}: {operation}")
    _check_count(entry.get("per", 1), f"{where}: per")
    return Action(tuple(entry["counters"]), numbers, entry.get("per", 1), str(entry.get("note", "")))


def _account(entry: Any, where: str, groups: Mapping[str, Group]) -> Actions:
    entry = _mapping(entry, where, required=("parts", "without_energy"))
    parts: dict[str, tuple[Group, ...]] = {}
    for part, names in _mapping(entry["parts"], f"{where}: parts").items():
        for name in _list(names, f"{where}: part {part}"):
            _check_name(name, "group", groups, f"{where}: part {part}")
        parts[part] = tuple(groups[name] for name in names)
    _check_once((group.name for part in parts.values() for group in part), "group", where)
    reasons: dict[str, str] = {}
    for number, said in enumerate(_list(entry["without_energy"], f"{where}: without_energy"), 1):
        here = f"{where}: without_energy, entry {number}"
        said = _mapping(said, here, required=("counters", "why"))
        for counter in _list(said["counters"], f"{here}: counters"):
            _check_name(counter, "counter", COUNTERS, here)
            reasons[counter] = str(said["why"])
    priced = {counter for part in parts.values() for group in part for action in group.actions for counter in action.counters}
    for counter in COUNTERS:
        if counter in priced and counter in reasons:
            raise DataError(f"{where}: {counter} has an action and is without energy; leave one of them out")
        if counter not in priced and counter not in reasons:
            raise DataError(f"{where}: {counter} has no action; write one, or say why under without_energy")
    return Actions(parts, reasons)


def _mapping(value: Any, where: str, required: tuple[str, ...] = (), optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The mapping `value`, with all fields of `required` and, if any are given, no others than these and `optional`."""
    if not isinstance(value, dict) or not value:
        raise DataError(f"{where}: expected names and their values, got {value!r}; correct the entry")
    for name in required:
        if name not in value:
            raise DataError(f"{where} has no {name}; add it")
    for name in value if required else ():
        _check_name(name, "field", (*required, *optional), where)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where}: expected a list, got {value!r}; correct the entry")
    return value


def _check_name(name: Any, kind: str, known: Collection[str], where: str) -> None:
    if not isinstance(name, str) or name not in known:
        raise DataError(f"{where}: unknown {kind} {name!r}; {name_advice(str(name), known)}")


def _check_count(number: Any, where: str) -> None:
    if type(number) is not int or number < 1:
        raise DataError(f"{where}: expected an integer above 0, got {number!r}; correct the number")


def _check_once(names: Iterable[str], kind: str, where: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{where}: {kind} {name} is there twice; leave one out")
        seen.add(name)
