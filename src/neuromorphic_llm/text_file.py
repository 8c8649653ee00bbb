"""Text files: those of the user, and our own, which are whole or not there."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError

ESCAPE = "backslashreplace"
"""What becomes of characters that UTF-8 lacks, in paths that are no UTF-8: in JSON the same characters again."""


_TEXT_FIELDS = ("text", "article")


def read_text(path: Path, option: str) -> str:
    """A text of the user: UTF-8, or of a `.jsonl` file the field `text` or `article` of every line, with empty lines between.

    Raises UsageError if it cannot be read, NeuromorphicLLMError naming the line if it is no such text.
    """
    try:
        content = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise NeuromorphicLLMError(f"{option} {path} is not UTF-8 text (byte {error.start}); give a text file") from error
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read ({error.strerror}); give a text file") from error
    if path.suffix != ".jsonl":
        return content
    # Not splitlines(): a JSON string may hold characters that end a line elsewhere.
    lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    return "\n\n".join(_text_of(line, f"{option} {path}, line {number}") for number, line in lines)


def half_character(line: str, value: object) -> str | None:
    """Escape of a surrogate without its other half in the JSON `value` of a line, or None: no text holds one, for it has no UTF-8."""
    if "\\u" not in line:  # a file of UTF-8 has surrogates only as escapes
        return None
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(error.object[error.start]):04x}"
    return None


def _text_of(line: str, where: str) -> str:
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NeuromorphicLLMError(f"{where} is not JSON ({error}); give lines of JSON, or a text file of another ending") from error
    texts = [entry[field] for field in _TEXT_FIELDS if isinstance(entry, dict) and isinstance(entry.get(field), str)]
    if not texts:
        raise NeuromorphicLLMError(f"{where} has no field {' or '.join(_TEXT_FIELDS)} with a text; give lines that have one")
    if half := half_character(line, texts[0]):
        raise NeuromorphicLLMError(f"{where}: {half} is half a character, which no text holds; write both halves, or the character itself")
    text: str = texts[0]
    return text


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is either whole or not there; NeuromorphicLLMError if it cannot be written.

    A symbolic link is followed; a device or a pipe, such as /dev/stdout, is written to and not replaced.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("w", encoding="utf-8", errors=ESCAPE) as stream:
                stream.write(text)
            return
        place = path.resolve()
        handle, temporary = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".partial", dir=place.parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8", errors=ESCAPE) as file:
                file.write(text)
            # mkstemp makes private files; a result is an ordinary file.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, place)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NeuromorphicLLMError(f"{path} cannot be written ({error.strerror}); choose another folder") from error
