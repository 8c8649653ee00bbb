"""The dense model as a user would run it: decode speed and, where it can be measured, energy."""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from neuromorphic_llm.evaluation.energy_meter import EnergyMeter
from neuromorphic_llm.evaluation.scored_model import DenseModel


@dataclass(frozen=True)
class BaselineResult:
    """Measured figures of greedy generation; tokens are generated ones, counted over the batch, stop tokens included."""

    outputs: tuple[tuple[int, ...], ...]
    device: str
    dtype: str
    batch: int
    generated_tokens: int
    wall_s: float
    prefill_s: float
    tokens_per_s: float  # decode: tokens after the first of each prompt / time after the first
    energy_j_per_token: float | None  # whole generation, prefill included
    energy_j_per_token_reason: str | None
    energy_scope: str

    def to_json(self) -> dict[str, Any]:
        """JSON object of the figures without the tokens, marked as measured."""
        return {key: value for key, value in asdict(self).items() if key != "outputs"} | {"kind": "measured"}


def device_name(device: torch.device) -> str:
    """GPU name, or processor type and the number of threads torch uses."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"{platform.processor() or platform.machine()} CPU, {torch.get_num_threads()} threads"


def measure_dense(model: DenseModel, prompts: Sequence[list[int]], max_new_tokens: int, stop: Sequence[int]) -> BaselineResult:
    """Generate greedily for all prompts in one batch and time it (after a short warm-up on the same prompts)."""
    model.generate([prompt[-8:] for prompt in prompts], 2, ())
    times: list[float] = []

    def note() -> None:
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        times.append(time.perf_counter())

    with EnergyMeter(model.device) as meter:
        note()
        outputs = model.generate(prompts, max_new_tokens, stop, note)
        note()
    steps = len(times) - 2
    decode_s = times[steps] - times[1]
    # One step gives a token to every prompt that has not stopped; a stop token ends an output and is counted once.
    made = [min(len(tokens) + 1, steps) for tokens in outputs]
    after_first = sum(made) - len(prompts)
    # With a single token there is no decode phase: the rate of the whole call is all there is.
    rate = after_first / decode_s if after_first and decode_s > 0 else sum(made) / (times[-1] - times[0])
    return BaselineResult(
        outputs=tuple(tuple(tokens) for tokens in outputs),
        device=device_name(model.device),
        dtype=str(next(model.model.parameters()).dtype).removeprefix("torch."),
        batch=len(prompts),
        generated_tokens=sum(made),
        wall_s=times[-1] - times[0],
        prefill_s=times[1] - times[0],
        tokens_per_s=rate,
        energy_j_per_token=None if meter.joules is None else meter.joules / sum(made),
        energy_j_per_token_reason=meter.reason,
        energy_scope=meter.scope,
    )
