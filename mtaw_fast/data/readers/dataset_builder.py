"""From the rows of a log to a data set: sessions, filters, the split by time, internal ids.

Plain numpy on packed arrays. Axes: T rows, B sessions. What the published preprocessing scripts share
(SR-GNN's `datasets/preprocess.py` and its descendants) is stated at each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers.click_log import NO_CLICK, ClickLog, appearance_rank
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.sessions import Samples, Sessions, check_prefixes, offsets_of, ranges
from mtaw_fast.errors import DataError

_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Rules:
    """What is kept, and what is test.

    min_session, max_session: clicks of a session (max_session None: no limit). min_support: clicks of an item.
    until_stable: repeat the support filter until nothing changes; False: once, as the scripts do.
    test_ms: a session is test if it ends later than this before the last end, in milliseconds.
    drop_at_boundary: leave out sessions that end exactly at the boundary, as the scripts do; False: train.
    min_prefix: the shortest prefix that counts as a sample.
    """

    min_session: int
    max_session: int | None
    min_support: int
    until_stable: bool
    test_ms: int
    drop_at_boundary: bool
    min_prefix: int


@dataclass(frozen=True, slots=True, eq=False)
class RawSessions:
    """B sessions of item codes.

    items: int32[T], codes of the log. times: int64[T], milliseconds. types: uint8[T], codes of the log's types, or
    None. offsets: int64[B + 1].
    ends: int64[B], time of the last click BEFORE any item was filtered out, as in the scripts.
    ties: int64[B], the order among sessions of equal end.
    """

    items: np.ndarray
    times: np.ndarray
    offsets: np.ndarray
    ends: np.ndarray
    ties: np.ndarray
    types: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """int64[B]: clicks of each session."""
        return np.diff(self.offsets)

    def keep(self, clicks: np.ndarray, shortest: int, longest: int | None) -> RawSessions:
        """Only the clicks bool[T], then only sessions that still have shortest..longest of them (and at least one)."""
        counts = np.diff(_running(clicks)[self.offsets])
        fits = counts >= max(shortest, 1)
        if longest is not None:
            fits &= counts <= longest
        clicks = clicks & np.repeat(fits, self.lengths)
        return self._of(clicks, offsets_of(counts[fits]), fits)

    def select(self, sessions: np.ndarray) -> RawSessions:
        """The sessions int[B'], in that order."""
        lengths = self.lengths[sessions]
        return self._of(ranges(self.offsets[sessions], lengths), offsets_of(lengths), sessions)

    def _of(self, clicks: np.ndarray, offsets: np.ndarray, sessions: np.ndarray) -> RawSessions:
        """The clicks and sessions at these places (numbers or masks), packed by `offsets`."""
        types = None if self.types is None else self.types[clicks]
        return RawSessions(
            self.items[clicks], self.times[clicks], offsets, self.ends[sessions], self.ties[sessions], types
        )


def by_owner(log: ClickLog, *, file_order: bool = False) -> RawSessions:
    """One session an owner; clicks by time, equal times in file order (`file_order`: in file order alone).

    Sessions of equal end: by their first row in the file.
    """
    keys = (log.owner,) if file_order else (log.time, log.owner)
    order = np.lexsort(keys)
    starts = _starts(_differs(log.owner[order]))
    return cut_sessions(log, order, starts, np.minimum.reduceat(order, starts) if len(order) else starts)


def by_inactivity(log: ClickLog, gap_ms: int, *, split_owners: bool = True) -> RawSessions:
    """Rows by owner and time, cut where more than `gap_ms` lie between neighbors, and where the owner changes.

    Rows that are no clicks keep a session alive: they count for the gaps and are left out after the cut.
    Sessions of equal end: by owner, then time. split_owners: see `inactivity_cuts`.
    """
    order, starts = inactivity_cuts(log, gap_ms, split_owners=split_owners)
    return cut_sessions(log, order, starts, np.arange(len(starts)))


def inactivity_cuts(log: ClickLog, gap_ms: int, *, split_owners: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(order int64[T], starts int64[B]): all rows by owner and time, and where in that order a session begins.

    split_owners=False cuts at gaps in either direction alone, so that a change of owner without one joins two
    owners' rows (see the RetailRocket reader).
    """
    order = np.lexsort((log.time, log.owner))
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.abs(np.diff(log.time[order])) > gap_ms
    if split_owners:
        new |= _differs(log.owner[order])
    return order, _starts(new)


def filter_sessions(raw: RawSessions, rules: Rules, where: str, report: LogReport) -> RawSessions:
    """Drop short sessions, then items of low support, then sessions now too short or too long.

    Once, as the scripts do, or again until nothing changes. report: gains what was dropped, and why. Raises DataError,
    naming `where`, if nothing is left.
    """
    before = raw
    report.sessions = len(raw)
    report.longest = int(raw.lengths.max(initial=0))
    support = np.bincount(raw.items)
    most, report.items = int(support.max(initial=0)), int(np.count_nonzero(support))
    raw = raw.keep(np.ones(len(raw.items), dtype=bool), rules.min_session, None)
    while True:
        frequent = enough_support(np.bincount(raw.items), rules, report)
        kept = support_round(raw, frequent, rules, report)
        settled = len(kept.items) == len(raw.items)
        raw = kept
        if settled or not rules.until_stable:
            break
    report.short_sessions = len(before) - len(raw) - report.long_sessions
    if len(raw) == 0:
        raise nothing_left(where, len(before.items), most, rules, report)
    return raw


def enough_support(support: np.ndarray, rules: Rules, report: LogReport) -> np.ndarray:
    """bool[..]: whether an item, clicked int[..] times, has enough clicks. report: gains those that do not."""
    report.rare_items += int(np.count_nonzero((support > 0) & (support < rules.min_support)))
    return support >= rules.min_support


def support_round(raw: RawSessions, frequent: np.ndarray, rules: Rules, report: LogReport) -> RawSessions:
    """Drop the items that are not `frequent`, then sessions now too short or too long, which the report gains."""
    clicks = frequent[raw.items]
    if rules.max_session is not None:
        lengths = np.diff(_running(clicks)[raw.offsets])
        report.long_sessions += int(np.count_nonzero(lengths > rules.max_session))
        report.long_clicks += int(lengths[lengths > rules.max_session].sum())
    return raw.keep(clicks, rules.min_session, rules.max_session)


def nothing_left(where: str, clicks: int, most_clicked: int, rules: Rules, report: LogReport) -> DataError:
    """The error where the filters leave no session. clicks, most_clicked: before them, of all and of one item."""
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
        f"{where}: of {clicks} clicks in {report.sessions} sessions, no session with at least "
        f"{rules.min_session}{longest} clicks on items of support >= {rules.min_support} is left: "
        f"{scarcity}; loosen the filters or give more data"
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
    """Split by the sessions' ends, number the items, make the samples.

    log: whose rows `raw` was made of (its names alone are read). preparation, reader: kept in the data set, the
    latter with the kind of the item ids and the names of the types. report: gains what the test is like, and its
    warnings; the preparation keeps it as `log`. timed: keep the times and types of the clicks.

    Train sessions stand in order of their end. Internal ids follow the first appearance in them. Clicks of
    test sessions on items that train lacks are left out, then test sessions of fewer than min_prefix + 1.
    Raises DataError where train is empty, or test is though asked for.
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
    external: Any = [item_ids[code] for code in np.argsort(internal, kind="stable")[: int(known.sum())].tolist()]

    ids = ItemIds.from_list(external)
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
    )


def all_in_test(name: str, sessions: int, earliest: int, latest: int, rules: Rules) -> DataError:
    """The error where no session is left to train on. earliest, latest: ends of sessions."""
    return DataError(
        f"data set {name}: all {sessions} sessions end within the test period, none is left to train on: they span "
        f"{(latest - earliest) / _DAY_MS:.1f} days, the test takes the last {rules.test_ms / _DAY_MS:g}; shorten the "
        "test period or give a longer log"
    )


def samples_of(
    test: RawSessions, internal: np.ndarray, rules: Rules, name: str, report: LogReport, *, timed: bool = True
) -> tuple[Samples, np.ndarray]:
    """The samples of the test sessions, and int32[M] the missed targets' sessions (`Dataset.unseen`).

    internal: int32[codes], the internal id of each item that training has, -1 of the others. report: gains what the
    test is like. Raises DataError where no sample is left though a test was asked for, or the prefixes would take
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
    """The sessions in internal ids. internal: int32[codes]."""
    clicks = Sessions(internal[part.items], part.offsets, part.times, part.types)
    return clicks if timed else clicks.without_times()


def _missed_targets(test: RawSessions, known: np.ndarray, min_prefix: int) -> np.ndarray:
    """int32[M]: for each click that would be a target if training had seen its item, the number of its session.

    known: bool[T]. Numbers are those of the samples' sessions; sessions without a sample come behind them.
    """
    session = np.repeat(np.arange(len(test)), test.lengths)
    place = np.arange(len(test.items)) - test.offsets[session]
    fits = np.diff(_running(known)[test.offsets]) > min_prefix
    number = np.where(fits, np.cumsum(fits) - 1, np.count_nonzero(fits) + np.cumsum(~fits) - 1)
    return number[session[~known & (place >= min_prefix)]].astype(np.int32)


def cut_sessions(log: ClickLog, order: np.ndarray, starts: np.ndarray, ties: np.ndarray) -> RawSessions:
    """Rows in `order`, cut at `starts` into sessions with these `ties`; rows that are no clicks are left out,
    then sessions without a click."""
    offsets = np.append(starts, len(order)).astype(np.int64)
    if log.type is not None:
        clicks = log.type[order] != NO_CLICK
        counts = np.diff(_running(clicks)[offsets])
        order = order[clicks]
        ties = ties[counts > 0]
        offsets = offsets_of(counts[counts > 0])
    types = None if log.type is None else log.type[order]
    times = log.time[order]
    return RawSessions(log.item[order], times, offsets, times[offsets[1:] - 1], ties.astype(np.int64), types)


def _running(mask: np.ndarray) -> np.ndarray:
    """int64[len + 1]: how many of the first k are true."""
    return offsets_of(mask)


def _differs(values: np.ndarray) -> np.ndarray:
    """bool[T]: whether a value is unlike the one before; the first one is."""
    different = np.ones(len(values), dtype=bool)
    different[1:] = values[1:] != values[:-1]
    return different


def _starts(new: np.ndarray) -> np.ndarray:
    return np.flatnonzero(new).astype(np.int64)
