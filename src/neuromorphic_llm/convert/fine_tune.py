"""Fine-tuning of a decoder on its own spikes: distillation from the dense model (docs/reference/conversion.md)."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.convert.emulation import EmulatedDecoder, rounded_rows
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint

STATE_WEIGHTS = "state.safetensors"
_HEAD_ROWS = 4
"""Sequences whose predictions are held at once."""
_BAD_STEPS = 10
_SCALE_RATE, _SCALE_LIMIT = 1.0, 0.05


@dataclass(frozen=True)
class FineTuneConfig:
    """Recipe of a fine-tuning; raises ValueError naming the field.

    `spikes` is the mean per activation to hold. The learning rate rises over `warmup` steps and falls to a fiftieth as a half cosine;
    prices learn at `price_rate`, 0 keeps their ratios. A step takes `batch` sequences of `window` tokens.
    """

    spikes: float = 1.0
    tokens: int = 20_000_000
    batch: int = 16
    window: int = 1024
    learning_rate: float = 3e-4
    price_rate: float = 1e-2
    warmup: int = 30
    clip: float = 1.0
    save_every: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("tokens", "batch", "window", "warmup", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("spikes", "learning_rate", "clip"):
            if not 0 < getattr(self, name) < 1e6:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.price_rate < 1:
            raise ValueError(f"price_rate must lie in 0..1, got {self.price_rate}")

    @property
    def steps(self) -> int:
        """Steps that take `tokens`."""
        return math.ceil(self.tokens / (self.batch * self.window))

    def to_json(self) -> dict[str, Any]:
        """JSON object of the fields."""
        return asdict(self)


@dataclass(frozen=True)
class StepFigures:
    """One step of the log."""

    step: int
    loss: float  # KL(dense || spiking), nats a token
    spikes: float  # per activation
    log_scale: float
    learning_rate: float
    gradient_norm: float


def distillation_loss(hidden: Tensor, target: Tensor, head: Tensor, dense_head: Tensor) -> tuple[float, Tensor, Tensor]:
    """(KL a token, its gradient for hidden, its gradient for the rounded head), a few sequences at a time: vocabularies are large."""
    sequences = hidden.shape[0]
    leaf, weights = hidden.detach().requires_grad_(True), head.detach().requires_grad_(True)
    total = 0.0
    for first in range(0, sequences, _HEAD_ROWS):
        part = slice(first, first + _HEAD_ROWS)
        with torch.no_grad():
            dense = functional.linear(target[part], dense_head).float().log_softmax(-1)
        spiking = functional.linear(leaf[part], weights).float().log_softmax(-1)
        divergence = (dense.exp() * (dense - spiking)).sum(-1).sum() / (sequences * hidden.shape[1])
        divergence.backward()  # type: ignore[no-untyped-call]
        total += float(divergence.detach())
    assert leaf.grad is not None and weights.grad is not None
    return total, leaf.grad, weights.grad


class FineTuner:
    """The state of a fine-tuning: emulated decoder, optimizer, step; `folder` keeps it between runs.

    With torch.distributed initialised every process takes its share of a batch, and gradients are averaged.
    """

    def __init__(
        self, checkpoint: Checkpoint, decoder: EmulatedDecoder, price: float, recipe: FineTuneConfig, device: torch.device, folder: Path
    ) -> None:
        self.recipe, self.device, self.folder = recipe, device, folder
        self.decoder = decoder.to(device)
        kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.teacher = checkpoint.dense_model(kind, device)
        self.price = price * decoder.weights_total  # nats a token for one spike per activation
        prices = [p for name, p in decoder.named_parameters() if "log_price" in name]
        weights = [p for name, p in decoder.named_parameters() if "log_price" not in name]
        for parameter in prices:
            parameter.requires_grad_(recipe.price_rate > 0)
        groups = [{"params": weights, "rate": recipe.learning_rate}]
        if recipe.price_rate > 0:
            groups.append({"params": prices, "rate": recipe.price_rate})
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.step, self.bad_steps = 0, 0
        if device.type == "cuda":
            for layer in decoder.layers:
                layer.compile(dynamic=False)

    @property
    def processes(self) -> int:
        """Processes that share the work."""
        return distributed.get_world_size() if distributed.is_initialized() else 1

    @property
    def rank(self) -> int:
        """Number of this process."""
        return distributed.get_rank() if distributed.is_initialized() else 0

    def rate(self) -> float:
        """Share of the learning rates at the present step."""
        rise = min(1.0, (self.step + 1) / self.recipe.warmup)
        return rise * max(0.02, 0.5 * (1 + math.cos(math.pi * self.step / self.recipe.steps)))

    def run(self, windows: Tensor, on_step: Callable[[StepFigures], None] | None = None) -> Iterator[StepFigures]:
        """Train to the end of the recipe on windows int64 [n, window], in an order that the seed gives; yields after every step.

        Raises ConversionError after ten steps in a row whose gradients are not finite.
        """
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(self.recipe.seed))
        while self.step < self.recipe.steps:
            first = self.step * self.recipe.batch
            chosen = order[torch.arange(first, first + self.recipe.batch) % len(windows)]
            share = chosen[self.rank :: self.processes]
            figures = self._one_step(windows[share].to(self.device))
            if on_step:
                on_step(figures)
            yield figures
            if self.step % self.recipe.save_every == 0 and self.rank == 0:
                self.save()

    def _one_step(self, ids: Tensor) -> StepFigures:
        decoder, recipe = self.decoder, self.recipe
        share = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = group["rate"] * share
        with torch.no_grad():
            target = self.teacher.model(input_ids=ids, use_cache=False).last_hidden_state
        hidden, spikes = decoder(ids)
        rounded = rounded_rows(decoder.head)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            loss, hidden_gradient, head_gradient = distillation_loss(hidden, target, rounded, self.teacher.lm_head.weight)
        torch.autograd.backward([hidden, rounded, spikes], [hidden_gradient, head_gradient, torch.full_like(spikes, self.price)])
        parameters = [p for p in decoder.parameters() if p.grad is not None]
        loss, reached = self._averaged(parameters, loss, float(spikes.detach()))
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, recipe.clip))
        if math.isfinite(norm) and math.isfinite(loss):
            self.optimizer.step()
            self.bad_steps = 0
        else:
            self.bad_steps += 1
            if self.bad_steps == _BAD_STEPS:
                raise ConversionError(
                    f"fine-tuning: {_BAD_STEPS} steps in a row have no finite gradient (step {self.step}); lower the learning rate "
                    f"of {recipe.learning_rate:g} and go on from the state in {self.folder}"
                )
        self.optimizer.zero_grad(set_to_none=True)
        if math.isfinite(reached):
            decoder.log_scale += max(-_SCALE_LIMIT, min(_SCALE_LIMIT, _SCALE_RATE * (reached - recipe.spikes)))
        self.step += 1
        return StepFigures(self.step, loss, reached, float(decoder.log_scale), recipe.learning_rate * share, norm)

    def _averaged(self, parameters: list[torch.nn.Parameter], loss: float, spikes: float) -> tuple[float, float]:
        """Gradients, loss and spikes averaged over the processes."""
        if self.processes == 1:
            return loss, spikes
        for parameter in parameters:
            assert parameter.grad is not None
            distributed.all_reduce(parameter.grad)
            parameter.grad /= self.processes
        figures = torch.tensor([loss, spikes], device=self.device)
        distributed.all_reduce(figures)
        loss, spikes = (figures / self.processes).tolist()
        return loss, spikes

    def save(self) -> None:
        """Write weights, optimizer and step into the folder; a state there is replaced as a whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"decoder.{name}": tensor.contiguous() for name, tensor in self.decoder.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value.clone() for name, value in moments.items()}
        waiting = self.folder / f"{STATE_WEIGHTS}.{os.getpid()}"
        save_file({name: tensor.cpu() for name, tensor in tensors.items()}, waiting, {"progress": json.dumps(self._progress())})
        waiting.replace(self.folder / STATE_WEIGHTS)

    def _progress(self) -> dict[str, Any]:
        return {"step": self.step, "recipe": self.recipe.to_json()}

    def load(self) -> bool:
        """Go on from the state in the folder; False if there is none. ConversionError if it is damaged or of another recipe."""
        path = self.folder / STATE_WEIGHTS
        if not path.is_file():
            return False
        try:
            with safe_open(path, framework="pt") as file:
                progress = json.loads(file.metadata()["progress"])
            tensors = load_file(path)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ConversionError(f"{path} is damaged ({error}); remove the folder to begin anew") from error
        if progress["recipe"] != self.recipe.to_json():
            changed = [name for name, value in self.recipe.to_json().items() if progress["recipe"].get(name) != value]
            raise ConversionError(f"{path} was made with another {', '.join(changed)}; give the same, or another folder")
        state = {name.removeprefix("decoder."): value for name, value in tensors.items() if name.startswith("decoder.")}
        self.decoder.load_state_dict(state)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, index, moment = name.split(".")
                moments.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        self.step = int(progress["step"])
        return True
