"""Score one block of sessions and write its part of the output atomically."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle.versions import version_of
from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.errors import DataError, MtawError, UsageError, require, shown
from mtaw_fast.kernels.native import _native
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.recommender import Recommender
from mtaw_fast.scoring.plan import Block, ScoringOptions
from mtaw_fast.scoring.sessions import (
    FALLBACK,
    ITEMS,
    SCORES,
    SESSION,
    TYPES,
    UNKNOWN,
    context_codes,
    context_in,
    has_types,
    kind_of,
    open_sessions,
    packed,
    read_rows,
    type_codes,
)
from mtaw_fast.storage.files import atomic_path

BATCH_ROWS = 8192  # sessions in memory at a time, and in a row group of the output
_SHARE = 512  # sessions that a thread takes at a time
Progress = Callable[[int], object]


class Scorer:
    """A loaded bundle that scores blocks of sessions. Raises as `Recommender.load`.

    threads: for ranking; the results do not depend on them. version: of the bundle, 16 hex digits. isa: the instruction
    set of the native encoder, on which the last bits of its vectors depend; '' for other encoders.
    """

    def __init__(self, folder: Path, options: ScoringOptions, threads: int = 1) -> None:
        names: Any = {"encoder": options.encoder, "index": options.index}  # checked by `load`
        self.recommender = Recommender.load(folder, **names)
        self.options = options
        self.version = version_of(self.recommender.bundle.manifest)
        self.isa = _native.active_isa() if isinstance(self.recommender.encoder, NativeEncoder) else ""
        self._threads = threads

    def check(self, version: str, isa: str) -> None:
        """Raise MtawError unless this bundle and this processor give the same bits as the plan's."""
        if self.version != version:
            raise MtawError(
                f"the bundle here is version {self.version}, but the run began with {version}; restore that one"
            )
        if self.isa != isa:
            raise MtawError(
                f"this host encodes with {self.isa}, but the run began with {isa}; set MTAW_ISA={isa} everywhere, or "
                "an instruction set that all hosts have"
            )

    def check_kind(self, path: Path) -> None:
        """Raise DataError if a file's ids are of another kind than the catalog's, so that all would be unknown."""
        with open_sessions(path) as file:
            kind = kind_of(file.schema_arrow)
        own_kind = self.recommender.ids.kind
        if kind not in (None, own_kind):
            words = {"int": "integers", "str": "texts"}
            raise DataError(
                f"{path}: the items are {words[kind]}, this bundle's item ids are {words[own_kind]}; convert them"
            )

    def context_of(self, paths: Sequence[Path]) -> tuple[str, ...]:
        """Return the context columns that all files have. Raises DataError if only some have one, or on its type."""
        expected: tuple[str, ...] | None = None
        for path in paths:
            with open_sessions(path) as file:
                names = context_in(file.schema_arrow, self._context, path)
            if expected is not None and names != expected:
                raise DataError(
                    f"{path}: it has the context columns {', '.join(names) or 'none'}, other files "
                    f"{', '.join(expected) or 'none'}; write the same columns into all of them"
                )
            expected = names
        return expected or ()

    def reads_types(self, paths: Sequence[Path]) -> bool:
        """Return whether the ranker reads types and all files have them. Raises DataError if only some have them."""
        if not self.recommender.click_types:
            return False
        flags = []
        for path in paths:
            with open_sessions(path) as file:
                flags.append(has_types(file.schema_arrow, path))
        if any(flags) and not all(flags):
            path = paths[flags.index(False)]
            raise DataError(f"{path}: it has no column {TYPES!r}, other files have one; write it into all of them")
        return any(flags)

    @property
    def _context(self) -> ContextColumns | None:
        context = self.recommender.bundle.model.context
        return None if context is None else context.columns

    def write(self, block: Block, folder: Path, progress: Progress = lambda _: None) -> None:
        """Score a block of its file into its part in `folder`. progress: called with the rows that are done.

        Raises DataError if the rows cannot be read, MtawError if the part cannot be written, such as on a full disk, or
        cannot hold an item id; no file is left behind.
        """
        pa, parquet = require("pyarrow", "score"), require("pyarrow.parquet", "score")
        with open_sessions(block.path) as file:
            schema = self._schema(file.schema_arrow)
        with (
            ThreadPoolExecutor(self._threads) as pool,
            atomic_path(folder / block.part) as draft,
            # Opened here, because Arrow's errors would hide the reason that the system gives.
            draft.open("wb") as stream,
            parquet.ParquetWriter(stream, schema, compression="zstd") as writer,
        ):
            for batch in read_rows(block.path, block.first, block.rows, BATCH_ROWS, self.options.columns):
                columns = [batch.column(SESSION), *self.answers(batch, pool)]
                writer.write_batch(pa.record_batch(columns, schema=schema), row_group_size=len(batch))
                progress(len(batch))

    def answers(self, batch: Any, pool: ThreadPoolExecutor) -> tuple[Any, ...]:
        """Return the columns `items`, `scores`, `fallback` and `unknown` for the sessions of a record batch."""
        pa = require("pyarrow", "score")
        ids, offsets = packed(batch.column(ITEMS))
        internal = self.recommender.ids.lookup(ids)
        known = internal >= 0
        counts = np.diff(offsets_of(known)[offsets])
        context = None
        if self.options.context and self._context is not None:
            context = np.repeat(context_codes(batch, self.options.context, self._context), counts, axis=0)
        types = None
        if self.options.types:
            types = type_codes(batch, self.recommender.bundle.model.click_types)[known]
        sessions = Sessions(internal[known], offsets_of(counts), types=types, context=context)
        shares = [sessions.slice(cut, min(cut + _SHARE, len(sessions))) for cut in range(0, len(sessions), _SHARE)]
        answers = [answer for share in pool.map(self._ranked, shares) for answer in share]
        ends = pa.array(offsets_of(np.array([len(answer) for answer in answers], np.int64)).astype(np.int32))
        try:
            values = pa.array([item for answer in answers for item in answer.items], self._item_type())
        except UnicodeEncodeError as error:
            raise DataError(
                f"the item id {shown(error.object)} has half a surrogate pair, which Parquet cannot hold; remove the "
                "item from the bundle"
            ) from None
        scores = np.concatenate([np.empty(0, np.float32), *(answer.scores for answer in answers)])
        return (
            pa.ListArray.from_arrays(ends, values),
            pa.ListArray.from_arrays(ends, pa.array(scores)),
            pa.array([answer.fallback for answer in answers], pa.bool_()),
            pa.array(np.diff(offsets) - counts, pa.int32()),
        )

    def _ranked(self, sessions: Sessions) -> Sequence[Recommendations]:
        options = self.options
        return self.recommender.recommend_batch(
            sessions, options.k, exclude=options.exclude, exclude_seen=options.exclude_seen, at=options.at,
            rules=options.rules,
        )  # fmt: skip

    def _item_type(self) -> Any:
        pa = require("pyarrow", "score")
        return pa.int64() if self.recommender.ids.kind == "int" else pa.string()

    def _schema(self, source: Any) -> Any:
        pa = require("pyarrow", "score")
        kinds = {
            SESSION: source.field(SESSION).type,
            ITEMS: pa.list_(self._item_type()),
            SCORES: pa.list_(pa.float32()),
            FALLBACK: pa.bool_(),
            UNKNOWN: pa.int32(),
        }
        return pa.schema(list(kinds.items()))


def moment_for(recommender: Recommender, at: int | None, now: int) -> int | None:
    """Return the time to rank for, one for the whole run however long it takes; None for a bundle without times.

    Raises UsageError if a time is given for a bundle that was trained without times.
    """
    if recommender.bundle.model.trends is None:
        if at is not None:
            raise UsageError("--at: this bundle was trained without times; leave --at out")
        return None
    return now if at is None else at
