"""What stands before texts: as AutoTokenizer puts it, always, or never; expected ids are transformers' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from bos_checkpoints import BOS, STORY, save_checkpoint
from transformers import AutoModelForCausalLM, AutoTokenizer

from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.errors import CheckpointError, UsageError
from neuromorphic_llm.models.checkpoint import load_checkpoint
from neuromorphic_llm.models.text_tokens import (
    Bos,
    begun,
    bos_text,
    chat_ids,
    choose_bos,
    first_bos,
    plain_ids,
    text_ids,
    text_prefix,
    token_windows,
    with_gguf_beginning,
)

TEXTS = ("The lamp", STORY, " x", "\n", "zq")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {kind: save_checkpoint(root / kind, kind) for kind in ("template", "setting", "class", "off", "none")}


@pytest.mark.parametrize("kind", ["template", "setting", "class", "off", "none"])
def test_texts_begin_as_those_of_transformers(folders: dict[str, Path], kind: str) -> None:
    peer, own = AutoTokenizer.from_pretrained(folders[kind]), load_checkpoint(folders[kind]).tokenizer()
    for text in TEXTS:
        assert text_ids(own, text) == peer(text)["input_ids"]
    assert bos_text(own) == ("<bos>" if kind == "template" else None)


@pytest.mark.parametrize("kind", ["template", "setting", "class", "off", "none"])
@pytest.mark.parametrize("choice", [Bos.ALWAYS, Bos.NEVER])
def test_chosen_beginnings(folders: dict[str, Path], kind: str, choice: Bos) -> None:
    own = load_checkpoint(folders[kind]).tokenizer()
    if kind == "none" and choice == Bos.ALWAYS:
        with pytest.raises(UsageError, match="names no beginning-of-sequence token"):
            choose_bos(own, choice)
        return
    peer = AutoTokenizer.from_pretrained(folders[kind], add_bos_token=choice == Bos.ALWAYS)
    chosen = choose_bos(own, choice)
    for text in TEXTS:
        assert text_ids(chosen, text) == peer(text)["input_ids"]
        assert chosen(text)["input_ids"] == peer(text)["input_ids"]  # what lm-eval and others ask
        assert plain_ids(chosen, text) == peer(text, add_special_tokens=False)["input_ids"]
    offsets = [tokenizer("The lamp", return_offsets_mapping=True)["offset_mapping"] for tokenizer in (chosen, peer)]
    assert offsets[0] == offsets[1]


def test_auto_changes_nothing_and_other_words_are_refused(folders: dict[str, Path]) -> None:
    own = load_checkpoint(folders["template"]).tokenizer()
    assert choose_bos(own, "auto") is own and text_prefix(own) == (BOS,)
    with pytest.raises(UsageError, match="--bos must be auto, always, never"):
        choose_bos(own, "sometimes")


def test_other_beginnings_and_ends(folders: dict[str, Path]) -> None:
    """Two special tokens before a text and one behind it: what is behind is left out, `never` takes all of it away."""
    from tokenizers import processors

    own = load_checkpoint(folders["off"]).tokenizer()
    tokens = [("<bos>", BOS), ("<pad>", 0), ("<eos>", 1)]
    own.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<pad> <bos> $A <eos>", pair="<pad> <bos> $A <eos> $B", special_tokens=tokens
    )
    assert text_prefix(own) == (0, BOS) and text_ids(own, "The") == own("The")["input_ids"][:-1]
    assert text_prefix(choose_bos(own, Bos.NEVER)) == ()


def test_a_text_that_begins_with_the_token_does_not_get_it_twice(folders: dict[str, Path]) -> None:
    own = load_checkpoint(folders["template"]).tokenizer()
    assert text_ids(own, "<bos>The lamp") == text_ids(own, "The lamp")
    assert begun((BOS,), [BOS, 5]) == [BOS, 5] and begun((), [5]) == [5]
    windows = calibration_windows(own, "<bos>" + STORY * 30, count=2)
    assert [window.count(BOS) for window in windows] == [1, 1]


def test_messages_begin_as_the_template_says(folders: dict[str, Path]) -> None:
    messages = [{"role": "user", "content": "The lamp"}]
    for template, begins in (("{{ bos_token }}{{ messages[0]['content'] }}", True), ("{{ messages[0]['content'] }}", False)):
        for choice in Bos:
            own = choose_bos(load_checkpoint(folders["template"]).tokenizer(), choice)
            own.chat_template = template
            expected = own.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)["input_ids"]
            assert chat_ids(own, messages) == ([BOS, *expected] if choice == Bos.ALWAYS and not begins else expected)
            assert first_bos(own, chat_ids(own, messages)) == ("<bos>" if begins or choice == Bos.ALWAYS else None)


def test_every_window_has_it() -> None:
    assert token_windows(list(range(10, 15)), 3, (BOS,)) == [[BOS, 10, 11], [BOS, 12, 13], [BOS, 14]]
    assert token_windows(list(range(5)), 4) == [[0, 1, 2, 3]]
    with pytest.raises(UsageError, match="no room"):
        token_windows([1, 2], 1, (BOS,))


def test_calibration_windows(folders: dict[str, Path]) -> None:
    own = load_checkpoint(folders["template"]).tokenizer()
    ids = own(STORY * 40)["input_ids"][1:]
    assert calibration_windows(own, STORY * 40, count=2) == [[BOS, *ids[:511]], [BOS, *ids[511:1022]]]
    pieces = calibration_windows(own, STORY * 40, count=1, longest=200)
    assert [len(piece) for piece in pieces] == [200, 200, 114] and all(piece[0] == BOS for piece in pieces)
    assert [token for piece in pieces for token in piece[1:]] == ids[:511]


@pytest.mark.parametrize(
    ("metadata", "begins"),
    [
        ({"tokenizer.ggml.add_bos_token": True}, True),
        ({"tokenizer.ggml.add_bos_token": False}, False),
        ({"tokenizer.ggml.model": "llama"}, True),
        ({"tokenizer.ggml.model": "llama", "tokenizer.ggml.add_bos_token": False}, False),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"}, False),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe"}, True),
    ],
)
def test_beginnings_of_gguf_files(folders: dict[str, Path], metadata: dict[str, Any], begins: bool) -> None:
    for kind in ("template", "off"):
        files = load_checkpoint(folders[kind]).tokenizer_files
        changed = with_gguf_beginning(files, metadata, "file.gguf")
        if begins == (kind == "template"):
            assert changed == files
        folder = folders[kind].parent / f"changed-{kind}"
        folder.mkdir(exist_ok=True)
        for name, content in changed.items():
            (folder / name).write_bytes(content)
        (folder / "config.json").write_bytes((folders[kind] / "config.json").read_bytes())
        plain = AutoTokenizer.from_pretrained(folders["off"])("The lamp")["input_ids"]
        assert AutoTokenizer.from_pretrained(folder)("The lamp")["input_ids"] == ([BOS, *plain] if begins else plain)


def test_a_gguf_file_that_asks_for_a_token_it_does_not_name(folders: dict[str, Path]) -> None:
    files = load_checkpoint(folders["none"]).tokenizer_files
    with pytest.raises(CheckpointError, match=r"file\.gguf: the metadata ask for a beginning-of-sequence token"):
        with_gguf_beginning(files, {"tokenizer.ggml.add_bos_token": True}, "file.gguf")
    assert with_gguf_beginning(files, {"tokenizer.ggml.model": "llama"}, "file.gguf") == files


@pytest.mark.parametrize("add", [True, False, None])
def test_a_whole_gguf_file(folders: dict[str, Path], tmp_path: Path, add: bool | None) -> None:
    """Metadata as llama.cpp's converter writes them; without the entry a byte-pair tokenizer begins with nothing."""
    model = AutoModelForCausalLM.from_pretrained(folders["off"])
    content = json.loads((folders["off"] / "tokenizer.json").read_text())["model"]
    writer = gguf.GGUFWriter(tmp_path / "small.gguf", "llama")
    config = model.config
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(sorted(content["vocab"], key=content["vocab"].get))
    writer.add_token_types([3, 3, 3] + [1] * (len(content["vocab"]) - 3))
    writer.add_token_merges([" ".join(merge) for merge in content["merges"]])
    writer.add_bos_token_id(BOS)
    writer.add_eos_token_id(1)
    if add is not None:
        writer.add_add_bos_token(add)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    own, peer = load_checkpoint(tmp_path / "small.gguf").tokenizer(), AutoTokenizer.from_pretrained(folders["off"])
    plain = peer("The lamp of the town")["input_ids"]
    assert text_ids(own, "The lamp of the town") == ([BOS, *plain] if add else plain)


