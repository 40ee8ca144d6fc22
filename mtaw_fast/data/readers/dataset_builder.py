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
from mtaw_fast.data.readers.click_log import ClickLog, appearance_rank
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.options import DAY_MS, ClickOptions
from mtaw_fast.data.sessions import Samples, Sessions, check_prefixes, offsets_of
from mtaw_fast.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class RawSessions:
    """B sessions of item codes and type codes of a log.

    clicks: the sessions. ends: int64[B], time of the last click BEFORE any item was filtered out, as in the scripts.
    ties: int64[B], sort key among sessions of equal end.
    """

    clicks: Sessions
    ends: np.ndarray
    ties: np.ndarray

    def __len__(self) -> int:
        return len(self.clicks)

    @property
    def lengths(self) -> np.ndarray:
        """int64[B]: clicks of each session."""
        return self.clicks.lengths

    @property
    def times(self) -> np.ndarray:
        """int64[T]: the times of the clicks."""
        assert self.clicks.times is not None
        return self.clicks.times

    def keep(self, clicks: np.ndarray, shortest: int, longest: int | None) -> RawSessions:
        """Keep the clicks bool[T], then the sessions that still have shortest..longest of them (at least one)."""
        counts = np.diff(offsets_of(clicks)[self.clicks.offsets])
        fits = counts >= max(shortest, 1)
        if longest is not None:
            fits &= counts <= longest
        kept = self.clicks.selected(clicks & np.repeat(fits, self.lengths), offsets_of(counts[fits]))
        return RawSessions(kept, self.ends[fits], self.ties[fits])

    def select(self, sessions: np.ndarray) -> RawSessions:
        """Return the sessions int[B'], in that order."""
        return RawSessions(self.clicks.select(sessions), self.ends[sessions], self.ties[sessions])

    def in_order(self) -> RawSessions:
        """Return the sessions by their ends."""
        return self.select(np.lexsort((self.ties, self.ends)))


def build(
    log: ClickLog,
    options: ClickOptions,
    where: str,
    name: str,
    reader: Mapping[str, Any],
    preparation: Mapping[str, Any],
    *,
    timed: bool = True,
) -> Dataset:
    """Make the data set of a log. where: names the log in errors; name: names the data set.

    reader, preparation: kept in the data set, the reader with the kind of the item ids and the names of the types, the
    preparation with the counts and warnings of the log as `log`. timed: keep the times and types of the clicks.

    Training sessions are in order of their ends, and internal ids in order of first appearance in them. Test clicks on
    items that training lacks are left out, then test sessions of fewer than min_prefix + 1 clicks. Raises DataError if
    the filters leave nothing, if the training split is empty, or the test split although one was requested.
    """
    report, n_rows = LogReport(), len(log)
    raw = cut_log(log, options, report, timed=timed)
    if report.clicks == 0:
        raise no_click(where, options, report)
    log = log.select(np.empty(0, dtype=np.int64))  # only its names are used, so the memory of the rows is freed
    raw = filter_sessions(without_bots(raw, options.bots, report), options, where, report)
    boundary = int(raw.ends.max()) - options.test_ms
    is_test = raw.ends > boundary
    is_train = raw.ends < boundary if options.scripted else ~is_test
    if not is_train.any():
        raise all_in_test(name, len(raw), int(raw.ends.min()), int(raw.ends.max()), options)
    order = np.lexsort((raw.ties, raw.ends))
    train = raw.select(order[is_train[order]]).clicks

    item_ids = log.item_ids
    n_codes = len(item_ids)
    known = np.zeros(n_codes, dtype=bool)
    known[train.items] = True
    internal = appearance_rank(train.items, n_codes).astype(np.int32)
    external_ids: Any = [item_ids[code] for code in np.argsort(internal, kind="stable")[: int(known.sum())].tolist()]

    ids = ItemIds.from_list(external_ids)
    test = packed(raw.select(order[is_test[order]]).clicks, np.where(known, internal, -1), timed=timed)
    samples, unseen = samples_of(test, options, name, report)
    train_samples = int(np.maximum(train.lengths - options.min_prefix, 0).sum())
    report.judge(options.max_session, len(train), train_samples, len(samples))
    return Dataset(
        name=name,
        train=packed(train, internal, timed=timed),
        test=samples,
        ids=ids,
        min_prefix=options.min_prefix,
        preparation={**preparation, "rows": n_rows, "sessions": report.sessions, "log": report.as_dict()},
        type_names=tuple(log.type_names) if timed else (),
        reader={**reader, "item_ids": ids.kind, "type_names": list(log.type_names)},
        unseen=unseen,
        context=log.context_columns if timed else None,
    )


def cut_log(log: ClickLog, options: ClickOptions, report: LogReport, *, timed: bool = True) -> RawSessions:
    """Cut a log into sessions, without clicks outside the window and repeats. report: counts them. timed: whether the
    log has real times, whose days are counted."""
    log = report.read(report.within(log, *options.window_ms), options.dedupe_ms)
    raw = sessions_in(log, options)
    if options.merge_types:
        types, kept = merged_types(raw.clicks, bool(options.types))
        report.merged_clicks = int(np.count_nonzero(~kept))
        raw = replace(raw, clicks=replace(raw.clicks, types=types)).keep(kept, 1, None)
    report.sessions, report.longest = len(raw), int(raw.lengths.max(initial=0))
    if timed:
        report.times(raw.times)
    return raw


