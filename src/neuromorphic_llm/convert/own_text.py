"""Text that a dense model writes itself, for distillation: sampled at temperature 1 from the starts of given texts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.convert.emulation import rms_norm, rotary, rotate
from neuromorphic_llm.models.checkpoint import Checkpoint

START_TOKENS = 4


class DenseWriter:
    """A dense decoder that advances `batch` sequences by one token, with a cache of fixed size (so that a CUDA graph can hold a step)."""

    def __init__(self, checkpoint: Checkpoint, batch: int, length: int, device: torch.device) -> None:
        config = checkpoint.config
        self.config, self.batch, self.length = config, batch, length
        kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.tensors = {name: tensor.to(device, kind) for name, tensor in checkpoint.tensors.items()}
        shape = (config.layers, batch, config.kv_heads, length, config.head_dim)
        self.keys, self.values = torch.zeros(shape, dtype=kind, device=device), torch.zeros(shape, dtype=kind, device=device)
        self.cos, self.sin = (table.to(kind) for table in rotary(config, length, device))
        self.ids = torch.zeros(batch, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.visible = torch.zeros(1, 1, 1, length, dtype=torch.bool, device=device)
        self.logits = torch.zeros(batch, config.vocab_size, dtype=kind, device=device)
        self._graph: torch.cuda.CUDAGraph | None = None
        if device.type == "cuda":
            self._capture()

    def _capture(self) -> None:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step()
        torch.cuda.current_stream().wait_stream(stream)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._step()

    def step(self, ids: Tensor, position: int) -> Tensor:
        """Logits [batch, vocab] after the tokens ids [batch] at a position; positions come in order."""
        self.ids.copy_(ids)
        self.position.fill_(position)
        self.visible[..., : position + 1] = True
        self.visible[..., position + 1 :] = False
        if self._graph is None:
            self._step()
        else:
            self._graph.replay()
        return self.logits

    def _step(self) -> None:
        config, weights = self.config, self.tensors
        x = functional.embedding(self.ids, weights["model.embed_tokens.weight"])[:, None]
        cos, sin = self.cos.index_select(0, self.position), self.sin.index_select(0, self.position)
        for number in range(config.layers):
            prefix = f"model.layers.{number}."
            hidden = rms_norm(x, weights[prefix + "input_layernorm.weight"], config.rms_norm_eps)
            parts = (functional.linear(hidden, weights[f"{prefix}self_attn.{part}_proj.weight"]) for part in "qkv")
            q, k, v = (part.view(self.batch, 1, -1, config.head_dim).transpose(1, 2) for part in parts)
            self.keys[number].index_copy_(2, self.position, rotate(k, cos, sin))
            self.values[number].index_copy_(2, self.position, v)
            keys, values, shared = self.keys[number], self.values[number], config.heads != config.kv_heads
            attended = functional.scaled_dot_product_attention(rotate(q, cos, sin), keys, values, attn_mask=self.visible, enable_gqa=shared)
            x = x + functional.linear(attended.transpose(1, 2).reshape(self.batch, 1, -1), weights[prefix + "self_attn.o_proj.weight"])
            hidden = rms_norm(x, weights[prefix + "post_attention_layernorm.weight"], config.rms_norm_eps)
            gate = functional.silu(functional.linear(hidden, weights[prefix + "mlp.gate_proj.weight"]))
            up = functional.linear(hidden, weights[prefix + "mlp.up_proj.weight"])
            x = x + functional.linear(gate * up, weights[prefix + "mlp.down_proj.weight"])
        hidden = rms_norm(x[:, 0], weights["model.norm.weight"], config.rms_norm_eps)
        self.logits.copy_(functional.linear(hidden, weights["lm_head.weight"]))


@torch.no_grad()
def own_text(
    checkpoint: Checkpoint,
    starts: Sequence[Sequence[int]],
    tokens: int,
    *,
    length: int,
    batch: int,
    device: torch.device,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """At least `tokens` tokens int64 [sequences, length], each sequence beginning with the first four tokens of one of `starts`."""
    writer = DenseWriter(checkpoint, batch, length, device)
    generator = torch.Generator(device).manual_seed(seed)
    beginnings = torch.tensor([list(start[:START_TOKENS]) for start in starts if len(start) >= START_TOKENS], device=device)
    written = []
    rounds = math.ceil(tokens / (batch * length))
    for number in range(rounds):
        chosen = beginnings[torch.randint(len(beginnings), (batch,), generator=generator, device=device)]
        sequence = [chosen[:, 0]]
        for position in range(length - 1):
            logits = writer.step(sequence[-1], position)
            if position + 1 < START_TOKENS:
                sequence.append(chosen[:, position + 1])
            else:
                sequence.append(torch.multinomial(logits.float().softmax(-1), 1, generator=generator)[:, 0])
        written.append(torch.stack(sequence, 1).cpu())
        if progress:
            progress(number + 1, rounds)
    return torch.cat(written)
