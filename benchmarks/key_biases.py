"""Key biases of a Qwen2 decoder: quality of the integer network with all spikes and at a budget, with and without offsets of keys.

    python benchmarks/key_biases.py smollm2-135m --task wikitext2 --limit-tokens 8192

The weights are those of a Llama decoder, cast to Qwen2 with biases of 50 to 200 on one element of some rotated pairs of every key head: of
the slowest sixteenth (`slow`) or eighth (`slower`), or of an eighth drawn at random, whose queries are divided by `--quieter`, as the model
could not predict otherwise (`fast`). `none` has no biases. `dense` is transformers' model of these weights. Without offsets is the same
network less its offsets.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from neuromorphic_llm.cli.result import machine
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.text import calibration_windows
from neuromorphic_llm.evaluation.language_model import EncodedText, evaluate_text
from neuromorphic_llm.evaluation.open_model import checked_device
from neuromorphic_llm.evaluation.scored_model import DenseModel, SpikingModel
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.models.families import FAMILIES
from neuromorphic_llm.network.functional import FunctionalDecoder
from neuromorphic_llm.reference.weights import DecoderWeights
from table_run import table_parser, text_of

KINDS = ("none", "slow", "slower", "fast")


def biased(checkpoint: Checkpoint, kind: str, seed: int, quieter: float) -> Checkpoint:
    """A Llama checkpoint as a Qwen2 one with key biases of this kind."""
    settings: dict[str, Any] = {**checkpoint.hugging_face_config, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
    config, shapes, _ = FAMILIES["Qwen2ForCausalLM"].read(settings, checkpoint.name)
    tensors = {name: checkpoint.tensors[name] if name in checkpoint.tensors else torch.zeros(shape) for name, shape in shapes.items()}
    generator, half = torch.Generator().manual_seed(seed), config.head_dim // 2
    count = max(half // (16 if kind == "slow" else 8), 1)
    for layer in range(config.layers if kind != "none" else 0):
        prefix = f"model.layers.{layer}.self_attn."
        bias = torch.zeros(config.kv_heads, 2, half)
        query = tensors[prefix + "q_proj.weight"].clone().view(config.kv_heads, -1, 2, half, config.hidden_size)
        for head in range(config.kv_heads):
            pairs = torch.randperm(half, generator=generator)[:count] if kind == "fast" else torch.arange(half - count, half)
            for pair in pairs.tolist():
                size = (50.0 + 150.0 * torch.rand((), generator=generator)) * torch.randn((), generator=generator).sign()
                bias[head, int(torch.randint(2, (), generator=generator)), pair] = size
            if kind == "fast":
                query[head][:, :, pairs] /= quieter
        tensors[prefix + "k_proj.bias"] = bias.reshape(-1)
        tensors[prefix + "q_proj.weight"] = query.reshape(-1, config.hidden_size)
    return replace(checkpoint, name=f"{checkpoint.name}, {kind}", config=config, tensors=tensors, settings=settings)


def perplexity(weights: DecoderWeights, text: EncodedText, window: int, device: str) -> tuple[float, float]:
    """(perplexity, spikes per activation) of a network."""
    model = SpikingModel(FunctionalDecoder(weights, device))
    found = evaluate_text(model, text, window=window).perplexity
    return found, model.decoder.statistics.spikes_per_activation()


def main() -> None:
    """Convert, measure and print."""
    parser = table_parser(__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--quieter", type=float, default=50.0)
    parser.add_argument("--spikes", type=float, default=1.5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    device = str(checked_device(arguments.device))
    stored = load_checkpoint(arguments.model)
    tokenizer = stored.tokenizer()
    text, windows = text_of(arguments, tokenizer), calibration_windows(tokenizer)
    columns = ("biases", "dense", "network", "spikes", "layers with offsets", "without offsets", "with offsets")
    table = Table(*columns, title=f"perplexity of {stored.name}'s weights, {len(text.ids):,} tokens of {arguments.task}")
    for kind in arguments.kinds:
        checkpoint = biased(stored, kind, arguments.seed, arguments.quieter)
        dense = evaluate_text(DenseModel(checkpoint.dense_model(device=device)), text, window=arguments.window).perplexity
        for name, options in (
            ("all spikes", ConvertConfig(spikes=None, price=0.0, query_spikes=999.0)),
            ("budget", ConvertConfig(spikes=arguments.spikes)),
        ):
            weights = convert(checkpoint, options, windows, device=device).weights
            there = sum(layer.get("key_offset") is not None for layer in weights.layers)
            bare = replace(weights, layers=tuple(layer.replaced(key_offset=None) for layer in weights.layers))
            found, spikes = perplexity(weights, text, arguments.window, device)
            without = perplexity(bare, text, arguments.window, device)[0] if there else found
            changes = (f"{value:.2f} ({100 * (value / dense - 1):+.2f} %)" for value in (without, found))
            cells = (kind, f"{dense:.2f}", name, f"{spikes:.3f}", str(there), *changes)
            print(*cells, sep=", ", flush=True)
            table.add_row(*cells)
    console = Console(width=120)
    console.print(table)
    console.print(f"machine: {machine()}")


if __name__ == "__main__":
    main()
