"""Fields of configuration classes that are options of commands, described where they are declared."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Option:
    """Description of a field for the command line.

    help: one or two sentences, ended by a full stop.
    name: of the option without dashes, where it is not that of the field.
    metavar: placeholder of the value in help; None for its type.
    least: smallest number that the command line takes.
    optional: whether the command line gives None without the option, so that a command sees whether it is there; `help` says the default.
    written: default as it is written, where the command reads the field from text.
    shown: whether help shows the default.
    """

    help: str
    name: str | None = None
    metavar: str | None = None
    least: int | None = None
    optional: bool = False
    written: str | None = None
    shown: bool = True


def option(default: Any, help: str, **about: Any) -> Any:
    """Field of a dataclass with its default, described by the fields of Option."""
    return field(default=default, metadata={"option": Option(help, **about)})


def same_option(config: type[Any], name: str) -> Any:
    """Field with the default and the description of one of another class."""
    (found,) = (each for each in fields(config) if each.name == name)
    return field(default=found.default, metadata=found.metadata)


def options_of(config: type[Any]) -> dict[str, Option]:
    """Field -> its description, for the fields that have one, in their order."""
    return {each.name: each.metadata["option"] for each in fields(config) if "option" in each.metadata}
