"""Seconds per fine-tuning step and tokens per second of own text on a decoder of SmolLM2-135M's shape with random weights.

python benchmarks/fine_tune_speed.py --device cuda
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch

from neuromorphic_llm.conversion.emulation import EmulatedDecoder, EmulationConfig, Prices
from neuromorphic_llm.conversion.fine_tune import FineTuner
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.conversion.own_text import own_text
from neuromorphic_llm.conversion.straight_through import Surrogate
from neuromorphic_llm.models.checkpoint import random_checkpoint
from neuromorphic_llm.reference.config import DecoderConfig

SHAPE = DecoderConfig(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, layers=30, heads=9, kv_heads=3, head_dim=64, max_positions=1024,
    rms_norm_eps=1e-5, rope_theta=1e5, tie_embeddings=True, bos_token_id=None, eos_token_ids=(),
)  # fmt: skip


def main() -> None:
    """Print both figures, and where a step's time goes with --profile."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--own-text", type=int, default=1024 * 1024, help="tokens to write")
    parser.add_argument("--profile", action="store_true")
    options = parser.parse_args()
    device = torch.device(options.device)
    checkpoint = random_checkpoint(DecoderConfig(**{**SHAPE.to_json(), "layers": options.layers, "eos_token_ids": ()}), seed=0)
    config, windows = checkpoint.config, torch.randint(SHAPE.vocab_size, (64, options.window))
    sites = tuple(torch.full((config.sites[site].shape[0],), 0.5) for site in range(len(config.sites)))
    queries = tuple(torch.full((config.heads, config.head_dim), 0.01) for _ in range(config.layers))
    emulation = EmulationConfig(14, 10, Surrogate(), half=device.type == "cuda")
    recipe = FineTuneConfig(tokens=10**9, batch=options.batch, window=options.window, save_every=10**6)
    with tempfile.TemporaryDirectory() as folder:
        decoder = EmulatedDecoder(checkpoint.canonical, Prices(sites, queries), emulation)
        run = FineTuner(checkpoint, decoder, 1.0, recipe, device, Path(folder)).run(windows)
        begin = time.perf_counter()
        print(f"first step, compilation included: {next(run).spikes:.2f} spikes, {time.perf_counter() - begin:.1f} s")
        next(run)
        begin = time.perf_counter()
        for _ in range(options.steps):
            next(run)
        step_s = (time.perf_counter() - begin) / options.steps
        print(
            f"a step of {options.batch} x {options.window} tokens: {step_s:.4f} s, {options.batch * options.window / step_s:,.0f} tokens/s"
        )
        if options.profile:
            with torch.profiler.profile() as profile:
                next(run)
            print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=25, max_name_column_width=60))
        del run, decoder
    begin = time.perf_counter()
    written = own_text(checkpoint.canonical, windows, options.own_text, length=options.window, device=device, seed=0)
    print(f"own text: {written.numel() / (time.perf_counter() - begin):,.0f} tokens/s, capture of its graphs included")


if __name__ == "__main__":
    main()
