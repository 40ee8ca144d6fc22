"""The stream of clicks that `update` and `replay` read: every click, in time order, in the sessions of `prepare`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.readers import ClickOptions, ClickStream, read, read_stream
from mtaw_fast.errors import DataError, UsageError
from tests.support.data import reference_reader as reference
from tests.support.data.raw_logs import (
    LOOSE,
    click_log,
    dataset15,
    npz_arrays,
    session,
    write_npz,
    write_pickles,
)

TYPED = "who,item_id,timestamp,kind\n"
CLICKS = {"format": "clicks", "user": "who", "gap": 60.0}


def rows_of(stream: ClickStream) -> list[tuple[Any, ...]]:
    """(session, item, time, type) of every click."""
    times = [None] * len(stream) if stream.times is None else stream.times.tolist()
    types = [None] * len(stream) if stream.types is None else [stream.type_names[t] for t in stream.types.tolist()]
    sessions = [stream.session_ids[s] for s in stream.sessions.tolist()]
    return list(zip(sessions, [stream.item_ids[i] for i in stream.items.tolist()], times, types, strict=True))


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(0, 900), st.sampled_from(["view", "buy", "cart"])),
        min_size=1,
        max_size=60,
    ),
    gap=st.sampled_from([0.5, 20.0, 60.0]),
    text=st.booleans(),
)
def test_sessions_by_inactivity_are_those_of_prepare_without_filters(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, str]], gap: float, text: bool
) -> None:
    named = [(f"u{u}" if text else u, i, t, kind) for u, i, t, kind in rows]
    path = click_log(tmp_path_factory.mktemp("log") / "log.csv", named, TYPED)
    reader = CLICKS | {"gap": gap, "type": "kind", "types": ["view", "buy"], "type_names": ["buy"]}
    whole = [(u, i, t * 1000, kind != "cart") for u, i, t, kind in rows]
    expected = [clicks for _, _, clicks in reference.sessions_by_gap(whole, round(gap * 1000))]
    if not expected:
        with pytest.raises(DataError, match="is never 'view' or 'buy'"):
            read_stream(path, reader)
        return
    stream: Any = read_stream(path, reader)
    assert stream.type_names == ("buy", "view")
    assert np.all(np.diff(stream.times) >= 0)
    assert len(set(stream.session_ids)) == len(stream.session_ids)
    assert (stream.sessions[np.unique(stream.sessions, return_index=True)[1]] == np.arange(len(expected))).all()
    sessions: dict[Any, list[tuple[int, int]]] = {}
    kinds = []
    for name, item, time, kind in rows_of(stream):
        sessions.setdefault(name, []).append((item, time))
        kinds.append(kind)
    assert sorted(sessions.values()) == sorted(expected)
    assert sorted(kinds) == sorted(kind for *_, kind in rows if kind != "cart")
    owners = {name.partition("@")[0] for name in sessions}
    assert owners <= {f"u{u}" if text else str(u) for u, *_ in rows}


def test_a_session_keeps_its_name_in_every_log_that_holds_its_start(tmp_path: Path) -> None:
    """The day's log alone cuts the session over midnight in two; with the rows before it, it is the same one."""
    before, after = [("ann", "a", 1000, "view"), ("ann", "b", 1050, "view")], [("ann", "c", 1100, "view")]
    reader = CLICKS | {"type": "kind", "types": ["view"]}
    first = read_stream(click_log(tmp_path / "1.csv", before, TYPED), reader)
    both = read_stream(click_log(tmp_path / "2.csv", before + after, TYPED), reader)
    assert first.session_ids == both.session_ids == ["ann@1000000"]
    assert rows_of(both)[2] == ("ann@1000000", "c", 1_100_000, "view")


@pytest.mark.parametrize("user", [None, "who"])
def test_repeats_are_left_out_as_they_were_of_the_data_set(tmp_path: Path, user: str | None) -> None:
    """A shop that logs every event twice does so tomorrow, too."""
    options = dataclasses.replace(LOOSE, session="who", user=user, type="kind", dedupe=1.0)
    rows = [("u", "a", 100, "view"), ("u", "a", 101, "view"), ("u", "b", 101, "view"), ("u", "a", 101, "buy")]
    rows += [("u", "a", 103, "view"), ("v", "a", 103, "view"), ("v", "b", 200, "view"), ("v", "b", 200, "view")]
    path = click_log(tmp_path / "log.csv", rows, TYPED)
    dataset = read("clicks", path, options=options)
    assert dataset.reader["dedupe"] == 1.0
    stream = read_stream(path, dataset.reader)
    assert len(stream) == dataset.train.n_clicks == 6
    assert [row[1:3] for row in rows_of(stream)] == [
        ("a", 100_000), ("b", 101_000), ("a", 101_000), ("a", 103_000), ("a", 103_000), ("b", 200_000),
    ]  # fmt: skip
    assert [name.partition("@")[0] for name in stream.session_ids] == ["u", "v"]
    assert len(read_stream(path, {**dataset.reader, "dedupe": None})) == len(rows)
    with pytest.raises(DataError, match="wrong kind"):
        read_stream(path, {**dataset.reader, "dedupe": "soon"})


