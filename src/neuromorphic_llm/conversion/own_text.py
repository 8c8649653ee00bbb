"""Text that a dense model writes itself, for distillation: sampled from pieces of given texts on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from neuromorphic_llm.conversion.emulation import rms_norm, rotary
from neuromorphic_llm.conversion.float_decoder import rotate
from neuromorphic_llm.models.canonical import CanonicalDecoder

TEMPERATURE = 0.9
"""Sampling temperature: at 1 a small model soon loses the thread, and its text resembles no text that the network will see."""

_REACHES = 4
_BATCH = {"cpu": 32, "cuda": 1024}


class DenseWriter:
    """A dense Llama or Qwen2 decoder that advances `batch` sequences by one token, its keys and values in memory of fixed size.

    On a GPU a step is a CUDA graph: launching its kernels one by one takes longer than they do. There is a graph for each quarter of the
    length, so that attention does not read what is not written yet.
    """

    def __init__(self, decoder: CanonicalDecoder, batch: int, length: int, device: torch.device) -> None:
        config = decoder.config
        self.config, self.batch, self.length = config, batch, length
        kind = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.tensors = {name: tensor.to(device, kind) for name, tensor in decoder.tensors.items() if not name.startswith("rotary.")}
        shape = (config.layers, batch, config.kv_heads, length, config.head_dim)
        self.keys, self.values = torch.zeros(shape, dtype=kind, device=device), torch.zeros(shape, dtype=kind, device=device)
        self.cos, self.sin = (table.to(kind) for table in rotary(decoder.tensors, length, device))
        self.ids = torch.zeros(batch, dtype=torch.int64, device=device)
        self.position = torch.zeros(1, dtype=torch.int64, device=device)
        self.visible = torch.zeros(1, 1, 1, length, dtype=torch.bool, device=device)
        self.logits = torch.zeros(batch, config.vocab_size, dtype=kind, device=device)
        self._reaches = [math.ceil(length * (quarter + 1) / _REACHES) for quarter in range(_REACHES)]
        self._graphs = [self._captured(reach) for reach in self._reaches] if device.type == "cuda" else []

    def _captured(self, reach: int) -> torch.cuda.CUDAGraph:
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(2):
                self._step(reach)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._step(reach)
        return graph

    def step(self, ids: Tensor, position: int) -> Tensor:
        """Logits [batch, vocab] after the tokens ids [batch] at a position; positions come in order."""
        self.ids.copy_(ids)
        self.position.fill_(position)
        self.visible[..., : position + 1] = True
        self.visible[..., position + 1 :] = False
        index = next(index for index, reach in enumerate(self._reaches) if position < reach)
        if self._graphs:
            self._graphs[index].replay()
        else:
            self._step(self._reaches[index])
        return self.logits

    def _step(self, reach: int) -> None:
        """One token of all sequences, attention over the first `reach` positions."""
        weights, config = self.tensors, self.config
        x = functional.embedding(self.ids, weights["model.embed_tokens.weight"])[:, None]
        for number in range(config.layers):
            prefix = f"model.layers.{number}."
            attended = self._attend(number, self._norm(x, prefix + "input_layernorm.weight"), reach)
            x = x + self._linear(attended, prefix + "self_attn.o_proj")
            hidden = self._norm(x, prefix + "post_attention_layernorm.weight")
            gate = functional.silu(self._linear(hidden, prefix + "mlp.gate_proj"))
            x = x + self._linear(gate * self._linear(hidden, prefix + "mlp.up_proj"), prefix + "mlp.down_proj")
        self.logits.copy_(functional.linear(self._norm(x[:, 0], "model.norm.weight"), weights["lm_head.weight"]))

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return functional.linear(x, self.tensors[name + ".weight"], self.tensors.get(name + ".bias"))

    def _norm(self, x: Tensor, name: str) -> Tensor:
        return rms_norm(x.float(), self.tensors[name].float(), self.config.rms_norm_eps).to(x.dtype)

    def _attend(self, number: int, hidden: Tensor, reach: int) -> Tensor:
        """Attention of a layer for hidden [batch, 1, hidden size], which joins the keys and values."""
        config, prefix = self.config, f"model.layers.{number}.self_attn."
        cos, sin = self.cos.index_select(0, self.position), self.sin.index_select(0, self.position)
        parts = (self._linear(hidden, f"{prefix}{part}_proj") for part in "qkv")
        q, k, v = (part.view(self.batch, 1, -1, config.head_dim) for part in parts)
        self.keys[number].index_copy_(2, self.position, rotate(k, cos, sin).transpose(1, 2))
        self.values[number].index_copy_(2, self.position, v.transpose(1, 2))
        attended = functional.scaled_dot_product_attention(
            rotate(q, cos, sin).transpose(1, 2),
            self.keys[number][:, :, :reach],
            self.values[number][:, :, :reach],
            attn_mask=self.visible[..., :reach],
            enable_gqa=config.heads != config.kv_heads,
        )
        return attended.transpose(1, 2).reshape(self.batch, 1, -1)


def sequences_at_once(decoder: CanonicalDecoder, length: int, device: torch.device) -> int:
    """Batch of a writer: what fills the device, as far as half of a GPU's free memory holds its keys and values."""
    batch = _BATCH[device.type]
    if device.type == "cuda":
        config = decoder.config
        sequence_bytes = 4 * config.layers * config.kv_heads * config.head_dim * length
        batch = max(1, min(batch, torch.cuda.mem_get_info()[0] // 2 // sequence_bytes))
    return batch


@torch.no_grad()
def own_text(
    decoder: CanonicalDecoder,
    starts: Tensor,
    tokens: int,
    *,
    length: int,
    device: torch.device,
    seed: int,
    seconds: float = math.inf,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """About `tokens` tokens int64 [sequences, length], fewer if the time is up; progress is called with tokens (written, wanted).

    Each sequence begins with a row of starts int64 [n, tokens], and goes on after an end-of-sequence token.
    """
    begin = time.monotonic()
    sequences, at_once = math.ceil(tokens / length), sequences_at_once(decoder, length, device)
    batch = math.ceil(sequences / math.ceil(sequences / at_once))  # batches of equal size
    writer = DenseWriter(decoder, batch, length, device)
    generator = torch.Generator(device).manual_seed(seed)
    beginnings = starts.to(device)
    written: list[Tensor] = []
    while sum(map(torch.numel, written)) < tokens and (not written or time.monotonic() - begin < seconds):
        chosen = beginnings[torch.randint(len(beginnings), (batch,), generator=generator, device=device)]
        sequence = [chosen[:, 0]]
        for position in range(length - 1):
            logits = writer.step(sequence[-1], position)
            if position + 1 < chosen.shape[1]:
                sequence.append(chosen[:, position + 1])
            else:
                sequence.append(torch.multinomial((logits.float() / TEMPERATURE).softmax(-1), 1, generator=generator)[:, 0])
        written.append(torch.stack(sequence, 1).cpu())
        if progress:
            progress(min(sum(map(torch.numel, written)), tokens), tokens)
    return torch.cat(written)
