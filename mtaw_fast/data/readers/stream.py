"""A log as a stream of clicks, as `update` and `replay` read it. `readers.read_stream` is the entry point.

Sessions are cut as in `prepare`, but nothing is filtered: items of low support, short and long sessions and the test
days are all in the stream. Only rows whose type does not count are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers.click_log import ClickLog, appearance_rank
from mtaw_fast.data.readers.dataset_builder import RawSessions, merged_types
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of, ranges


@dataclass(frozen=True, slots=True, eq=False)
class ClickStream:
    """T clicks in time order, equal times in the order of the log.

    sessions: int32[T], codes into `session_ids`, numbered by first click. items: int32[T], codes into `item_ids`, in
    any order. times: int64[T] milliseconds since 1970 (UTC), or None if the source has no real times; then the sessions
    are one after the other, in order of their ends. types: uint8[T], codes into `type_names`, or None.
    session_ids: external ids, all int or all str. If sessions are cut by inactivity, an id is 'USER@MILLISECONDS' of
    the session's first row, which is equal in every log that has this row and the rows within the gap before it.
    item_ids: distinct external ids, all int or all str; some may have no click.
    context: uint16[T, C], codes of the log's own `context_columns`; None for both without any.
    """

    sessions: np.ndarray
    items: np.ndarray
    times: np.ndarray | None
    types: np.ndarray | None
    session_ids: list[int] | list[str]
    item_ids: list[int] | list[str]
    type_names: tuple[str, ...] = ()
    context: np.ndarray | None = None
    context_columns: ContextColumns | None = None

    def context_of(self, click: int) -> dict[str, str] | None:
        """Return the values of a click's context by column; None without any."""
        if self.context is None or self.context_columns is None:
            return None
        return self.context_columns.values_of(self.context[click]) or None

    def type_of(self, click: int) -> str | None:
        """Return the type of a click; None if it is unknown."""
        return None if self.types is None else self.type_names[self.types[click]]

    def __len__(self) -> int:
        return len(self.items)

    def with_merged_types(self, ranked: bool) -> ClickStream:
        """Return the stream as `dataset_builder.merged_types` merges its sessions."""
        assert self.types is not None
        order = np.argsort(self.sessions, kind="stable")
        clicks = Sessions(self.items[order], offsets_of(np.bincount(self.sessions)), None, self.types[order])
        types, kept = self.types.copy(), np.empty(len(self), dtype=bool)
        types[order], kept[order] = merged_types(clicks, ranked)
        arrays = {"sessions": self.sessions, "items": self.items, "times": self.times, "context": self.context}
        selected = {name: array[kept] for name, array in arrays.items() if array is not None}
        return replace(self, types=types[kept], **selected)  # type: ignore[arg-type]


def by_owner_ids(log: ClickLog) -> ClickStream:
    """Return the stream of a log whose owners are its sessions. Reads `log.owner_ids`."""
    return _in_time_order(log, log.owner, lambda sessions: _owner_names(log, sessions))


def by_gap(log: ClickLog, order: np.ndarray, starts: np.ndarray) -> ClickStream:
    """Return the stream of a log whose rows in `order` int64[T] are cut into sessions at `starts` int64[B]."""
    session = np.empty(len(log), dtype=np.int64)
    session[order] = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(order))))

    def names(sessions: np.ndarray) -> list[str]:
        first_rows = order[starts[sessions]]
        owners = _owner_names(log, log.owner[first_rows])
        return [f"{owner}@{start}" for owner, start in zip(owners, log.time[first_rows].tolist(), strict=True)]

    return _in_time_order(log, session, names)


def whole_sessions(log: ClickLog, raw: RawSessions) -> ClickStream:
    """Return the stream of a log without real times: the sessions `raw`, one per owner in order of owners, by their
    ends."""
    order = np.lexsort((raw.ties, raw.ends))
    ordered = raw.clicks.select(order)
    owners = np.unique(log.owner)[order]
    sessions = np.repeat(np.arange(len(ordered), dtype=np.int32), ordered.lengths)
    return ClickStream(sessions, ordered.items, None, None, _owner_names(log, owners), log.item_ids)


def of_samples(samples: Samples, ids: ItemIds) -> ClickStream:
    """Return the stream of test samples: each session is its longest prefix and the target, in the samples' order."""
    lengths = samples.prefixes.lengths
    by_session = np.lexsort((-lengths, samples.session))
    is_first = np.ones(len(by_session), dtype=bool)
    is_first[1:] = np.diff(samples.session[by_session]) != 0
    numbers, first_samples = np.unique(samples.session, return_index=True)
    longest = by_session[is_first][np.argsort(first_samples)]
    prefixes = samples.prefixes.select(longest)
    counts = prefixes.lengths + 1
    items = np.empty(int(counts.sum()), dtype=np.int32)
    ends = np.cumsum(counts) - 1
    items[ranges(ends - counts + 1, counts - 1)] = prefixes.items
    items[ends] = samples.targets[longest]
    sessions = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    names: list[int] = np.asarray(numbers[np.argsort(first_samples)]).tolist()
    return ClickStream(sessions, items, None, None, names, ids.external(np.arange(len(ids))))


def _in_time_order(log: ClickLog, session: np.ndarray, names: Callable[[np.ndarray], Any]) -> ClickStream:
    """Return the stream of the rows that count, by time. session: int64[T]; names: session numbers to external ids."""
    order = np.argsort(log.time, kind="stable")
    order = order[log.is_click[order]]
    sessions, numbers = np.unique(session[order], return_inverse=True)
    rank, rows = appearance_rank(numbers, len(sessions)), log.select(order)
    return ClickStream(
        rank[numbers].astype(np.int32), rows.item, rows.time, rows.type, names(sessions[np.argsort(rank)]),
        log.item_ids, log.type_names, rows.context, log.context_columns,
    )  # fmt: skip


def _owner_names(log: ClickLog, owners: np.ndarray) -> list[int] | list[str]:
    """Return the external ids of the owners int64[..]."""
    if log.owner_ids:
        return [log.owner_ids[owner] for owner in owners.tolist()]
    return owners.tolist()
