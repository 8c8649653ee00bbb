"""Generated text on the terminal while it is generated."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from rich.console import Console

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"
"""Character that a tokenizer decodes from the first bytes of a longer one."""


class TokenStream:
    """Writes the text of tokens as they come, each as soon as later ones cannot change it.

    Tokens of `stop` are not shown, nor is white space at either end, so that all that was written is the text which `finish` ends.
    """

    def __init__(self, console: Console, tokenizer: Any, stop: Collection[int]) -> None:
        self._console, self._tokenizer, self._stop = console, tokenizer, stop
        self._ids: list[int] = []
        self._shown = ""

    def show(self, token: int) -> None:
        """The next token."""
        if token in self._stop:
            return
        self._ids.append(token)
        # Space at its end may be followed by nothing, and half a character by its other half.
        text = self._tokenizer.decode(self._ids, skip_special_tokens=True).strip().rstrip(_INCOMPLETE)
        if text.startswith(self._shown):
            self._write(text[len(self._shown) :])
            self._shown = text

    def finish(self, text: str) -> None:
        """The whole text, which ends the line; it is written anew if it is not what the tokens were shown as."""
        if text.startswith(self._shown):
            self._write(text[len(self._shown) :] + "\n")
        else:
            self._write(f"\n{text}\n")

    def _write(self, piece: str) -> None:
        if piece:
            self._console.print(piece, end="", markup=False, highlight=False, soft_wrap=True)
