"""Trains the model `nano`, which comes with the package, from TinyStories text.

    python training/nano.py                          # tokenizer, training, export: writes src/neuromorphic_llm/models/nano
    python training/nano.py --stage tokenizer        # one stage only: tokenizer, train or export

Every stage works in the folder `--work`; training goes on from the checkpoint that it finds there, and keeps the weights with the lowest
validation loss. The last 5 % of the text, from the next story on, are held out. Needs torch, tokenizers and safetensors only.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[1]
PACKAGED = ROOT / "src" / "neuromorphic_llm" / "models" / "nano"
"""Where the package keeps the model, if this is a checkout and no installed package, which is left alone."""
WORK = (ROOT if PACKAGED.is_dir() else Path()) / "runs" / "nano"
TEXT = "tinystories/tinystories_train_first2MiB.txt"
END, UNKNOWN = "<|endoftext|>", "<|unknown|>"
HELD_OUT = 0.05


@dataclass(frozen=True)
class Recipe:
    """Shape of the decoder and settings of its training; every field is an option."""

    vocab_size: int = 512
    hidden_size: int = 128
    intermediate_size: int = 128
    layers: int = 4
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 16
    context: int = 512
    steps: int = 2500
    warmup: int = 100
    batch: int = 64
    learning_rate: float = 4e-3
    weight_decay: float = 0.1
    dropout: float = 0.1
    evaluate_every: int = 100
    seed: int = 0


class Attention(nn.Module):
    """Grouped-query attention with rotary embeddings in Hugging Face's order (the halves of a head apart)."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.shape = recipe.heads, recipe.kv_heads, recipe.head_dim
        self.q_proj = nn.Linear(recipe.hidden_size, recipe.heads * recipe.head_dim, bias=False)
        self.k_proj = nn.Linear(recipe.hidden_size, recipe.kv_heads * recipe.head_dim, bias=False)
        self.v_proj = nn.Linear(recipe.hidden_size, recipe.kv_heads * recipe.head_dim, bias=False)
        self.o_proj = nn.Linear(recipe.heads * recipe.head_dim, recipe.hidden_size, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[batch, tokens, hidden] -> the same."""
        heads, kv_heads, head_dim = self.shape
        batch, tokens, _ = x.shape

        def split(values: Tensor, count: int) -> Tensor:
            return values.view(batch, tokens, count, head_dim).transpose(1, 2)

        def rotate(values: Tensor) -> Tensor:
            first, second = values.chunk(2, -1)
            return torch.cat((first * cos - second * sin, second * cos + first * sin), -1).to(values.dtype)

        query, key = rotate(split(self.q_proj(x), heads)), rotate(split(self.k_proj(x), kv_heads))
        key, value = (part.repeat_interleave(heads // kv_heads, 1) for part in (key, split(self.v_proj(x), kv_heads)))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        result: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, tokens, heads * head_dim))
        return result


class FeedForward(nn.Module):
    """down(silu(gate) * up)."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(recipe.hidden_size, recipe.intermediate_size, bias=False)
        self.up_proj = nn.Linear(recipe.hidden_size, recipe.intermediate_size, bias=False)
        self.down_proj = nn.Linear(recipe.intermediate_size, recipe.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, tokens, hidden] -> the same."""
        result: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return result


class Layer(nn.Module):
    """A decoder layer; dropout on what both branches add."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(recipe.hidden_size, eps=1e-5)
        self.self_attn = Attention(recipe)
        self.post_attention_layernorm = nn.RMSNorm(recipe.hidden_size, eps=1e-5)
        self.mlp = FeedForward(recipe)
        self.dropout = nn.Dropout(recipe.dropout)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[batch, tokens, hidden] -> the same."""
        x = x + self.dropout(self.self_attn(self.input_layernorm(x), cos, sin))
        result: Tensor = x + self.dropout(self.mlp(self.post_attention_layernorm(x)))
        return result


class Decoder(nn.Module):
    """Llama-type decoder with a tied embedding; its parameters have Hugging Face's names without the prefix `model.`."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(recipe.vocab_size, recipe.hidden_size)
        self.layers = nn.ModuleList(Layer(recipe) for _ in range(recipe.layers))
        self.norm = nn.RMSNorm(recipe.hidden_size, eps=1e-5)
        self.dropout = nn.Dropout(recipe.dropout)
        frequency = 10000.0 ** (-torch.arange(0, recipe.head_dim, 2) / recipe.head_dim)
        angle = torch.outer(torch.arange(recipe.context), frequency)
        self.cos: Tensor
        self.sin: Tensor
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)
        for name, weight in self.named_parameters():
            if weight.ndim == 2:
                branch = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(weight, std=0.5 / math.sqrt(weight.shape[1] * (2 * recipe.layers if branch else 1)))

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Mean cross entropy of `targets` in nats; both are [batch, tokens]."""
        x = self.dropout(self.embed_tokens(tokens))
        for layer in self.layers:
            x = layer(x, self.cos[: tokens.shape[1]], self.sin[: tokens.shape[1]])
        logits = functional.linear(self.norm(x), self.embed_tokens.weight)
        return functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten())


def split_text(text: str) -> tuple[str, str]:
    """Training and validation text: the last 5 %, from the next story on, are held out."""
    cut = text.index(END, int(len(text) * (1 - HELD_OUT))) + len(END)
    return text[:cut], text[cut:]


def train_tokenizer(text: str, vocab_size: int) -> Tokenizer:
    """Byte-pair encoding over printable ASCII: accents are dropped, typographic signs replaced, other characters are unknown."""
    signs = {"[“”«»]": '"', "[‘’]": "'", "[–—]": "-", "…": "..."}
    tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
    replaced = [normalizers.Replace(Regex(sign), plain) for sign, plain in signs.items()]
    tokenizer.normalizer = normalizers.Sequence([*replaced, normalizers.NFKD(), normalizers.StripAccents()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # The byte-level alphabet writes a blank as \u0120 and a line feed as \u010a.
    alphabet = [*map(chr, range(0x21, 0x7F)), "\u0120", "\u010a"]
    special = [AddedToken(END, special=True), AddedToken(UNKNOWN, special=True)]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, limit_alphabet=len(alphabet), show_progress=False
    )
    tokenizer.train_from_iterator(text.split(END), trainer)
    return tokenizer


def joined(text: str) -> str:
    """The stories in a row, an end of text after each; the line feeds around it are left out."""
    return "".join(story.strip() + END for story in text.split(END) if story.strip())


def encode(tokenizer: Tokenizer, text: str) -> Tensor:
    """Ids of the stories."""
    return torch.tensor(tokenizer.encode(joined(text)).ids)


def windows(tokens: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """All tokens but the first as targets, once: inputs and targets [windows, length]; a rest shorter than `length` is left out."""
    count = (len(tokens) - 1) // length
    return tokens[: count * length].view(count, length), tokens[1 : count * length + 1].view(count, length)


@torch.no_grad()
def loss_of(model: nn.Module, tokens: Tensor, recipe: Recipe) -> float:
    """Mean loss over non-overlapping windows of the context's length, nats per token."""
    training, _ = model.training, model.eval()
    inputs, targets = windows(tokens, recipe.context)
    losses = [model(inputs[i : i + 16], targets[i : i + 16]) * len(inputs[i : i + 16]) for i in range(0, len(inputs), 16)]
    model.train(training)
    return float(torch.stack(losses).sum()) / len(inputs)


