"""Build a data set from the rows of a log: cut sessions, filter, split by time, number the items.

Plain numpy on packed arrays. Axes: T rows, B sessions. "The scripts" are the published preprocessing scripts: SR-GNN's
`datasets/preprocess.py` and its descendants.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtaw_fast.data.bots import BotRule
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers.click_log import NO_CLICK, ClickLog, appearance_rank
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.sessions import Samples, Sessions, check_prefixes, offsets_of, ranges
from mtaw_fast.errors import DataError

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the filters and the split.

    min_session, max_session: fewest and most clicks of a session (max_session None: no limit). min_support: fewest
    clicks of an item. until_stable: repeat the support filter until nothing changes; False: once, as the scripts do.
    test_ms: a session is in the test split if it ends within this many milliseconds before the last end.
    drop_at_boundary: leave out sessions that end exactly at the boundary, as the scripts do; False: train on them.
    min_prefix: the shortest prefix that counts as a sample. bots: what a bot is, to be left out before all filters;
    None: nothing, as the scripts do.
    """

    min_session: int
    max_session: int | None
    min_support: int
    until_stable: bool
    test_ms: int
    drop_at_boundary: bool
    min_prefix: int
    bots: BotRule | None = None


@dataclass(frozen=True, slots=True, eq=False)
class RawSessions:
    """B sessions of item codes.

    items: int32[T], item codes of the log. times: int64[T], milliseconds. types: uint8[T], type codes of the log, or
    None. offsets: int64[B + 1]. context: uint16[T, C], or None.
    ends: int64[B], time of the last click BEFORE any item was filtered out, as in the scripts.
    ties: int64[B], sort key among sessions of equal end.
    """

    items: np.ndarray
    times: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    ties: np.ndarray
    types: np.ndarray | None = None
    context: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64[B]: clicks of each session."""
        return np.diff(self.offsets)

    def keep(self, clicks: np.ndarray, shortest: int, longest: int | None) -> RawSessions:
        """Keep the clicks bool[T], then the sessions that still have shortest..longest of them (at least one)."""
        counts = np.diff(_running(clicks)[self.offsets])
        fits = counts >= max(shortest, 1)
        if longest is not None:
            fits &= counts <= longest
        clicks = clicks & np.repeat(fits, self.lengths)
        return self._selected(clicks, offsets_of(counts[fits]), fits)

    def select(self, sessions: np.ndarray) -> RawSessions:
        """Return the sessions int[B'], in that order."""
        lengths = self.lengths[sessions]
        return self._selected(ranges(self.offsets[sessions], lengths), offsets_of(lengths), sessions)

    def _selected(self, clicks: np.ndarray, offsets: np.ndarray, sessions: np.ndarray) -> RawSessions:
        """Return the clicks and sessions at these positions (numbers or masks), packed by `offsets`."""
        types = None if self.types is None else self.types[clicks]
        context = None if self.context is None else self.context[clicks]
        return RawSessions(
            self.items[clicks], self.times[clicks], offsets, self.ends[sessions], self.ties[sessions], types, context
        )


def by_owner(log: ClickLog, *, file_order: bool = False) -> RawSessions:
    """Make one session per owner, with clicks by time and then file order (`file_order`: by file order only).

    Ties of sessions with equal ends: by their first row in the file.
    """
    keys = (log.owner,) if file_order else (log.time, log.owner)
    order = np.lexsort(keys)
    starts = _starts(_differs(log.owner[order]))
    return cut_sessions(log, order, starts, np.minimum.reduceat(order, starts) if len(order) else starts)


def by_inactivity(log: ClickLog, gap_ms: int, *, split_owners: bool = True) -> RawSessions:
    """Sort rows by owner and time and cut them at gaps of more than `gap_ms` and where the owner changes.

    Rows that are not clicks count for the gaps, and are left out after the cut. Ties of sessions with equal ends: by
    owner, then time. split_owners: see `inactivity_cuts`.
    """
    order, starts = inactivity_cuts(log, gap_ms, split_owners=split_owners)
    return cut_sessions(log, order, starts, np.arange(len(starts)))


def inactivity_cuts(log: ClickLog, gap_ms: int, *, split_owners: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Return (order int64[T], starts int64[B]): all rows by owner and time, and where a session begins in that order.

    split_owners=False cuts only at gaps, in either direction, so that rows of two owners without a gap between them
    join (see the RetailRocket reader).
    """
    order = np.lexsort((log.time, log.owner))
    is_start = np.ones(len(order), dtype=bool)
    is_start[1:] = np.abs(np.diff(log.time[order])) > gap_ms
    if split_owners:
        is_start |= _differs(log.owner[order])
    return order, _starts(is_start)


def merge_types(raw: RawSessions, ranked: bool) -> tuple[RawSessions, int]:
    """Merge events of several types on one item in a row, such as view, cart and purchase, into one click.

    A run of events on one item within a session becomes one click if the run has two or more types. The click has the
    time and the context of the first event and the type of the last one; with `ranked`, the last one of the run's types
    in the order of their codes. Runs of a single type stay as they are.

    Returns
    -------
    raw : RawSessions
        The merged sessions; their ends are those of all events.
    merged : int
        Events that became part of a click before them.
    """
    if raw.types is None or not len(raw.items):
        return raw, 0
    is_start = _differs(raw.items)
    is_start[raw.offsets[:-1]] = True  # no session is empty
    begins = np.flatnonzero(is_start)
    run = np.cumsum(is_start) - 1
    lowest, highest = np.minimum.reduceat(raw.types, begins), np.maximum.reduceat(raw.types, begins)
    mixed = lowest != highest
    ends = np.append(begins[1:], len(raw.items)) - 1
    types = raw.types.copy()
    types[begins[mixed]] = (highest if ranked else raw.types[ends])[mixed]
    is_kept = is_start | ~mixed[run]
    return replace(raw, types=types).keep(is_kept, 1, None), len(is_kept) - int(np.count_nonzero(is_kept))


def filter_sessions(raw: RawSessions, rules: Rules, where: str, report: LogReport) -> RawSessions:
    """Drop short sessions, then items of low support, then sessions that are now too short or too long.

    This happens once, as in the scripts, or until nothing changes. report: counts what was dropped. Raises DataError,
    naming `where`, if nothing is left.
    """
    unfiltered = raw
    report.sessions = len(raw)
    report.longest = int(raw.lengths.max(initial=0))
    raw = without_bots(raw, rules.bots, report)
    support = np.bincount(raw.items)
    most_clicked, report.items = int(support.max(initial=0)), int(np.count_nonzero(support))
    raw = raw.keep(np.ones(len(raw.items), dtype=bool), rules.min_session, None)
    while True:
        frequent = enough_support(np.bincount(raw.items), rules, report)
        filtered = support_round(raw, frequent, rules, report)
        settled = len(filtered.items) == len(raw.items)
        raw = filtered
        if settled or not rules.until_stable:
            break
    report.short_sessions = len(unfiltered) - len(raw) - report.long_sessions - report.burst_sessions
    if len(raw) == 0:
        raise nothing_left(where, len(unfiltered.items), most_clicked, rules, report)
    return raw


def without_bots(raw: RawSessions, rule: BotRule | None, report: LogReport) -> RawSessions:
    """Return the sessions that are no bots. report: counts the bots."""
    if rule is None:
        return raw
    long = rule.too_long(raw.lengths)
    fast = rule.too_fast(raw.times, raw.offsets) & ~long
    report.long_sessions, report.long_clicks = int(np.count_nonzero(long)), int(raw.lengths[long].sum())
    report.burst_sessions, report.burst_clicks = int(np.count_nonzero(fast)), int(raw.lengths[fast].sum())
    bots = long | fast
    return raw.select(np.flatnonzero(~bots)) if bots.any() else raw


def enough_support(support: np.ndarray, rules: Rules, report: LogReport) -> np.ndarray:
    """Return bool[..]: whether an item with int[..] clicks has enough. report: counts those that do not."""
    report.rare_items += int(np.count_nonzero((support > 0) & (support < rules.min_support)))
    return support >= rules.min_support


def support_round(raw: RawSessions, frequent: np.ndarray, rules: Rules, report: LogReport) -> RawSessions:
    """Drop items that are not `frequent`, then too short or too long sessions. report: counts the long ones."""
    clicks = frequent[raw.items]
    if rules.max_session is not None:
        lengths = np.diff(_running(clicks)[raw.offsets])
        report.long_sessions += int(np.count_nonzero(lengths > rules.max_session))
        report.long_clicks += int(lengths[lengths > rules.max_session].sum())
    return raw.keep(clicks, rules.min_session, rules.max_session)


def nothing_left(where: str, clicks: int, most_clicked: int, rules: Rules, report: LogReport) -> DataError:
    """Return the error for filters that leave no session. clicks, most_clicked: counts before the filters."""
    if report.longest < rules.min_session:
        scarcity = f"the longest session has {report.longest}"
    elif most_clicked < rules.min_support:
        scarcity = f"the most clicked of {report.items} items has {most_clicked}"
    else:
        scarcity = (
            f"{report.rare_items} of {report.items} items have fewer, {report.long_sessions} sessions are too long"
        )
    longest = "" if not report.long_sessions else f" and at most {rules.max_session}"
    return DataError(
        f"{where}: the filters leave none of {clicks} clicks in {report.sessions} sessions: no session has at least "
        f"{rules.min_session}{longest} clicks on items of support >= {rules.min_support} ({scarcity}); loosen the "
        "filters or give more data"
    )


def to_dataset(
    raw: RawSessions,
    log: ClickLog,
    rules: Rules,
    name: str,
    preparation: Mapping[str, Any],
    reader: Mapping[str, Any],
    report: LogReport,
    *,
    timed: bool = True,
) -> Dataset:
    """Split the sessions by their ends, number the items and make the samples.

    log: the log of `raw`; only its names are read. preparation, reader: kept in the data set, the reader with the kind
    of the item ids and the names of the types. report: gets the counts of the test split and the warnings; the
    preparation keeps it as `log`. timed: keep the times and types of the clicks.

    Training sessions are in order of their ends, and internal ids in order of first appearance in them. Test clicks on
    items that training lacks are left out, then test sessions of fewer than min_prefix + 1 clicks. Raises DataError if
    the training split is empty, or the test split is although one was requested.
    """
    boundary = int(raw.ends.max()) - rules.test_ms
    is_test = raw.ends > boundary
    is_train = raw.ends < boundary if rules.drop_at_boundary else ~is_test
    if not is_train.any():
        raise all_in_test(name, len(raw), int(raw.ends.min()), int(raw.ends.max()), rules)
    order = np.lexsort((raw.ties, raw.ends))
    train = raw.select(order[is_train[order]])
    test = raw.select(order[is_test[order]])

    item_ids = log.item_ids
    n_codes = len(item_ids)
    known = np.zeros(n_codes, dtype=bool)
    known[train.items] = True
    internal = appearance_rank(train.items, n_codes).astype(np.int32)
    external_ids: Any = [item_ids[code] for code in np.argsort(internal, kind="stable")[: int(known.sum())].tolist()]

    ids = ItemIds.from_list(external_ids)
    samples, unseen = samples_of(test, np.where(known, internal, -1), rules, name, report, timed=timed)
    train_samples = int(np.maximum(train.lengths - rules.min_prefix, 0).sum())
    report.judge(rules.max_session, len(train), train_samples, len(samples))
    return Dataset(
        name=name,
        train=packed(train, internal, timed=timed),
        test=samples,
        ids=ids,
        min_prefix=rules.min_prefix,
        preparation={**preparation, "log": report.as_dict()},
        type_names=tuple(log.type_names) if timed else (),
        reader={**reader, "item_ids": ids.kind, "type_names": list(log.type_names)},
        unseen=unseen,
        context=log.context_columns if timed else None,
    )


def all_in_test(name: str, sessions: int, earliest: int, latest: int, rules: Rules) -> DataError:
    """Return the error for a log without training sessions. earliest, latest: ends of sessions."""
    return DataError(
        f"data set {name}: all {sessions} sessions end within the test period, none is left to train on: they span "
        f"{(latest - earliest) / _DAY_MS:.1f} days, the test split takes the last {rules.test_ms / _DAY_MS:g}; shorten "
        "the test period or give a longer log"
    )


def samples_of(
    test: RawSessions, internal: np.ndarray, rules: Rules, name: str, report: LogReport, *, timed: bool = True
) -> tuple[Samples, np.ndarray]:
    """Return the samples of the test sessions, and int32[M] the sessions of the missed targets (`Dataset.unseen`).

    internal: int32[codes], the internal id of each item that training has, else -1. report: gets the counts of the
    test split. Raises DataError if no sample is left although a test split was requested, or if the prefixes would take
    too much memory.
    """
    known = internal[test.items] >= 0
    report.test_clicks = len(test.items)
    report.unseen_clicks = int(np.count_nonzero(~known))
    unseen = _missed_targets(test, known, rules.min_prefix)
    report.missed_targets = len(unseen)
    test = test.keep(known, rules.min_prefix + 1, None)
    if rules.test_ms and len(test) == 0:
        raise DataError(
            f"data set {name}: no test session has {rules.min_prefix + 1} clicks on items seen in training; "
            "lengthen the test period"
        )
    check_prefixes(test.lengths, f"data set {name}: the test prefixes")
    return Samples.from_sessions(packed(test, internal, timed=timed), rules.min_prefix), unseen


def packed(part: RawSessions, internal: np.ndarray, *, timed: bool = True) -> Sessions:
    """Return the sessions in internal ids. internal: int32[codes]."""
    clicks = Sessions(internal[part.items], part.offsets, part.times, part.types, part.context)
    return clicks if timed else clicks.without_times()


def _missed_targets(test: RawSessions, known: np.ndarray, min_prefix: int) -> np.ndarray:
    """Return int32[M]: the session of each click that would be a target if training had seen its item.

    known: bool[T]. The numbers are those of the samples' sessions; sessions without a sample get the numbers after
    them.
    """
    session = np.repeat(np.arange(len(test)), test.lengths)
    position = np.arange(len(test.items)) - test.offsets[session]
    fits = np.diff(_running(known)[test.offsets]) > min_prefix
    number = np.where(fits, np.cumsum(fits) - 1, np.count_nonzero(fits) + np.cumsum(~fits) - 1)
    return number[session[~known & (position >= min_prefix)]].astype(np.int32)


def cut_sessions(log: ClickLog, order: np.ndarray, starts: np.ndarray, ties: np.ndarray) -> RawSessions:
    """Cut the rows in `order` at `starts` into sessions with these `ties`. Rows that are not clicks are left out, then
    sessions without a click."""
    offsets = np.append(starts, len(order)).astype(np.int64)
    if log.type is not None:
        clicks = log.type[order] != NO_CLICK
        counts = np.diff(_running(clicks)[offsets])
        order = order[clicks]
        ties = ties[counts > 0]
        offsets = offsets_of(counts[counts > 0])
    types = None if log.type is None else log.type[order]
    times = log.time[order]
    context = None if log.context is None else log.context[order]
    return RawSessions(log.item[order], times, offsets, times[offsets[1:] - 1], ties.astype(np.int64), types, context)


def _running(mask: np.ndarray) -> np.ndarray:
    """Return int64[len + 1]: how many of the first k are true."""
    return offsets_of(mask)


def _differs(values: np.ndarray) -> np.ndarray:
    """Return bool[T]: whether a value differs from the one before; the first one does."""
    different = np.ones(len(values), dtype=bool)
    different[1:] = values[1:] != values[:-1]
    return different


def _starts(new: np.ndarray) -> np.ndarray:
    return np.flatnonzero(new).astype(np.int64)
