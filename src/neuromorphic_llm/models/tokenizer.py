"""Tokenizers as files in memory: what a checkpoint and a network folder carry."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from neuromorphic_llm.confined import ConfinedError, confined, reason
from neuromorphic_llm.errors import CheckpointError, NeuromorphicLLMWarning
from neuromorphic_llm.models.guarded_tokenizer import guard
from neuromorphic_llm.models.plain_tokenizer import is_plain
from neuromorphic_llm.text_file import LIMITS, FileRefusedError, read_bytes

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
"""Files of a Hugging Face folder that belong to the tokenizer."""

_GENERAL_CLASSES = ("PreTrainedTokenizerFast", "TokenizersBackend")

_GGUF_TOKENIZERS = ("llama", "gpt2")
"""`tokenizer.ggml.model` that transformers rebuilds for the families here."""

_SPLITTINGS = frozenset(
    {"", "default", "gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion", "llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1"}
    | {"pixtral", "midm-2.0", "lfm2", "dbrx", "smaug-bpe", "tekken", "qwen2", "deepseek-r1-qwen", "kormo", "megrez", "gpt-4o", "llama4"}
)
"""`tokenizer.ggml.pre` that transformers knows or that split as GPT-2 does, which it takes for the others."""

_SPLITTINGS_WITH_DIGITS = frozenset({"smollm", "starcoder", "refact", "command-r", "codeshell"})
"""Splittings that take every digit by itself and then split as GPT-2 does."""

_WITHOUT_RULES = frozenset({"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"})
"""Files that hold tokens only; how text is split is the library's."""

_LOAD_SECONDS, _LOAD_BYTES = 60, 4 << 30

BYTE_TOKENS = 256
"""Ids of the byte-level tokenizer: one per byte, then the end of the text."""


def read_tokenizer_files(folder: Path, place: Callable[[Path, str], Path] = Path.joinpath) -> dict[str, bytes]:
    """The tokenizer's files in a Hugging Face folder, by name; `place` gives the path of one, or raises for what must not be read."""
    paths = {name: place(folder, name) for name in TOKENIZER_FILES}
    return {name: _read(path) for name, path in paths.items() if os.path.lexists(path)}


def _read(path: Path) -> bytes:
    try:
        return read_bytes(path, LIMITS.get(path.name, LIMITS["side file"]))
    except FileRefusedError as error:
        raise CheckpointError(str(error)) from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}); fetch the checkpoint again") from error


