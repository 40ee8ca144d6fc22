"""Build the session memory's tables and trends of a training, within the memory that it may use for that."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from mtaw_fast.config import Config
from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.bounded import (
    PassBytes,
    build_in_ranges,
    build_trends_in_ranges,
    pass_bytes,
    remove_left,
    trend_bytes,
)
from mtaw_fast.memory.settings import MemorySettings, memory_settings
from mtaw_fast.memory.trends import TrendSettings, TrendTables, trend_settings
from mtaw_fast.system.memory_use import available_memory
from mtaw_fast.training.threads import current_threads


@dataclass(frozen=True, slots=True)
class TableMemory:
    """A memory limit for building tables.

    limit: bytes; None is half of the free memory at the time. folder: for the files of tables that are built in ranges
    of items.
    """

    limit: int | None
    folder: Path

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError("table_memory must be above 0; leave it out for half of the free memory")

    def build(self, sessions: Sessions, n_items: int, settings: MemorySettings, threads: int) -> MemoryTables:
        """Build tables as `MemoryTables.build`, in ranges of items if one pass would exceed the limit."""
        count = self._ranges("memory tables", pass_bytes(sessions, n_items, settings))
        if count == 1:
            return MemoryTables.build(sessions, n_items, settings, threads=threads)
        return build_in_ranges(sessions, n_items, settings, count, self.folder, threads=threads)

    def build_trends(
        self, sessions: Sessions, n_items: int, settings: TrendSettings, threads: int, context_sizes: Sequence[int]
    ) -> TrendTables:
        """Build trends as `TrendTables.build`, in ranges of items if one pass would exceed the limit."""
        assert sessions.times is not None
        count = self._ranges("trends", trend_bytes(sessions, n_items, settings))
        if count == 1:
            return TrendTables.build(
                sessions, sessions.times, n_items, settings, threads=threads, context_sizes=context_sizes
            )
        return build_trends_in_ranges(
            sessions, sessions.times, n_items, settings, count, self.folder, threads=threads,
            context_sizes=context_sizes,
        )  # fmt: skip

    def peak_bytes(self, need: PassBytes) -> int:
        """Return the peak bytes of a build that would need `need` in one pass."""
        limit = self._allowed()
        return need.total if limit is None else min(need.total, max(limit, need.fixed))

    def _ranges(self, name: str, need: PassBytes) -> int:
        """Return in how many ranges of items to build; more than one is logged."""
        limit = self._allowed()
        if limit is None or need.total <= limit:
            return 1
        count = need.ranges(limit)
        logging.getLogger("mtaw_fast").warning(
            f"{name}: one pass may take {need.total / 1e9:.3g} GB, {limit / 1e9:.3g} are allowed: built in "
            f"{count} ranges of items, with the same result"
        )
        return count

    def _allowed(self) -> int | None:
        """Return the limit in bytes; None without one."""
        free = available_memory()
        return free // 2 if self.limit is None and free is not None else self.limit


_training: ContextVar[TableMemory | None] = ContextVar("table memory of the current training", default=None)


@contextlib.contextmanager
def training_table_memory(limit: TableMemory) -> Iterator[None]:
    """Apply the limit to a training. First remove the files that killed trainings have left in the limit's folder."""
    remove_left(limit.folder)
    token = _training.set(limit)
    try:
        yield
    finally:
        _training.reset(token)


def build_tables(config: Config, sessions: Sessions, n_items: int) -> MemoryTables:
    """Build the tables of `sessions` by the settings, within the `TableMemory` of the current training."""
    limit, settings, threads = _training.get(), memory_settings(config), current_threads().pieces
    if limit is None:
        return MemoryTables.build(sessions, n_items, settings, threads=threads)
    return limit.build(sessions, n_items, settings, threads)


def table_bytes(config: Config, sessions: Sessions, n_items: int) -> int:
    """Return the peak bytes of `build_tables`."""
    return _peak_bytes(pass_bytes(sessions, n_items, memory_settings(config)))


def max_trend_bytes(config: Config, sessions: Sessions, n_items: int) -> int:
    """Return the peak bytes of `build_trends` for sessions with times."""
    return _peak_bytes(trend_bytes(sessions, n_items, trend_settings(config)))


def _peak_bytes(need: PassBytes) -> int:
    limit = _training.get()
    return need.total if limit is None else limit.peak_bytes(need)


def build_trends(
    config: Config, sessions: Sessions, n_items: int, context: ContextColumns | None = None
) -> TrendTables | None:
    """Build the trend tables of `sessions`; None without times, or if the settings exclude trends.

    context: the columns of the sessions' context, to count clicks within its values.
    """
    if sessions.times is None or not config.memory.trends or not config.ranker.prequential:
        return None
    settings, threads, limit = trend_settings(config), current_threads().pieces, _training.get()
    sizes = () if context is None else context.sizes
    if limit is not None:
        return limit.build_trends(sessions, n_items, settings, threads, sizes)
    return TrendTables.build(sessions, sessions.times, n_items, settings, threads=threads, context_sizes=sizes)
