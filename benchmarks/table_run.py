"""What the tables of this folder share: options, the evaluated text, text files, and rows that a cut run goes on from."""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import neuromorphic_llm
from neuromorphic_llm import text_file
from neuromorphic_llm.cli.outputs import check_writable_file
from neuromorphic_llm.cli.result import plain, write_result
from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError
from neuromorphic_llm.evaluation.data_folder import data_folders
from neuromorphic_llm.evaluation.language_model import EncodedText, encode_text
from neuromorphic_llm.evaluation.tasks import TASKS, load_text
from neuromorphic_llm.models.checkpoint import Checkpoint


def table_parser(description: str | None, **defaults: Any) -> argparse.ArgumentParser:
    """The options that evaluate a model on a text; `defaults` by destination, such as limit_tokens=2048."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--task", default="default")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--limit-tokens", type=int)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--device", default="cpu")
    parser.set_defaults(**defaults)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    """The option --json of a table that keeps its rows (Rows)."""
    parser.add_argument("--json", type=writable, metavar="FILE", help="write the rows as JSON; go on from those that are there")


def writable(argument: str) -> Path:
    """Path of a file that an option names and that can be written."""
    path = Path(argument)
    try:
        check_writable_file(path, "file")
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return path


def data_folder() -> Path:
    """Where data sets lie: the first folder that is there of those that the commands look into."""
    folders = data_folders()
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def text_of(arguments: argparse.Namespace, tokenizer: Any) -> EncodedText:
    """The tokens that --task, --data and --limit-tokens ask for."""
    return encode_text(tokenizer, load_text(TASKS[arguments.task], arguments.data), arguments.limit_tokens)


def read_text(path: Path) -> str:
    """A text as the commands read it (text_file.py); ends the run with one line if it is none."""
    try:
        return text_file.read_text(path, "--text")
    except NeuromorphicLLMError as error:
        raise SystemExit(str(error)) from error


def token_hash(tokens: Sequence[Any]) -> str:
    """SHA-256 of token ids, or of windows of them."""
    return hashlib.sha256(json.dumps(tokens).encode()).hexdigest()


def key_of(arguments: argparse.Namespace, checkpoint: Checkpoint, text: EncodedText, **others: Any) -> dict[str, Any]:
    """What rows must have in common to stand in one table; `others` are what a table has besides."""
    options = {name: getattr(arguments, name) for name in ("task", "limit_tokens", "window", "device")}
    found = {"version": neuromorphic_llm.__version__, "checkpoint": checkpoint.content_hash, "text": token_hash(text.ids)}
    return {**found, **options, **others}


class Rows:
    """Rows by their field `name`, printed and written one by one; those that the JSON file of the same key holds are there already."""

    def __init__(self, command: str, arguments: argparse.Namespace, key: Mapping[str, Any]) -> None:
        self.command, self.arguments, self.key = command, arguments, plain(key)
        self._started, self._begin = datetime.now(UTC), time.perf_counter()
        self._rows: dict[str, dict[str, Any]] = self._stored()

    def __contains__(self, name: str) -> bool:
        return name in self._rows

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._rows.values())

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that are still to be made."""
        return [name for name in names if name not in self]

    def keep(self, row: dict[str, Any]) -> None:
        """Print a row, without its lists, and write all of them."""
        self._rows[row["name"]] = row
        printed = {name: value for name, value in row.items() if not isinstance(value, list)}
        cells = (f"{name}: {value:.5g}" if isinstance(value, float) else f"{name}: {value}" for name, value in printed.items())
        print(*cells, sep=", ", flush=True)
        if self.arguments.json is not None:
            payload = {"measured_for": self.key, "rows": list(self), "kind": "measured"}
            passed = time.perf_counter() - self._begin
            write_result(self.arguments.json, self.command, vars(self.arguments), 0, payload, self._started, passed)

    def _stored(self) -> dict[str, dict[str, Any]]:
        path = self.arguments.json
        if path is None or not path.is_file() or not path.stat().st_size:
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            command, key, rows = content["command"], dict(content["measured_for"]), {row["name"]: row for row in content["rows"]}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"{path} holds no rows of {self.command} ({type(error).__name__}); give another file") from error
        if command != self.command:
            raise SystemExit(f"{path} holds rows of {command}, not of {self.command}; give another file")
        if different := sorted(name for name in {*key, *self.key} if key.get(name) != self.key.get(name)):
            raise SystemExit(f"{path} holds rows of another {', '.join(different)}; give another file")
        return rows
