"""Text that appears while it is generated."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from neuromorphic_llm.cli.token_stream import TokenStream
from neuromorphic_llm.models.checkpoint import load_checkpoint


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Ids are bytes; 256 ends a text."""
    return load_checkpoint("random-tiny").tokenizer()


def pieces(tokenizer: Any, tokens: list[int], final: str) -> tuple[list[str], str]:
    """What the file holds after each token, and in the end."""
    file = io.StringIO()
    stream = TokenStream(Console(file=file, width=20), tokenizer, [256])
    seen = []
    for token in tokens:
        stream.show(token)
        seen.append(file.getvalue())
    stream.finish(final)
    return seen, file.getvalue()


def test_each_token_appears_at_once(tokenizer: Any) -> None:
    seen, whole = pieces(tokenizer, list(b"a boat"), "a boat")
    assert seen == ["a", "a", "a b", "a bo", "a boa", "a boat"]  # space waits for what follows
    assert whole == "a boat\n"


def test_space_around_the_text_and_its_end_are_not_shown(tokenizer: Any) -> None:
    seen, whole = pieces(tokenizer, [*b"  a \n", 256], "a")
    assert seen[-1] == "a" and whole == "a\n"


def test_half_a_character_waits_for_its_other_half(tokenizer: Any) -> None:
    seen, whole = pieces(tokenizer, list("né🐟.".encode()), "né🐟.")
    assert seen == ["n", "n", "né", "né", "né", "né", "né🐟", "né🐟."] and whole == "né🐟.\n"


def test_long_text_is_not_broken_and_brackets_stay(tokenizer: Any) -> None:
    text = "[bold]" + "x" * 100 + "[/bold] :fish:"
    assert pieces(tokenizer, list(text.encode()), text)[1] == text + "\n"


def test_a_text_that_the_tokens_did_not_show_is_written_anew(tokenizer: Any) -> None:
    assert pieces(tokenizer, list(b"ab"), "a c")[1] == "ab\na c\n"
