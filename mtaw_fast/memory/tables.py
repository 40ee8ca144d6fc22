"""The tables of the session memory: pair statistics, counts and postings of past sessions.

Axes: N items, S sessions (oldest first), T clicks in them, P kept pairs.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import QuerySettings, SessionMemory
from mtaw_fast.kernels.native.memory_tables import TABLES, build_tables, check_tables, update_tables
from mtaw_fast.memory import files
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.storage.tensor_file import Tensors


@dataclass(frozen=True, slots=True, eq=False)
class MemoryTables:
    """Statistics of pairs of items and of items in past sessions, and the sessions themselves. Immutable.

    Of the ordered pair (a, b), a != b, over all sessions, six statistics (`window`, `span`, `recency`: the settings'):

        next  b directly after a
        fwd   1/distance for every click on b after one on a, at most `window` apart; bwd: the same with b before a
        ses   sessions with both whose first clicks on them are at most `span` apart
        aa    ses, with the weight 1/(its distinct items - 1) for a session
        rec   the terms of fwd and bwd, each times exp(-age/recency), age in sessions before the latest one with a

    Sessions from `settings.once_from` on count a pair once, however often they repeat a click, so that nobody gains by
    repeating. In these sessions next, fwd, bwd and rec read only the first click on each item, and a distance counts
    distinct items.

        row_offsets      int64[N + 1], of item a's neighbors b in the next three
        neighbors        int32[P], strongest first: by the sum over fwd, bwd, ses, rec of value/(total + 1), ties by id
        latest           int32[P], the latest session that added to the pair
        values           uint16[P, 6], the statistics as bfloat16 (to the nearest, ties to even)
        totals           float32[N, 6], sums over the whole row, including pairs cut off by `max_neighbors`
        counts           int32[N, 5]: clicks; sessions; clicks that their session repeats later, and as the next one;
                         the latest session with it, -1 without any
        post_offsets     int64[N + 1], of each item's part of
        postings         int32[..], the latest `max_postings` sessions with each item, ascending
        session_offsets  int64[S + 1], of each session in
        session_items    int32[T], all sessions, oldest first
        settings         with `recency` as a number

    Raises DataError on arrays with invalid offsets, ids or orders (`kernels.native.memory_tables.check_tables`).
    """

    row_offsets: np.ndarray
    neighbors: np.ndarray
    latest: np.ndarray
    values: np.ndarray
    totals: np.ndarray
    counts: np.ndarray
    post_offsets: np.ndarray
    postings: np.ndarray
    session_offsets: np.ndarray
    session_items: np.ndarray
    settings: MemorySettings

    def __post_init__(self) -> None:
        if self.settings.recency is None:
            raise UsageError("memory tables: settings.recency must be a number; see MemorySettings.resolved")
        try:
            check_tables(self.arrays(), self.settings.max_neighbors, self.settings.max_postings)
        except ValueError as error:
            raise DataError(f"memory tables: {error}; rebuild them") from None

    @classmethod
    def build(
        cls, sessions: Sessions, n_items: int, settings: MemorySettings | None = None, *, threads: int = 1
    ) -> MemoryTables:
        """Count past sessions, oldest first, of items 0..n_items-1; items without a click are in no pair.

        The result does not depend on the number of threads. Raises DataError on an item outside 0..N-1 or more than
        2^31 - 1 clicks.
        """
        settings = (settings or MemorySettings()).resolved(len(sessions))
        try:
            arrays = build_tables(
                sessions.items.copy(), sessions.offsets.copy(), n_items, settings.native, threads=threads
            )
        except (ValueError, IndexError) as error:
            raise DataError(f"memory tables: {error}") from None
        return cls(**_sealed(arrays), settings=settings)

    def update(
        self,
        new: Sessions,
        expire: int = 0,
        *,
        drop: Sequence[int] | np.ndarray = (),
        n_items: int | None = None,
        once: bool = False,
        threads: int = 1,
    ) -> MemoryTables:
        """Return tables without some sessions and with `new` ones after the others.

        The result equals, bit for bit, `build` from these sessions with the result's settings, for any number of
        threads. If only the oldest sessions are removed, only the rows of items in added or removed sessions are
        rebuilt. If others are removed, later sessions get new numbers, which change the ages in `rec`: then everything
        is rebuilt.

        expire: how many of the oldest sessions to remove. drop: ascending indices of more. n_items: the new number of
        items, at least as many as before. once: whether the new sessions count a pair once; always if earlier ones do.

        Raises DataError as `build`, UsageError if there are fewer than `expire` sessions, `drop` does not ascend within
        0..S-1, or there are fewer items than before.
        """
        if n_items is not None and n_items != self.n_items:
            if n_items < self.n_items:
                raise UsageError(f"memory tables: {self.n_items} items cannot become {n_items}")
            return self._widened(n_items).update(new, expire, drop=drop, once=once, threads=threads)
        if not 0 <= expire <= self.n_sessions:
            raise UsageError(f"memory tables: cannot expire {expire} of {self.n_sessions} sessions")
        removed = np.zeros(self.n_sessions, bool)
        removed[:expire] = True
        indices = np.asarray(drop, np.int64)
        if len(indices):
            if (np.diff(indices) <= 0).any() or indices[0] < 0 or indices[-1] >= self.n_sessions:
                raise UsageError(f"memory tables: sessions to drop must ascend within 0..{self.n_sessions - 1}")
            removed[indices] = True
        settings = self.settings
        if settings.once_from is not None:
            settings = replace(settings, once_from=settings.once_from - int(removed[: settings.once_from].sum()))
        elif once:
            settings = replace(settings, once_from=self.n_sessions - int(removed.sum()))
        expire = int(removed.sum())
        if not removed[:expire].all():
            remaining = self.sessions.select(np.flatnonzero(~removed))
            return self.build(Sessions.concatenate([remaining, new]), self.n_items, settings, threads=threads)
        try:
            arrays = update_tables(
                self.arrays(),
                np.ascontiguousarray(new.items),
                np.ascontiguousarray(new.offsets),
                settings.native,
                expire=expire,
                threads=threads,
            )
        except (ValueError, IndexError) as error:
            raise DataError(f"memory tables: {error}") from None
        return MemoryTables(**_sealed(arrays), settings=settings)

    def _widened(self, n_items: int) -> MemoryTables:
        """Return the tables for more items, which are in no session yet."""
        n_new = n_items - self.n_items
        arrays = self.arrays()
        for name in ("row_offsets", "post_offsets"):
            arrays[name] = np.concatenate([arrays[name], np.full(n_new, arrays[name][-1])])
        arrays["totals"] = np.concatenate([self.totals, np.zeros((n_new, self.totals.shape[1]), self.totals.dtype)])
        counts = np.zeros((n_new, self.counts.shape[1]), self.counts.dtype)
        counts[:, -1] = -1  # in no session
        arrays["counts"] = np.concatenate([self.counts, counts])
        return MemoryTables(**_sealed(arrays), settings=self.settings)

    @classmethod
    def load(cls, path: str | os.PathLike[str] | Tensors) -> MemoryTables:
        """Read the tables that `save` wrote, read-only. Raises DataError if the file is missing or damaged."""
        arrays, settings = files.read_tables(path if isinstance(path, Tensors) else Path(path))
        try:
            return cls(**arrays, settings=settings)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything to `path` as one safetensors file, atomically."""
        files.write_tables(Path(path), self.arrays(), self.settings)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in TABLES}

    def queries(
        self,
        n_catalog: int,
        settings: QuerySettings | None = None,
        isa: str | None = None,
        delta: MemoryDelta | None = None,
    ) -> SessionMemory:
        """Return the object that answers queries over the tables.

        n_catalog: ids of clicks and dense items are in 0..n_catalog-1; items that the tables do not have are in no
        session. isa: the instruction set; every one gives the same bits. delta: later clicks, in an object made from
        these tables; queries read it together with them.

        Raises ValueError on a setting out of range, or an instruction set that this CPU does not have.
        """
        assert self.settings.recency is not None
        once_from = self.settings.once_from if delta is None else delta.once_from
        return SessionMemory(
            self.arrays(), self.settings.recency, n_catalog, settings, isa=isa, delta=delta, once_from=once_from
        )

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.row_offsets) - 1

    @property
    def n_sessions(self) -> int:
        """S."""
        return len(self.session_offsets) - 1

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())

    @property
    def sessions(self) -> Sessions:
        """The sessions, as a view."""
        return Sessions(self.session_items, self.session_offsets)


def _sealed(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays, made read-only, since readers rely on the checks."""
    for array in arrays.values():
        array.setflags(write=False)
    return arrays
