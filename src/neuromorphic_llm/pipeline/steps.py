"""Steps whose results are kept: a step runs again only if what it depends on has changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import neuromorphic_llm
from neuromorphic_llm.artefact import load_artefact
from neuromorphic_llm.errors import ArtefactError, NeuromorphicLLMError
from neuromorphic_llm.places import METADATA, refuse_inside_artefact
from neuromorphic_llm.text_file import LIMITS, read_bytes, write_text


@cache
def package_digest() -> str:
    """SHA-256 over the package's own files: another version, or an edited source, reuses nothing."""
    root = Path(neuromorphic_llm.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".yaml", ".txt"):
            digest.update(str(path.relative_to(root)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class StepRecord:
    """Outcome of a step in this run."""

    name: str
    reused: bool
    wall_s: float  # of the run that made the result


@dataclass(frozen=True)
class StepArtefact:
    """The artefact folder of a step."""

    folder: Path
    format_name: str
    version: int

    def is_intact(self, content_hash: str | None) -> bool:
        """The folder is there, undamaged, and still the one with this hash."""
        try:
            metadata, _ = load_artefact(self.folder, format_name=self.format_name, version=self.version)
        except ArtefactError:
            return False
        return bool(metadata["content_hash"] == content_hash)


class Steps:
    """Results of the steps of one output folder, in `steps/NAME.json`, each with the key of what it was made from.

    With force, nothing is reused. on_step is called after every step.
    A result is written whole or not at all, and only after the step has succeeded.
    """

    def __init__(self, folder: Path, *, force: bool = False, on_step: Callable[[StepRecord], None] | None = None) -> None:
        self.folder = folder
        self.records: list[StepRecord] = []
        self._force, self._on_step = force, on_step
        if (folder / METADATA).is_file():
            # Whoever writes that artefact again would remove this run with it.
            raise ArtefactError(f"{folder} holds an artefact of another command; choose another output folder")
        refuse_inside_artefact(folder)
        try:
            (folder / "steps").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise NeuromorphicLLMError(f"{folder} cannot be used ({error.strerror}); choose another output folder") from error

    def run(
        self, name: str, inputs: Mapping[str, Any], work: Callable[[], Mapping[str, Any]], artefact: StepArtefact | None = None
    ) -> dict[str, Any]:
        """The result of `work()`, a JSON object, or the stored one if `inputs` and the package are as they were then.

        artefact is a folder that the step writes: its `content_hash` must be in the result, and it is reused only if it is intact.
        """
        key = hashlib.sha256(json.dumps([package_digest(), name, inputs], sort_keys=True, allow_nan=False).encode()).hexdigest()
        path = self.folder / "steps" / f"{name}.json"
        stored = None if self._force else _read(path)
        if stored is not None and stored["key"] == key and (artefact is None or artefact.is_intact(stored["result"].get("content_hash"))):
            self._finish(StepRecord(name, True, stored["wall_s"]))
            return dict(stored["result"])
        start_s = time.perf_counter()
        result = dict(work())
        wall_s = time.perf_counter() - start_s
        write_text(path, json.dumps({"key": key, "wall_s": wall_s, "result": result}, allow_nan=False) + "\n")
        self._finish(StepRecord(name, False, wall_s))
        return result

    def _finish(self, record: StepRecord) -> None:
        self.records.append(record)
        if self._on_step is not None:
            self._on_step(record)


def _read(path: Path) -> dict[str, Any] | None:
    """A stored step; None if there is none or it is damaged, so that the step runs again."""
    try:
        content = json.loads(read_bytes(path, LIMITS["json"]))
    except (OSError, ValueError, RecursionError, NeuromorphicLLMError):
        return None
    fields = {"key": str, "wall_s": float, "result": dict}
    whole = isinstance(content, dict) and all(isinstance(content.get(name), kind) for name, kind in fields.items())
    return content if whole else None
