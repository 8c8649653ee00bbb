"""Fine-tuning of spiking self-attention: layer by layer, then end to end (docs/reference/ssa.md, Fine-tuning)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neuromorphic_llm.conversion.training_state import (
    check_folder,
    check_number,
    check_tensors,
    damaged,
    load_tensors,
    moments_of,
    restore_moments,
    save_tensors,
)
from neuromorphic_llm.errors import ConversionError
from neuromorphic_llm.models.text_tokens import plain_ids, text_prefix, token_windows
from neuromorphic_llm.ssa.config import SsaTuneConfig
from neuromorphic_llm.ssa.replace import Places

STATE = "ssa_state.safetensors"
STAGES = ("layers", "end-to-end")
_BAD_STEPS = 10
_PREDICTION_ROWS = 2048
"""Positions whose predictions are held at once: vocabularies are large."""


@dataclass(frozen=True)
class SsaStep:
    """One step of the log; the loss is relative square error (layers) or nats per token (end to end)."""

    step: int
    stage: str
    loss: float
    learning_rate: float
    gradient_norm: float


class SsaTuner:
    """State of a fine-tuning of `student` (replace.replaced) against `dense`; `folder`, if given, keeps it between runs."""

    def __init__(self, dense: Any, student: Any, recipe: SsaTuneConfig, folder: Path | None = None) -> None:
        self.dense, self.student, self.recipe, self.folder = dense, student, recipe, folder
        if folder is not None:
            _check(folder)
        self.places = Places(student)
        self.modules = self.places.spiking()
        if not self.modules:
            raise ConversionError("the model to fine-tune has no spiking self-attention; replace its attention first")
        self.device = next(student.parameters()).device
        self.named = {f"{number}.{name}": p for number, m in enumerate(self.modules) for name, p in m.named_parameters()}
        self.optimizer = torch.optim.AdamW(self.named.values(), lr=recipe.learning_rate, betas=(0.9, 0.95), weight_decay=0.0)
        self.step, self.bad_steps = 0, 0

    def rate(self) -> tuple[str, float]:
        """Stage and learning rate of the present step."""
        recipe = self.recipe
        first = self.step < recipe.layer_steps
        done, steps = (self.step, recipe.layer_steps) if first else (self.step - recipe.layer_steps, recipe.steps)
        rise = min(1.0, (done + 1) / recipe.warmup)
        share = rise * max(0.02, 0.5 * (1 + math.cos(math.pi * done / steps)))
        return STAGES[not first], share * (recipe.layer_learning_rate if first else recipe.learning_rate)

    def run(self, windows: Tensor) -> Iterator[SsaStep]:
        """Train to the end of the recipe on windows int64 [n, tokens], in an order that the seed gives; yields after every step.

        Raises ConversionError after ten steps in a row whose gradients are not finite.
        """
        order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(self.recipe.seed))
        while self.step < self.recipe.total:
            first = self.step * self.recipe.batch
            chosen = order[torch.arange(first, first + self.recipe.batch) % len(windows)]
            figures = self._one_step(windows[chosen].to(self.device))
            if self.folder is not None and (self.step % self.recipe.save_every == 0 or self.step == self.recipe.total):
                self.save(self.folder)
            yield figures

    def _one_step(self, ids: Tensor) -> SsaStep:
        stage, rate = self.rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss = self._layer_loss(ids) if stage == STAGES[0] else self._prediction_loss(ids)
        norm = float(torch.nn.utils.clip_grad_norm_(self.named.values(), self.recipe.clip))
        if math.isfinite(norm) and math.isfinite(loss):
            self.optimizer.step()
            self.bad_steps = 0
        else:
            self.bad_steps += 1
            if self.bad_steps == _BAD_STEPS:
                raise ConversionError(
                    f"fine-tuning: {_BAD_STEPS} steps in a row have no finite gradient (step {self.step}, {stage}); "
                    f"lower the learning rate of {rate:.3g}"
                )
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return SsaStep(self.step, stage, loss, rate, norm)

    def _layer_loss(self, ids: Tensor) -> float:
        """Gradients of every layer for itself on the dense model's inputs; returns the mean over layers."""
        with torch.no_grad(), Places(self.dense).captured() as calls:
            self.dense(input_ids=ids, use_cache=False)
        total = 0.0
        for module, call in zip(self.modules, calls, strict=True):
            output, _ = module(call.hidden.float(), call.position_embeddings)
            target = call.output.float()
            loss = (output - target).square().mean() / target.square().mean().clamp_min(1e-12)
            loss.backward()
            total += float(loss.detach())
        return total / len(self.modules)

    def _prediction_loss(self, ids: Tensor) -> float:
        """Gradients of the divergence from the dense model's predictions; returns it in nats per token."""
        body = self.places.family.body
        with torch.no_grad():
            target = getattr(self.dense, body)(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
        hidden = getattr(self.student, body)(input_ids=ids, use_cache=False).last_hidden_state.flatten(0, 1)
        leaf = hidden.detach().requires_grad_(True)
        total = 0.0
        for first in range(0, len(leaf), _PREDICTION_ROWS):
            part = slice(first, first + _PREDICTION_ROWS)
            with torch.no_grad():
                dense = self.dense.lm_head(target[part]).float().log_softmax(-1)
            own = self.student.lm_head(leaf[part]).float().log_softmax(-1)
            divergence = (dense.exp() * (dense - own)).sum() / len(leaf)
            divergence.backward()
            total += float(divergence.detach())
        hidden.backward(leaf.grad)
        return total

    def save(self, folder: Path) -> None:
        """Write parameters, optimizer and step into the folder; a state there is replaced as a whole."""
        tensors = {f"parameter.{name}": p.detach() for name, p in self.named.items()} | moments_of(self.optimizer, "optimizer.")
        progress = {"step": self.step, "recipe": self.recipe.to_json(), "ssa": self.modules[0].config.to_json()}
        save_tensors(folder / STATE, tensors, progress, "progress")

    def load(self) -> bool:
        """Go on from the state in the folder; False if there is none. ConversionError if it is damaged or of another recipe or model."""
        path = None if self.folder is None else self.folder / STATE
        if path is None or not path.is_file():
            return False
        tensors, progress = load_tensors(path, "progress")
        wanted = {"recipe": self.recipe.to_json(), "ssa": self.modules[0].config.to_json()}
        if {key: progress.get(key) for key in wanted} != wanted:
            raise ConversionError(f"{path} was made with another recipe or model; give the same options, or another folder")
        try:
            step = check_number(progress, "step")
            state = {name: value for name, value in tensors.items() if not name.startswith("optimizer.")}
            check_tensors(state, {f"parameter.{name}": p.shape for name, p in self.named.items()})
            restore_moments(self.optimizer, tensors, "optimizer.")
        except ValueError as error:
            raise damaged(path, error, "remove it to begin anew, or choose another folder if it is another model's") from error
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(tensors[f"parameter.{name}"])
        self.step = int(step)
        return True


def _check(folder: Path) -> None:
    """ConversionError for a folder that is in use for something else."""
    try:
        check_folder(folder, STATE, "--folder")
    except OSError as error:
        raise ConversionError(f"{folder} cannot be read ({error.strerror or error}); choose another folder for --folder") from error


def training_windows(tokenizer: Any, text: str, window: int) -> Tensor:
    """Whole windows of a text, each begun as the tokenizer begins a text, int64 [n, window], at least one.

    ConversionError if the text is shorter than a window.
    """
    ids = plain_ids(tokenizer, text)
    whole = [part for part in token_windows(ids, window, text_prefix(tokenizer)) if len(part) == window]
    if not whole:
        raise ConversionError(f"the text for fine-tuning has {len(ids)} tokens, fewer than a window of {window}; give a longer one")
    return torch.tensor(whole)
