"""Fields of a chip file: flat YAML of one scalar per field, read event by event, so that nothing nested or repeated is ever built."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

from neuromorphic_llm.errors import CompileError

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)", re.ASCII)
_BASED = re.compile(r"0x[0-9a-fA-F]+|0o[0-7]+", re.ASCII)
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", re.ASCII)
_NO_NUMBERS = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "null": None, "~": None, "": None}

LONGEST_NUMBER = 40
"""Digits; Python takes more than 4,300 for an attack, and no field needs twenty."""

_EXPECTED = "write one `field: value` a line, as chip/configs/nc1.yaml does"


@dataclass(frozen=True)
class Field:
    """A value with the line it stands in."""

    value: Any
    line: int


def read_fields(text: str, source: str) -> dict[str, Field]:
    """The fields of a chip file by name; CompileError naming `source`, the line and the field of what cannot be meant."""
    try:
        return _fields(text, source)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        reason = getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be parsed"
        raise CompileError(f"{where}: not valid YAML ({reason}); {_EXPECTED}") from error


def _fields(text: str, source: str) -> dict[str, Field]:
    events = yaml.parse(text, Loader=yaml.SafeLoader)
    found: dict[str, Field] = {}
    anchors: dict[str, yaml.ScalarEvent] = {}
    starts = (yaml.StreamStartEvent, yaml.DocumentStartEvent)
    event = next(event for event in events if not isinstance(event, starts))
    if not isinstance(event, yaml.MappingStartEvent):
        raise CompileError(f"{source}: expected a mapping of field names to values; {_EXPECTED}")
    for event in events:
        line = _line(event)
        if isinstance(event, yaml.MappingEndEvent):
            break
        if not isinstance(event, yaml.ScalarEvent):
            raise CompileError(f"{source}:{line}: a field's name is {_what(event)}; {_EXPECTED}")
        name = event.value
        shown = name if len(name) <= LONGEST_NUMBER else f"{name[:LONGEST_NUMBER]}..."
        if name in found:
            raise CompileError(f"{source}:{line}: field {shown!r} is there twice, first in line {found[name].line}; leave one of them out")
        value = next(events)
        if isinstance(value, yaml.AliasEvent):
            value = anchors.get(str(value.anchor), value)
        if not isinstance(value, yaml.ScalarEvent):
            raise CompileError(f"{source}:{line}: {shown} is {_what(value)}, not a single value; {_EXPECTED}")
        if value.tag is not None:
            raise CompileError(f"{source}:{line}: {shown} has the tag {value.tag!r}, which is not used here; write the value alone")
        if value.anchor is not None:
            anchors[str(value.anchor)] = value
        found[name] = Field(_value(value, f"{source}:{line}: {shown}"), line)
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            raise CompileError(f"{source}:{_line(event)}: a second document begins; describe one chip in a file")
    return found


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