def with_class(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    """The same files, with `name` as the tokenizer's class if they name none: without its model, a tokenizer could not be told apart."""
    if not files:
        return {}
    try:
        settings = json.loads(files.get("tokenizer_config.json", b"{}"))
    except (ValueError, RecursionError):
        return dict(files)  # load_tokenizer says what is wrong with them
    if not isinstance(settings, dict) or settings.get("tokenizer_class"):
        return dict(files)
    return {**files, "tokenizer_config.json": json.dumps({**settings, "tokenizer_class": name}, indent=1).encode()}


def load_tokenizer(files: Mapping[str, bytes], where: str = "the model", vocab_size: int | None = None) -> Any:
    """The transformers tokenizer of these files, guarded (guarded_tokenizer.py); CheckpointError if there are none or they are damaged.

    `where` is what its errors name; a token id of `vocab_size` or above is one, later.
    """
    if not files:
        raise CheckpointError("the model has no tokenizer files; add tokenizer.json and tokenizer_config.json to its folder")
    plain = is_plain(files["tokenizer.json"]) if "tokenizer.json" in files else set(files) <= _WITHOUT_RULES
    template_file = "chat_template.jinja" if "chat_template.jinja" in files else "tokenizer_config.json"
    tokenizer_class = _tokenizer_class(files)
    with tempfile.TemporaryDirectory(prefix="nmllm-tokenizer-") as folder:
        for name, content in files.items():
            # Names come from the folder's own metadata: one with a path would be written outside the scratch folder.
            if Path(name).name != name:
                raise CheckpointError(f"tokenizer file {name!r} is not a plain file name; do not trust this model")
            (Path(folder) / name).write_bytes(content)
        # Without a model type AutoTokenizer would look for one on the network.
        (Path(folder) / "config.json").write_text('{"model_type": "llama"}')
        try:
            if not plain:
                confined(lambda: _load(tokenizer_class, folder) and None, seconds=_LOAD_SECONDS, memory_bytes=_LOAD_BYTES)
            return guard(_load(tokenizer_class, folder), where, template_file, plain, vocab_size)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # The tokenizers library raises plain Exception for damaged files, and panics, which are none.
            found = str(error) if isinstance(error, ConfinedError) else reason(error)
            files_read = ", ".join(sorted(files))
            raise CheckpointError(f"{where}: the tokenizer cannot be read ({files_read}: {found}); fetch the checkpoint again") from error


def _load(tokenizer_class: Any, folder: str) -> Any:
    return tokenizer_class.from_pretrained(folder, local_files_only=True, trust_remote_code=False)


def _tokenizer_class(files: Mapping[str, bytes]) -> Any:
    """The class of transformers that reads these files: the general one where they name it, else whichever AutoTokenizer finds.

    Both give the same tokenizer then, but AutoTokenizer imports torch and the tables of all models, three seconds that nothing else needs.
    """
    try:
        settings = json.loads(files.get("tokenizer_config.json", b"{}"))
    except (ValueError, RecursionError):
        settings = {}  # whoever loads it says what is wrong
    general = isinstance(settings, dict) and settings.get("tokenizer_class") in _GENERAL_CLASSES and "auto_map" not in settings
    if general and "tokenizer.json" in files:
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast
    from transformers import AutoTokenizer

    return AutoTokenizer


def gguf_tokenizer_files(path: Path, fields: Mapping[str, Any]) -> dict[str, bytes]:
    """The tokenizer inside a GGUF file with this metadata, as Hugging Face files; none if the file has none.

    Raises CheckpointError if transformers cannot rebuild it.
    """
    from transformers import AutoTokenizer

    model, splitting = fields.get("tokenizer.ggml.model", "none"), str(fields.get("tokenizer.ggml.pre", ""))
    if model in ("none", "no_vocab"):
        return {}
    if model not in _GGUF_TOKENIZERS:
        known = " and ".join(_GGUF_TOKENIZERS)
        raise CheckpointError(f"{path}: tokenizer {model!r} is not supported ({known} are); use the checkpoint as a folder")
    if model == "gpt2" and splitting not in _SPLITTINGS | _SPLITTINGS_WITH_DIGITS:
        warnings.warn(
            f"{path}: how its tokenizer splits text ({splitting!r}) is not known; it is split as for GPT-2, and token ids may be others",
            NeuromorphicLLMWarning,
            stacklevel=4,
        )
    with tempfile.TemporaryDirectory(prefix="nmllm-tokenizer-") as folder:
        try:
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
            tokenizer.save_pretrained(folder)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # Conversion errors come in many classes, panics too; all mean the same to the user.
            raise CheckpointError(f"{path}: the tokenizer cannot be rebuilt ({reason(error)}); use the checkpoint as a folder") from error
        files = read_tokenizer_files(Path(folder))
    # How it was loaded is no part of a tokenizer, and would make the checkpoint's hash depend on the network.
    settings = json.loads(files["tokenizer_config.json"])
    kept = {key: value for key, value in settings.items() if key not in ("is_local", "local_files_only")}
    files["tokenizer_config.json"] = json.dumps(kept, indent=1).encode()
    if model == "gpt2" and splitting in _SPLITTINGS_WITH_DIGITS:
        # transformers leaves this step out: SmolLM's tokenizer takes every digit by itself.
        content = json.loads(files["tokenizer.json"])
        digits = {"type": "Digits", "individual_digits": True}
        content["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, content["pre_tokenizer"]]}
        files["tokenizer.json"] = json.dumps(content, ensure_ascii=False, indent=1).encode()
    return files


def byte_tokenizer_files(vocab_size: int) -> dict[str, bytes]:
    """A tokenizer without merges: id = byte value, then `<|end|>` (256), then unused ids up to vocab_size (at least 257)."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokens = [*_byte_characters(), "<|end|>", *(f"<|unused{index}|>" for index in range(vocab_size - BYTE_TOKENS - 1))]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|end|>", "clean_up_tokenization_spaces": False}
    return {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": json.dumps(settings).encode()}


def _byte_characters() -> list[str]:
    """The printable character that byte-level tokenizers write for each byte: itself, or 256, 257, ... for unprintable ones."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = iter(range(256, 512))
    return [chr(byte if byte in printable else next(stand_ins)) for byte in range(256)]
