"""Loading chip specifications: the configurations that come with the package, or a YAML file."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path
from typing import Any

from neuromorphic_llm.chip.spec import ChipSpec, FieldError, check_field, unknown_field
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
    given = read_fields(text, source)
    values: dict[str, Any] = {"name": default_name}
    for name, field in given.items():
        try:
            unknown_field(name)
            check_field(name, field.value)
        except FieldError as error:
            raise CompileError(f"{source}:{field.line}: {error}") from error
        values[name] = field.value
    try:
        return ChipSpec(**values)
    except FieldError as error:
        # Fields that are right by themselves and do not go together: the last one that the file has.
        lines = [given[name].line for name in error.fields if name in given]
        where = f"{source}:{max(lines)}" if lines else source
        raise CompileError(f"{where}: {error}") from error