def without_bots(raw: RawSessions, rule: BotRule | None, report: LogReport) -> RawSessions:
    """Return the sessions that are no bots. report: counts the bots."""
    if rule is None:
        return raw
    lengths = raw.lengths
    long = rule.too_long(lengths)
    fast = rule.too_fast(raw.times, raw.clicks.offsets) & ~long
    report.long_sessions, report.long_clicks = int(np.count_nonzero(long)), int(lengths[long].sum())
    report.burst_sessions, report.burst_clicks = int(np.count_nonzero(fast)), int(lengths[fast].sum())
    bots = long | fast
    return raw.select(np.flatnonzero(~bots)) if bots.any() else raw


def sessions_in(log: ClickLog, options: ClickOptions) -> RawSessions:
    """Make one session per owner, or cut the rows of each user by inactivity.

    A session's clicks are by time and then file order; Tmall's script keeps the file order alone. Rows that are not
    clicks count for the gaps and are left out after the cut, then sessions without a click. Ties of sessions with equal
    ends: by their first row in the file; of users by the user, as no two of one user end at once.
    """
    if options.user is None:
        order = np.lexsort((log.owner,) if options.scripted else (log.time, log.owner))
        starts = np.flatnonzero(_differs(log.owner[order]))
        ties = np.minimum.reduceat(order, starts) if len(order) else starts
        ties = ties if log.row is None else log.row[ties]
    else:
        order, starts = inactivity_cuts(log, options)
        ties = log.owner[order[starts]]
    offsets = np.append(starts, len(order)).astype(np.int64)
    if log.type is not None:
        clicks = log.is_click[order]
        counts = np.diff(offsets_of(clicks)[offsets])
        order, ties, offsets = order[clicks], ties[counts > 0], offsets_of(counts[counts > 0])
    known = (log.time, log.type, log.context)
    sessions = Sessions(log.item[order], offsets, *(None if array is None else array[order] for array in known))
    return RawSessions(sessions, log.time[order[offsets[1:] - 1]], ties.astype(np.int64))


def inactivity_cuts(log: ClickLog, options: ClickOptions) -> tuple[np.ndarray, np.ndarray]:
    """Return (order int64[T], starts int64[B]): all rows by user and time, and where a session begins in that order.

    A session ends at a gap of more than `gap_ms`, and where the user changes. RetailRocket's script cuts only at gaps,
    in either direction, so that rows of two visitors without a gap between them join.
    """
    order = np.lexsort((log.time, log.owner))
    is_start = np.ones(len(order), dtype=bool)
    is_start[1:] = np.abs(np.diff(log.time[order])) > options.gap_ms
    if not options.scripted:
        is_start |= _differs(log.owner[order])
    return order, np.flatnonzero(is_start).astype(np.int64)


def merged_types(clicks: Sessions, ranked: bool) -> tuple[np.ndarray, np.ndarray]:
    """Merge events of several types on one item in a row, such as view, cart and purchase, into one click.

    A run of events on one item within a session becomes one click if the run has two or more types. The click has the
    time and the context of the first event and the type of the last one; with `ranked`, the last one of the run's types
    in the order of their codes. Runs of a single type stay as they are. No session may be empty.

    Returns uint8[T], the types after that, and bool[T], the events that stay.
    """
    assert clicks.types is not None
    is_start = _differs(clicks.items)
    is_start[clicks.offsets[:-1]] = True
    begins = np.flatnonzero(is_start)
    if len(begins) == 0:
        return clicks.types, is_start
    run = np.cumsum(is_start) - 1
    lowest, highest = (reduce.reduceat(clicks.types, begins) for reduce in (np.minimum, np.maximum))
    mixed = lowest != highest
    ends = np.append(begins[1:], clicks.n_clicks) - 1
    types = clicks.types.copy()
    types[begins[mixed]] = (highest if ranked else types[ends])[mixed]
    return types, is_start | ~mixed[run]


def filter_sessions(raw: RawSessions, options: ClickOptions, where: str, report: LogReport) -> RawSessions:
    """Drop short sessions, then items of low support, then sessions that are now too short or too long.

    This happens once, as in the scripts, or until nothing changes. report: counts what was dropped. Raises DataError,
    naming `where`, if nothing is left.
    """
    support = np.bincount(raw.clicks.items)
    most_clicked, report.items = int(support.max(initial=0)), int(np.count_nonzero(support))
    raw = raw.keep(np.ones(raw.clicks.n_clicks, dtype=bool), options.min_session, None)
    while True:
        frequent = enough_support(np.bincount(raw.clicks.items), options, report)
        filtered = support_round(raw, frequent, options, report)
        settled = filtered.clicks.n_clicks == raw.clicks.n_clicks
        raw = filtered
        if settled or options.support_rounds == "once":
            break
    report.count_short(len(raw))
    if len(raw) == 0:
        raise nothing_left(where, most_clicked, options, report)
    return raw


