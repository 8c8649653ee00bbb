"""Text files that are whole or not there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from neuromorphic_llm.errors import NeuromorphicLLMError


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is either whole or not there; NeuromorphicLLMError if it cannot be written."""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".partial", dir=path.absolute().parent)
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
            # mkstemp makes private files; a result is an ordinary file.
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NeuromorphicLLMError(f"{path} cannot be written ({error.strerror}); choose another folder") from error
