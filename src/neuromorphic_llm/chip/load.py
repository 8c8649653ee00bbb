"""Loading chip specifications: the configurations that come with the package, or a YAML file."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from neuromorphic_llm.chip.flat_names import FLAT_NAMES
from neuromorphic_llm.chip.parameter import FieldError
from neuromorphic_llm.chip.spec import SECTIONS, ChipSpec, check_field, unknown_field
from neuromorphic_llm.chip.yaml_fields import read_fields
from neuromorphic_llm.errors import CompileError, UsageError
from neuromorphic_llm.registry import name_advice
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, read_bytes


def known_chips() -> list[str]:
    """Names of the configurations that come with the package, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _configs().iterdir() if entry.name.endswith(".yaml"))


def load_spec(name_or_path: str | Path) -> ChipSpec:
    """The chip called `name_or_path` (see known_chips), or the one that the YAML file of this path describes.

    Fields left out take the defaults of ChipSpec; `name` defaults to the file's stem.
    Raises UsageError for a name that no chip has, CompileError naming the file, the line and the field.
    """
    text = str(name_or_path)
    known = known_chips()
    if text in known:
        return _parse((_configs() / f"{text}.yaml").read_text(), f"{text}.yaml", text)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or os.path.exists(path):
        advice = f"give a YAML file or one of {', '.join(known)}"
        try:
            return _parse(read_bytes(path, LIMITS["chip"]).decode("utf-8-sig"), text, path.stem)
        except FileRefusedError as error:
            raise CompileError(f"chip file {error}, or one of {', '.join(known)}") from error
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise CompileError(f"chip file {text} cannot be read ({reason}); {advice}") from error
    advice = name_advice(text, known, f"known chips: {', '.join(known)}; or give a .yaml file")
    raise UsageError(f"no chip is called {text!r}; {advice}")


def _configs() -> Any:
    return resources.files("neuromorphic_llm.chip") / "configs"


def _parse(text: str, source: str, default_name: str) -> ChipSpec:
    values: dict[str, Any] = {"name": default_name}
    lines: dict[str, int] = {}
    for name, field in read_fields(text, source, SECTIONS).items():
        path = FLAT_NAMES.get(name, name)
        try:
            if path in lines:
                raise FieldError(f"{name} is there twice, first as {path} in line {lines[path]}; leave one of them out")
            unknown_field(path)
            check_field(path, field.value)
        except FieldError as error:
            raise CompileError(f"{source}:{field.line}: {error}") from error
        values[path], lines[path] = field.value, field.line
    try:
        return ChipSpec(values.pop("name")).with_fields(values)
    except FieldError as error:
        # Fields that are right by themselves and do not go together: the last one that the file has.
        given = [lines[path] for path in error.fields if path in lines]
        where = f"{source}:{max(given)}" if given else source
        raise CompileError(f"{where}: {error}") from error
