"""Fine-tuning of a decoder on its own spikes: distillation from the dense model (docs/reference/conversion.md)."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.conversion.emulation import EmulatedDecoder, product, rounded_rows
from neuromorphic_llm.conversion.fine_tune_config import FineTuneConfig
from neuromorphic_llm.conversion.training_state import (
    check_number,
    check_tensors,
    damaged,
    load_tensors,
    moments_of,
    restore_moments,
    save_tensors,
)
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.checkpoint import Checkpoint

STATE_WEIGHTS = "state.safetensors"
_NUMBERS = ("elapsed_s", "price", "price_slope", "text_ratio", "recent_spikes")
_BEGIN_ANEW = "remove it to train from the start"
_HEAD_ROWS = 4
"""Sequences whose predictions are held at once."""
_BAD_STEPS = 10
_SCALE_RATE, _SCALE_LIMIT = 1.0, 0.05
_PRICE_STEP, _PRICE_MEMORY = 0.02, 0.95
_SPIKES_MEMORY = 0.9
_ANNEALING = 1 / 5
"""Share of the run in which the spikes fall to their target."""


@dataclass(frozen=True)
class StepFigures:
    """One step of the log."""

    step: int
    loss: float  # KL(dense || spiking), nats per token
    spikes: float  # per activation
    price: float  # nats per token for one spike per activation
    log_scale: float
    learning_rate: float
    gradient_norm: float


@dataclass(frozen=True)
class HeldOutFigures:
    """Quality of the emulation on text that is not trained on."""

    perplexity: float
    spikes: float


def _divergence(dense: Tensor, spiking: Tensor, scale: Tensor) -> Tensor:
    """Sum of KL(dense || spiking) over all rows; spiking times scale [vocab] are its logits."""
    reference = dense.float().log_softmax(-1)
    return (reference.exp() * (reference - (spiking.float() * scale).log_softmax(-1))).sum()


def process_count() -> int:
    """Processes that share the work of a fine-tuning."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def process_rank() -> int:
    """Number of this process among them."""
    return distributed.get_rank() if distributed.is_initialized() else 0


