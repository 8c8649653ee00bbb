"""Functional simulation: the integer decoder at dense speed, batched, with exact spike counts (CPU and GPU)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, overload

import numpy as np
import torch

from neuromorphic_llm.devices.readout import BlockReadout, Drive
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.generation.choice import GenerationConfig
from neuromorphic_llm.generation.generate import OnToken, Progress, generate
from neuromorphic_llm.graph.plan import PlanStep, StagePlan, run_steps, stage_plans
from neuromorphic_llm.network.cache import KeyValueCache, State
from neuromorphic_llm.network.cpu_operations import CpuOperations
from neuromorphic_llm.network.functional_operations import FUNCTIONAL_OPERATIONS, StageRun
from neuromorphic_llm.network.operations import AttentionResult, CodedRows, Operations, Rows, SiteTensors, row_blocks, split, top_phase
from neuromorphic_llm.network.sequences import FunctionalSequences
from neuromorphic_llm.network.statistics import SpikeStatistics
from neuromorphic_llm.reference.build import engine_graph
from neuromorphic_llm.reference.config import DecoderConfig
from neuromorphic_llm.reference.weights import DecoderWeights, LinearWeights

COMPILE_AFTER_ROWS = 1 << 17
"""Rows that a GPU takes uncompiled before it compiles layers for many tokens at once too: that costs about as much time as these rows."""

SiteObserver = Callable[[int, torch.Tensor, CodedRows], None]
"""Called with (site index, input int32 [rows, inputs], coded input) at every crossbar site."""


_NONE = torch.zeros(0, dtype=torch.long)
_NO_ROWS = Rows(_NONE, _NONE, 1, True, _NONE)
"""Rows of the head, in which nothing depends on positions."""

_StageResult = tuple[torch.Tensor, list[torch.Tensor], list[AttentionResult]]


@dataclass(frozen=True)
class _Stage:
    """Plan of a stage, and what its counts are of: indices of its crossbar sites, layers of its attention."""

    plan: StagePlan
    sites: tuple[int, ...]
    layers: tuple[int, ...]

    @classmethod
    def of(cls, plan: StagePlan, config: DecoderConfig) -> _Stage:
        """Sites and layers in the order in which the stage runs them."""
        sites = (config.site(str(node.attributes["site"])).index for node in plan.nodes if node.operation == "linear")
        return cls(plan, tuple(sites), tuple(node.stage for node in plan.nodes if node.operation == "self_attention"))


class FunctionalDecoder:
    """The integer decoder of `weights` on a device.

    Batched, with a key/value cache; every integer equals the integer reference's. Results do not depend on batch or cache.
    """

    def __init__(self, weights: DecoderWeights, device: str | torch.device = "cpu", operations: Operations | None = None) -> None:
        self.weights: DecoderWeights = weights
        self.config = weights.config
        self.device = torch.device(device)
        self.operations = operations or _operations(self.device)
        self.statistics = SpikeStatistics(self.config)
        self.observer: SiteObserver | None = None
        self.query_observer: Callable[[int, torch.Tensor], None] | None = None  # (layer, rotated queries [rows, heads, D])
        code = weights.code
        self._signed_digit = code.name == "signed-digit"
        self._code = code.spike_code()
        self.horner_shift = self._code.horner_shift
        self._sites: dict[int, SiteTensors] = {}
        self._ropes: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        plans = stage_plans(self, engine_graph(weights), FUNCTIONAL_OPERATIONS, torch.clone)
        self._host, *self._stages, self._head_stage = (_Stage.of(plan, self.config) for plan in plans)
        self._eager_rows = 0
        self._compiled: dict[tuple[PlanStep, ...], Callable[..., _StageResult]] = {}

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """An array on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _site(self, site: LinearWeights) -> SiteTensors:
        bias, ranges = (None if array is None else self.tensor(array) for array in (site.bias, site.ranges))
        shift, weight, readout = torch.tensor(site.shift, device=self.device), self.tensor(site.weight), self.weights.readout
        blocks = row_blocks(weight, readout.block_rows) if isinstance(readout, BlockReadout) and site.spiking else ()
        parts = self.tensor(site.multiplier), shift, self.tensor(site.stop), bias, site.spiking, ranges
        return SiteTensors(weight, *parts, blocks)

    def site_tensors(self, index: int) -> SiteTensors:
        """Tensors of crossbar site `index`; who puts others in their place changes this decoder from then on."""
        if index not in self._sites:
            self._sites[index] = self._site(self.weights.site(index))
        return self._sites[index]

    def rope(self, table: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary tables `rope` or `local_rope`, [positions, pairs]."""
        if table not in self._ropes:
            cos, sin = self.weights.rope(table)
            self._ropes[table] = self.tensor(cos), self.tensor(sin)
        return self._ropes[table]

    def new_cache(self, batch: int = 1, length: int = 0) -> KeyValueCache:
        """Empty cache for `batch` sequences, with room for `length` tokens (it grows by itself)."""
        capacity = max(length, 1)
        states = [state for stage in self._stages for state in stage.plan.new_states(self, batch, capacity)]
        return KeyValueCache(states, batch, capacity, self.config.max_positions, self.device)

    @overload
    def forward(
        self, ids: torch.Tensor, cache: KeyValueCache | None = None, *, slots: Sequence[int] | None = None,
        valid: Sequence[int] | None = None, last_only: bool = False, return_hidden: Literal[False] = False,
    ) -> torch.Tensor: ...  # fmt: skip

    @overload
    def forward(
        self, ids: torch.Tensor, cache: KeyValueCache | None = None, *, slots: Sequence[int] | None = None,
        valid: Sequence[int] | None = None, last_only: bool = False, return_hidden: Literal[True],
    ) -> tuple[torch.Tensor, torch.Tensor]: ...  # fmt: skip

    @torch.no_grad()
    def forward(
        self,
        ids: torch.Tensor,
        cache: KeyValueCache | None = None,
        *,
        slots: Sequence[int] | None = None,
        valid: Sequence[int] | None = None,
        last_only: bool = False,
        return_hidden: bool = False,
    ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
        """Logits int32 [batch, n or 1, vocab] (fraction formats.logit) of the next n tokens of each sequence.

        ids: int64 [batch, n]; `slots` names the cache sequences that the rows of ids continue (default: all). Of each row the first
        `valid` ids count (default: all; 0 for a sequence that has ended); the rest is padding, whose logits mean nothing and which later
        tokens overwrite in the cache. last_only gives the logits of the last valid token.
        With return_hidden also the residual stream after each layer, int32 [layers, batch, n, hidden].
        Raises SimulationError if the model's context is exceeded or an id is outside the vocabulary.
        """
        batch, n = ids.shape
        kept = _valid_rows(valid, n, self.device)
        hidden, residual = self._hidden(ids, cache, slots, valid, kept, return_hidden)
        if last_only and n > 1:
            last = [n - 1] * batch if valid is None else [max(count - 1, 0) for count in valid]
            hidden = hidden.view(batch, n, -1)[torch.arange(batch), last].contiguous()
            kept = _valid_rows(None if valid is None else [min(count, 1) for count in valid], 1, self.device)
        logits = self._head(hidden, kept).view(batch, -1, self.config.vocab_size)
        return (logits, torch.stack(residual).view(-1, batch, n, self.config.hidden_size)) if return_hidden else logits

    @torch.no_grad()
    def hidden(self, ids: torch.Tensor, cache: KeyValueCache, valid: Sequence[int]) -> torch.Tensor:
        """Residual stream after the last layer, int32 [batch, n, hidden]; arguments and errors as in forward. `head` makes logits of it."""
        batch, n = ids.shape
        return self._hidden(ids, cache, None, valid, _valid_rows(valid, n, self.device), False)[0].view(batch, n, -1)

    @torch.no_grad()
    def head(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits int32 [rows, vocab] of rows of `hidden` int32 [rows, hidden]: for callers that want few of a window's logits."""
        return self._head(hidden.contiguous(), None)

    def compile_windows(self) -> None:
        """Compile layers for many tokens at once on the GPU from the first call on: the caller knows that many will come."""
        self._eager_rows = COMPILE_AFTER_ROWS

    def sequences(self, count: int, length: int) -> FunctionalSequences:
        """State for `count` sequences of at most `length` tokens, as token choice drives them (generation/engine.py)."""
        return FunctionalSequences(self, count, length)

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int = 64,
        *,
        progress: Progress | None = None,
        on_token: OnToken | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """New tokens of every prompt; options are the fields of GenerationConfig, named as in transformers.

        End-of-sequence ids default to the model's own. `progress` and `on_token` are those of generation.generate.generate.
        """
        options.setdefault("eos_token_ids", self.config.eos_token_ids)
        return generate(self, prompts, GenerationConfig(max_new_tokens=max_new_tokens, **options), progress, on_token)

    def _hidden(
        self,
        ids: torch.Tensor,
        cache: KeyValueCache | None,
        slots: Sequence[int] | None,
        valid: Sequence[int] | None,
        kept: torch.Tensor | None,
        keep: bool,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Residual stream after the last layer, int32 [rows, hidden], and copies after each layer if asked; rows `kept` are counted."""
        batch, n = ids.shape
        self.operations.prepare(batch * n)
        if ids.numel() == 0:
            raise SimulationError("empty prompt: give at least one token")
        if int(ids.min()) < 0 or int(ids.max()) >= self.config.vocab_size:
            raise SimulationError(f"token id outside the vocabulary of {self.config.vocab_size}")
        cache = cache or self.new_cache(batch, n)
        where = list(range(batch)) if slots is None else list(slots)
        growth = [n] * batch if valid is None else list(valid)
        longest = max(cache.lengths[index] + count for index, count in zip(where, growth, strict=True))
        context = self.weights.rope_cos.shape[0]
        if longest > context:
            raise SimulationError(f"{longest} tokens exceed the context of {context}; shorten the prompt or the answer")
        cache.reserve(min(max(cache.lengths[slot] for slot in where) + n, context))
        position = torch.cat([torch.arange(cache.lengths[slot], cache.lengths[slot] + n) for slot in where])
        position = position.clamp(max=context - 1).to(self.device)
        slot = torch.tensor(where).repeat_interleave(n).to(self.device)
        rows = Rows(position, slot, n, where == list(range(cache.slots)), torch.tensor(growth).to(self.device))
        compiled = self._compiles(batch, n)
        r, _, _ = self._run(self._host, ids.reshape(-1).to(self.device), rows, [], False)
        residual, states = [], iter(cache.states)
        for stage in self._stages:
            own = list(islice(states, stage.plan.states))
            r = self._counted(stage, self._run(stage, r, rows, own, compiled), position, kept)
            if keep:
                residual.append(r.clone())
        for index, new in zip(where, growth, strict=True):
            cache.lengths[index] += new
        self.statistics.tokens += sum(growth)
        return r, residual

    def _counted(self, stage: _Stage, result: _StageResult, position: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        """Residual stream of a stage's result, whose spikes are added to the statistics."""
        r, spikes, attention = result
        if spikes:
            self.statistics.add_sites(stage.sites, spikes, kept)
        for layer, each in zip(stage.layers, attention, strict=True):
            self.statistics.add_attention(layer, each, position, kept)
            if self.query_observer is not None:
                self.query_observer(layer, each.query)
        return r

    def _compiles(self, batch: int, n: int) -> bool:
        """True if stages run compiled: on a GPU for decoding, whose shapes repeat, and for windows once there have been many."""
        if self.observer is not None or self.device.type != "cuda" or not self._signed_digit:
            return False
        if not (self.weights.readout.exact or isinstance(self.weights.readout, BlockReadout)):
            return False
        if n > 1 and self._eager_rows < COMPILE_AFTER_ROWS:
            self._eager_rows += batch * n
            return False
        return True

    def _run(self, stage: _Stage, r: torch.Tensor, rows: Rows, states: list[State], compiled: bool) -> _StageResult:
        """Run a stage on the value that it receives; stages with the same steps are compiled once."""
        steps, observed = stage.plan.steps, None if self.observer is None else stage.sites
        function = self._compiled.get(steps) if compiled else None
        if function is None:

            def function(parameters: tuple[Any, ...], r: torch.Tensor, rows: Rows, states: list[State]) -> _StageResult:
                run = StageRun(self, rows, observed)
                return run_steps(steps, run, parameters, states, r), run.spikes, run.attention

            if compiled:
                function = self._compiled[steps] = torch.compile(function)
        return function(stage.plan.parameters, r, rows, states)

    def _head(self, r: torch.Tensor, kept: torch.Tensor | None) -> torch.Tensor:
        return self._counted(self._head_stage, self._run(self._head_stage, r, _NO_ROWS, [], False), _NONE, kept)

    def accumulate(self, x: torch.Tensor, coded: CodedRows, site: SiteTensors) -> torch.Tensor:
        """Accumulators of a site, as Operations.accumulate, of x int32 [rows, inputs], by the network's readout if the site spikes."""
        readout = self.weights.readout
        if readout.exact or not site.spiking:
            return self.operations.accumulate(coded, site)
        if isinstance(readout, BlockReadout) and self._signed_digit:
            return self.operations.read_blocks(coded, self.phases(x), self.horner_shift, site, readout)
        train = self._code.encode(x.cpu().numpy(), site.stop.cpu().numpy())
        digits, levels = torch.from_numpy(train.digits).to(self.device), readout.cell.levels(site.weight.T, torch)
        drive = Drive(self.tensor(train.phases), train.horner_shift, site.ranges)
        return split(readout.accumulate(digits, levels, drive, torch).accumulators)

    def phases(self, x: torch.Tensor) -> torch.Tensor:
        """Phases that the spike train of each row of x int32 [rows, inputs] has, int64 [rows]."""
        if self._signed_digit:
            return (top_phase(x.long()).squeeze(-1) + 1).clamp(max=self.weights.code.phases)
        return self.tensor(self._code.quantise(x.cpu().numpy(), np.zeros(x.shape[1], np.int32)).phases).long()

    def encode(self, x: torch.Tensor, stop: torch.Tensor) -> CodedRows:
        """Code int32 [rows, inputs] with the network's code and a stop table int32 [inputs]."""
        if self._signed_digit:
            return self.operations.encode(x, stop, self.weights.code.phases)
        # Codes without a kernel of their own run elementwise, by their definition.
        coded = self._code.quantise_torch(x, stop)
        high = (coded.a + 64) >> 7
        planes = torch.stack((high, coded.a - (high << 7))).to(torch.int8)
        return CodedRows(planes, coded.exponent.int(), coded.spikes.sum(-1))


def _operations(device: torch.device) -> Operations:
    """The fastest operations that a device has."""
    if device.type == "cpu":
        return CpuOperations()
    if device.type == "cuda":
        from neuromorphic_llm.network.cuda_operations import CudaOperations  # needs Triton, which PyTorch for the CPU lacks

        return CudaOperations(device)
    return Operations(device)


def _valid_rows(valid: Sequence[int] | None, n: int, device: torch.device) -> torch.Tensor | None:
    """Indices of the rows that count, of n rows per sequence; None for all."""
    if valid is None:
        return None
    rows = [index * n + token for index, count in enumerate(valid) for token in range(count)]
    return torch.tensor(rows, dtype=torch.long).to(device)
