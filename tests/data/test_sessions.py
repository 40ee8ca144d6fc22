"""Packed sessions, their samples and the top k of rows, against lists of lists."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.ranked_lists import top_k
from mtaw_fast.data.sessions import Samples, Sessions, check_prefixes, offsets_of, ranges
from mtaw_fast.errors import DataError
from tests.support.evaluation.lists import best_first

Lists = list[list[int]]
lists = st.lists(st.lists(st.integers(0, 9), max_size=7), max_size=8)


def stamped(rows: Lists) -> Sessions:
    """Sessions whose click number k happened at second 100 + k."""
    packed = Sessions.from_lists(rows)
    return Sessions(packed.items, packed.offsets, 100 + np.arange(packed.n_clicks))


def unpack(sessions: Sessions) -> Lists:
    return [session.tolist() for session in sessions]


def stamps(sessions: Sessions) -> Lists:
    assert sessions.times is not None
    return unpack(Sessions(sessions.times.astype(np.int32), sessions.offsets))


def check(sessions: Sessions, rows: Lists, source: Lists, picked: list[list[tuple[int, int]]]) -> None:
    """`sessions` holds `rows`, and the stamps of the (session, click) places of `source` that were picked."""
    begins = np.concatenate([[0], np.cumsum([len(row) for row in source])])
    assert unpack(sessions) == rows
    assert stamps(sessions) == [[100 + int(begins[s]) + k for s, k in places] for places in picked]
    assert sessions.items.dtype == np.int32
    assert sessions.offsets.dtype == np.int64


@settings(max_examples=100, deadline=None)
@given(rows=lists)
def test_from_lists(rows: Lists) -> None:
    sessions = Sessions.from_lists(rows)
    assert unpack(sessions) == rows
    assert [sessions[k].tolist() for k in range(-len(rows), len(rows))] == rows * 2
    assert (len(sessions), sessions.n_clicks) == (len(rows), sum(map(len, rows)))
    assert sessions.lengths.tolist() == [len(row) for row in rows]
    for place in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            sessions[place]


@settings(max_examples=150, deadline=None)
@given(rows=lists, begin=st.integers(-10, 10), end=st.integers(-10, 10))
def test_slice(rows: Lists, begin: int, end: int) -> None:
    places = [[(s, k) for k in range(len(row))] for s, row in enumerate(rows)]
    check(stamped(rows).slice(begin, end), rows[begin:end], rows, places[begin:end])


@settings(max_examples=100, deadline=None)
@given(rows=lists, data=st.data())
def test_select(rows: Lists, data: st.DataObject) -> None:
    picks = data.draw(st.lists(st.integers(0, len(rows) - 1)) if rows else st.just([]))
    places = [[(s, k) for k in range(len(rows[s]))] for s in picks]
    check(stamped(rows).select(np.array(picks, np.int64)), [rows[s] for s in picks], rows, places)


@settings(max_examples=100, deadline=None)
@given(rows=lists, most=st.integers(1, 8))
def test_keep_last(rows: Lists, most: int) -> None:
    places = [[(s, k) for k in range(len(row))][-most:] for s, row in enumerate(rows)]
    check(stamped(rows).keep_last(most), [row[-most:] for row in rows], rows, places)


@settings(max_examples=100, deadline=None)
@given(rows=lists, fraction=st.floats(0, 1))
def test_split_last(rows: Lists, fraction: float) -> None:
    sessions = stamped(rows)
    if len(rows) < 2:
        with pytest.raises(DataError, match="hold sessions out"):
            sessions.split_last(fraction)
        return
    first, last = sessions.split_last(fraction)
    assert unpack(first) + unpack(last) == rows
    assert len(last) == min(max(round(fraction * len(rows)), 1), len(rows) - 1)


@settings(max_examples=50, deadline=None)
@given(parts=st.lists(lists, max_size=4), timed=st.booleans())
def test_concatenate(parts: list[Lists], timed: bool) -> None:
    joined = Sessions.concatenate([stamped(rows) if timed else Sessions.from_lists(rows) for rows in parts])
    assert unpack(joined) == [row for rows in parts for row in rows]
    if timed and parts:
        expected = [100 + k for rows in parts for k in range(sum(map(len, rows)))]
        assert joined.times is not None
        assert joined.times.tolist() == expected
    else:
        assert joined.times is None


@settings(max_examples=150, deadline=None)
@given(rows=lists, min_prefix=st.integers(1, 4), timed=st.booleans())
def test_samples(rows: Lists, min_prefix: int, timed: bool) -> None:
    sessions = stamped(rows) if timed else Sessions.from_lists(rows)
    samples = Samples.from_sessions(sessions, min_prefix)
    cuts = [(s, k) for s, row in enumerate(rows) for k in range(min_prefix, len(row))]
    assert len(samples) == len(cuts)
    assert samples.session.tolist() == [s for s, _ in cuts]
    assert samples.targets.tolist() == [rows[s][k] for s, k in cuts]
    assert samples.repeats().tolist() == [rows[s][k] in rows[s][:k] for s, k in cuts]
    assert unpack(samples.prefixes) == [rows[s][:k] for s, k in cuts]
    if timed:
        places = [[(s, j) for j in range(k)] for s, k in cuts]
        check(samples.prefixes, [rows[s][:k] for s, k in cuts], rows, places)


@settings(max_examples=50, deadline=None)
@given(runs=st.lists(st.tuples(st.integers(-5, 50), st.integers(0, 6))))
def test_ranges(runs: list[tuple[int, int]]) -> None:
    begins, lengths = (np.array([run[part] for run in runs], np.int64) for part in (0, 1))
    assert ranges(begins, lengths).tolist() == [b + k for b, length in runs for k in range(length)]
    assert offsets_of(lengths).tolist() == [sum(lengths[:k]) for k in range(len(runs) + 1)]


ITEMS = np.array([1, 2, 3], np.int32)
OFFSETS = np.array([0, 1, 3], np.int64)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((ITEMS.astype(np.int64), OFFSETS), "int32"),
        ((ITEMS[None], OFFSETS), "int32"),
        ((ITEMS, OFFSETS.astype(np.int32)), "int64"),
        ((ITEMS, OFFSETS[:0]), "int64"),
        ((ITEMS, OFFSETS[None]), "int64"),
        ((ITEMS, np.array([0, 1, 2])), "from 0 to 3"),
        ((ITEMS, np.array([1, 2, 3])), "from 0 to 3"),
        ((ITEMS, np.array([0, 4, 3])), "decrease"),
        ((ITEMS, OFFSETS, np.arange(2)), "times"),
        ((ITEMS, OFFSETS, np.arange(3.0)), "times"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arguments: tuple[Any, ...], reason: str) -> None:
    with pytest.raises(DataError, match=reason) as caught:
        Sessions(*arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [-1, 4])
def test_check_ids(bad: int) -> None:
    Sessions.from_lists([[0, 3], []]).check_ids(4, "here")
    Sessions.from_lists([]).check_ids(0, "here")
    with pytest.raises(DataError, match=f"here: click 2 has internal item id {bad}, outside 0..3"):
        Sessions.from_lists([[0, 3], [bad]]).check_ids(4, "here")


def test_prefixes_that_would_fill_the_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """They grow with the square of a session's length. The limit that the message names helps."""
    sessions = Sessions.from_lists([range(n) for n in (3, 9, 30, 12, 9)])
    monkeypatch.setattr("mtaw_fast.data.sessions.MAX_PREFIX_CLICKS", 3 + 36 + 435 + 66 + 36)
    assert Samples.from_sessions(sessions, 1).prefixes.n_clicks == 3 + 36 + 435 + 66 + 36
    monkeypatch.setattr("mtaw_fast.data.sessions.MAX_PREFIX_CLICKS", 3 + 36 + 36 + 65)
    with pytest.raises(DataError, match=r"hold 576 clicks in all.* up to 30 .*such as --max-session 11$"):
        Samples.from_sessions(sessions, 1)
    check_prefixes(sessions.lengths[sessions.lengths <= 11], "the prefixes")
    check_prefixes(np.empty(0, np.int64), "the prefixes")
    with pytest.raises(DataError, match=r"--max-session 500, or go$"):  # bots are far longer than anybody else
        check_prefixes(np.array([100_000]), "the prefixes", ", or go")


finite = st.floats(-(2.0**100), 2.0**100, width=32) | st.sampled_from([0.0, -0.0, 1.0, -np.inf, np.inf])


@given(st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 9)), finite, max_size=40), st.integers(1, 12))
@settings(max_examples=150, deadline=None)
def test_top_k_sorts_each_row(candidates: dict[tuple[int, int], float], k: int) -> None:
    entries = sorted((row, item, score) for (row, item), score in candidates.items())
    columns = [np.array(column) for column in zip(*entries, strict=True)] or [np.empty(0, np.int64)] * 3
    ids, scores = top_k(columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2].astype(np.float64), 5, k)
    for row in range(5):
        row_scores = {item: score for r, item, score in entries if r == row}
        expected = best_first(row_scores, k)
        assert ids[row].tolist() == expected + [-1] * (k - len(expected))
        assert scores[row].tolist() == [row_scores[item] for item in expected] + [-np.inf] * (k - len(expected))
