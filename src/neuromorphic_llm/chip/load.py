"""Loading chip specifications: the configurations that come with the package, or a YAML file."""

from __future__ import annotations

import difflib
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from neuromorphic_llm.chip.spec import ChipSpec
from neuromorphic_llm.errors import CompileError, UsageError


def known_chips() -> list[str]:
    """Names of the configurations that come with the package, sorted."""
    return sorted(entry.name.removesuffix(".yaml") for entry in _configs().iterdir() if entry.name.endswith(".yaml"))


def load_spec(name_or_path: str | Path) -> ChipSpec:
    """The chip called `name_or_path` (see known_chips), or the one that the YAML file of this path describes.

    Fields left out take the defaults of ChipSpec; `name` defaults to the file's stem.
    Raises UsageError for a name that no chip has, CompileError naming the file and the field.
    """
    text = str(name_or_path)
    known = known_chips()
    if text in known:
        return _parse((_configs() / f"{text}.yaml").read_text(), f"{text}.yaml", text)
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or path.exists():
        try:
            return _parse(path.read_text(encoding="utf-8"), text, path.stem)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise CompileError(f"chip file {text} cannot be read ({reason}); give a YAML file or one of {', '.join(known)}") from error
    close = difflib.get_close_matches(text, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known chips: {', '.join(known)}; or give a .yaml file"
    raise UsageError(f"no chip is called {text!r}; {hint}")


def _configs() -> Any:
    return resources.files("neuromorphic_llm.chip") / "configs"


def _parse(text: str, source: str, default_name: str) -> ChipSpec:
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
        reason = getattr(error, "problem", None) or "cannot be parsed"
        raise CompileError(f"{where}: not valid YAML ({reason}); write one `field: value` a line, as chip/configs/nc1.yaml does") from error
    if not isinstance(data, dict):
        raise CompileError(f"{source}: expected a mapping of field names to values; write one `field: value` a line")
    return ChipSpec.from_json({"name": default_name, **data}, source)
