"""Rows of different lengths, end to end in one array: row i is `flat[offsets[i] : offsets[i + 1]]`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_CHUNK = 65_536  # rows gathered at a time, which bounds the index arrays


def offsets_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Return int64[n + 1]: where each row begins and the last one ends."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def check_offsets(offsets: np.ndarray, length: int) -> bool:
    """Return whether int64[n + 1] offsets cut an array of `length` into rows."""
    return bool(len(offsets) and offsets[0] == 0 and offsets[-1] == length and (offsets[1:] >= offsets[:-1]).all())


def gathered(offsets: np.ndarray, flat: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets and the array of the rows int[m] in this order; a row may occur twice."""
    lengths = offsets[rows + 1] - offsets[rows]
    result = offsets_of(lengths)
    out = np.empty(int(result[-1]), dtype=flat.dtype)
    for begin in range(0, len(rows), _CHUNK):
        part = slice(begin, min(begin + _CHUNK, len(rows)))
        first = result[part.start]
        starts = offsets[rows[part]] - (result[part] - first)
        index = np.repeat(starts, lengths[part])
        index += np.arange(len(index))
        out[first : first + len(index)] = flat[index]
    return result, out


def replaced(
    old: tuple[np.ndarray, np.ndarray], rows: np.ndarray, new: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets and the array of `old` with rows int[m] (distinct) replaced by the m rows of `new`."""
    (old_offsets, old_flat), (new_offsets, new_flat) = old, new
    order = np.argsort(rows, kind="stable")
    rows = rows[order]
    lengths = np.diff(old_offsets)
    lengths[rows] = np.diff(new_offsets)[order]
    result = offsets_of(lengths)
    out = np.empty(int(result[-1]), dtype=old_flat.dtype)
    for begin in range(0, len(lengths), _CHUNK):
        end = min(begin + _CHUNK, len(lengths))
        first, last = np.searchsorted(rows, [begin, end])
        piece = old_flat[old_offsets[begin] : old_offsets[end]]
        if first < last:
            # The changed rows after the old ones of this chunk, then all in order.
            extra_offsets, extra = gathered(new_offsets, new_flat, order[first:last])
            pool_offsets = np.concatenate([old_offsets[begin : end + 1] - old_offsets[begin], extra_offsets[1:]])
            pool_offsets[end - begin + 1 :] += len(piece)
            pool_rows = np.arange(end - begin)
            pool_rows[rows[first:last] - begin] = (end - begin) + np.arange(last - first)
            piece = gathered(pool_offsets, np.concatenate([piece, extra]), pool_rows)[1]
        out[result[begin] : result[end]] = piece
    return result, out


def resized(offsets: np.ndarray, flat: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the offsets and the array of the first `count` rows; rows that do not exist are empty."""
    n_rows = len(offsets) - 1
    if count <= n_rows:
        return offsets[: count + 1], flat[: offsets[count]]
    return np.concatenate([offsets, np.full(count - n_rows, offsets[-1])]), flat
