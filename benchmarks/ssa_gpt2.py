"""Trains a small decoder of the GPT-2 architecture on TinyStories text, for the comparison of spiking attention.

    python benchmarks/ssa_gpt2.py runs/gpt2 --seconds 90 --device cuda
    nmllm ssa runs/gpt2 --data runs/gpt2/held_out.txt --text runs/gpt2/training.txt

Writes a Hugging Face folder with the tokenizer of the model nano, the weights with the lowest loss on the held-out last 5 % of the text,
and both parts of the text. Nothing of it is part of the repository.
"""

from __future__ import annotations

import argparse
import math
import time
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.models.tokenizer import load_tokenizer, read_tokenizer_files
from table_run import data_folder

HELD_OUT = 0.05
TEXT = "tinystories/tinystories_train_first2MiB.txt"
_EVALUATE_EVERY = 50


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=data_folder() / TEXT)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--context", type=int, default=512)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


@torch.no_grad()
def held_out_loss(model: GPT2LMHeadModel, windows: Tensor) -> float:
    """Mean loss in nats per token."""
    model.eval()
    losses = [model(input_ids=part, labels=part).loss for part in windows.split(16)]
    model.train()
    return float(torch.stack(losses).mean())


def train(model: GPT2LMHeadModel, ids: Tensor, held_out: Tensor, arguments: argparse.Namespace) -> dict[str, Tensor]:
    """AdamW for `--seconds`, warm-up and half a cosine over the time; returns the weights of the lowest held-out loss."""
    device = ids.device
    optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate, betas=(0.9, 0.95), weight_decay=0.1)
    generator = torch.Generator().manual_seed(arguments.seed)
    best, weights, step, start_s = math.inf, {}, 0, time.perf_counter()
    while (share := (time.perf_counter() - start_s) / arguments.seconds) < 1 or not weights:
        rate = min(1.0, (step + 1) / 50) * max(0.02, 0.5 * (1 + math.cos(math.pi * min(share, 1.0))))
        for group in optimizer.param_groups:
            group["lr"] = rate * arguments.learning_rate
        starts = torch.randint(len(ids) - arguments.context, (arguments.batch, 1), generator=generator)
        batch = ids[(starts + torch.arange(arguments.context)).to(device)]
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % _EVALUATE_EVERY == 0 or share >= 1:
            found = held_out_loss(model, held_out)
            if found < best:
                best, weights = found, {name: tensor.clone() for name, tensor in model.state_dict().items()}
                print(f"step {step}: training {float(loss.detach()):.4f}, held out {found:.4f}", flush=True)
    return weights


def main() -> None:
    """Train and write the folder."""
    arguments = options()
    device = checked_device(arguments.device)
    torch.manual_seed(arguments.seed)
    tokenizer_files = read_tokenizer_files(Path(str(files("neuromorphic_llm.models") / "nano")))
    tokenizer = load_tokenizer(tokenizer_files)
    text = arguments.data.read_text(encoding="utf-8")
    cut = text.index("\n", int(len(text) * (1 - HELD_OUT)))
    ids, held_out = (
        torch.tensor(tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"]) for part in (text[:cut], text[cut:])
    )
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=arguments.context, n_embd=arguments.hidden, n_layer=arguments.layers, n_head=arguments.heads,
        resid_pdrop=arguments.dropout, embd_pdrop=arguments.dropout, attn_pdrop=arguments.dropout, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config).to(device)
    windows = held_out[: len(held_out) // arguments.context * arguments.context].view(-1, arguments.context)
    model.load_state_dict(train(model, ids.to(device), windows.to(device), arguments))
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(arguments.folder)
    for name, content in {**tokenizer_files, "training.txt": text[:cut].encode(), "held_out.txt": text[cut:].encode()}.items():
        (arguments.folder / name).write_bytes(content)
    print(f"{sum(p.numel() for p in model.parameters()):,} weights in {arguments.folder}")


if __name__ == "__main__":
    main()
