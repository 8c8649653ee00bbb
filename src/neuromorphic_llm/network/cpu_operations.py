"""The operations of the functional simulation on the CPU, by the kernels of kernels.py."""

from __future__ import annotations

import numba
import numpy as np
import torch

from neuromorphic_llm.devices.membrane import converts_as_membrane
from neuromorphic_llm.devices.readout import BlockReadout, Drive
from neuromorphic_llm.network import kernels
from neuromorphic_llm.network.cache import SlotCache
from neuromorphic_llm.network.kernels import Array
from neuromorphic_llm.network.operations import NO_WINDOW, AttentionResult, CodedRows, Operations, Rows, SiteTensors, energies
from neuromorphic_llm.reference.config import Formats
from neuromorphic_llm.reference.fixed_point import SHARES
from neuromorphic_llm.reference.soft_cap import SoftCap

_PARALLEL_ROWS = 8
_READ_ROWS = 256
"""Rows whose products with a block are read before the next ones: few enough for the cache, enough for all threads."""

_QUERY_BLOCK = 256


class CpuOperations(Operations):
    """Numba kernels on views of the tensors; products by the int8 matrix unit.

    Values are made as arrays, which takes less time than tensors and their views.
    """

    def __init__(self) -> None:
        super().__init__("cpu")
        self._table = kernels.probability_table()
        self._no_bias = np.zeros(0, np.int32)
        self._no_cap = np.zeros(0, np.int64)
        self._no_offset = np.zeros((0, 0), np.int32)

    def prepare(self, rows: int) -> None:
        # Below a few rows waking the other threads costs more than they save.
        numba.set_num_threads(min(torch.get_num_threads(), numba.config.NUMBA_NUM_THREADS) if rows >= _PARALLEL_ROWS else 1)

    def norm(self, r: torch.Tensor, gain: torch.Tensor, epsilon: int, shift: int) -> torch.Tensor:
        out = np.empty(r.shape, np.int32)
        kernels.norm(r.numpy(), gain.numpy(), epsilon, shift, out)
        return torch.from_numpy(out)

    def encode(self, x: torch.Tensor, stop: torch.Tensor, phases: int) -> CodedRows:
        planes, exponent, spikes = _no_code(x.shape)
        kernels.encode(x.numpy(), stop.numpy(), phases, planes, exponent, spikes)
        return CodedRows(torch.from_numpy(planes), torch.from_numpy(exponent), torch.from_numpy(spikes))

    def encode_dense(self, x: torch.Tensor) -> CodedRows:
        planes, exponent, spikes = _no_code(x.shape)
        kernels.encode_dense(x.numpy(), planes, exponent)
        return CodedRows(torch.from_numpy(planes), torch.from_numpy(exponent), torch.from_numpy(spikes))

    def read_blocks(
        self, coded: CodedRows, phases: torch.Tensor, horner_shift: int, site: SiteTensors, readout: BlockReadout
    ) -> torch.Tensor:
        if not converts_as_membrane(readout) or site.ranges is None:
            return super().read_blocks(coded, phases, horner_shift, site, readout)
        ranges = site.ranges.numpy()
        exponents = readout.exponents(Drive(phases, horner_shift, energies=energies(coded, readout)), torch).expand(len(ranges), -1).numpy()
        accumulators = np.empty((2, len(phases), ranges.shape[1]), np.int32)
        for first in range(0, len(phases), _READ_ROWS):
            rows = slice(first, first + _READ_ROWS)
            products = torch.stack(list(self.block_products(coded.planes[:, rows], site.blocks))).numpy()
            kernels.read_membranes(products, exponents[:, rows], ranges, readout.converter_bits, readout.repeats, accumulators[:, rows])
        return torch.from_numpy(accumulators)

    def scale(self, acc: torch.Tensor, exponent: torch.Tensor, site: SiteTensors) -> torch.Tensor:
        accumulators = acc.numpy()
        out = np.empty(accumulators.shape[1:], np.int32)
        bias = self._no_bias if site.bias is None else site.bias.numpy()
        kernels.scale(accumulators, site.multiplier.numpy(), bias, int(site.shift), exponent.numpy(), out)
        return torch.from_numpy(out)

    def add(self, r: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        kernels.add(r.numpy(), y.numpy())
        return r

    def gate(self, y: torch.Tensor, fraction: int, hidden_fraction: torch.Tensor, activation: str = "silu") -> torch.Tensor:
        out = np.empty((y.shape[0], y.shape[1] // 2), np.int32)
        kernels.gate(y.numpy(), SHARES[activation], fraction, int(hidden_fraction), out)
        return torch.from_numpy(out)

    def activate(self, y: torch.Tensor, fraction: int, hidden_fraction: torch.Tensor, activation: str) -> torch.Tensor:
        out = np.empty(y.shape, np.int32)
        kernels.activate(y.numpy(), SHARES[activation], fraction, int(hidden_fraction), out)
        return torch.from_numpy(out)

    def soft_cap(self, x: torch.Tensor, cap: SoftCap) -> torch.Tensor:
        kernels.soft_cap(x.numpy(), *cap)
        return x

    def attention(
        self, qkv: torch.Tensor, query_stop: torch.Tensor, value_base: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor],
        rows: Rows, cache: SlotCache, formats: Formats, query_phases: int, probability_bits: int,
        window: torch.Tensor | None = None, cap: SoftCap | None = None, key_offset: torch.Tensor | None = None,
    ) -> AttentionResult:  # fmt: skip
        stop, base = query_stop.numpy(), value_base.numpy()
        (heads, dim), kv_heads = stop.shape, base.size
        x, total_rows = qkv.numpy(), qkv.shape[0]
        position, slot = rows.position.numpy(), rows.slot.numpy()
        kernels.rotate_and_store(
            x, heads, kv_heads, rope[0].numpy(), rope[1].numpy(), position, slot, base,
            self._no_offset if key_offset is None else key_offset.numpy(),
            cache.keys.numpy(), cache.key_exponent.numpy(), cache.values.numpy(),
        )  # fmt: skip
        query = torch.empty(total_rows, heads, dim, dtype=cache.keys.dtype)
        exponent = np.empty((total_rows, heads), np.int32)
        spikes, p_spikes, keys, total = np.empty((4, total_rows, heads), np.int64)
        kernels.encode_query(x, stop, query_phases, query.numpy(), exponent, spikes)
        out = np.empty((total_rows, heads * dim), np.int32)
        shift = 15 + formats.qkv - formats.attention
        n = rows.per_sequence
        seen = NO_WINDOW if window is None else int(window)
        caps = self._no_cap if cap is None else np.array(cap, np.int64)
        # A block of queries meets only the keys up to its last one, which nearly halves the work of a long prompt.
        for first in (sequence + block for sequence in range(0, total_rows, n) for block in range(0, n, _QUERY_BLOCK)):
            part = slice(first, min(first + _QUERY_BLOCK, first - first % n + n))
            where, context = int(slot[first]), int(position[part.stop - 1]) + 1
            begin = max(int(position[first]) + 1 - seen, 0)
            kept = slice(begin, context)
            q = query[part].transpose(0, 1).reshape(kv_heads, -1, dim)
            scores = (q @ cache.keys[where, :, kept].transpose(1, 2)).view(heads, -1, context - begin)
            kernels.softmax(
                scores.numpy(), cache.key_exponent.numpy()[where, :, kept], exponent[part], position[part] - begin, 2 * formats.qkv - 8,
                probability_bits, query_phases > 0, self._table, seen, caps, total[part], p_spikes[part], keys[part],
            )  # fmt: skip
            acc = (scores.view(kv_heads, -1, context - begin) @ cache.values[where, :, kept]).view(heads, -1, dim)
            kernels.attention_output(acc.numpy(), total[part], base, shift, out[part])
        return AttentionResult(
            torch.from_numpy(out), qkv.view(total_rows, -1, dim)[:, :heads],
            torch.from_numpy(spikes), torch.from_numpy(p_spikes), torch.from_numpy(keys),
        )  # fmt: skip


def _no_code(shape: tuple[int, ...]) -> tuple[Array, Array, Array]:
    """Room for the code of rows [rows, inputs], as CodedRows takes it, and no spikes."""
    return np.empty((2, *shape), np.int8), np.empty(shape[0], np.int32), np.zeros(shape[0], np.int64)
