"""Last sentence end of a text that a limit of tokens cut off."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_END = re.compile(r"[.!?…]+[\"'”’»)\]]*(?=\s|$)|[。！？]+[」』”’）]*")
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|dr|prof|sr|jr|st|nos?|vol|fig|eq|cf|vs|etc|e\.g|i\.e|a\.m|p\.m|u\.s|u\.k|u\.n|gen|sen|rep|gov|lt|col|sgt|capt|inc|ltd|co|corp|"
    r"jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec|approx|dept|est",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Shown:
    """A generated text as it is shown, and a remark on how it ends; empty if it ended by itself."""

    text: str
    remark: str = ""


def shown_summary(report: Mapping[str, Any], key: str) -> Shown:
    """The `dense` or `spiking` summary of a report: as it is if the model ended it, else up to its last full sentence."""
    text = str(report["summary"][key]).strip()
    made = report["simulate" if key == "spiking" else "baseline"].get("token_ids")
    limit = report["arguments"]["max_new_tokens"]
    if not text or made is None or len(made) < limit:
        return Shown(text)
    whole = whole_sentences(text)
    if whole == text:
        return Shown(text)
    if not whole:
        return Shown(f"{text} …", f"Stopped in mid-sentence by the limit of {limit:,} tokens.")
    return Shown(whole, f"Stopped by the limit of {limit:,} tokens; shown up to its last full sentence.")


def summaries_note(report: Mapping[str, Any]) -> str:
    """Note on the making of the summaries, and on what not to expect of them."""
    weights = report["compile"].get("weights")
    size = "so small a model" if weights is None else f"a model of {weights / 1e6:,.{0 if weights >= 1e7 else 1}f} million weights"
    return (
        f"Both are told the same prompt and take the likeliest token each time, at most {report['arguments']['max_new_tokens']:,}. "
        f"Expect {size}, dense or spiking, to invent names, numbers and quotations: what it writes need not be in the article."
    )


def whole_sentences(text: str) -> str:
    """The text up to the end of its last full sentence; empty if it has none."""
    text = text.rstrip()
    ends = [match.end() for match in _END.finditer(text) if _ends_sentence(text, match)]
    return text[: ends[-1]] if ends else ""


def _ends_sentence(text: str, end: re.Match[str]) -> bool:
    """A single full stop behind an abbreviation, an initial or the number of a list ends nothing."""
    if end[0][0] != "." or (len(end[0]) > 1 and end[0][1] == "."):
        return True
    start = max((text.rfind(space, 0, end.start()) for space in " \n\t"), default=-1) + 1
    word = text[start : end.start()].lstrip("\"'“‘«([")
    initial = len(word) == 1 and word.isupper() and word != "I"
    line_start = text.rfind("\n", 0, start) + 1
    listed = word.isdigit() and not text[line_start:start].strip() and len(word) < 4
    return bool(word) and not initial and not listed and not _ABBREVIATION.fullmatch(word)
