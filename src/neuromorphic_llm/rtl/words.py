"""Values of ports as arrays: uint64 up to 64 bits, uint32 words for wider ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from neuromorphic_llm.rtl.build import Port

Words = NDArray[np.uint64] | NDArray[np.uint32]


def signed(values: Words, bits: int) -> NDArray[np.int64]:
    """Two's complement reading of `bits`-bit values, bits <= 64."""
    shift = np.uint64(64 - bits)
    return (np.asarray(values, np.uint64) << shift).view(np.int64) >> np.int64(64 - bits)


def pack(fields: Sequence[tuple[ArrayLike, int]]) -> NDArray[np.uint32]:
    """Words [rows, words] of a packed vector of (values, bits), the highest field first as in a packed struct; up to 64 bits each."""
    total = sum(bits for _, bits in fields)
    arrays = np.broadcast_arrays(*(np.asarray(values) for values, _ in fields))
    words = np.zeros((*arrays[0].shape, -(-total // 32) + 2), np.uint64)
    low = 0
    for values, bits in reversed(list(zip(arrays, [b for _, b in fields], strict=True))):
        value = _unsigned(values) & np.uint64((1 << bits) - 1)
        word, offset = divmod(low, 32)
        words[..., word] |= (value << np.uint64(offset)) & np.uint64(0xFFFFFFFF)
        words[..., word + 1] |= (value >> np.uint64(32 - offset)) & np.uint64(0xFFFFFFFF)
        if offset:
            words[..., word + 2] |= value >> np.uint64(64 - offset)
        low += bits
    return np.ascontiguousarray(words[..., : -(-total // 32)].astype(np.uint32))


def unpack(words: NDArray[np.uint32], bits: Sequence[int]) -> list[NDArray[np.uint64]]:
    """Fields of a packed vector [.., words], the highest first; the inverse of `pack`."""
    wide = np.concatenate([words, np.zeros((*words.shape[:-1], 2), np.uint32)], axis=-1).astype(np.uint64)
    found = []
    low = 0
    for size in reversed(bits):
        word, offset = divmod(low, 32)
        value = (wide[..., word] >> np.uint64(offset)) | (wide[..., word + 1] << np.uint64(32 - offset))
        if offset:
            value = value | (wide[..., word + 2] << np.uint64(64 - offset))
        found.append(value & np.uint64((1 << size) - 1))
        low += size
    return found[::-1]


def row_shape(port: Port) -> tuple[int, ...]:
    """Axes of one value of a port."""
    return (*port.shape, port.size // 4) if port.size > 8 else port.shape


def empty_words(port: Port, rows: int) -> Words:
    """Zeros [rows, ..] for values of a port."""
    shape = (rows, *row_shape(port))
    return np.zeros(shape, np.uint32) if port.size > 8 else np.zeros(shape, np.uint64)


def to_words(port: Port, values: NDArray[Any], where: str) -> Words:
    """Rows for the harness; ValueError if the shape is wrong or a value does not fit, signed or unsigned."""
    shape = row_shape(port)
    if values.shape[1:] != shape:
        raise ValueError(f"{where}: rows have the shape {list(values.shape[1:])}, expected {list(shape)}")
    if values.dtype.kind not in "biu":
        raise ValueError(f"{where}: values of type {values.dtype}, expected integers")
    bits = 32 if port.size > 8 else port.bits
    if values.size and (int(values.max()) >= 1 << bits or int(values.min()) < -(1 << (bits - 1))):
        raise ValueError(f"{where}: values from {values.min()} to {values.max()} do not fit {bits} bits")
    if port.size > 8:
        return np.ascontiguousarray(values.astype(np.int64) & 0xFFFFFFFF, np.uint32)
    return np.ascontiguousarray(_unsigned(values) & np.uint64((1 << bits) - 1))


def _unsigned(values: NDArray[Any]) -> NDArray[np.uint64]:
    """Integers modulo 2^64."""
    return values.astype(np.uint64) if values.dtype.kind == "u" else values.astype(np.int64).view(np.uint64)