def optimiser_of(model: nn.Module, recipe: Recipe, device: str) -> torch.optim.AdamW:
    """AdamW; no weight decay on gains."""
    matrices = [weight for weight in model.parameters() if weight.ndim == 2]
    gains = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": gains, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=device == "cuda")


def rate_at(step: int, recipe: Recipe) -> float:
    """Learning rate: linear warm-up, then a cosine to a hundredth."""
    if step < recipe.warmup:
        return recipe.learning_rate * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(recipe.steps - recipe.warmup, 1)
    return recipe.learning_rate * (0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2)


def save(state: dict[str, Any], path: Path) -> None:
    """Write a file whole or not at all."""
    torch.save(state, path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def train(recipe: Recipe, tokenizer: Tokenizer, text: str, work: Path, *, compile_model: bool) -> None:
    """Train up to recipe.steps; `checkpoint.pt` to go on from, `best.pt` with the lowest validation loss, `log.jsonl`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(recipe.seed)
    train_tokens, held_out = (encode(tokenizer, part).to(device) for part in split_text(text))
    model = Decoder(recipe).to(device)
    optimiser = optimiser_of(model, recipe, device)
    generator = torch.Generator(device).manual_seed(recipe.seed)
    start, best, spent_s = 0, math.inf, 0.0
    if (work / "checkpoint.pt").is_file():
        state = torch.load(work / "checkpoint.pt", map_location=device)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        generator.set_state(state["generator"].cpu())
        start, best, spent_s = state["step"], state["best"], state["seconds"]
    run: Any = torch.compile(model) if compile_model else model
    precision = torch.autocast("cuda", torch.bfloat16) if device == "cuda" else contextlib.nullcontext()
    offsets, began, total = torch.arange(recipe.context, device=device), time.perf_counter(), torch.zeros((), device=device)
    for step in range(start, recipe.steps):
        for group in optimiser.param_groups:
            group["lr"] = rate_at(step, recipe)
        first = torch.randint(len(train_tokens) - recipe.context, (recipe.batch, 1), generator=generator, device=device)
        with precision:
            loss = run(train_tokens[first + offsets], train_tokens[first + offsets + 1])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        total += loss.detach()
        if (step + 1) % recipe.evaluate_every == 0 or step + 1 == recipe.steps:
            validation = loss_of(model, held_out, recipe)
            train_loss = float(total) / (step % recipe.evaluate_every + 1)
            total.zero_()
            seconds = spent_s + time.perf_counter() - began
            entry = {"step": step + 1, "train_loss": train_loss, "validation_loss": validation, "seconds": round(seconds, 1)}
            with (work / "log.jsonl").open("a") as log:
                log.write(json.dumps(entry) + "\n")
            print(entry, flush=True)
            shared = {**entry, "recipe": asdict(recipe), "model": model.state_dict(), "tokens": len(train_tokens)}
            if validation < best:
                best = validation
                machine = torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores, {platform.machine()}"
                save({**shared, "machine": machine, "torch": str(torch.__version__), "date": time.strftime("%Y-%m-%d")}, work / "best.pt")
            training = {"optimiser": optimiser.state_dict(), "generator": generator.get_state(), "best": best}
            save({**shared, **training}, work / "checkpoint.pt")


def quantise(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with a float32 scale for each output (row), `NAME_scale`; gains stay float32. Hugging Face names."""
    stored = {}
    for name, weight in state.items():
        weight = weight.float().cpu()
        if weight.ndim == 2:
            scale = weight.abs().amax(1).clamp_min(1e-12) / 127
            stored[f"model.{name}"] = (weight / scale[:, None]).round().to(torch.int8)
            stored[f"model.{name}_scale"] = scale
        else:
            stored[f"model.{name}"] = weight
    return stored


def dequantise(stored: dict[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of quantise, up to its rounding."""
    weights = {name: tensor for name, tensor in stored.items() if not name.endswith("_scale")}
    return {
        name.removeprefix("model."): weight.float() * stored[f"{name}_scale"][:, None] if weight.dtype == torch.int8 else weight
        for name, weight in weights.items()
    }


def hugging_face_config(recipe: Recipe, end: int | None) -> dict[str, Any]:
    """config.json."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": recipe.vocab_size,
        "hidden_size": recipe.hidden_size,
        "intermediate_size": recipe.intermediate_size,
        "num_hidden_layers": recipe.layers,
        "num_attention_heads": recipe.heads,
        "num_key_value_heads": recipe.kv_heads,
        "head_dim": recipe.head_dim,
        "max_position_embeddings": recipe.context,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": end,
    }


def export(tokenizer: Tokenizer, text: str, work: Path, output: Path, data: Path) -> None:
    """Write the package data: 8-bit weights, configuration, tokenizer and how they came about."""
    from safetensors.torch import save_file

    best = torch.load(work / "best.pt", map_location="cpu")
    recipe = Recipe(**best["recipe"])
    stored = quantise(best["model"])
    model = Decoder(recipe)
    held_out = encode(tokenizer, split_text(text)[1])
    model.load_state_dict({name: weight.float() for name, weight in best["model"].items()})
    unrounded = loss_of(model, held_out, recipe)
    model.load_state_dict(dequantise(stored))
    output.mkdir(parents=True, exist_ok=True)
    save_file(stored, output / "model.safetensors", metadata={"format": "pt"})
    end = tokenizer.token_to_id(END)
    (output / "config.json").write_text(json.dumps(hugging_face_config(recipe, end), indent=1) + "\n")
    (output / "tokenizer.json").write_text(tokenizer.to_str() + "\n")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END, "unk_token": UNKNOWN, "clean_up_tokenization_spaces": False}
    (output / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")
    changed = {name: value for name, value in best["recipe"].items() if value != getattr(Recipe(), name)}
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changed.items())
    files = ("model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json")
    content = {
        "command": f"python training/nano.py{options}",
        "date": best["date"],
        "machine": best["machine"],
        "torch": best["torch"],
        "data": {"file": TEXT, "sha256": sha256(data), "licence": "CDLA-Sharing"},
        "recipe": best["recipe"],
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "best_step": best["step"],
        "seconds": best["seconds"],
        "training_tokens": best["tokens"],
        "tokens_seen": best["step"] * recipe.batch * recipe.context,
        "validation_tokens": len(held_out),
        "train_loss_with_dropout": best["train_loss"],
        "validation_loss_float32": unrounded,
        "validation_loss": loss_of(model, held_out, recipe),
        "sha256": {name: sha256(output / name) for name in files},
    }
    (output / "recipe.json").write_text(json.dumps(content, indent=1) + "\n")
    print(json.dumps(content, indent=1))


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def arguments() -> argparse.Namespace:
    """The command line: an option for every field of Recipe, and where things are."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in asdict(Recipe()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    data = Path(os.environ.get("NMLLM_DATA") or ROOT.parent / "shared" / "data") / TEXT
    parser.add_argument("--text", type=Path, default=data, help="training text (default: TinyStories in $NMLLM_DATA)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder of checkpoints and the log")
    parser.add_argument("--output", type=Path, default=PACKAGED if PACKAGED.is_dir() else WORK / "model")
    parser.add_argument("--stage", choices=("all", "tokenizer", "train", "export"), default="all")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=torch.cuda.is_available())
    return parser.parse_args()


def main() -> None:
    """Run the stages asked for."""
    options = arguments()
    recipe = Recipe(**{name: getattr(options, name) for name in asdict(Recipe())})
    if not options.text.is_file():
        raise SystemExit(f"{options.text} is missing; set NMLLM_DATA to the folder that holds {TEXT}, or give --text")
    text = options.text.read_text(encoding="utf-8")
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "tokenizer.json"
    if options.stage in ("all", "tokenizer") and not path.is_file():
        train_tokenizer(split_text(text)[0], recipe.vocab_size).save(str(path))
    tokenizer = Tokenizer.from_file(str(path))
    # As the model sees it, for `nmllm eval nano --data`.
    (options.work / "held_out.txt").write_text(joined(split_text(text)[1]), encoding="utf-8")
    if options.stage in ("all", "train"):
        train(recipe, tokenizer, text, options.work, compile_model=options.compile)
    if options.stage in ("all", "export"):
        export(tokenizer, text, options.work, options.output, options.text)


if __name__ == "__main__":
    main()