def enough_support(support: np.ndarray, options: ClickOptions, report: LogReport) -> np.ndarray:
    """Return bool[..]: whether an item with int[..] clicks has enough. report: counts those that do not."""
    report.rare_items += int(np.count_nonzero((support > 0) & (support < options.min_support)))
    return support >= options.min_support


def support_round(raw: RawSessions, frequent: np.ndarray, options: ClickOptions, report: LogReport) -> RawSessions:
    """Drop items that are not `frequent`, then too short or too long sessions. report: counts them."""
    clicks = frequent[raw.clicks.items]
    lengths = np.diff(offsets_of(clicks)[raw.clicks.offsets])
    report.rare_sessions += int(np.count_nonzero(lengths < options.min_session))
    if options.max_session is not None:
        report.long_sessions += int(np.count_nonzero(lengths > options.max_session))
        report.long_clicks += int(lengths[lengths > options.max_session].sum())
    return raw.keep(clicks, options.min_session, options.max_session)


def no_click(where: str, options: ClickOptions, report: LogReport) -> DataError:
    """Return the error for a log without a click of the types that count, or between `since` and `until`."""
    if not report.outside_rows:
        return DataError(f"{where}: column {options.type!r} is never {' or '.join(map(repr, options.types))}")
    bounds = [f"{name} {value}" for name in ("since", "until") if (value := getattr(options, name)) is not None]
    return DataError(f"{where}: no click is within {' and '.join(bounds)}; check the bounds and --time-unit")


def nothing_left(where: str, most_clicked: int, options: ClickOptions, report: LogReport) -> DataError:
    """Return the error for filters that leave no session. most_clicked: clicks of an item before the filters."""
    if report.longest < options.min_session:
        scarcity = f"the longest session has {report.longest}"
    elif most_clicked < options.min_support:
        scarcity = f"the most clicked of {report.items} items has {most_clicked}"
    else:
        scarcity = (
            f"{report.rare_items} of {report.items} items have fewer, {report.long_sessions} sessions are too long"
        )
    longest = "" if not report.long_sessions else f" and at most {options.max_session}"
    return DataError(
        f"{where}: the filters leave none of {report.clicks - report.merged_clicks} clicks in {report.sessions} "
        f"sessions: no session has at least {options.min_session}{longest} clicks on items of support >= "
        f"{options.min_support} ({scarcity}); loosen the filters or give more data"
    )


def all_in_test(name: str, sessions: int, earliest: int, latest: int, options: ClickOptions) -> DataError:
    """Return the error for a log without training sessions. earliest, latest: ends of sessions."""
    days, first = (latest - earliest) / DAY_MS, np.datetime64(earliest, "ms").astype("datetime64[D]")
    return DataError(
        f"data set {name}: all {sessions} sessions end within the test period, none is left to train on: they span "
        f"{days:.1f} days from {first} on, the test split takes the last "
        f"{options.test_days:g}; shorten it, as with --test-days {days / 5:.2g}, or give a "
        "longer log; if the date is wrong, check --time and --time-unit"
    )


def packed(sessions: Sessions, internal: np.ndarray, *, timed: bool = True) -> Sessions:
    """Return sessions of item codes in internal ids. internal: int32[codes]."""
    clicks = replace(sessions, items=internal[sessions.items])
    return clicks if timed else clicks.without_times()


def samples_of(test: Sessions, options: ClickOptions, name: str, report: LogReport) -> tuple[Samples, np.ndarray]:
    """Return the samples of the test sessions, and int32[M] the sessions of the missed targets (`Dataset.unseen`).

    test: in internal ids, -1 for items that training lacks. report: gets the counts of the test split. Raises DataError
    if no sample is left although a test split was requested, or if the prefixes would take too much memory.
    """
    known = test.items >= 0
    report.test_clicks, report.unseen_clicks = test.n_clicks, int(np.count_nonzero(~known))
    # A session's number is that of its samples; sessions without a sample get the numbers after them.
    counts = np.diff(offsets_of(known)[test.offsets])
    fits = counts > options.min_prefix
    number = np.where(fits, np.cumsum(fits) - 1, np.count_nonzero(fits) + np.cumsum(~fits) - 1)
    session = np.repeat(np.arange(len(test)), test.lengths)
    position = np.arange(test.n_clicks) - test.offsets[session]
    unseen = number[session[~known & (position >= options.min_prefix)]].astype(np.int32)
    report.missed_targets = len(unseen)
    usable = test.selected(known & fits[session], offsets_of(counts[fits]))
    if options.test_ms and len(usable) == 0:
        raise DataError(
            f"data set {name}: no test session has {options.min_prefix + 1} clicks on items seen in training; "
            "lengthen the test period with --test-days"
        )
    check_prefixes(usable.lengths, f"data set {name}: the test prefixes")
    return Samples.from_sessions(usable, options.min_prefix), unseen


def _differs(values: np.ndarray) -> np.ndarray:
    """Return bool[T]: whether a value differs from the one before; the first one does."""
    different = np.ones(len(values), dtype=bool)
    different[1:] = values[1:] != values[:-1]
    return different