@pytest.mark.parametrize(
    ("kind", "choice", "begins"),
    [("template", "auto", True), ("off", "auto", False), ("off", "always", True), ("template", "never", False)],
)
def test_perplexity_is_that_of_transformers(folders: dict[str, Path], kind: str, choice: str, begins: bool) -> None:
    """In one window the loss of `model(**tokenizer(text), labels=...)`; in several each window begins so."""
    from neuromorphic_llm.evaluation.language_model import encode_text, evaluate_text
    from neuromorphic_llm.evaluation.scored_model import DenseModel

    checkpoint = load_checkpoint(folders[kind])
    own, dense = choose_bos(checkpoint.tokenizer(), choice), DenseModel(checkpoint.dense_model())
    peer = AutoTokenizer.from_pretrained(folders[kind], **({} if choice == "auto" else {"add_bos_token": choice == "always"}))
    model = AutoModelForCausalLM.from_pretrained(folders[kind]).requires_grad_(False)
    text = "The lamp of the town is bright."
    ids = torch.tensor([peer(text)["input_ids"]])
    assert (int(ids[0, 0]) == BOS) == begins
    result = evaluate_text(dense, encode_text(own, text), window=32)
    assert result.nll == pytest.approx(float(model(input_ids=ids, labels=ids).loss), rel=1e-5)
    assert result.bos_token == ("<bos>" if begins else None) and result.predicted_tokens == ids.shape[1] - 1
    windowed = evaluate_text(dense, encode_text(own, STORY), window=16, batch=3)
    plain, size = peer(STORY, add_special_tokens=False)["input_ids"], 15 if begins else 16
    parts = [[BOS] * begins + plain[start : start + size] for start in range(0, len(plain), size)]
    losses = [(len(part) - 1, torch.tensor([part])) for part in parts if len(part) > 1]
    total = sum(float(model(input_ids=part, labels=part).loss) * count for count, part in losses)
    assert windowed.nll == pytest.approx(total / sum(count for count, _ in losses), rel=1e-5)
