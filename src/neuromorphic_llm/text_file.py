"""Text files: those of the user, which are bounded before they are read, and our own, which are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import select
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from neuromorphic_llm.errors import NeuromorphicLLMError, UsageError
from neuromorphic_llm.places import refuse_inside_artefact, temporary_name

_KIB, _MIB = 1 << 10, 1 << 20
_PIPE_PATIENCE_S = 60
_OF_THE_PROCESS = ("/dev/fd/", "/dev/stdin", "/proc/")
"""Path prefixes under which a shell offers `<(command)` and piped input."""


class FileRefusedError(NeuromorphicLLMError):
    """Something that is not read: larger than its kind may be, or no regular file."""


@dataclass(frozen=True)
class Limit:
    """The most bytes of one kind of file."""

    size: int
    what: str


LIMITS = {
    "prompt": Limit(_MIB, "a prompt"),
    "article": Limit(8 * _MIB, "an article"),
    "chip": Limit(64 * _KIB, "a chip file"),
    "calibration": Limit(64 * _MIB, "a calibration text, of which the first 64 KiB are used"),
    "text": Limit(1024 * _MIB, "a text"),
    "data": Limit(1024 * _MIB, "a file of evaluation data"),
    "artefact.json": Limit(64 * _MIB, "the metadata of an artefact"),
    "side file": Limit(128 * _MIB, "a side file"),
    "json": Limit(64 * _MIB, "such a file"),
    "tokenizer.json": Limit(128 * _MIB, "a tokenizer"),
    "tokenizer_config.json": Limit(16 * _MIB, "the settings of a tokenizer"),
    "chat_template.jinja": Limit(_MIB, "a chat template"),
}
"""Kind of file -> the most that is read of it; far more than any that makes sense."""


def read_bytes(path: Path | str, limit: Limit) -> bytes:
    """The bytes of a regular file, or of a pipe that a shell made for this process.

    Raises OSError if it cannot be opened, FileRefusedError if it is larger than `limit` or something else: a device, a named pipe.
    """
    # Without O_NONBLOCK the opening of a named pipe would wait for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        about = os.fstat(handle)
        if stat.S_ISDIR(about.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        pipe = stat.S_ISFIFO(about.st_mode) and str(path).startswith(_OF_THE_PROCESS)
        if not stat.S_ISREG(about.st_mode) and not pipe:
            raise FileRefusedError(f"{path} is {_kind(about.st_mode)}, not a file; give a regular file")
        if about.st_size > limit.size:
            raise FileRefusedError(f"{path} has {_size(about.st_size)}, {limit.what} has at most {_size(limit.size)}; give a smaller file")
        return _read(handle, path, limit, pipe)
    finally:
        os.close(handle)


def _read(handle: int, path: Path | str, limit: Limit, pipe: bool) -> bytes:
    """Read at most limit.size bytes of an open file; one without a stated size, as in /proc, may have more."""
    parts: list[bytes] = []
    left = limit.size + 1
    while left:
        if pipe and not select.select([handle], [], [], _PIPE_PATIENCE_S)[0]:
            raise FileRefusedError(f"{path}: nothing came through this pipe for {_PIPE_PATIENCE_S} s; give a file")
        part = os.read(handle, min(left, 64 * _MIB))
        if not part:
            return b"".join(parts)
        parts.append(part)
        left -= len(part)
    raise FileRefusedError(f"{path} has more than {_size(limit.size)}, the most of {limit.what}; give a smaller file")


def _kind(mode: int) -> str:
    kinds = {stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device", stat.S_IFBLK: "a disk", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "something else")


def _size(count: int) -> str:
    for unit, size in (("GiB", 1 << 30), ("MiB", _MIB), ("KiB", _KIB)):
        if count >= size:
            return f"{count / size:,.4g} {unit}"
    return f"{count} bytes"


ESCAPE = "backslashreplace"
"""Error handler for characters of paths that UTF-8 lacks; JSON turns them back into the same characters."""


_TEXT_FIELDS = ("text", "article")


def decode_text(content: bytes) -> str:
    """UTF-8 bytes as text with the line ends of Unix, as Path.read_text gives it. Raises UnicodeDecodeError."""
    return content.decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path, option: str, limit: Limit = LIMITS["text"]) -> str:
    """A text of the user: UTF-8, or of a `.jsonl` file the field `text` or `article` of every line, with empty lines between.

    Raises UsageError if it cannot be read or is larger than `limit`, NeuromorphicLLMError naming the line if it is no such text.
    """
    content = read_plain_text(path, option, limit)
    if path.suffix != ".jsonl":
        return content
    # Not splitlines(): a JSON string may hold characters that end a line elsewhere.
    lines = [(number, line) for number, line in enumerate(content.split("\n"), 1) if line.strip()]
    return "\n\n".join(_text_of(line, f"{option} {path}, line {number}") for number, line in lines)


def read_plain_text(path: Path, option: str, limit: Limit) -> str:
    """A UTF-8 file of the user as it is.

    Raises UsageError if it cannot be read or is larger than `limit`, NeuromorphicLLMError if it is no text.
    """
    try:
        return decode_text(read_bytes(path, limit))
    except UnicodeDecodeError as error:
        raise NeuromorphicLLMError(f"{option} {path} is not UTF-8 text (byte {error.start}); give a text file") from error
    except FileRefusedError as error:
        raise UsageError(f"{option} {error}") from error
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read ({error.strerror}); give a text file") from error


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
    """Write a text file so that it is either whole or not there; NeuromorphicLLMError if it cannot be written, or lies in an artefact.

    A symbolic link is followed; a device or a pipe, such as /dev/stdout, is written to and not replaced.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            with path.open("w", encoding="utf-8", errors=ESCAPE) as stream:
                stream.write(text)
            return
        refuse_inside_artefact(path)
        place = path.resolve()
        handle, temporary = tempfile.mkstemp(prefix=temporary_name(place.name, ""), suffix=".partial", dir=place.parent)
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
