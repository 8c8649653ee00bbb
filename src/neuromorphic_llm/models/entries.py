"""Entries of a Hugging Face configuration, read one by one: each has its type, or an error names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from neuromorphic_llm.errors import CheckpointError

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu-tanh",
    "gelu_fast": "gelu-tanh",
    "gelu_pytorch_tanh": "gelu-tanh",
    "relu": "relu",
}
"""Names in transformers -> activation of DecoderConfig."""


class Entries:
    """A configuration, or an object in it. Sizes and numbers: null counts as left out.

    Reading raises KeyError for a missing entry without a default, ValueError for one of the wrong type, CheckpointError for what is
    refused. `read` has what was read so far, defaults included.
    """

    def __init__(self, settings: Mapping[str, Any], where: str) -> None:
        self._settings, self.where = settings, where
        self.read: dict[str, Any] = {}

    def __contains__(self, name: str) -> bool:
        return self._settings.get(name) is not None

    def names(self) -> set[str]:
        """Names of the entries that are not null."""
        return {name for name, value in self._settings.items() if value is not None}

    def integer(self, name: str, default: int | None = None, largest: int | None = None) -> int:
        """A size: a positive integer up to `largest`."""
        value = self._value(name, default)
        if type(value) is not int or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value!r}")
        if largest is not None and value > largest:
            raise ValueError(f"{name} must be at most {largest}, got {value}")
        return value

    def optional_integer(self, name: str, default: int) -> int | None:
        """A size; null means none, left out means `default`."""
        return None if name in self._settings and name not in self else self.integer(name, default)

    def natural(self, name: str, default: int) -> int:
        """A count, 0 included."""
        value = self._value(name, default)
        if type(value) is not int or value < 0:
            raise ValueError(f"{name} must be a natural number, got {value!r}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A real number."""
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{name} must be a number, got {value!r}")
        return float(value)

    def optional_number(self, name: str, default: float) -> float:
        """A real number; null means 0, left out means `default`."""
        return 0.0 if name in self._settings and name not in self else self.number(name, default)

    def flag(self, name: str, default: bool = False) -> bool:
        """True or false."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise ValueError(f"{name} must be true or false, got {value!r}")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A word."""
        value = self._value(name, default)
        if type(value) is not str:
            raise ValueError(f"{name} must be text, got {value!r}")
        return value

    def texts(self, name: str, count: int) -> list[str] | None:
        """A list of `count` words; None if it is left out."""
        value = self._settings.get(name)
        if value is not None and (not isinstance(value, list) or len(value) != count or not all(isinstance(item, str) for item in value)):
            raise ValueError(f"{name} must be a list of {count} words, got {value!r}")
        self.read[name] = value
        return value

    def numbers(self, name: str, count: int) -> list[float]:
        """A list of `count` real numbers."""
        value = self._value(name, None)
        numeric = isinstance(value, list) and all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in value)
        if not numeric or len(value) != count:
            raise ValueError(f"{name} must be a list of {count} numbers")
        return [float(item) for item in value]

    def object(self, name: str) -> dict[str, Any]:
        """An object; empty if it is left out."""
        value = self._settings.get(name) or {}
        if not isinstance(value, dict):
            raise CheckpointError(f"{self.where}: {name} must be an object, got {value!r}; correct its config.json")
        self.read[name] = value
        return value

    def activation(self, name: str, default: str) -> str:
        """Activation of DecoderConfig under its name in transformers."""
        value = self._value(name, default)
        self.refuse(value not in _ACTIVATIONS, f"activation {value!r}")
        return _ACTIVATIONS[value]

    def token(self, name: str) -> Any:
        """A token id or nothing; DecoderConfig checks it."""
        return self._settings.get(name)

    def tokens(self, name: str) -> tuple[Any, ...]:
        """One token id, a list of them, or nothing."""
        value = self._settings.get(name)
        return () if value is None else tuple(value) if isinstance(value, list) else (value,)

    def refuse(self, present: bool, what: str) -> None:
        """CheckpointError if a variant that no decoder here has is asked for."""
        if present:
            raise CheckpointError(f"{self.where}: {what} is not supported; choose a checkpoint without it")

    def refuse_flag(self, name: str, what: str) -> None:
        """CheckpointError if the flag `name` is set."""
        self.refuse(self.flag(name), f"{what} ({name})")

    def _value(self, name: str, default: Any) -> Any:
        value = self._settings.get(name)
        if value is None:
            if default is None and name not in self._settings:
                raise KeyError(name)
            value = default
        self.read[name] = value
        return value
