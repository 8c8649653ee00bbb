"""What rescalings that change no prediction do to the integer network, taken back (docs/reference/conversion.md) and not.

    python benchmarks/exact_rescalings.py nano --only values-head --only gains-random

Prints the Kullback-Leibler divergence from the float model in nats per token, with all spikes and at a budget, a row per rescaling: of the
decoder as it is converted, and with the step left out. Measured on text behind that of the calibration.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from neuromorphic_llm.conversion import balance
from neuromorphic_llm.conversion.config import ConvertConfig
from neuromorphic_llm.conversion.convert import convert
from neuromorphic_llm.conversion.float_decoder import FloatDecoder
from neuromorphic_llm.conversion.text import calibration_windows, fitting_windows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.generation.choice import log_probabilities
from neuromorphic_llm.models.canonical import CanonicalDecoder
from neuromorphic_llm.models.checkpoint import Checkpoint, load_checkpoint
from neuromorphic_llm.reference.config import DecoderConfig

ATTENTION, FEED_FORWARD = [f"self_attn.{part}_proj" for part in "qkv"], ["mlp.gate_proj", "mlp.up_proj"]
Factors = Callable[[int], Tensor]
"""Factors float64 [channels] of so many channels."""


def one(value: float) -> Factors:
    """One channel, a third of the way, is multiplied."""

    def factors(channels: int) -> Tensor:
        result = torch.ones(channels, dtype=torch.float64)
        result[channels // 3] = value
        return result

    return factors


def same(value: float) -> Factors:
    """All channels alike."""
    return lambda channels: torch.full((channels,), value, dtype=torch.float64)


def part(value: float, share: float = 0.3) -> Factors:
    """The first channels, as many as the first of two or three heads has."""
    return lambda channels: torch.where(torch.arange(channels) < share * channels, value, 1.0).double()


def random(decades: float, seed: int = 0) -> Factors:
    """Log-uniform within so many powers of ten to both sides, another draw for every call."""
    generator = torch.Generator().manual_seed(seed)
    return lambda channels: 10 ** (decades * (2 * torch.rand(channels, generator=generator, dtype=torch.float64) - 1))


def signs(seed: int = 0) -> Factors:
    """1 or -1."""
    generator = torch.Generator().manual_seed(seed)
    return lambda channels: torch.randint(2, (channels,), generator=generator).double() * 2 - 1


@dataclass
class Rescaler:
    """Tensors of a canonical decoder that are multiplied."""

    config: DecoderConfig
    tensors: dict[str, Tensor]

    def by(self, name: str, factor: Tensor | float) -> None:
        """Multiply a tensor, if it is there."""
        if name in self.tensors:
            self.tensors[name] = (self.tensors[name].double() * factor).float()

    def rows(self, name: str, factor: Tensor) -> None:
        """Outputs of a projection."""
        self.by(name + ".weight", factor[:, None])
        self.by(name + ".bias", factor)

    def for_query_heads(self, factor: Tensor) -> Tensor:
        """Factors of key/value heads for the query heads of each."""
        return factor.view(self.config.kv_heads, -1).repeat_interleave(self.config.heads // self.config.kv_heads, 0).flatten()

    def values(self, layer: int, factors: Factors) -> None:
        """Channels of the values times s, columns of the output projection by s."""
        factor, prefix = factors(self.config.kv_heads * self.config.head_dim), f"model.layers.{layer}.self_attn."
        self.rows(prefix + "v_proj", factor)
        self.by(prefix + "o_proj.weight", 1 / self.for_query_heads(factor))

    def keys(self, layer: int, factors: Factors) -> None:
        """Pairs of the keys times s, those of the queries by s; the gains where they have norms."""
        config, prefix = self.config, f"model.layers.{layer}.self_attn."
        if config.query_key_norm:
            gain = factors(config.head_dim // 2).repeat(2)
            self.by(prefix + "k_norm.weight", gain)
            self.by(prefix + "q_norm.weight", 1 / gain)
            return
        factor = factors(config.kv_heads * config.head_dim // 2).view(config.kv_heads, -1).repeat(1, 2).flatten()
        self.rows(prefix + "k_proj", factor)
        self.rows(prefix + "q_proj", 1 / self.for_query_heads(factor))

    def hidden(self, layer: int, factors: Factors) -> None:
        """Rows of up (of a ReLU's own projection) times s, columns of down by s; not with a GELU that has no partner."""
        config, prefix = self.config, f"model.layers.{layer}.mlp."
        factor = factors(config.intermediate_size)
        if not config.gated and (config.activation != "relu" or float(factor.min()) < 0):
            return
        self.rows(prefix + ("up_proj" if config.gated else "gate_proj"), factor)
        self.by(prefix + "down_proj.weight", 1 / factor)

    def gains(self, layer: int, factors: Factors) -> None:
        """Gains of the norms of a layer times s, columns behind them by s."""
        prefix = f"model.layers.{layer}."
        for norm, readers in (("input_layernorm", ATTENTION), ("post_attention_layernorm", FEED_FORWARD)):
            factor = factors(self.config.hidden_size)
            self.by(f"{prefix}{norm}.weight", factor)
            for reader in readers:
                self.by(f"{prefix}{reader}.weight", 1 / factor)

    def head(self, factors: Factors) -> None:
        """Gains of the last norm times s, columns of the head by s."""
        factor = factors(self.config.hidden_size)
        self.by("model.norm.weight", factor)
        self.by("lm_head.weight", 1 / factor)
        self.config = replace(self.config, tie_embeddings=False)

    def stream(self, factor: float) -> None:
        """All that enters the residual stream, or a norm, times a factor, and epsilon by its square."""
        entering = ["model.embed", ".o_proj.", ".down_proj.", "_output_norm."]
        entering += [".q_proj.", ".k_proj."] if self.config.query_key_norm else []
        for name in self.tensors:
            if any(key in name for key in entering):
                self.by(name, factor)
        self.config = replace(self.config, rms_norm_eps=self.config.rms_norm_eps * factor**2)


def rescaled(canonical: CanonicalDecoder, parts: Sequence[str], factors: Factors) -> CanonicalDecoder:
    """The decoder with rescaled `parts` (methods of Rescaler), which predicts the same."""
    work = Rescaler(canonical.config, dict(canonical.tensors))
    for name in parts:
        if name == "head":
            work.head(factors)
        elif name == "stream":
            work.stream(float(factors(1)))
        else:
            for layer in range(canonical.config.layers):
                getattr(work, name)(layer, factors)
    return CanonicalDecoder(work.config, work.tensors)


INNER = ("values", "keys", "hidden", "gains", "head")
CASES: dict[str, tuple[Sequence[str], Callable[[], Factors]]] = {
    **{f"{name}-{label}": ((name,), make) for name in INNER for label, make in (
        ("one-100", lambda: one(100.0)), ("all-100", lambda: same(100.0)), ("all-0.01", lambda: same(0.01)),
        ("random", lambda: random(3.0)),
    )},
    "values-head": (("values",), lambda: part(100.0)),
    "keys-head": (("keys",), lambda: part(100.0)),
    "stream-100": (("stream",), lambda: same(100.0)),
    "stream-0.01": (("stream",), lambda: same(0.01)),
    "inner-1024": (INNER, lambda: same(1024.0)),
    "inner-0.001": (INNER, lambda: same(2.0**-10)),
    "inner-random-10": (INNER, lambda: random(1.0)),
    "inner-random": (INNER, lambda: random(3.0)),
    "inner-signs": (("values", "hidden", "gains", "head"), signs),
}  # fmt: skip
"""Rescaling -> (parts, factors); random: log-uniform in 0.001 .. 1000, a factor for each channel."""

ALL_SPIKES = ConvertConfig(price=0.0, spikes=None, query_spikes=900.0)


def with_canonical(checkpoint: Checkpoint, canonical: CanonicalDecoder) -> Checkpoint:
    """The checkpoint with another canonical decoder."""
    changed = replace(checkpoint)
    changed.__dict__["canonical"] = canonical  # what the cached property would hold
    return changed


@torch.no_grad()
def divergence(canonical: CanonicalDecoder, checkpoint: Checkpoint, options: ConvertConfig, windows: Sequence[Sequence[int]]) -> float:
    """KL(float, integer) in nats per token on the last window of a network calibrated on the others; `canonical` is the float model."""
    decoder = convert(checkpoint, options, windows[:-1]).functional()
    ids = torch.tensor([list(windows[-1])])
    dense = FloatDecoder(canonical, dtype=torch.float64)(ids)[0].log_softmax(-1)
    return float((dense.exp() * (dense - log_probabilities(decoder.weights, decoder.forward(ids)[0]))).sum(-1).mean())


def measured(canonical: CanonicalDecoder, checkpoint: Checkpoint, spikes: float, windows: Sequence[Sequence[int]]) -> list[str]:
    """Cells of a row: the divergence with all spikes and at the budget, or why there is none."""
    cells = []
    for options in (ALL_SPIKES, ConvertConfig(spikes=spikes)):
        try:
            cells.append(f"{divergence(canonical, checkpoint, options, windows):.1e}")
        except ConversionError as error:
            cells.append(str(error).partition(";")[0])
    return cells


def distances(canonical: CanonicalDecoder) -> dict[str, tuple[float, float]]:
    """What the limits of convert.balance are for -> (what this decoder has at most, the limit), in bits."""
    largest = dict.fromkeys(("channel of a pair", "deviation of pairs", "level of pairs", "column", "deviation of columns"), 0.0)

    def keep(name: str, value: float) -> None:
        largest[name] = max(largest[name], value)

    def pairs(first: Tensor, second: Tensor, normal: float) -> Tensor:
        ratio = (first - second)[torch.isfinite(first - second)]
        keep("channel of a pair", float((ratio - ratio.median()).abs().max()))
        keep("deviation of pairs", float(ratio.std(correction=0)))
        keep("level of pairs", abs(float(ratio.median()) - normal))
        return pair_shifts(first, second, normal)

    def columns(levels: Tensor, gains: Tensor) -> Tensor:
        away = column_deviations(levels, gains)
        keep("column", float(away.abs().max()))
        keep("deviation of columns", float(away.std(correction=0)))
        return away

    pair_shifts, column_deviations = balance.pair_shifts, balance.column_deviations
    with mock.patch.object(balance, "pair_shifts", pairs), mock.patch.object(balance, "column_deviations", columns):
        balance.balanced(canonical)
    limits = (balance.PAIR_SPREAD, balance.PAIR_DEVIATION, balance.PAIR_LEVEL, balance.COLUMN_SPREAD, balance.COLUMN_DEVIATION)
    found = {name: (value, limit) for (name, value), limit in zip(largest.items(), limits, strict=True)}
    norms = [tensor for name, tensor in canonical.tensors.items() if name.endswith(("layernorm.weight", "model.norm.weight"))]
    gains = [float(tensor.abs().median().log2()) for tensor in norms]
    size = float(canonical.tensors["model.embed_tokens.weight"].square().mean().sqrt().log2())
    return found | {
        "median gain, least": (min(gains), balance.GAIN_LEVELS[0]),
        "median gain, most": (max(gains), balance.GAIN_LEVELS[1]),
        "embedding": (size, balance.STREAM_LEVELS[0]),
    }


def print_distances(checkpoint: Checkpoint) -> None:
    """A table of distances()."""
    table = Table("bits", "found", "limit", title=f"{checkpoint.name}: scales")
    for name, (value, limit) in distances(checkpoint.canonical).items():
        table.add_row(name, f"{value:.2f}", f"{limit:g}")
    Console(width=140).print(table)


def main() -> None:
    """Rescale, convert, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--only", action="append", choices=list(CASES), help="a rescaling, repeatable (default: all)")
    parser.add_argument("--spikes", type=float, default=1.5)
    parser.add_argument("--tokens", type=int, default=256, help="of a window; two windows calibrate, the third is measured")
    parser.add_argument("--scales", action="store_true", help="only print how far the model's own scales are from the limits")
    arguments = parser.parse_args()
    checkpoint = load_checkpoint(arguments.model)
    if arguments.scales:
        print_distances(checkpoint)
        return
    texts = calibration_windows(checkpoint.tokenizer(), count=3)
    windows = [window[: arguments.tokens] for window in fitting_windows(texts, checkpoint.config.max_positions)[:3]]
    original = checkpoint.canonical
    columns = ("all spikes", f"{arguments.spikes:g} spikes")
    kept = [f"{column}, not taken back" for column in columns]
    table = Table("rescaling", *columns, *kept, title=f"{checkpoint.name}: KL, nats per token")
    table.add_row("none", *measured(original, checkpoint, arguments.spikes, windows))
    for name in arguments.only or CASES:
        parts, factors = CASES[name]
        changed = with_canonical(checkpoint, rescaled(original, parts, factors()))
        after = measured(original, changed, arguments.spikes, windows)
        with mock.patch.object(balance, "balanced", lambda canonical: canonical):
            before = measured(original, changed, arguments.spikes, windows)
        table.add_row(name, *after, *before)
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
