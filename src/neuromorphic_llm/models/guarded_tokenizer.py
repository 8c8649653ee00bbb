"""A transformers tokenizer whose templates and whose parts of unknown cost work in a child process with bounds (confined.py)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from neuromorphic_llm.confined import ConfinedError, confined, reason
from neuromorphic_llm.errors import CheckpointError, NeuromorphicLLMError

Result = TypeVar("Result")

_MIB = 1 << 20
_TEMPLATE_SECONDS, _TEMPLATE_BYTES = 5, 512 * _MIB
_TEMPLATE_CHARACTERS = 1 << 20
"""Most characters that a chat template may add to a message."""

_SECONDS, _CHARACTERS_PER_SECOND = 20, 50_000
_BYTES, _BYTES_PER_CHARACTER = 1024 * _MIB, 400
"""Many times what any model's tokenizer takes."""


def guard(tokenizer: Any, where: str, template_file: str, plain: bool, vocab_size: int | None) -> Any:
    """The same tokenizer, guarded: every fault of its files is a CheckpointError that names `where` and the file.

    plain: it is made of parts whose cost is known, and works in this process. vocab_size: token ids that the model has.
    """
    base: Any = type(tokenizer)
    tokenizer.__class__ = _guarded(base)
    tokenizer.nmllm_guard = (where, template_file, plain, vocab_size)
    return tokenizer


@cache
def _guarded(base: Any) -> Any:
    """The class with its three doors guarded; it keeps its name, which is part of what it saves."""

    def encode_plus(self: Any, text: Any = None, *arguments: Any, **options: Any) -> Any:
        where, _, plain, vocab_size = self.nmllm_guard
        size = _length(text)
        advice = "use the model's own tokenizer.json"
        encoded = _run(
            lambda: base._encode_plus(self, text, *arguments, **options),
            f"{where}: tokenizer.json fails on a text of {size:,} characters",
            advice,
            None if plain else (_SECONDS + size / _CHARACTERS_PER_SECOND, _BYTES + _BYTES_PER_CHARACTER * size),
        )
        ids = encoded["input_ids"]
        largest = max(ids, default=0) if isinstance(ids, list) and not (ids and isinstance(ids[0], list)) else 0
        if vocab_size is not None and isinstance(largest, int) and largest >= vocab_size:
            raise CheckpointError(f"{where}: tokenizer.json gives the token id {largest}, and the model has {vocab_size:,}; {advice}")
        return encoded

    def decode(self: Any, token_ids: Any, *arguments: Any, **options: Any) -> Any:
        where, _, plain, _ = self.nmllm_guard
        size = len(token_ids) if hasattr(token_ids, "__len__") else 1
        return _run(
            lambda: base._decode(self, token_ids, *arguments, **options),
            f"{where}: tokenizer.json fails on {size:,} token ids",
            "use the model's own tokenizer.json",
            None if plain else (_SECONDS, _BYTES + _BYTES_PER_CHARACTER * size),
        )

    def apply_chat_template(self: Any, conversation: Any, *arguments: Any, **options: Any) -> Any:
        where, template_file, _, vocab_size = self.nmllm_guard
        size = _length(conversation)

        def render() -> Any:
            # Bounds within bounds are not needed.
            self.nmllm_guard = (where, template_file, True, vocab_size)
            rendered = base.apply_chat_template(self, conversation, *arguments, **options)
            if isinstance(rendered, str) and len(rendered) > 4 * size + _TEMPLATE_CHARACTERS:
                raise ValueError(f"it makes {len(rendered):,} characters of {size:,}")
            return rendered

        seconds, size_bytes = _TEMPLATE_SECONDS + size / _CHARACTERS_PER_SECOND, _TEMPLATE_BYTES + _BYTES_PER_CHARACTER * size
        what = f"{where}: the chat template in {template_file} fails"
        return _run(render, what, "correct it, or give a text without a chat template", (seconds, size_bytes))

    names = {"_encode_plus": encode_plus, "_decode": decode, "apply_chat_template": apply_chat_template}
    return type(base.__name__, (base,), {**names, "__module__": base.__module__, "__doc__": base.__doc__})


def _run(work: Callable[[], Result], what: str, advice: str, bounds: tuple[float, int] | None) -> Result:
    """The result of the work, in this process without bounds; CheckpointError for whatever goes wrong."""
    try:
        return work() if bounds is None else confined(work, seconds=bounds[0], memory_bytes=int(bounds[1]))
    except (KeyboardInterrupt, SystemExit, GeneratorExit, NeuromorphicLLMError):
        raise
    except ConfinedError as error:
        raise CheckpointError(f"{what} ({error}); {advice}") from error
    except BaseException as error:  # a panic of the tokenizers library is no Exception
        raise CheckpointError(f"{what} ({reason(error)}); {advice}") from error


def _length(value: Any) -> int:
    """Characters of a text, or of all texts in lists and messages."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(_length(each) for each in value.values())
    return sum(_length(each) for each in value) if isinstance(value, (list, tuple)) else 0
