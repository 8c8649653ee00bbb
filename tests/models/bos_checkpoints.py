"""Small real checkpoints whose tokenizers have different beginnings and ends of a sequence, saved as transformers saves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

STORY = "The lamp of the town is bright. A river runs to the sea, and the sea is wide. A cat sat on the mat; the moon rose over the hill. "
BOS, EOS = 2, 1
CONTEXT = 32


def save_checkpoint(folder: Path, kind: str, seed: int = 0) -> Path:
    """A Llama decoder of 300 tokens with a trained byte-pair tokenizer.

    kind: `template` puts <bos> before a text by its post-processor; `setting` and `class` (a GemmaTokenizer) have `add_bos_token` in their
    settings, which transformers heeds only as an argument; `off` has the token and does not put it there, `none` has no such token.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<eos>", "<bos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([STORY * 4], trainer)
    level: Any = processors.ByteLevel(trim_offsets=False)
    template: Any = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A $B", special_tokens=[("<bos>", BOS)])
    tokenizer.post_processor = processors.Sequence([level, template]) if kind == "template" else level
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=CONTEXT, bos_token_id=None if kind == "none" else BOS, eos_token_id=EOS, pad_token_id=0,
        initializer_range=0.4,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    settings: dict[str, Any] = {
        "tokenizer_class": "GemmaTokenizer" if kind == "class" else "PreTrainedTokenizerFast", "eos_token": "<eos>", "pad_token": "<pad>",
        "clean_up_tokenization_spaces": False,
    }  # fmt: skip
    settings |= {} if kind == "none" else {"bos_token": "<bos>"}
    settings |= {"add_bos_token": True} if kind in ("setting", "class") else {}
    settings |= {"unk_token": "<pad>", "mask_token": "<pad>"} if kind == "class" else {}
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
