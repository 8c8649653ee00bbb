"""Fields of a chip description: range, unit, effect and cost of each stand beside its default."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, ClassVar, NoReturn

LONGEST_SHOWN = 80
"""Characters of a wrong value, or of a name."""


class FieldError(ValueError):
    """A field, or several that do not go together; `fields` are their paths."""

    def __init__(self, message: str, *paths: str) -> None:
        super().__init__(message)
        self.fields = paths


@dataclass(frozen=True)
class ChipParameter:
    """Description of a field: effect, cost of a larger value, unit, and range or choices; `optional` fields may be None."""

    effect: str
    cost: str
    unit: str = ""
    least: int = 1
    most: float = 1 << 20
    optional: bool = False
    choices: Collection[str] = ()

    def check(self, path: str, value: Any, kind: str) -> None:
        """FieldError unless `value` can be that of the field `path` of type `kind` (int or float), whatever the others are."""
        if value is None and self.optional:
            return
        if self.choices:
            if value not in self.choices:
                refuse(f"{path} must be one of {', '.join(self.choices)}, got {shown(value)}", path)
            return
        integer = kind.startswith("int")
        if isinstance(value, bool) or not isinstance(value, int if integer else (int, float)):
            refuse(f"{path} must be {'an integer' if integer else 'a number'}, got {shown(value)}", path)
        if isinstance(value, float) and not math.isfinite(value):
            refuse(f"{path} must be finite, got {value}", path)
        if not self.least <= value <= self.most:
            text = f"{value}" if abs(value) < 1e40 else "a number of more than 40 digits"
            refuse(f"{path} is out of range: {text}, expected {self.least} to {self.most:,.0f}", path)


def parameter(default: Any, effect: str, cost: str, **rest: Any) -> Any:
    """A dataclass field with this default and a ChipParameter (its other fields are `rest`)."""
    return field(default=default, metadata={"parameter": ChipParameter(effect, cost, **rest)})


def cycles(default: int, effect: str) -> Any:
    """A dataclass field that counts clock cycles: it may be 0 and costs time alone."""
    return parameter(default, f"latency {effect}", "time", unit="cycles", least=0)


def described(entry: Field[Any]) -> ChipParameter:
    """Parameter of a dataclass field made by `parameter`."""
    return entry.metadata["parameter"]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Section:
    """Fields of one part of a chip, each checked against its range when the section is made."""

    title: ClassVar[str]
    """Name of the section in ChipSpec and in a chip file."""

    def __post_init__(self) -> None:
        for entry in fields(self):
            described(entry).check(f"{self.title}.{entry.name}", getattr(self, entry.name), str(entry.type))
        self.relate()

    def relate(self) -> None:
        """FieldError if fields of this section do not go together."""


def default_of(entry: Field[Any]) -> Any:
    """Default of a field; None if it has none."""
    return None if entry.default is MISSING else entry.default


def shown(value: Any) -> str:
    """A wrong value as one short line."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[:LONGEST_SHOWN]}..."


def refuse(what: str, *paths: str) -> NoReturn:
    """FieldError with the remedy."""
    raise FieldError(f"{what}; correct the field, or leave it out for its default", *paths)
