"""Build the session memory's tables and trends of a training, within the memory that it may use for that."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
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
from mtaw_fast.memory.settings import memory_settings
from mtaw_fast.memory.trends import TrendTables, trend_settings
from mtaw_fast.system.memory_use import available_memory
from mtaw_fast.training.threads import current_threads


@dataclass(frozen=True, slots=True)
class TableMemory:
    """A limit of the memory for building tables, and what to do beyond it.

    limit: bytes; None is half of the free memory at the time. folder: for the files of tables that are built in ranges
    of items.
    """

    limit: int | None
    folder: Path

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError("table_memory must be above 0; leave it out for half of the free memory")

    def allowed(self) -> int | None:
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
    """Build the tables of `sessions` by the settings.

    In ranges of items if one pass would exceed the `TableMemory` of the current training.
    """
    settings, threads = memory_settings(config), current_threads().pieces
    ranges = _ranges("memory tables", pass_bytes(sessions, n_items, settings))
    if ranges is None:
        return MemoryTables.build(sessions, n_items, settings, threads=threads)
    return build_in_ranges(sessions, n_items, settings, *ranges, threads=threads)


def build_trends(
    config: Config, sessions: Sessions, n_items: int, context: ContextColumns | None = None
) -> TrendTables | None:
    """Build the trend tables of `sessions` likewise; None without times, or if the settings exclude trends.

    context: the columns of the sessions' context, to count clicks within its values.
    """
    if sessions.times is None or not config.memory.trends or not config.ranker.prequential:
        return None
    settings, threads = trend_settings(config), current_threads().pieces
    sizes = () if context is None else context.sizes
    ranges = _ranges("trends", trend_bytes(sessions, n_items, settings))
    if ranges is None:
        return TrendTables.build(sessions, sessions.times, n_items, settings, threads=threads, context_sizes=sizes)
    return build_trends_in_ranges(
        sessions, sessions.times, n_items, settings, *ranges, threads=threads, context_sizes=sizes
    )


def _ranges(name: str, need: PassBytes) -> tuple[int, Path] | None:
    """Return in how many ranges of items to build, which is logged, and the folder; None for one pass."""
    memory = _training.get()
    limit = None if memory is None else memory.allowed()
    if memory is None or limit is None or need.total <= limit:
        return None
    count = need.ranges(limit)
    logging.getLogger("mtaw_fast").warning(
        f"{name}: one pass may take {need.total / 1e9:.3g} GB, {limit / 1e9:.3g} are allowed: built in "
        f"{count} ranges of items, with the same result"
    )
    return count, memory.folder


def table_bytes(config: Config, sessions: Sessions, n_items: int) -> int:
    """Return the peak bytes of `build_tables`."""
    return _peak_bytes(pass_bytes(sessions, n_items, memory_settings(config)))


def max_trend_bytes(config: Config, sessions: Sessions, n_items: int) -> int:
    """Return the peak bytes of `build_trends` for sessions with times."""
    return _peak_bytes(trend_bytes(sessions, n_items, trend_settings(config)))


def _peak_bytes(need: PassBytes) -> int:
    memory = _training.get()
    limit = None if memory is None else memory.allowed()
    return need.total if limit is None else min(need.total, max(limit, need.fixed))
