"""The memory tables: equal to plain Python to the bit, a log computed by hand, and invariances."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.kernels.native.memory_tables import (
    TableSettings,
    build_tables,
    check_tables,
    update_tables,
)
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.bfloat16 import from_bfloat16, to_bfloat16
from tests.memory.reference.tables import build_reference
from tests.support.memory.logs import N_ITEMS, SESSIONS, SETTINGS, assert_same_tables, random_log

ALL = MemorySettings(max_neighbors=0, max_postings=0)


@settings(max_examples=200, deadline=None)
@given(sessions=SESSIONS, chosen=SETTINGS, threads=st.integers(1, 3))
def test_equals_plain_python(sessions: Sessions, chosen: MemorySettings, threads: int) -> None:
    ours = MemoryTables.build(sessions, N_ITEMS, chosen, threads=threads)
    assert_same_tables(ours, build_reference(sessions, N_ITEMS, chosen))


@pytest.mark.parametrize("chosen", [MemorySettings(), ALL, MemorySettings(max_neighbors=20, max_postings=7)])
def test_equals_plain_python_on_longer_sessions_and_many_items(chosen: MemorySettings) -> None:
    sessions = random_log(120, 400, seed=1, longest=70)
    ours = MemoryTables.build(sessions, 400, chosen, threads=2)
    assert np.diff(ours.row_offsets).max() > 40 or chosen.max_neighbors == 20
    assert_same_tables(ours, build_reference(sessions, 400, chosen))


# Sessions 0..2 over items 0..3; item 4 never occurs. window 2, span 2, recency 2.
LOG = [[0, 1, 0, 2], [2, 0, 1, 1], [3]]
HAND = MemorySettings(window=2, span=2, recency=2.0, max_neighbors=0, max_postings=0)
AGED = math.exp(-1 / 2)  # what a pair of session 0 weighs in `rec` for an item that session 1 is the last to hold
# (a, b): next, fwd, bwd, ses, aa, rec, latest. Session 0 has three distinct items, as session 1 has.
PAIRS = {
    # Session 0: clicks 0 and 2 are on a; b is at 1. Session 1: a at 1, b at 2 and 3.
    (0, 1): (1 + 1, 1 + (1 + 1 / 2), 1, 2, 2 * (1 / 2), 2 * AGED + (1 + 1 / 2), 1),
    # Session 0: a at 0 (too far from 3) and at 2; first clicks 0 and 3 are 3 apart. Session 1: b at 0, a at 1.
    (0, 2): (1, 1, 1, 1, 1 / 2, 1 * AGED + 1, 1),
    # The mirror of (0, 1): fwd and bwd change places, and the pair (1, 0) of session 0 is b directly after a.
    (1, 0): (1, 1, 1 + (1 + 1 / 2), 2, 2 * (1 / 2), 2 * AGED + (1 + 1 / 2), 1),
    # Session 0: a at 1, b at 3. Session 1: b at 0, a at 2 (and at 3, too far).
    (1, 2): (0, 1 / 2, 1 / 2, 2, 2 * (1 / 2), 1 / 2 * AGED + 1 / 2, 1),
    (2, 0): (1, 1, 1, 1, 1 / 2, 1 * AGED + 1, 1),
    (2, 1): (0, 1 / 2, 1 / 2, 2, 2 * (1 / 2), 1 / 2 * AGED + 1 / 2, 1),
}


def test_every_statistic_of_a_log_worked_by_hand() -> None:
    tables = MemoryTables.build(Sessions.from_lists(LOG), 5, HAND)
    assert tables.row_offsets.tolist() == [0, 2, 4, 6, 6, 6]
    owners = np.repeat(np.arange(5), np.diff(tables.row_offsets))
    assert sorted(zip(owners.tolist(), tables.neighbors.tolist(), strict=True)) == sorted(PAIRS)
    for p, pair in enumerate(zip(owners.tolist(), tables.neighbors.tolist(), strict=True)):
        *expected, latest = PAIRS[pair]
        np.testing.assert_array_equal(from_bfloat16(tables.values[p]), from_bfloat16(to_bfloat16(np.array(expected))))
        assert tables.latest[p] == latest
    for a in range(5):
        expected_total = np.sum([values[:-1] for (item, _), values in PAIRS.items() if item == a], axis=0)
        np.testing.assert_allclose(tables.totals[a], expected_total, rtol=1e-7)
    # clicks, sessions, repeated later, repeated at once, newest session
    assert tables.counts.tolist() == [
        [3, 2, 1, 0, 1],
        [3, 2, 1, 1, 1],
        [2, 2, 0, 0, 1],
        [1, 1, 0, 0, 2],
        [0, 0, 0, 0, -1],
    ]
    assert tables.post_offsets.tolist() == [0, 2, 4, 6, 7, 7]
    assert tables.postings.tolist() == [0, 1, 0, 1, 0, 1, 2]
    assert tables.session_offsets.tolist() == [0, 4, 8, 9]
    assert tables.session_items.tolist() == [0, 1, 0, 2, 2, 0, 1, 1, 3]


def test_recency_is_a_share_of_the_sessions_and_stays_what_it_is() -> None:
    sessions = random_log(50, 20, seed=0)
    tables = MemoryTables.build(sessions, 20, MemorySettings(recency_share=0.1))
    assert tables.settings.recency == pytest.approx(5.0)
    assert tables.update(sessions).settings == tables.settings
    assert MemoryTables.build(Sessions.from_lists([]), 20).settings.recency == 1.0


@settings(max_examples=250, deadline=None)
@given(old=SESSIONS, new=SESSIONS, data=st.data(), chosen=SETTINGS, threads=st.integers(1, 2))
def test_an_update_equals_a_rebuild(
    old: Sessions, new: Sessions, data: st.DataObject, chosen: MemorySettings, threads: int
) -> None:
    expire, once, some = data.draw(st.integers(0, len(old))), data.draw(st.booleans()), data.draw(st.booleans())
    drop = sorted(data.draw(st.sets(st.integers(0, len(old) - 1)))) if some and len(old) else []
    tables = MemoryTables.build(old, N_ITEMS, chosen)
    updated = tables.update(new, expire, drop=drop, once=once, threads=threads)
    kept = [place for place in range(len(old)) if place >= expire and place not in drop]
    first = chosen.once_from
    if first is not None:
        first -= sum(place not in kept for place in range(min(first, len(old))))
    elif once:
        first = len(kept)
    remaining = Sessions.concatenate([Sessions.from_lists([old[place] for place in kept]), new])
    assert_same_tables(updated, MemoryTables.build(remaining, N_ITEMS, replace(tables.settings, once_from=first)))


@pytest.mark.parametrize("drop", [[-1], [3], [1, 1], [2, 0]])
def test_sessions_to_drop_that_are_none_are_refused(drop: list[int]) -> None:
    tables = MemoryTables.build(Sessions.from_lists([[0], [1], [0, 1]]), 2)
    with pytest.raises(UsageError, match=r"must ascend within 0\.\.2"):
        tables.update(Sessions.from_lists([]), drop=drop)
    for expire in (-1, 4):
        with pytest.raises(UsageError, match=f"cannot expire {expire} of 3 sessions"):
            tables.update(Sessions.from_lists([]), expire)


def test_an_update_takes_rows_over_that_no_session_touched() -> None:
    """Reused rows are copied: a change in them by hand is still there."""
    tables = MemoryTables.build(Sessions.from_lists([[0, 1], [2, 3]]), 4, ALL)
    marked = replace(tables, totals=tables.totals + 100)
    updated = marked.update(Sessions.from_lists([[2]]))
    assert (updated.totals > 99).all(axis=1).tolist() == [True, True, False, True]


def test_the_sessions_are_the_tables_own_and_arrays_may_be_read_only_views() -> None:
    sessions = random_log(40, 30, seed=5)
    view = Sessions(sessions.items[::1], sessions.offsets)
    view.items.setflags(write=False)
    tables = MemoryTables.build(view, 30)
    assert not np.shares_memory(tables.session_items, sessions.items)
    for array in (*tables.arrays().values(), *tables.update(view).arrays().values()):
        assert not array.flags.writeable
    assert tables.sessions.items.tolist() == sessions.items.tolist()
    assert tables.n_bytes == sum(array.nbytes for array in tables.arrays().values())
    assert (tables.n_items, tables.n_sessions) == (30, 40)
    part = Sessions.from_lists([[1, 2], [3]])
    strided = Sessions(np.repeat(part.items, 2)[::2], part.offsets)
    assert_same_tables(tables.update(strided), tables.update(part))
    assert_same_tables(MemoryTables.build(strided, 30), MemoryTables.build(part, 30))


@pytest.mark.parametrize("n_items", [0, 1, 5])
def test_no_sessions_no_clicks_no_items(n_items: int) -> None:
    for lists in ([], [[]], [[], []]):
        tables = MemoryTables.build(Sessions.from_lists(lists), n_items, threads=2)
        assert (tables.n_sessions, tables.n_items, len(tables.neighbors)) == (len(lists), n_items, 0)
        assert_same_tables(tables, build_reference(Sessions.from_lists(lists), n_items, MemorySettings()))
        assert tables.update(Sessions.from_lists([[]]), expire=len(lists)).n_sessions == 1


@pytest.mark.parametrize("item", [-1, 5, 2**31 - 1, -(2**31)])
def test_items_out_of_range_are_refused(item: int) -> None:
    sessions = Sessions.from_lists([[0, 1], [2, item]])
    with pytest.raises(DataError, match=rf"session 1 holds item {item}, outside 0\.\.4"):
        MemoryTables.build(sessions, 5)
    tables = MemoryTables.build(Sessions.from_lists([[0]]), 5)
    with pytest.raises(DataError, match=rf"session 2 holds item {item}, outside 0\.\.4"):
        tables.update(sessions)


PLAIN = TableSettings(window=1, span=1, recency=1.0, max_neighbors=0, max_postings=0)
ITEMS, OFFSETS = np.array([0, 1], np.int32), np.array([0, 2])


@pytest.mark.parametrize(
    ("items", "offsets", "message"),
    [
        (ITEMS.astype(np.int64), OFFSETS, "items must be a C-contiguous int32 vector, not int64"),
        (ITEMS, OFFSETS.astype(np.int32), "offsets must be a C-contiguous int64 vector, not int32"),
        (ITEMS, OFFSETS[:0], r"offsets must \w+ at least"),
        (ITEMS, np.array([1, 2]), r"offsets must run from 0 to 2, the number of clicks, not from 1 to 2"),
        (ITEMS, np.array([0, 3]), r"offsets must run from 0 to 2, the number of clicks, not from 0 to 3"),
        (ITEMS, np.array([0, 2, 1, 2]), r"offsets must not descend, but session 1 has 2 \.\. 1"),
        (ITEMS, np.array([0, -1, 2]), r"offsets must not descend, but session 0 has 0 \.\. -1"),
    ],
)
def test_the_native_builder_refuses_sessions_that_are_none(
    items: np.ndarray, offsets: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        build_tables(items, offsets, 2, PLAIN)
    empty = build_tables(ITEMS[:0], OFFSETS[:1], 2, PLAIN)
    with pytest.raises(ValueError, match=message):
        update_tables(empty, items, offsets, PLAIN, expire=0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"window": 0}, "window must be at least 1"),
        ({"span": 0}, "span must be at least 1"),
        ({"window": 2**31}, "window and span must be at most 2147483647 clicks"),
        ({"span": 2**63 - 1}, "window and span must be at most 2147483647 clicks"),
        ({"recency": math.nan}, "recency must be a positive number"),
        ({"recency": math.inf}, "recency must be a positive number"),
        ({"max_neighbors": -1}, "max_neighbors must be at least 1, or 0"),
        ({"max_postings": -1}, "max_postings must be at least 1, or 0"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"expire": 2}, r"expire must be in 0\.\.1, not 2"),
        ({"expire": -1}, r"expire must be in 0\.\.1, not -1"),
        ({"n_items": -1}, r"n_items must be in 0\.\.2147483647, not -1"),
        ({"n_items": 2**31}, r"n_items must be in 0\.\.2147483647, not 2147483648"),
    ],
)
def test_the_native_builder_refuses_numbers_out_of_range(changed: dict, message: str) -> None:
    settings = PLAIN._replace(**{name: value for name, value in changed.items() if name in PLAIN._fields})
    options = {name: value for name, value in changed.items() if name not in PLAIN._fields}
    if "expire" not in changed:
        with pytest.raises(ValueError, match=message):
            build_tables(ITEMS, OFFSETS, **{"n_items": 2, "settings": settings, **options})
    if "n_items" not in changed:
        tables = build_tables(ITEMS, OFFSETS, 2, PLAIN)
        with pytest.raises(ValueError, match=message):
            update_tables(tables, ITEMS, OFFSETS, settings, **{"expire": 0, **options})


def test_lists_are_no_arrays() -> None:
    tables = build_tables(ITEMS, OFFSETS, 2, PLAIN)
    with pytest.raises(ValueError, match="'postings' must be an array"):
        check_tables({**tables, "postings": tables["postings"].tolist()}, 0, 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("window", 0), ("window", 2.0), ("span", 0), ("span", 2**31), ("recency_share", 0.0),
        ("recency_share", math.nan), ("recency", 0.0), ("recency", math.inf), ("max_neighbors", -1),
        ("max_postings", -1),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"memory: {name}={value} is out of range"):
        MemorySettings(**{name: value})