def test_item_ids_of_another_kind_are_refused(tmp_path: Path) -> None:
    path = click_log(tmp_path / "log.csv", [("s", "7", 1), ("s", "007", 2)])
    with pytest.raises(DataError, match=r"holds '007' in data row 2, but the catalog's ids are ints"):
        read_stream(path, {"format": "clicks", "item_ids": "int"})


def test_types_that_all_count_are_kept_by_name(tmp_path: Path) -> None:
    """A type column without types: every row is a click. In the data set, in the stream, and of the test too."""
    rows = [("u", "a", 0, "view"), ("u", "b", 1, "buy"), ("v", "a", 9 * 86_400, "add"), ("v", "b", 9 * 86_401, "buy")]
    path = click_log(tmp_path / "log.csv", rows, "session_id,item_id,timestamp,kind\n")
    dataset = read("clicks", path, options=ClickOptions(type="kind", min_support=1, test_days=1))
    assert dataset.type_names == ("add", "buy", "view")
    codes = (dataset.train.types, dataset.test.prefixes.types, dataset.test.target_types)
    assert [None if types is None else types.tolist() for types in codes] == [[2, 1], [0], [1]]
    later = click_log(
        tmp_path / "later.csv", [("w", "a", 5, "sell"), ("w", "a", 6, "view")], "session_id,item_id,timestamp,kind\n"
    )
    stream = read_stream(later, dataset.reader)
    assert stream.type_names == ("add", "buy", "view", "sell")
    assert [row[3] for row in rows_of(stream)] == ["sell", "view"]
    for bad, message in ((("w", "a", 7, ""), "'kind' is empty in data row 3"),):
        click_log(later, [("w", "a", 5, "sell"), ("w", "a", 6, "view"), bad], "session_id,item_id,timestamp,kind\n")
        with pytest.raises(DataError, match=message):
            read_stream(later, dataset.reader)
    click_log(later, [("w", "a", 5, f"kind {k}") for k in range(256)], "session_id,item_id,timestamp,kind\n")
    with pytest.raises(DataError, match="more than 255 types"):
        read_stream(later, {"format": "clicks", "type": "kind"})


def test_formats_without_times_give_whole_sessions(tmp_path: Path) -> None:
    rows = [*session(3, [7, 8, 9], 500), *session(1, [8, 7], 100), *session(4, [9], 100)]
    stream = read_stream(dataset15(tmp_path / "dataset15.csv", rows), read("tmall", _full_tmall(tmp_path)).reader)
    assert rows_of(stream) == [(s, i, None, None) for s, i in [(1, 8), (1, 7), (4, 9), (3, 7), (3, 8), (3, 9)]]
    npz = write_npz(tmp_path, *npz_arrays())
    stream = read_stream(npz, read("npz", npz).reader)
    assert rows_of(stream) == [(s, i, None, None) for s, i in [(0, 4), (0, 2), (0, 1), (1, 1), (1, 3)]]
    folder = write_pickles(tmp_path, all_train_seq=[[5, 2], [2, 9, 2]], test=([[9, 7], [9], [5]], [2, 7, 9]))
    stream = read_stream(folder, read("pickle", folder).reader)
    assert rows_of(stream) == [(s, i, None, None) for s, i in [(0, 9), (0, 7), (0, 2), (1, 5), (1, 9)]]


def _full_tmall(folder: Path) -> Path:
    rows = [*session(1, [7, 8] * 3, 10), *session(2, [7, 8] * 3, 500)]
    return dataset15(folder / "full.csv", rows)


@pytest.mark.parametrize(
    ("reader", "kind", "message"),
    [
        ({}, UsageError, "does not say how to read a log"),
        ({"format": "csv"}, DataError, "does not know"),
        ({"format": 3}, DataError, "does not know"),
        ({"format": "clicks", "item_ids": "float"}, DataError, "does not know"),
        ({"format": "clicks", "type_names": [3]}, DataError, "does not know"),
        ({"format": "clicks", "gap": "long"}, DataError, "wrong kind"),
        ({"format": "clicks", "session": "visit"}, DataError, "no column 'visit'"),
    ],
)
def test_readers_of_no_use_are_refused(tmp_path: Path, reader: Any, kind: type[Exception], message: str) -> None:
    path = click_log(tmp_path / "log.csv", [("s", "a", 1)])
    with pytest.raises(kind, match=message) as caught:
        read_stream(path, reader)
    assert "\n" not in str(caught.value)
