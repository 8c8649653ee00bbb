"""Parameters of spike codes: the dataclass fields of a code beside `phases`, checked by name, type and range."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from neuromorphic_llm.errors import UsageError
from neuromorphic_llm.registry import name_advice

ParameterValue = int | bool | str
_TYPES = {"int": int, "bool": bool, "str": str}
_WORDS = {"true": True, "yes": True, "false": False, "no": False}


@dataclass(frozen=True)
class CodeParameter:
    """A parameter of a code: its type's name, default, meaning, and what it may be (`choices` empty: least .. most)."""

    name: str
    type: str
    default: ParameterValue
    help: str
    least: int | None = None
    most: int | None = None
    choices: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        """Allowed values, in words."""
        if self.type == "bool":
            return "true or false"
        return " or ".join(self.choices) if self.choices else f"{self.least} to {self.most}"

    def check(self, code: str, value: object) -> None:
        """UsageError if `value` is of another type or out of range."""
        suits = type(value) is _TYPES[self.type]
        if suits and self.choices:
            suits = value in self.choices
        if suits and isinstance(value, int) and self.least is not None and self.most is not None:
            suits = self.least <= value <= self.most
        if not suits:
            raise UsageError(f"code {code!r}: {self.name} must be {self.allowed}, not {value!r}")


def parameter(default: Any, text: str, *, least: int | None = None, most: int | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field that is a parameter of a code; `text` says what it does."""
    about = {"default": default, "help": text, "least": least, "most": most, "choices": choices}
    return field(default=default, metadata={"parameter": about})


def parameters_of(code: Any) -> tuple[CodeParameter, ...]:
    """Parameters of a code or of its class, in the order of its fields."""
    return tuple(
        CodeParameter(name=each.name, type=getattr(each.type, "__name__", str(each.type)), **each.metadata["parameter"])
        for each in fields(code)
        if "parameter" in each.metadata
    )


def named_parameter(code: Any, name: str) -> CodeParameter:
    """The parameter of that name; UsageError with the nearest one if the code has none."""
    known = {each.name: each for each in parameters_of(code)}
    if name in known:
        return known[name]
    if not known:
        raise UsageError(f"code {code.name!r} has no parameters, so none called {name!r}; leave it out")
    raise UsageError(f"code {code.name!r} has no parameter {name!r}; {name_advice(name, known)}")


def check_parameters(code: Any, values: Mapping[str, object]) -> None:
    """UsageError for a parameter that the code (or its class) does not have, of another type, or out of range."""
    for name, value in values.items():
        named_parameter(code, name).check(code.name, value)


def parse_options(code: Any, options: Sequence[str]) -> dict[str, ParameterValue]:
    """Parameters from texts NAME=VALUE, in the types of the code's fields.

    UsageError for a text of another form, an unknown name, a value that does not suit, or a name given twice.
    """
    found: dict[str, ParameterValue] = {}
    for option in options:
        name, equals, text = (part.strip() for part in option.partition("="))
        if not equals or not name:
            raise UsageError(f"code option {option!r} is not NAME=VALUE; write for example signed=false")
        if name in found:
            raise UsageError(f"code option {name!r} is given twice; give it once")
        wanted = named_parameter(code, name)
        found[name] = value = _value(wanted, text)
        wanted.check(code.name, value)
    return found


def _value(wanted: CodeParameter, text: str) -> ParameterValue:
    """The value in the parameter's type, or the text itself, which the check then refuses."""
    if wanted.type == "bool":
        return _WORDS.get(text.lower(), text)
    if wanted.type == "int":
        try:
            return int(text)
        except ValueError:
            return text
    return text
