"""Calibration text: windows of tokens from a text, by default from text that every Python brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.text_tokens import plain_ids, text_prefix, token_windows

WINDOW_TOKENS = 512
WINDOWS = 8
_CHARACTERS_PER_TOKEN = 16  # more than any tokenizer needs; keeps long files from being tokenised whole


def default_text() -> str:
    """English prose that needs no download: the language reference behind Python's help()."""
    from pydoc_data.topics import topics

    return "\n\n".join(str(topics[name]) for name in sorted(topics))


def calibration_windows(tokenizer: Any, text: str | None = None, count: int = WINDOWS, longest: int = WINDOW_TOKENS) -> list[list[int]]:
    """Up to `count` windows of 512 tokens of `text` (default_text() if None), each begun as the tokenizer begins a text.

    Windows that have such a beginning are cut into pieces of at most `longest` tokens, each with it; others are left to fitting_windows.
    Raises ConversionError if the text gives fewer than two tokens.
    """
    text = default_text() if text is None else text
    ids = plain_ids(tokenizer, text[: count * WINDOW_TOKENS * _CHARACTERS_PER_TOKEN])
    if len(ids) < 2:
        raise ConversionError("the calibration text gives fewer than two tokens; use a longer text")
    prefix = text_prefix(tokenizer)
    if not prefix:
        return [ids[start : start + WINDOW_TOKENS] for start in range(0, min(len(ids), count * WINDOW_TOKENS), WINDOW_TOKENS)]
    ids = ids[len(prefix) :] if tuple(ids[: len(prefix)]) == prefix else ids
    whole = token_windows(ids, WINDOW_TOKENS, prefix)[:count]
    return [piece for window in whole for piece in token_windows(window[len(prefix) :], min(longest, WINDOW_TOKENS), prefix)]


def held_out_window(tokenizer: Any, text: str | None = None, longest: int = WINDOW_TOKENS) -> list[int] | None:
    """The window behind those of calibration_windows; None if the text ends with them."""
    count = len(calibration_windows(tokenizer, text, longest=longest))
    rest = calibration_windows(tokenizer, text, WINDOWS + 1, longest)[count:]
    return rest[0] if rest else None


def fitting_windows(windows: Sequence[Sequence[int]], longest: int) -> list[list[int]]:
    """The windows, those of more than `longest` tokens cut into pieces of that many; the last piece of a window may be shorter."""
    return [list(window[start : start + longest]) for window in windows for start in range(0, len(window), longest)]
