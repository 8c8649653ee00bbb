"""Fields of configuration classes that are options of commands, described where they are declared."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from numbers import Integral, Real
from typing import Any, TypeVar

C = TypeVar("C", bound=type[Any])


@dataclass(frozen=True)
class Option:
    """Description of a field for users and for the command line.

    help: one or two sentences, ended by a full stop.
    name: of the option without dashes, where it is not that of the field.
    metavar: placeholder of the value in help; None for its type.
    choices: texts that the field may be; or the place `module:attribute` of such names, where importing them takes long.
    least: smallest number that the command line takes.
    optional: whether the command line gives None without the option, so that a command sees whether it is there; `help` says the default.
    written: default as it is written, where the command reads the field from text.
    shown: whether help shows the default.
    """

    help: str
    name: str | None = None
    metavar: str | None = None
    choices: Iterable[str] | str = ()
    least: int | None = None
    optional: bool = False
    written: str | None = None
    shown: bool = True

    def possible(self) -> list[str]:
        """Choices by name, imported if need be."""
        return list(pkgutil.resolve_name(self.choices) if isinstance(self.choices, str) else self.choices)


def option(default: Any, help: str, **about: Any) -> Any:
    """Field of a dataclass with its default, described by the fields of Option."""
    return field(default=default, metadata={"option": Option(help, **about)})


def same_option(config: type[Any], name: str) -> Any:
    """Field with the default and the description of one of another class."""
    (found,) = (each for each in fields(config) if each.name == name)
    return field(default=found.default, metadata=found.metadata)


def options_of(config: Any) -> dict[str, Option]:
    """Field -> its description, for the fields of a class or an instance that have one, in their order."""
    return {each.name: each.metadata["option"] for each in fields(config) if "option" in each.metadata}


def described(config: C) -> C:
    """Decorator of a configuration class: its docstring with a line per described field."""
    lines = (f"    {name}: {about.help}" for name, about in options_of(config).items())
    config.__doc__ = "\n".join((f"{(config.__doc__ or '').rstrip()}\n", *lines)) + "\n    "
    return config


def check_choices(config: Any) -> None:
    """ValueError naming the field of a configuration that is none of its choices; those of a place are for their users to check."""
    for name, about in options_of(config).items():
        value = getattr(config, name)
        if about.choices and not isinstance(about.choices, str) and value not in about.choices:
            raise ValueError(f"{name} must be one of {', '.join(about.choices)}, got {value!r}")


_NUMBERS: dict[str, tuple[type, str]] = {"int": (Integral, "an integer"), "float": (Real, "a number"), "bool": (bool, "true or false")}


def check_numbers(config: Any, error: type[Exception] = TypeError) -> None:
    """`error` naming the first field of a configuration that is declared as a number, or as bool, and holds something else."""
    for each in fields(config):
        kind, _, other = str(each.type).partition(" | ")
        value = getattr(config, each.name)
        if kind not in _NUMBERS or (value is None and other == "None"):
            continue
        wanted, words = _NUMBERS[kind]
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            raise error(f"{each.name} must be {words}, got {value!r}")
