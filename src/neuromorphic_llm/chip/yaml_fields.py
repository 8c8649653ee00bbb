"""Fields of a chip file: YAML of sections of scalars, read event by event, so that nothing deeper or repeated is ever built."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from neuromorphic_llm.errors import CompileError
from neuromorphic_llm.registry import nearest

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", re.ASCII)
_BASED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NO_NUMBERS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "null": None, "~": None, "": None}

LONGEST_NUMBER = 40
"""Digits; Python takes more than 4,300 for an attack, and no field needs twenty."""

_EXPECTED = "write one `field: value` per line below its section, as chip/configs/nc1.yaml does"


@dataclass(frozen=True)
class Field:
    """A value with the line it stands in."""

    value: Any
    line: int


def read_fields(text: str, source: str, sections: Collection[str]) -> dict[str, Field]:
    """Fields of a chip file by path (`section.field`); CompileError naming `source`, the line and a field that cannot be meant."""
    try:
        return _Reader(text, source, sections).read()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
        raise CompileError(f"{where}: not valid YAML ({reason}); {_EXPECTED}") from error


class _Reader:
    """Events of a chip file, taken one after another."""

    def __init__(self, text: str, source: str, sections: Collection[str]) -> None:
        self.events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self.source, self.sections = source, sections
        self.found: dict[str, Field] = {}
        self.lines: dict[str, int] = {}  # of sections
        self.anchors: dict[str, yaml.ScalarEvent] = {}

    def read(self) -> dict[str, Field]:
        starts = (yaml.StreamStartEvent, yaml.DocumentStartEvent)
        event = next(event for event in self.events if not isinstance(event, starts))
        if not isinstance(event, yaml.MappingStartEvent):
            raise CompileError(f"{self.source}: expected a mapping of field names to values; {_EXPECTED}")
        self.mapping("")
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise CompileError(f"{self.source}:{_line(event)}: a second document begins; describe one chip in a file")
        return self.found

    def mapping(self, prefix: str) -> None:
        """Fields up to the end of the mapping that has begun, each path with this prefix."""
        for event in self.events:
            line = _line(event)
            if isinstance(event, yaml.MappingEndEvent):
                return
            if not isinstance(event, yaml.ScalarEvent):
                raise CompileError(f"{self.source}:{line}: a field's name is {_what(event)}; {_EXPECTED}")
            name = f"{prefix}{event.value}"
            label = name if len(name) <= LONGEST_NUMBER else f"{name[:LONGEST_NUMBER]}..."
            first = self.found[name].line if name in self.found else self.lines.get(name)
            if first is not None:
                raise CompileError(f"{self.source}:{line}: field {label!r} is there twice, first in line {first}; leave one of them out")
            value = next(self.events)
            if name in self.sections and isinstance(value, yaml.MappingStartEvent):
                self.lines[name] = line
                self.mapping(f"{name}.")
            elif not prefix and isinstance(value, yaml.MappingStartEvent) and (near := nearest(name, self.sections)):
                raise CompileError(f"{self.source}:{line}: unknown section {label!r}; did you mean {near!r}?")
            else:
                self.found[name] = Field(self.scalar(value, label, line), line)

    def scalar(self, value: yaml.Event, label: str, line: int) -> Any:
        """Value of the field shown as `label`."""
        where = f"{self.source}:{line}: {label}"
        if isinstance(value, yaml.AliasEvent):
            value = self.anchors.get(str(value.anchor), value)
        if not isinstance(value, yaml.ScalarEvent):
            raise CompileError(f"{where} is {_what(value)}, not a single value; {_EXPECTED}")
        if value.tag is not None:
            raise CompileError(f"{where} has the tag {value.tag!r}, which is not used here; write the value alone")
        if value.anchor is not None:
            self.anchors[str(value.anchor)] = value
        return _value(value, where)


def _line(event: yaml.Event) -> int:
    return 0 if event.start_mark is None else event.start_mark.line + 1


def _what(event: yaml.Event) -> str:
    kinds = {yaml.SequenceStartEvent: "a list", yaml.MappingStartEvent: "a mapping", yaml.AliasEvent: "an alias of no value"}
    return kinds.get(type(event), "missing")


def _value(event: yaml.ScalarEvent, where: str) -> Any:
    """Text if it is quoted; else an integer, a float, a truth value, nothing, or text, as in the core schema of YAML 1.2."""
    text = event.value
    if not event.implicit[0]:
        return text
    if _INTEGER.fullmatch(text) or _BASED.fullmatch(text):
        if len(text) > LONGEST_NUMBER:
            raise CompileError(f"{where} is out of range: {text[:12]}... has {len(text):,} digits; correct the field")
        return int(text.replace("_", ""), 0)
    if text.lower() in _NO_NUMBERS:
        return float(_NO_NUMBERS[text.lower()])
    if _FLOAT.fullmatch(text):
        if re.fullmatch(r"[-+]?0[0-9]+", text):
            raise CompileError(f"{where} begins with a zero ({text[:LONGEST_NUMBER]}), decimal or octal; write it without")
        return float(text)
    return _WORDS.get(text.lower(), text)
