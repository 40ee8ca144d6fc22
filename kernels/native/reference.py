"""The native kernels in plain Python and numpy: what the tests compare them with."""

from __future__ import annotations

import numpy as np


def rerank_topk(
    queries: np.ndarray, catalog: np.ndarray, candidates: np.ndarray, k: int, scale: float
) -> tuple[np.ndarray, np.ndarray]:
    """Same arguments and result as `mtaw_fast.kernels.native.rerank_topk`, bit for bit."""
    ids = np.full((len(queries), k), -1, dtype=np.int32)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    for b, query in enumerate(queries.astype(np.float64)):
        chosen = candidates[b][candidates[b] >= 0]
        rows = catalog[chosen].astype(np.float64)
        sums = np.zeros(len(chosen), dtype=np.float64)
        for i in range(len(query)):
            sums += query[i] * rows[:, i]
        with np.errstate(over="ignore"):
            values = (scale * sums).astype(np.float32)
        order = np.lexsort((chosen, -values, np.isnan(values)))[:k]
        ids[b, : len(order)] = chosen[order]
        scores[b, : len(order)] = values[order]
    return ids, scores


def text_hash(text: bytes) -> int:
    """The 64-bit hash of a text id that places it in a bundle's table; see `kernels/native/ids/id_table.hpp`."""
    value = len(text)
    for begin in range(0, len(text), 8):
        value = _mixed(value ^ int.from_bytes(text[begin : begin + 8], "little"))
    return value


def _mixed(value: int) -> int:
    """MurmurHash3's 64-bit finaliser."""
    value = (value ^ value >> 33) * 0xFF51AFD7ED558CCD % 2**64
    value = (value ^ value >> 33) * 0xC4CEB9FE1A85EC53 % 2**64
    return value ^ value >> 33


def text_slots(texts: list[bytes]) -> np.ndarray:
    """uint64[a power of two]: the hash table of distinct texts that `IdTable.slots_of` makes."""
    count = 1 << (2 * len(texts)).bit_length()
    slots = np.zeros(count, dtype=np.uint64)
    for internal, text in enumerate(texts):
        value = text_hash(text)
        slot = value % count
        while slots[slot]:
            slot = (slot + 1) % count
        slots[slot] = value >> 32 << 32 | internal + 1
    return slots
