"""The ranker's training set: candidates of queries, with their features in a file.

Axes: Q queries, C candidates of one at most, R candidates in all, F features.
"""

from __future__ import annotations

import contextlib
import mmap
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from mtaw_fast.data.sessions import offsets_of
from mtaw_fast.errors import TrainingError
from mtaw_fast.training.ranker.fit_ranker import nothing_to_learn

_LARGEST = float(np.finfo(np.float16).max)
_MAPPED = 16 << 20  # bytes read before pages are given back; scattered rows map ten times as many


@dataclass(frozen=True, slots=True, eq=False)
class RankerDataset:
    """`ranker.fit_ranker.Candidates` that are computed once and stored in a file.

    features: the F columns.
    targets: int32[Q], next clicks; each is among its candidates.
    lengths: int64[Q], clicks of the prefixes.
    left_out: queries that are not stored because their target is not a candidate.
    weights: float32[Q] or None, weight of a query by the type of its target; None if all weigh the same.
    """

    features: tuple[str, ...]
    targets: np.ndarray
    lengths: np.ndarray
    left_out: int
    weights: np.ndarray | None
    _begins: np.ndarray
    _counts: np.ndarray
    _ids: np.ndarray
    _file: FeatureFile

    def batch(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `ranker.fit_ranker.Candidates`."""
        return self._read(*self._padded(queries))

    def drawn(self, queries: np.ndarray, negatives: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """See `ranker.fit_ranker.DrawnCandidates`."""
        ids, rows = self._padded(queries)
        if ids.shape[1] > negatives + 1:
            keys = rng.random(ids.shape, dtype=np.float32)
            keys[ids == self.targets[queries, None]], keys[ids < 0] = -1, 2
            chosen = np.argpartition(keys, negatives, axis=1)[:, : negatives + 1]
            ids, rows = np.take_along_axis(ids, chosen, axis=1), np.take_along_axis(rows, chosen, axis=1)
        return self._read(ids, rows)

    def _padded(self, queries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(ids int32[q, C], rows int64[q, C] among the R candidates) of queries int64[q], padded with -1."""
        counts = self._counts[queries]
        column = np.arange(counts.max())
        valid = column < counts[:, None]
        rows = np.where(valid, self._begins[queries][:, None] + column, -1)
        ids = np.full(valid.shape, -1, dtype=np.int32)
        ids[valid] = self._ids[rows[valid]]
        return ids, rows

    def _read(self, ids: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values = np.zeros((*ids.shape, len(self.features)), dtype=np.float32)
        valid = ids >= 0
        values[valid] = self._file.rows(rows[valid])
        return ids, values


class DatasetWriter:
    """Collects a `RankerDataset`: features in a file, the rest in memory."""

    def __init__(self, file: IO[bytes], features: tuple[str, ...]) -> None:
        self._file, self._features = file, features
        self._parts: list[tuple[np.ndarray, ...]] = []  # of next clicks, targets, lengths, counts and ids
        self._left_out = 0

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path, features: tuple[str, ...]) -> Iterator[DatasetWriter]:
        """Write to a file without a name in `folder`. Raises TrainingError if the disk refuses."""
        try:
            with tempfile.TemporaryFile(dir=folder) as file:
                yield cls(file, features)
        except OSError as error:
            raise TrainingError(
                f"cannot write the ranker's dataset to {folder}: {error.strerror}; free space or lower ranker_samples"
            ) from None

    def add(
        self, clicks: np.ndarray, targets: np.ndarray, lengths: np.ndarray, ids: np.ndarray, values: np.ndarray
    ) -> None:
        """Add q queries whose target int32[q] is among the candidates int32[q, C], padded with -1; skip the others.

        clicks: int64[q], indices of the next clicks. values: float32[q, C, F].
        """
        has_target = (ids == targets[:, None]).any(axis=1)
        self._left_out += int(np.count_nonzero(~has_target))
        valid = (ids >= 0) & has_target[:, None]
        self._file.write(np.clip(values[valid], -_LARGEST, _LARGEST).astype(np.float16).data)
        of_queries = (clicks, targets, lengths, valid.sum(axis=1))
        self._parts.append((*(column[has_target] for column in of_queries), ids[valid]))

    def finish(self, weights: np.ndarray | None) -> RankerDataset:
        """Return the dataset. weights: float32[T], of a query by the index of its next click, or None."""
        if not any(len(targets) for _, targets, *_ in self._parts):
            raise nothing_to_learn(self._left_out)
        self._file.flush()
        clicks, targets, lengths, counts, ids = map(np.concatenate, zip(*self._parts, strict=True))
        return RankerDataset(
            self._features, targets, lengths, self._left_out, None if weights is None else weights[clicks],
            offsets_of(counts)[:-1], counts, ids, FeatureFile(self._file, len(self._features)),
        )  # fmt: skip


class FeatureFile:
    """float16[R, F], one row after the other in a mapped file.

    A million queries take tens of gigabytes, read in random order. Pages that stay mapped count as memory of this
    process, so they are given back to the system's cache.

    file: open and flushed; the map outlives it.
    """

    def __init__(self, file: IO[bytes], width: int) -> None:
        self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._values = np.frombuffer(self._map, dtype=np.float16).reshape(-1, width)
        self._read = 0

    def rows(self, indices: np.ndarray) -> np.ndarray:
        """Return a copy of the rows int64[n]: float16[n, F]."""
        rows = self._values[indices]
        self._read += rows.nbytes
        if self._read > _MAPPED:
            self._map.madvise(mmap.MADV_DONTNEED)  # drops pages of the file; loses nothing
            self._read = 0
        return rows
