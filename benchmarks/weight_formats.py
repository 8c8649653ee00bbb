"""What rounding the weights costs: 8 bits per row and 4-bit groups of 32 (docs/reference/numerics.md), inputs in floating point.

    python benchmarks/weight_formats.py smollm2-135m --task wikitext2 --limit-tokens 8192

Prints perplexity and the Kullback-Leibler divergence from the float decoder, one row a format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.group_weights import quantise_groups
from neuromorphic_llm.conversion.integers import quantise_rows
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import load_checkpoint
from table_run import table_parser, text_of


def rows(weight: Tensor) -> Tensor:
    """Rounded to 8 bits, a scale per output."""
    integers, scale = quantise_rows(weight)
    return torch.from_numpy((integers * scale[:, None]).astype(np.float32))


def groups(weight: Tensor) -> Tensor:
    """Rounded to 4 bits, a multiplier per group of 32 inputs and a scale per output."""
    products, _, scale = quantise_groups(weight)
    return torch.from_numpy((products * scale[:, None]).astype(np.float32))


FORMATS: dict[str, Callable[[Tensor], Tensor]] = {"float32": lambda weight: weight, "8-bit": rows, "4-bit-groups": groups}


def rounded(canonical: CanonicalDecoder, quantise: Callable[[Tensor], Tensor]) -> CanonicalDecoder:
    """The decoder with the weights of its crossbar sites rounded."""
    names = {name for name in canonical.tensors if name.endswith("_proj.weight") or name == "lm_head.weight"}
    return CanonicalDecoder(
        canonical.config, {name: quantise(tensor) if name in names else tensor for name, tensor in canonical.tensors.items()}
    )


@torch.no_grad()
def measure(decoder: FloatDecoder, dense: FloatDecoder, texts: Sequence[Sequence[int]]) -> tuple[float, float]:
    """(perplexity, KL from `dense` in nats per token) on token windows."""
    nll = divergence = 0.0
    for window in texts:
        ids = torch.tensor([list(window)])
        ours, theirs = (model(ids)[0].log_softmax(-1) for model in (decoder, dense))
        nll -= float(ours[:-1].gather(1, ids[0, 1:, None].to(ours.device)).double().sum())
        divergence += float((theirs.exp() * (theirs - ours)).sum(-1).double().sum())
    return math.exp(nll / sum(len(window) - 1 for window in texts)), divergence / sum(map(len, texts))


def main() -> None:
    """Round, evaluate and print."""
    arguments = table_parser(__doc__, window=512).parse_args()
    checkpoint = load_checkpoint(arguments.model)
    text = text_of(arguments, checkpoint.tokenizer())
    texts = text.windows(arguments.window)
    dense = FloatDecoder(checkpoint.canonical, device=arguments.device)
    table = Table("weights", "perplexity", "KL, nats", title=f"{checkpoint.name}, {arguments.task}, {len(text.ids):,} tokens")
    for name, quantise in FORMATS.items():
        perplexity, divergence = measure(FloatDecoder(rounded(checkpoint.canonical, quantise), device=arguments.device), dense, texts)
        table.add_row(name, f"{perplexity:.2f}", f"{divergence:.4f}")
        print(name, f"{perplexity:.2f}", f"{divergence:.4f}", sep=", ", flush=True)  # as it goes
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
