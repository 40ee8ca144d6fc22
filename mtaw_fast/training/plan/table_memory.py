"""How much memory a training's tables may take while they are built."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.bounded import build_in_ranges, pass_bytes, remove_left
from mtaw_fast.memory.settings import MemorySettings
from mtaw_fast.system.memory_use import available_memory


@dataclass(frozen=True, slots=True)
class TableMemory:
    """A bound for building tables.

    Attributes
    ----------
    limit : int or None
        Bytes; None is half of what is available when tables are built.
    folder : Path
        For the files of tables that are built range by range.
    """

    limit: int | None
    folder: Path

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise UsageError("the memory for building tables must be above 0; leave it out for half of what is free")

    def build(self, sessions: Sessions, n_items: int, settings: MemorySettings, threads: int) -> MemoryTables:
        """`MemoryTables.build` within the bound; where that takes ranges of items, it is said in the log."""
        limit = self._allowed()
        need = pass_bytes(sessions, n_items, settings)
        if limit is None or need.total <= limit:
            return MemoryTables.build(sessions, n_items, settings, threads=threads)
        count = need.ranges(limit)
        logging.getLogger("mtaw_fast").warning(
            f"memory tables: one pass may take {need.total / 1e9:.3g} GB, {limit / 1e9:.3g} are allowed: built in "
            f"{count} ranges of items, with the same result"
        )
        return build_in_ranges(sessions, n_items, settings, count, self.folder, threads=threads)

    def most(self, sessions: Sessions, n_items: int, settings: MemorySettings) -> int:
        """Bytes that `build` takes at most: those of one pass, or the bound where that is less."""
        limit, need = self._allowed(), pass_bytes(sessions, n_items, settings)
        return need.total if limit is None else min(need.total, max(limit, need.fixed))

    def _allowed(self) -> int | None:
        """Bytes; None where nothing bounds them."""
        free = available_memory()
        return free // 2 if self.limit is None and free is not None else self.limit


_training: ContextVar[TableMemory | None] = ContextVar("table memory of the training under way", default=None)


def current_table_memory() -> TableMemory | None:
    """That of the training under way; None outside of one."""
    return _training.get()


@contextlib.contextmanager
def training_table_memory(bound: TableMemory) -> Iterator[None]:
    """Hold a training to the bound; files that killed ones have left in its folder go."""
    remove_left(bound.folder)
    token = _training.set(bound)
    try:
        yield
    finally:
        _training.reset(token)
