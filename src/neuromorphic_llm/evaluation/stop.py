"""End of generated text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def stop_tokens(tokenizer: Any, eos_token_ids: Sequence[int]) -> tuple[int, ...]:
    """Token ids that end a text: the model's and the tokenizer's."""
    own = tokenizer.eos_token_id
    return tuple(sorted({*eos_token_ids, *(() if own is None else (own,))}))


def chop(tokens: Sequence[int], stop: Sequence[int]) -> list[int]:
    """The tokens before the first one of `stop`."""
    end = next((index for index, token in enumerate(tokens) if token in stop), len(tokens))
    return list(tokens[:end])