class DistillationLoss:
    """KL a token and its gradients, a few sequences at a time: vocabularies are large."""

    def __init__(self, compiled: bool = False) -> None:
        self._divergence = torch.compile(_divergence, dynamic=False) if compiled else _divergence

    def __call__(self, hidden: Tensor, target: Tensor, head: tuple[Tensor, Tensor], dense_head: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(KL, its gradient for hidden, its gradient for the integers of the head).

        hidden, target: inputs of both heads [sequences, tokens, hidden]; head: integers [vocab, hidden] and scale [vocab].
        """
        sequences = hidden.shape[0]
        leaf, weights = hidden.detach().requires_grad_(True), head[0].detach().to(hidden.dtype).requires_grad_(True)
        total = torch.zeros((), device=hidden.device)
        for first in range(0, sequences, _HEAD_ROWS):
            part = slice(first, first + _HEAD_ROWS)
            with torch.no_grad():
                dense = functional.linear(target[part], dense_head)
            divergence = self._divergence(dense, functional.linear(leaf[part], weights), head[1]) / (sequences * hidden.shape[1])
            divergence.backward()  # type: ignore[no-untyped-call]
            total += divergence.detach()
        assert leaf.grad is not None and weights.grad is not None
        return total, leaf.grad, weights.grad.float()


class FineTuner:
    """The state of a fine-tuning: emulated decoder, optimizer, step; `folder` keeps it between runs.

    price: nats per token for one spike per activation, at the start. With torch.distributed initialised every process takes its share of a
    batch, and gradients are averaged.
    """

    def __init__(
        self, checkpoint: Checkpoint, decoder: EmulatedDecoder, price: float, recipe: FineTuneConfig, device: torch.device, folder: Path
    ) -> None:
        self.recipe, self.device, self.folder = recipe, device, folder
        self.decoder = decoder.to(device)
        on_gpu = device.type == "cuda"
        self.teacher = checkpoint.dense_model(torch.bfloat16 if on_gpu else torch.float32, device)
        self.price, self._price_slope = price, 0.0
        self._price_parameters = [p for name, p in decoder.named_parameters() if "log_price" in name]
        for parameter in self._price_parameters:
            parameter.requires_grad_(recipe.price_rate > 0)
        self.optimizers = self._optimizers(on_gpu)
        self.loss = DistillationLoss(compiled=on_gpu)
        self.step, self.elapsed_s, self.bad_steps, self._whole = 0, 0.0, 0, True
        self.text_ratio, self._recent_spikes = 1.0, 0.0
        if on_gpu:
            decoder.compile_layers()

    def _optimizers(self, on_gpu: bool) -> list[torch.optim.Optimizer]:
        """AdamW, and Muon for the matrices of the layers if the recipe says so."""
        recipe = self.recipe
        weights = [(name, p) for name, p in self.decoder.named_parameters() if "log_price" not in name]
        for_muon = {name for name, p in weights if recipe.optimizer == "muon" and name.startswith("layers.") and p.ndim == 2}
        matrices = [p for name, p in weights if name in for_muon]
        others = [p for name, p in weights if name not in for_muon]
        groups = [{"params": others, "rate": recipe.learning_rate}]
        if recipe.price_rate > 0:
            groups.append({"params": self._price_parameters, "rate": recipe.price_rate})
        adamw = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0, fused=on_gpu)
        if not matrices:
            return [adamw]
        group = {"params": matrices, "rate": recipe.learning_rate}
        return [adamw, torch.optim.Muon([group], lr=recipe.learning_rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")]

    @property
    def passed(self) -> float:
        """Share of the run that has passed, 0 to 1."""
        passed = self.step / self.recipe.steps
        return min(1.0, passed if self.recipe.seconds is None else max(passed, self.elapsed_s / self.recipe.seconds))

    def rate(self) -> float:
        """Share of the learning rates at the present step."""
        rise = min(1.0, (self.step + 1) / self.recipe.warmup)
        return rise * max(0.02, 0.5 * (1 + math.cos(math.pi * self.passed)))

    def target(self) -> float:
        """Spikes per activation to hold on the training text at the present step."""
        rest = max(0.0, 1 - self.passed / _ANNEALING)
        return self.text_ratio * (self.recipe.spikes + rest * (self.recipe.first_spikes - self.recipe.spikes))

    def hold_on(self, held_out_spikes: float) -> None:
        """Take the spikes of the held-out text as those that are asked for: texts of other kinds spike less or more."""
        if self._recent_spikes > 0 and held_out_spikes > 0:
            self.text_ratio = self._recent_spikes / held_out_spikes

    def run(self, windows: Tensor) -> Iterator[StepFigures]:
        """Train to the end of the recipe on windows int64 [n, window], in an order that the seed gives; yields after every step.

        A state is written every `save_every` steps and at the end; who interrupts the run, or works between its steps, calls
        `save_interrupted`.
        Raises ConversionError after ten steps in a row whose gradients are not finite.
        """
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(self.recipe.seed))
        before = self.elapsed_s
        start = time.monotonic()
        while self.passed < 1:
            first = self.step * self.recipe.batch
            chosen = order[torch.arange(first, first + self.recipe.batch) % len(windows)]
            figures = self._one_step(windows[chosen[process_rank() :: process_count()]].to(self.device), before + time.monotonic() - start)
            if self.step % self.recipe.save_every == 0 or self.passed >= 1:
                self.save()
            yield figures

    def save_interrupted(self) -> None:
        """Write a state, if this is one: between the first changed weight of a step and its count the last one written stays."""
        if self._whole and self.step:
            self.save()

    def _one_step(self, ids: Tensor, elapsed_s: float) -> StepFigures:
        decoder, recipe, target, share = self.decoder, self.recipe, self.target(), self.rate()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["rate"] * share
        with torch.no_grad():
            wanted = self.teacher.model(input_ids=ids, use_cache=False).last_hidden_state
        hidden, spikes = decoder(ids)
        integers, scale = rounded_rows(decoder.head)
        divergence, hidden_gradient, head_gradient = self.loss(hidden, wanted, (integers, scale), self.teacher.lm_head.weight)
        torch.autograd.backward([hidden, integers, spikes], [hidden_gradient, head_gradient, torch.full_like(spikes, self.price)])
        parameters = [p for p in decoder.parameters() if p.grad is not None]
        loss, reached, elapsed_s = self._averaged(parameters, torch.stack((divergence, spikes.detach())), elapsed_s)
        norm = float(torch.nn.utils.clip_grad_norm_(parameters, recipe.clip))
        finite = math.isfinite(norm) and math.isfinite(loss)
        slopes = [p.grad.sum() for p in self._price_parameters if p.grad is not None]
        slope = float(torch.stack(slopes).sum()) if finite and slopes else 0.0
        self._whole = False
        if finite:
            for optimizer in self.optimizers:
                optimizer.step()
            self._move_price(slope)
        self.bad_steps = 0 if finite else self.bad_steps + 1
        if math.isfinite(reached):
            decoder.log_scale += max(-_SCALE_LIMIT, min(_SCALE_LIMIT, _SCALE_RATE * (reached - target)))
            self._recent_spikes += (1 - _SPIKES_MEMORY if self._recent_spikes else 1.0) * (reached - self._recent_spikes)
        self.step, self.elapsed_s = self.step + 1, elapsed_s
        self._whole = True
        decoder.zero_grad(set_to_none=True)
        if self.bad_steps == _BAD_STEPS:
            raise ConversionError(
                f"fine-tuning: {_BAD_STEPS} steps in a row have no finite gradient (step {self.step}); lower the learning rate "
                f"of {recipe.learning_rate:g} and begin anew, {self.folder} holds the state before"
            )
        return StepFigures(self.step, loss, reached, self.price, float(decoder.log_scale), recipe.learning_rate * share, norm)

    def _move_price(self, slope: float) -> None:
        """Towards the price at which one more spike is worth what it costs: the gradients of all log prices then sum to zero.

        A higher sum means that the loss rises faster with the prices than the spikes' cost falls: a spike is worth more.
        """
        if self.recipe.price_rate > 0 and slope != 0:
            self._price_slope = _PRICE_MEMORY * self._price_slope + (1 - _PRICE_MEMORY) * abs(slope) if self._price_slope else abs(slope)
            self.price *= math.exp(_PRICE_STEP * math.tanh(slope / self._price_slope))

    def _averaged(self, parameters: list[torch.nn.Parameter], figures: Tensor, elapsed_s: float) -> tuple[float, float, float]:
        """Gradients, the two figures and the seconds, averaged over the processes."""
        if process_count() > 1:
            gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
            figures = torch.cat((figures, figures.new_tensor([elapsed_s])))
            together = torch.cat([part.reshape(-1) for part in (*gradients, figures)])  # one message instead of one a parameter
            distributed.all_reduce(together)
            together /= process_count()
            *averages, figures = torch.split(together, [part.numel() for part in (*gradients, figures)])
            for gradient, average in zip(gradients, averages, strict=True):
                gradient.copy_(average.view_as(gradient))
            loss, spikes, elapsed_s = figures.tolist()
            return loss, spikes, elapsed_s
        loss, spikes = figures.tolist()
        return loss, spikes, elapsed_s

    def evaluate(self, windows: Tensor) -> HeldOutFigures:
        """Perplexity and spikes of the emulation on windows int64 [n, window], the first of a window not predicted."""
        recipe, sums = self.recipe, torch.zeros(3, dtype=torch.float64, device=self.device)
        for first in range(0, len(windows), recipe.batch):
            ids = windows[first : first + recipe.batch][process_rank() :: process_count()].to(self.device)
            if len(ids) == 0:
                continue
            # With gradients, though none is taken: without them the layers would be compiled once more.
            hidden, spikes = self.decoder(ids)
            with torch.no_grad():
                for row, sequence in zip(hidden.detach(), ids, strict=True):
                    logits = product(row[:-1], self.decoder.head)
                    sums[0] += functional.cross_entropy(logits, sequence[1:], reduction="sum").double()
                    sums[1] += len(sequence) - 1
                sums[2] += float(spikes.detach()) * (ids.shape[1] - 1) * len(ids)
        if process_count() > 1:
            distributed.all_reduce(sums)
        loss, predicted, spikes_sum = sums.tolist()
        return HeldOutFigures(math.exp(min(loss / predicted, 700.0)), spikes_sum / predicted)

    @torch.no_grad()
    def dense_perplexity(self, windows: Tensor) -> float:
        """Perplexity of the dense model on windows int64 [n, window], the first of a window not predicted."""
        loss = 0.0
        for ids in windows.to(self.device):
            logits = self.teacher(input_ids=ids[None], use_cache=False).logits[0, :-1].float()
            loss += float(functional.cross_entropy(logits, ids[1:], reduction="sum"))
        return math.exp(min(loss / (len(windows) * (windows.shape[1] - 1)), 700.0))

    def save(self) -> None:
        """Write weights, optimizer and step into the folder, by the first process; a state there is replaced as a whole."""
        if process_rank():
            return
        tensors = {f"decoder.{name}": tensor for name, tensor in self.decoder.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            tensors |= moments_of(optimizer, f"optimizer.{number}.")
        save_tensors(self.folder / STATE_WEIGHTS, tensors, self._progress(), "progress")

    def _progress(self) -> dict[str, Any]:
        numbers = {"step": self.step, "elapsed_s": self.elapsed_s, "price": self.price, "price_slope": self._price_slope}
        numbers |= {"text_ratio": self.text_ratio, "recent_spikes": self._recent_spikes}
        return numbers | {"recipe": self.recipe.to_json()}

    def load(self) -> bool:
        """Go on from the state in the folder; False if there is none. ConversionError if it is damaged or of another recipe."""
        path = self.folder / STATE_WEIGHTS
        if not path.is_file():
            return False
        tensors, progress = load_tensors(path, "progress", _BEGIN_ANEW)
        recipe = progress.get("recipe")
        if not isinstance(recipe, dict):
            raise damaged(path, "it lacks its recipe", _BEGIN_ANEW)
        if recipe != self.recipe.to_json():
            changed = [name for name, value in self.recipe.to_json().items() if recipe.get(name) != value]
            raise ConversionError(f"{path} was made with another {', '.join(changed or recipe)}; give the same, or another folder")
        try:
            self._restore(tensors, progress)
        except ValueError as error:
            raise damaged(path, error, _BEGIN_ANEW) from error
        return True

    def _restore(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """Take over a state; ValueError if it is not whole."""
        numbers = [check_number(progress, name) for name in _NUMBERS]
        step = check_number(progress, "step")
        state = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
        check_tensors(state, {f"decoder.{name}": value.shape for name, value in self.decoder.state_dict().items()})
        for number, optimizer in enumerate(self.optimizers):
            restore_moments(optimizer, tensors, f"optimizer.{number}.")
        self.decoder.load_state_dict({name.removeprefix("decoder."): value for name, value in state.items()})
        self.step = int(step)
        self.elapsed_s, self.price, self._price_slope, self.text_ratio, self._recent_spikes = numbers
