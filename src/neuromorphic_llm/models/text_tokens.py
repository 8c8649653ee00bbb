"""Tokens of texts: the one place that decides whether a beginning-of-sequence token stands before them (docs/reference/evaluation.md).

A tokenizer of transformers puts special tokens before a text or not, as its files say: `tokenizer(text)`. `choose_bos` changes that for
one tokenizer, and everything else here, and lm-eval, follows the tokenizer.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from neuromorphic_llm.errors import CheckpointError, UsageError
from neuromorphic_llm.models.tokenizer import load_tokenizer

_PROBES = ("a", "1", "the", ".")
"""Texts of which one at least has a token in any vocabulary."""


class Bos(StrEnum):
    """Use of the beginning-of-sequence token before texts: as the tokenizer's files say, always, or never."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


def plain_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text without special tokens around it."""
    return list(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])


def text_prefix(tokenizer: Any) -> tuple[int, ...]:
    """Special tokens that the tokenizer puts before a text: the beginning-of-sequence token, or none. What it puts behind is left out."""
    for probe in _PROBES:
        plain = plain_ids(tokenizer, probe)
        if plain:
            whole = list(tokenizer(probe, verbose=False)["input_ids"])
            starts = (start for start in range(len(whole)) if whole[start : start + len(plain)] == plain)
            return tuple(whole[: next(starts, 0)])
    return ()


def bos_text(tokenizer: Any) -> str | None:
    """Text that the tokenizer puts before every text; None: nothing."""
    prefix = text_prefix(tokenizer)
    return tokenizer.decode(list(prefix)) if prefix else None


def begun(prefix: Sequence[int], ids: Sequence[int]) -> list[int]:
    """The ids with the prefix before them, unless they begin with it already."""
    return list(ids) if tuple(ids[: len(prefix)]) == tuple(prefix) else [*prefix, *ids]


def text_ids(tokenizer: Any, text: str, parse_special: bool = True) -> list[int]:
    """Token ids of a text that is given to a model as it is: what the tokenizer puts before it, once, and its tokens.

    Control tokens written in the text, such as `<|im_end|>`, are control tokens, or with `parse_special` False characters like others.
    """
    ids = plain_ids(tokenizer, text)
    if not parse_special and _control_tokens(tokenizer, ids):
        ids = list(tokenizer(text, add_special_tokens=False, split_special_tokens=True, verbose=False)["input_ids"])
    return begun(text_prefix(tokenizer), ids)


def chat_ids(tokenizer: Any, messages: Sequence[dict[str, str]], parse_special: bool = False) -> list[int]:
    """Token ids of messages in the model's chat template, open for an answer.

    The template says what they begin with; choose_bos with `always` puts the token there if the template does not. Control tokens written
    in a message are characters like others, as in transformers' `sanitize_control_tokens`, or with `parse_special` control tokens.
    """
    if not parse_special and any(_writes_control_tokens(tokenizer, message["content"]) for message in messages):
        ids = _with_control_tokens_as_text(tokenizer, messages)
    else:
        ids = _rendered_ids(tokenizer, messages)
    return begun((tokenizer.bos_token_id,), ids) if getattr(tokenizer, "chosen_bos", Bos.AUTO) == Bos.ALWAYS else ids


def encode_prompt(tokenizer: Any, text: str, chat: bool, parse_special: bool | None = None) -> list[int]:
    """Token ids of a prompt, as a user's message with `chat`; UsageError if it is no text, or the model has no chat template.

    parse_special: control tokens written in the prompt are control tokens; None: only without `chat`.
    """
    if not isinstance(text, str):
        raise UsageError(f"the prompt must be one text, got {type(text).__name__}; give a str")
    if chat:
        if not getattr(tokenizer, "chat_template", None):
            raise UsageError("--chat: this model has no chat template; leave it out")
        return chat_ids(tokenizer, [{"role": "user", "content": text}], parse_special=bool(parse_special))
    return text_ids(tokenizer, text, parse_special=parse_special is not False)


def _rendered_ids(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    return plain_ids(tokenizer, tokenizer.apply_chat_template(list(messages), tokenize=False, add_generation_prompt=True))


def _control_tokens(tokenizer: Any, ids: Sequence[int]) -> list[int]:
    """Control tokens among the ids; the one for unknown characters is none."""
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special} | set(tokenizer.all_special_ids)
    return [index for index in ids if index in special and index != tokenizer.unk_token_id]


def _writes_control_tokens(tokenizer: Any, text: str) -> bool:
    """True if a message holds control tokens: special ones, or added ones that the template writes, e.g. `<tool_call>`."""
    template = tokenizer.chat_template if isinstance(tokenizer.chat_template, str) else ""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.content.isspace()]
    return any(each in text and each in template for each in added) or bool(_control_tokens(tokenizer, plain_ids(tokenizer, text)))


def _with_control_tokens_as_text(tokenizer: Any, messages: Sequence[dict[str, str]]) -> list[int]:
    """Token ids of messages that hold control tokens, which become text: only those that the template writes are left."""
    from transformers import PreTrainedTokenizerBase

    options: dict[str, Any] = {"tokenize": True, "add_generation_prompt": True, "return_dict": False, "sanitize_control_tokens": True}
    if "sanitize_control_tokens" not in inspect.signature(PreTrainedTokenizerBase.apply_chat_template).parameters:
        raise UsageError("the message holds control tokens, and this transformers cannot keep them as text; update it, or --parse-special")
    ids = list(tokenizer.apply_chat_template(list(messages), **options))
    harmless = _rendered_ids(tokenizer, [{**message, "content": "a"} for message in messages])
    if len(_control_tokens(tokenizer, ids)) > len(_control_tokens(tokenizer, harmless)):
        # A normalizer makes them of other characters, which only the whole text shows.
        raise UsageError(
            "the message holds control tokens in another spelling, which cannot be kept as text; remove them or --parse-special"
        )
    return ids


def first_bos(tokenizer: Any, ids: Sequence[int]) -> str | None:
    """The beginning-of-sequence token if the ids begin with it, whoever put it there; else None."""
    bos = tokenizer.bos_token_id
    return tokenizer.decode([bos]) if bos is not None and tuple(ids[:1]) == (bos,) else None


def token_windows(ids: Sequence[int], window: int, prefix: Sequence[int] = ()) -> list[list[int]]:
    """Consecutive windows of `window` tokens, each with the prefix at its beginning and counted in; the last may be shorter.

    A window of a single token is left out: it predicts nothing. UsageError for a window that has no room beside the prefix.
    """
    room = window - len(prefix)
    if room < 1:
        raise UsageError(f"a window of {window} tokens has no room beside the {len(prefix)} special tokens before a text; use a longer one")
    parts = ([*prefix, *ids[start : start + room]] for start in range(0, len(ids), room))
    return [part for part in parts if len(part) > 1]


def choose_bos(tokenizer: Any, choice: Bos | str) -> Any:
    """The tokenizer, changed so that texts begin as chosen, whatever its files say; `auto` leaves it as it is.

    UsageError for another choice, or `always` without a beginning-of-sequence token.
    """
    if choice not in list(Bos):
        raise UsageError(f"--bos must be {', '.join(Bos)}, got {choice!r}")
    if choice == Bos.AUTO:
        return tokenizer
    bos = tokenizer.bos_token_id
    if choice == Bos.ALWAYS and bos is None:
        raise UsageError("--bos always: the tokenizer names no beginning-of-sequence token; leave the option out")
    tokenizer.chosen_bos = Bos(choice)
    prefix = text_prefix(tokenizer)
    if (choice == Bos.ALWAYS and bos not in prefix) or (choice == Bos.NEVER and prefix):
        _set_post_processor(tokenizer, tokenizer.bos_token if choice == Bos.ALWAYS else None)
    return tokenizer


_BPE_WITH_BOS = ("llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "tekken", "chameleon")
"""`tokenizer.ggml.pre` of the byte-pair tokenizers that llama.cpp begins texts with, where a file does not say."""


def with_gguf_beginning(files: Mapping[str, bytes], fields: Mapping[str, Any], where: str) -> dict[str, bytes]:
    """Tokenizer files rebuilt from a GGUF file, with the beginning of texts that its metadata say, or llama.cpp's where they do not.

    transformers does not read it. CheckpointError if there should be a beginning-of-sequence token and there is none.
    """
    kind, splitting = fields.get("tokenizer.ggml.model"), fields.get("tokenizer.ggml.pre")
    default = kind == "llama" or (kind == "gpt2" and splitting in _BPE_WITH_BOS)
    wanted = bool(fields.get("tokenizer.ggml.add_bos_token", default))
    tokenizer = load_tokenizer(files)
    if wanted == bool(text_prefix(tokenizer)):
        return dict(files)
    if tokenizer.bos_token_id is None:
        if "tokenizer.ggml.add_bos_token" not in fields:
            return dict(files)
        raise CheckpointError(f"{where}: the metadata ask for a beginning-of-sequence token and name none; fetch the file again")
    choose_bos(tokenizer, Bos.ALWAYS if wanted else Bos.NEVER)
    content = json.loads(files["tokenizer.json"])
    content["post_processor"] = json.loads(tokenizer.backend_tokenizer.to_str())["post_processor"]
    return {**files, "tokenizer.json": json.dumps(content, ensure_ascii=False, indent=1).encode()}


def _set_post_processor(tokenizer: Any, bos: str | None) -> None:
    """Make the tokenizer put `bos` before a text, or nothing; what else its post-processor does stays."""
    from tokenizers import Tokenizer

    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise UsageError("--bos: this tokenizer has no fast form whose beginning could be changed; use --bos auto")
    content = json.loads(backend.to_str())
    own = _without_prefix(content["post_processor"])
    if bos is not None:
        token = {"SpecialToken": {"id": bos, "type_id": 0}}
        text, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
        ids = {bos: {"id": bos, "ids": [tokenizer.bos_token_id], "tokens": [bos]}}
        template = {"type": "TemplateProcessing", "single": [token, text], "pair": [token, text, second], "special_tokens": ids}
        own = template if own is None else {"type": "Sequence", "processors": [own, template]}
    backend.post_processor = Tokenizer.from_str(json.dumps({**content, "post_processor": own})).post_processor


def _without_prefix(content: Any) -> Any:
    """A post-processor, as in tokenizer.json, without the special tokens that it puts before a text; None: nothing is left of it."""
    kind = None if content is None else content["type"]
    if kind == "Sequence":
        left = [part for part in map(_without_prefix, content["processors"]) if part is not None]
        return {**content, "processors": left} if left else None
    if kind == "TemplateProcessing":
        texts = [index for index, part in enumerate(content["single"]) if "Sequence" in part]
        return {**content, "single": content["single"][texts[0] :], "pair": content["pair"][texts[0] :]}
    return content if kind == "ByteLevel" else None
