"""Recognition of plain tokenizers: every part of tokenizer.json takes time and memory in proportion to a text."""

from __future__ import annotations

import json
import re
from typing import Any

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_CASES = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_KNOWN = {
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
    _CONTRACTIONS + _REST.replace("DIGITS", ""),
    _CONTRACTIONS + _REST.replace("DIGITS", "{1,3}"),
    _CASES,
    r"\s+",
    r" {2,}",
    r"\p{N}{1,3}",
    r"\p{N}",
    r"\d",
}
"""Splittings of GPT-2, Qwen 2, Llama 3, GPT-4o and their like."""

_SIMPLE = re.compile(r"\[[^\[\]\\^&-]+\]|[^\\^$.|?*+()\[\]{}]+")
"""A set of characters, or a text that means itself."""

_PARTS = {
    *("Sequence", "NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Strip", "Prepend", "Replace", "BertNormalizer", "Nmt"),
    *(
        "ByteLevel",
        "Digits",
        "Metaspace",
        "Whitespace",
        "WhitespaceSplit",
        "Punctuation",
        "Split",
        "BertPreTokenizer",
        "CharDelimiterSplit",
    ),
    *("TemplateProcessing", "BertProcessing", "RobertaProcessing", "ByteFallback", "Fuse", "WordPiece", "BPEDecoder"),
}
_MODELS = {"BPE", "WordPiece", "Unigram", "WordLevel"}
_LARGEST_GROWTH = 16
_LONGEST_WORD = 1000


def is_plain(content: bytes) -> bool:
    """True if nothing in a tokenizer.json can take long or much; False also for one that cannot be read."""
    try:
        data = json.loads(content)
        parts = [data.get(name) for name in ("normalizer", "pre_tokenizer", "post_processor", "decoder")]
        model, growth = data["model"], [1.0]
        modest = int(model.get("max_input_chars_per_word") or 0) <= _LONGEST_WORD
        sized = data.get("padding") is None and data.get("truncation") is None and modest
        return sized and model.get("type", "BPE") in _MODELS and all(_plain(part, growth) for part in parts)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False


def _plain(part: Any, growth: list[float]) -> bool:
    """One part and those in it; `growth` is how much longer a text may have become."""
    if part is None:
        return True
    if part["type"] not in _PARTS:
        return False
    inner = [each for name in ("normalizers", "pretokenizers", "processors", "decoders") for each in part.get(name) or ()]
    if part["type"] in ("Replace", "Prepend"):
        growth[0] *= max(len(part.get("content") or part.get("prepend") or "") if part["type"] == "Replace" else 1, 1)
        if growth[0] > _LARGEST_GROWTH or len(part.get("prepend") or "") > _LONGEST_WORD:
            return False
    pattern = part.get("pattern")
    if isinstance(pattern, dict):
        text = pattern.get("Regex")
        if text is not None and text not in _KNOWN and not _SIMPLE.fullmatch(text):
            return False
        if text is None and not pattern.get("String"):
            return False
    return all(_plain(each, growth) for each in inner)
