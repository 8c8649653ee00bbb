"""The operations of docs/reference/numerics.md over rows of tokens, in torch for any device.

Values are exact integers: int32 at the interfaces, int64 inside. The CPU uses the kernels of cpu_operations.py, which are tested equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from neuromorphic_llm.devices.readout import BlockReadout, Drive
from neuromorphic_llm.errors import SimulationError
from neuromorphic_llm.network.cache import SlotCache
from neuromorphic_llm.network.matmul import int8_products_exact, product
from neuromorphic_llm.reference.config import Formats
from neuromorphic_llm.reference.fixed_point import EXP2, SHARES, TANH
from neuromorphic_llm.reference.soft_cap import SoftCap
from neuromorphic_llm.spikes.signed_digit import fires

_INT32_MIN, _INT32_MAX = -(2**31), 2**31 - 1

NO_WINDOW = 1 << 30
"""Window of a layer that attends to all tokens, beside layers that do not: no context is that long."""


@dataclass
class CodedRows:
    """Coded rows: planes int8 [2, rows, inputs] (a = 128 planes[0] + planes[1]), exponent int32 [rows], spikes int64 [rows]."""

    planes: torch.Tensor
    exponent: torch.Tensor
    spikes: torch.Tensor

    def integers(self) -> torch.Tensor:
        """a as int32 [rows, inputs]."""
        return self.planes[0].int() * 128 + self.planes[1].int()


@dataclass
class SiteTensors:
    """A crossbar site on the device; fields as reference.weights.LinearWeights."""

    weight: torch.Tensor
    multiplier: torch.Tensor
    shift: torch.Tensor  # int64 scalar: a number would make every layer a compilation of its own on the GPU
    stop: torch.Tensor
    bias: torch.Tensor | None
    spiking: bool
    ranges: torch.Tensor | None = None
    blocks: tuple[torch.Tensor, ...] = ()  # weight by row blocks, for a readout that converts them one by one


@dataclass
class Rows:
    """Token of each row: position int64 [rows], slot int64 [rows], rows per sequence, and whether all slots take part in order.

    valid: int64 [sequences], rows of each that are tokens; those behind them are padding.
    """

    position: torch.Tensor
    slot: torch.Tensor
    per_sequence: int
    all_slots: bool
    valid: torch.Tensor


@dataclass
class AttentionResult:
    """Attention output int32 [rows, heads * D], rotated queries int32 [rows, heads, D] and counts int64 [rows, heads]."""

    output: torch.Tensor
    query: torch.Tensor
    query_spikes: torch.Tensor
    probability_spikes: torch.Tensor
    probability_keys: torch.Tensor


def energies(coded: CodedRows, readout: BlockReadout) -> torch.Tensor | None:
    """Drive.energies of coded rows; None for a readout that does not take them."""
    return readout.energies(coded.integers().long(), torch) if readout.squares else None


def row_blocks(weight: torch.Tensor, rows: int) -> tuple[torch.Tensor, ...]:
    """Weights [outputs, inputs] by blocks of `rows` inputs."""
    return tuple(block.contiguous() for block in torch.split(weight, rows, 1))


def split(accumulators: torch.Tensor) -> torch.Tensor:
    """int64 accumulators as int32 acc [2, ..] with the value 128 acc[0] + acc[1]."""
    return torch.stack((accumulators >> 7, accumulators & 127)).int()


def saturate(x: torch.Tensor) -> torch.Tensor:
    """int64 to saturated int32."""
    return x.clamp(_INT32_MIN, _INT32_MAX).int()


def rsh(x: torch.Tensor, n: torch.Tensor, largest_left: int = 24) -> torch.Tensor:
    """Rounding shift of int64 by a tensor of shifts (broadcast); left for n <= 0, by at most `largest_left`."""
    right = n.clamp(1, 62)
    shifted = (x + (torch.ones_like(right) << (right - 1))) >> right
    shifted = torch.where(n > 62, torch.zeros_like(shifted), shifted)
    return torch.where(n > 0, shifted, x << (-n).clamp(0, largest_left))


def bit_length(n: torch.Tensor, bits: int) -> torch.Tensor:
    """Number of bits of non-negative int64 below 2^bits."""
    powers = 1 << torch.arange(bits, device=n.device, dtype=torch.int64)
    return (n.unsqueeze(-1) >= powers).sum(-1)


def isqrt(n: torch.Tensor) -> torch.Tensor:
    """Floor of the square root of int64 below 2^62."""
    root = n.double().sqrt().long()
    root = root - (root * root > n).long()
    return root + ((root + 1) * (root + 1) <= n).long()


class Operations:
    """One method per operation; rows are tokens. Shapes and formulas: numerics.md."""

    def __init__(self, device: torch.device | str = "cpu") -> None:
        if torch.device(device).type == "cuda" and torch.backends.cuda.matmul.allow_tf32:
            raise SimulationError("TF32 products are not exact; unset torch.backends.cuda.matmul.allow_tf32")
        self._int8_exact = int8_products_exact(torch.device(device).type)
        self._shares = {name: torch.from_numpy(table).to(device) for name, table in SHARES.items()}
        self._tanh = torch.from_numpy(TANH).to(device)
        self._exp2 = torch.from_numpy(EXP2).to(device)

    def prepare(self, rows: int) -> None:
        """Called before a forward pass over `rows` tokens."""

    def norm(self, r: torch.Tensor, gain: torch.Tensor, epsilon: int, shift: int) -> torch.Tensor:
        """RMSNorm of int32 [rows, N]; shift = 24 + gain_fraction - f_norm."""
        x = r.long()
        e = (bit_length(x.abs().amax(-1, keepdim=True), 32) - 15).clamp(min=0)
        total = rsh(x, e).square().sum(-1, keepdim=True) + (torch.full_like(e, epsilon) >> (2 * e).clamp(max=63))
        total = total.clamp(min=1)
        half = (62 - bit_length(total, 62)) >> 1
        inverse = (1 << 46) // isqrt(total << (2 * half))
        u = rsh(x * inverse, 22 + e - half, 62)
        return saturate(_shift(u * gain.long(), shift))

    def encode(self, x: torch.Tensor, stop: torch.Tensor, phases: int) -> CodedRows:
        """Signed-digit code of int32 [rows, N] with stop int32 [N]."""
        a, exponent, spikes = signed_digit(x, stop, phases)
        return _planes(a, exponent, spikes.sum(-1))

    def encode_dense(self, x: torch.Tensor) -> CodedRows:
        """Uncoded 14-bit integers, for sites that do not spike."""
        wide = x.long()
        exponent = (bit_length(wide.abs().amax(-1), 32) - 13).clamp(min=0)
        a = rsh(wide, exponent.unsqueeze(-1)).clamp(max=8191)
        return _planes(a, exponent, torch.zeros_like(exponent))

    def accumulate(self, coded: CodedRows, site: SiteTensors) -> torch.Tensor:
        """Crossbar product: accumulators 128 acc[0] + acc[1], int32 [2, rows, outputs]."""
        return product(coded.planes, site.weight, self._int8_exact)

    def block_products(self, planes: torch.Tensor, blocks: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Products of CodedRows.planes with the row_blocks of a site's weights, each as `accumulate` gives that of the whole."""
        inputs = torch.split(planes, blocks[0].shape[1], -1)
        return (product(part.contiguous(), weight, self._int8_exact) for part, weight in zip(inputs, blocks, strict=True))

    def read_blocks(
        self, coded: CodedRows, phases: torch.Tensor, horner_shift: int, site: SiteTensors, readout: BlockReadout
    ) -> torch.Tensor:
        """Accumulators that a readout makes of the products of a site's row blocks, as `accumulate`; phases int64 [rows]."""
        products = (each.long() for each in self.block_products(coded.planes, site.blocks))
        sums = torch.stack([128 * high + low for high, low in products])
        drive = Drive(phases, horner_shift, site.ranges, energies(coded, readout))
        return split(readout.read(sums, drive, torch).accumulators)

    def scale(self, acc: torch.Tensor, exponent: torch.Tensor, site: SiteTensors) -> torch.Tensor:
        """Output scaling: int32 [rows, outputs] of accumulators [2, rows, outputs] and exponents int32 [rows]."""
        wide = (acc[0].long() * 128 + acc[1]) * site.multiplier.long()
        shift = site.shift - exponent.long().unsqueeze(-1)
        shifted = rsh(wide, shift, 16)
        if site.bias is None:
            return saturate(shifted)
        return saturate(torch.where(shift < 0, saturate(shifted).long(), shifted) + site.bias)

    def add(self, r: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Saturating sum; may reuse r."""
        return saturate(r.long() + y)

    def gate(self, y: torch.Tensor, fraction: int, hidden_fraction: torch.Tensor, activation: str = "silu") -> torch.Tensor:
        """activation(g) * u of int32 [rows, 2 I] -> [rows, I]."""
        g, u = y.long().chunk(2, -1)
        gs = (_passing(g, fraction, self._shares[activation]) + 16384) >> 15
        return saturate(rsh(gs * u, 2 * fraction - hidden_fraction))

    def activate(self, y: torch.Tensor, fraction: int, hidden_fraction: torch.Tensor, activation: str) -> torch.Tensor:
        """activation(g) of int32 [rows, I], where there is no gate."""
        passing = _passing(y.long(), fraction, self._shares[activation])
        return saturate(rsh(passing, 15 + fraction - hidden_fraction))

    def soft_cap(self, x: torch.Tensor, cap: SoftCap) -> torch.Tensor:
        """c tanh(x / c) of int32 [rows, outputs]; may reuse x."""
        return _capped(x.long(), cap, self._tanh).int()

    def attention(
        self, qkv: torch.Tensor, query_stop: torch.Tensor, value_base: torch.Tensor, rope: tuple[torch.Tensor, torch.Tensor],
        rows: Rows, cache: SlotCache, formats: Formats, query_phases: int, probability_bits: int,
        window: torch.Tensor | None = None, cap: SoftCap | None = None, key_offset: torch.Tensor | None = None,
    ) -> AttentionResult:  # fmt: skip
        """Rotate, store keys and values, spike attention. qkv int32 [rows, (heads + 2 kv) * D]; query_phases 0: not spiking.

        window: int64 scalar, tokens that a row sees at most; cap: of the scores; key_offset: int32 [kv_heads, D], taken off the keys.
        """
        heads, dim = query_stop.shape
        kv_heads = value_base.numel()
        x = qkv.view(-1, heads + 2 * kv_heads, dim)
        rotated = _rotate(x[:, : heads + kv_heads], rope[0][rows.position], rope[1][rows.position])
        keys = rotated[:, heads:] if key_offset is None else saturate(rotated[:, heads:].long() - key_offset)
        _store(keys, x[:, heads + kv_heads :], value_base, rows, cache)
        if query_phases > 0:
            flat = rotated[:, :heads].reshape(-1, dim)
            stop = query_stop.unsqueeze(0).expand(x.shape[0], -1, -1).reshape(-1, dim)
            q, exponent, spikes = signed_digit(flat, stop, query_phases)
            q, exponent = q.view(-1, heads, dim), exponent.view(-1, heads)
            query_spikes = spikes.sum(-1).view(-1, heads)
        else:
            wide = rotated[:, :heads].long()
            exponent = (bit_length(wide.abs().amax(-1), 32) - 10).clamp(min=0)
            q, query_spikes = rsh(wide, exponent.unsqueeze(-1)), torch.zeros_like(exponent)
        capped = None if cap is None else partial(_capped, cap=cap, table=self._tanh)
        output, p_spikes, used = _attend(
            q, exponent, value_base, rows, cache, formats, query_phases > 0, probability_bits, self._exp2, window, capped
        )
        return AttentionResult(output, rotated[:, :heads], query_spikes, p_spikes, used)


def top_phase(x: torch.Tensor) -> torch.Tensor:
    """k_top of the signed-digit code, int64 [rows, 1], of int64 [rows, N]."""
    tops = 3 * (1 << torch.arange(32, device=x.device, dtype=torch.int64))
    return (tops < 2 * x.abs().amax(-1, keepdim=True)).sum(-1, keepdim=True)


def signed_digit(x: torch.Tensor, stop: torch.Tensor, phases: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Signed-digit code: (a int64 [rows, N], exponent int64 [rows], spikes int64 [rows, N]); stop int32 broadcasts to x."""
    wide, price = x.long(), stop.long()
    k_top = top_phase(wide)
    k_min = (k_top - phases + 1).clamp(min=0)
    v, spikes = wide, torch.zeros_like(wide)
    for t in range(phases):
        k = (k_top - t).clamp(min=0)
        weight = torch.where(k_top - t >= 0, torch.ones_like(k) << k, torch.zeros_like(k))
        fire = (weight > 0) & fires(v.abs(), weight, price >> k)
        v = torch.where(fire, v - torch.sign(v) * weight, v)
        spikes = spikes + fire
    return (wide - v) >> k_min, k_min.squeeze(-1), spikes


def _planes(a: torch.Tensor, exponent: torch.Tensor, spikes: torch.Tensor) -> CodedRows:
    high = (a + 64) >> 7
    return CodedRows(torch.stack((high, a - (high << 7))).to(torch.int8), exponent.int(), spikes)


def _passing(g: torch.Tensor, fraction: int, table: torch.Tensor) -> torch.Tensor:
    """int64 g times the share of it that passes, at 15 more fractional bits; table int64 [257]: the shares of the activation."""
    t = _shift(g.abs(), fraction - 12).clamp(max=65535)
    index, rest = t >> 8, t & 255
    s = table[index] + (((table[index + 1] - table[index]) * rest + 128) >> 8)
    return g * torch.where(g < 0, 32768 - s, s)


def _capped(x: torch.Tensor, cap: SoftCap, table: torch.Tensor) -> torch.Tensor:
    """c tanh(x / c) of int64; table int64 [257]: TANH."""
    t = _shift(x.abs() * cap.multiplier, cap.shift).clamp(max=(1 << 23) - 1)
    index, rest = t >> 15, t & 32767
    tanh = (table[index] << 15) + (table[index + 1] - table[index]) * rest
    return torch.sign(x) * ((cap.limit * tanh + (1 << 29)) >> 30)


def _shift(x: torch.Tensor, n: int) -> torch.Tensor:
    """Rounding shift of int64; n may be symbolic in a compiled stage, which no `1 << (n - 1)` can be."""
    return ((x >> (n - 1)) + 1) >> 1 if n > 0 else x << -n


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of int32 [rows, heads, D] with int16 tables [rows, D/2]."""
    x1, x2 = x.long().chunk(2, -1)
    c, s = cos.long().unsqueeze(1), sin.long().unsqueeze(1)
    return saturate(torch.cat((_shift(x1 * c - x2 * s, 14), _shift(x2 * c + x1 * s, 14)), -1))


def _store(k: torch.Tensor, v: torch.Tensor, value_base: torch.Tensor, rows: Rows, cache: SlotCache) -> None:
    """Write 8-bit keys and values int32 [rows, kv_heads, D] into the cache."""
    wide = k.long()
    e = (bit_length(wide.abs().amax(-1, keepdim=True), 32) - 7).clamp(min=0)
    cache.keys[rows.slot, :, rows.position] = rsh(wide, e).clamp(-128, 127).to(cache.keys.dtype)
    cache.key_exponent[rows.slot, :, rows.position] = e.squeeze(-1).int()
    wide, base = v.long(), value_base.long().view(1, -1, 1)
    e = (bit_length(wide.abs().amax(-1, keepdim=True), 32) - 7 - base).clamp(0, 3)
    cache.values[rows.slot, :, rows.position] = (rsh(wide, base + e).clamp(-128, 127) << e).to(cache.values.dtype)


def _attend(
    q: torch.Tensor, exponent: torch.Tensor, value_base: torch.Tensor, rows: Rows, cache: SlotCache, formats: Formats,
    spiking: bool, bits: int, table: torch.Tensor, window: torch.Tensor | None, capped: Callable[[torch.Tensor], torch.Tensor] | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    """Scores, base-2 softmax, probability code, values; q int64 [rows, heads, D], exponent int64 [rows, heads]."""
    total_rows, heads, dim = q.shape
    kv_heads, n = value_base.numel(), rows.per_sequence
    batch, group = total_rows // n, heads // kv_heads
    everything = cache.keys, cache.key_exponent, cache.values
    keys, key_exponent, values = everything if rows.all_slots else (tensor[rows.slot[::n]] for tensor in everything)
    context = keys.shape[2]
    queries = q.view(batch, n, heads, dim).transpose(1, 2).reshape(batch, kv_heads, group * n, dim)
    s = (queries.to(keys.dtype) @ keys.transpose(2, 3)).long().view(batch, kv_heads, group, n, context)
    shift = 2 * formats.qkv - 8 - exponent.view(batch, n, kv_heads, group).permute(0, 2, 3, 1).unsqueeze(-1)
    z = rsh(s, shift - key_exponent.long()[:, :, None, None, :]).clamp(-(2**23), 2**23 - 1)
    z = z if capped is None else capped(z)
    position, last = torch.arange(context, device=q.device), rows.position.view(batch, 1, 1, n, 1)
    visible = position <= last
    if window is not None:
        visible = visible & (position > last - window)
    z = torch.where(visible, z, torch.full_like(z, -(2**24)))
    d = z.amax(-1, keepdim=True) - z
    u = rsh(table[d & 255], d >> 8)
    u = torch.where(visible & (d >> 8 < 17), u, torch.zeros_like(u))
    lowest = (bit_length(u.sum(-1, keepdim=True), 40) - 1 - bits).clamp(0, 14)
    if spiking:
        v, spikes = u, torch.zeros_like(u)
        for k in range(15, -1, -1):
            fire = (k >= lowest) & fires(v.abs(), 1 << k)
            v = torch.where(fire, v - (torch.sign(v) << k), v)
            spikes = spikes + fire
        p = (u - v) >> lowest
    else:
        p, spikes = rsh(u, lowest), torch.zeros_like(u)
    total = p.sum(-1, keepdim=True)
    weights = p.to(values.dtype).view(batch, kv_heads, group * n, context)
    acc = (weights @ values).long().view(batch, kv_heads, group, n, dim)
    b = bit_length(total, 40)
    inverse = (torch.ones_like(b) << (b + 15)) // total
    o = saturate(rsh(acc * inverse, b + 15 + formats.qkv - formats.attention - value_base.long().view(1, -1, 1, 1, 1)))
    output = o.permute(0, 3, 1, 2, 4).reshape(total_rows, heads * dim)
    counts = (spikes.sum(-1), (spikes > 0).sum(-1))
    p_spikes, used = (c.permute(0, 3, 1, 2).reshape(total_rows, heads) for c in counts)
    return output, p_spikes, used
