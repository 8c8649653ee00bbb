"""Text files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from neuromorphic_llm.errors import NeuromorphicLLMError

ESCAPE = "backslashreplace"
"""What becomes of characters that UTF-8 lacks, in paths that are no UTF-8: in JSON the same characters again."""


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
