"""From clicks to a data set: sessions, filters, merged types, the window, and the context of visits."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.cli import main
from mtaw_fast.data.context import MAX_VALUES
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickOptions, read, read_stream
from mtaw_fast.errors import DataError, UsageError
from tests.support.data import reference_reader as reference
from tests.support.data.partitions import compare
from tests.support.data.raw_logs import LOOSE, click_log, refused


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 900), st.sampled_from(["view", "view", "cart"])),
        min_size=1,
        max_size=60,
    ),
    gap=st.sampled_from([0.5, 20.0, 60.0]),
)
def test_inactivity_gap_equals_the_plain_reference(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, str]], gap: float
) -> None:
    path = click_log(tmp_path_factory.mktemp("log") / "log.csv", rows, "who,item_id,timestamp,kind\n")
    options = dataclasses.replace(LOOSE, user="who", gap=gap, type="kind", types=("view",))
    whole = [(u, i, t * 1000, kind == "view") for u, i, t, kind in rows]
    expected = reference.prepare(reference.sessions_by_gap(whole, round(gap * 1000)), options)
    if expected is None:
        refused(path, options)
    else:
        assert reference.contents(read("clicks", path, options=options)) == expected


TYPED = ClickOptions(type="kind", min_support=1, min_session=2, test_days=0, time_unit="ms")
NAMES = ("session_id", "item_id", "timestamp", "kind")


def frame(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=NAMES, orient="row", strict=False)


def sessions_in(dataset: Dataset) -> list[list[tuple[Any, int, str]]]:
    """The clicks of the training sessions: (item, time, type)."""
    train: Any = dataset.train
    clicks = list(
        zip(
            dataset.ids.external(train.items),
            train.times.tolist(),
            [dataset.type_names[code] for code in train.types.tolist()],
            strict=True,
        )
    )
    return [clicks[a:b] for a, b in zip(train.offsets[:-1].tolist(), train.offsets[1:].tolist(), strict=True)]


def merged_by_hand(clicks: list[tuple[Any, int, str]], order: tuple[str, ...]) -> list[tuple[Any, int, str]]:
    runs: list[list[tuple[Any, int, str]]] = []
    for click in clicks:
        if runs and runs[-1][0][0] == click[0]:
            runs[-1].append(click)
        else:
            runs.append([click])
    merged: list[tuple[Any, int, str]] = []
    for run in runs:
        kinds = [kind for _, _, kind in run]
        if len(set(kinds)) == 1:
            merged += run
        else:
            merged.append((run[0][0], run[0][1], max(kinds, key=order.index) if order else kinds[-1]))
    return merged


@pytest.mark.parametrize("order", [(), ("view", "cart", "buy")])
@pytest.mark.parametrize("user", [None, "session_id"])
def test_merged_types_equal_those_by_hand(order: tuple[str, ...], user: str | None) -> None:
    rng = np.random.default_rng(3)
    rows = [
        (int(rng.integers(9)), int(rng.integers(3)), t * 1000, str(rng.choice(["view", "cart", "buy"])))
        for t in range(300)
    ]
    options = dataclasses.replace(TYPED, types=order, user=user, gap=20.0)
    plain = read("clicks", frame(rows), options=options)
    whole = dataclasses.replace(options, merge_types=True, min_session=2)
    merged = read("clicks", frame(rows), options=whole)
    log, before = merged.preparation["log"], plain.preparation["log"]
    expected = [merged_by_hand(clicks, order) for clicks in sessions_in(plain)]
    expected = [clicks for clicks in expected if len(clicks) > 1]
    assert sorted(sessions_in(merged)) == sorted(expected)
    assert log["merged_clicks"] > 30
    assert log["clicks"] == before["clicks"] == 300  # rows that count, as before
    assert sum(log["days"].values()) == 300 - log["merged_clicks"]
    # A later log is read in the same way, and nothing is filtered.
    stream: Any = read_stream(frame(rows), merged.reader)
    assert np.array_equal(stream.times, np.sort(stream.times))
    assert len(stream) == 300 - log["merged_clicks"]
    sessions: dict[Any, list[tuple[Any, int, str]]] = {}
    for place in range(len(stream)):
        session = stream.session_ids[stream.sessions[place]]
        kind = stream.type_names[stream.types[place]]
        sessions.setdefault(session, []).append((stream.item_ids[stream.items[place]], int(stream.times[place]), kind))
    assert sorted(clicks for clicks in sessions.values() if len(clicks) > 1) == sorted(expected)


def test_since_and_until_keep_a_window(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [(s, i, 1000 * s + i, "view") for s in range(20) for i in range(3)]
    window = dataclasses.replace(TYPED, since=5001, until="1970-01-01T00:00:10")
    dataset = read("clicks", frame(rows), options=window)
    assert [len(clicks) for clicks in sessions_in(dataset)] == [2, 3, 3, 3, 3]  # 5001 itself is kept, 10000 is not
    log = dataset.preparation["log"]
    assert (log["rows"], log["outside_rows"], log["clicks"]) == (60, 60 - 14, 14)
    for wrong, words in (({"since": 9, "until": "1970-01-01"}, "is not before"), ({"since": "soon"}, "is not a time")):
        with pytest.raises(UsageError, match=words):
            dataclasses.replace(TYPED, **wrong)
    for bound, words in (({"since": "2020-01-01"}, "since 2020-01-01"), ({"until": 0}, "until 0")):
        with pytest.raises(DataError, match=f"no click is within {words};"):
            read("clicks", frame(rows), options=dataclasses.replace(TYPED, **bound))
    frame(rows).write_csv(tmp_path / "log.csv")
    source, folder = str(tmp_path / "log.csv"), str(tmp_path / "set")
    options = ["--type", "kind", "--time-unit", "ms", "--min-support", "1", "--test-days", "0", "--since", "1970-01-01"]
    assert main(["prepare", "clicks", source, folder, *options, "--until", "1970-01-01T00:00:10", "--merge-types"]) == 0
    assert "60, 0 bad; 30 clicks; 30 outside --since and --until" in capsys.readouterr().out
    command = ["prepare", "clicks", source, f"{tmp_path}/new", *options]
    assert main([*command[:-1], "2000-01-01"]) == 1
    assert main([*command[:-1], "2000-01-01", "--partitions", "2"]) == 1
    first, second = capsys.readouterr().err.splitlines()
    assert first == second


def odd_rows() -> list[tuple[Any, ...]]:
    """Clicks, and searches without an item, with a text for a time, or without a session."""
    rows: list[tuple[Any, ...]] = []
    for s in range(30):
        rows += [(str(s), str(10 + (s + i) % 7), str(1_000_000_000 + 1000 * s + i), "view") for i in range(4)]
        rows.append((str(s), "", str(1_000_000_000 + 1000 * s + 9), "search"))
    rows += [("", "word", "noon", "search"), ("x y", "7", "", "search"), ("3", "7", "1000000009", "")]
    return rows


@pytest.mark.parametrize("bad_rows", ["refuse", "skip"])
@pytest.mark.parametrize("user", [None, "session_id"])
def test_rows_of_types_left_out_are_not_bad(tmp_path: Path, bad_rows: Any, user: str | None) -> None:
    options = dataclasses.replace(
        TYPED, types=("view",), bad_rows=bad_rows, user=user, gap=500.0, time_unit="s", min_session=2
    )
    rows = odd_rows()
    text = "\n".join([",".join(NAMES), *(",".join(row) for row in rows)])
    (tmp_path / "log.csv").write_text(f"{text}\n")
    dataset = compare(tmp_path / "log.csv", tmp_path / "sets", options)
    log = dataset.preparation["log"]
    assert (log["rows"], log["bad_rows"], log["left_out_rows"], log["clicks"]) == (len(rows), 0, 33, 120)
    assert dataset.ids.kind == "int"  # no word of a search makes the ids texts
    assert dataset.reader["item_ids"] == "int"
    assert len(read_stream(tmp_path / "log.csv", dataset.reader)) == 120
    # A bad click is still bad.
    (tmp_path / "bad.csv").write_text(f"{text}\n4,,1000000009,view\n")
    if bad_rows == "refuse":
        with pytest.raises(DataError, match=f"column 'item_id' is empty in data row {len(rows) + 1}"):
            read("clicks", tmp_path / "bad.csv", options=options)
    else:
        log_counts = compare(tmp_path / "bad.csv", tmp_path / "others", options).preparation["log"]
        assert (log_counts["rows"], log_counts["bad_rows"], log_counts["left_out_rows"]) == (len(rows) + 1, 1, 33)


OPTIONS: dict[str, Any] = {"min_support": 1, "test_days": 0.0, "context": ("referrer", "region")}
DAY = 86_400


def log(rows: Sequence[tuple[str, str, int, str | None, int | None]]) -> pl.DataFrame:
    names = ("session_id", "item_id", "timestamp", "referrer", "region")
    return pl.DataFrame(rows, schema=names, orient="row")


ROWS: list[tuple[str, str, int, str | None, int | None]] = [
    ("a", "x", 10, "search", 7), ("b", "y", 20, "direct", 7), ("a", "y", 30, "search", None),
    ("b", "x", 40, None, 9), ("a", "z", 5, "", 9), ("c", "x", 50, "search", 9), ("c", "z", 60, "search", 9),
]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_every_kind_of_file_and_the_folder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"log.{'jsonl' if kind == 'ndjson' else kind}"
    getattr(log(ROWS), f"write_{kind}")(path)
    data: Any = read("clicks", path, options=ClickOptions(**OPTIONS))
    data.save(tmp_path / "set")
    loaded: Any = Dataset.load(tmp_path / "set")
    assert loaded.context.values == data.context.values == (("search", "direct"), ("9", "7"))
    np.testing.assert_array_equal(loaded.train.context, data.train.context)
    assert loaded.reader["context"] == ["referrer", "region"]
    stream = read_stream(path, loaded.reader)
    values = [stream.context_of(click) for click in range(len(stream))]
    assert values[0] == {"region": "9"}  # the earliest click
    assert values[-1] == {"referrer": "search", "region": "9"}


def test_test_samples_and_filters_keep_their_context() -> None:
    rows = [(f"s{n // 3}", f"i{n % 5}", n * DAY // 8, f"r{n // 3 % 3}", n // 3 % 2) for n in range(90)]
    data: Any = read("clicks", log(rows), options=ClickOptions(**{**OPTIONS, "test_days": 3.0, "min_support": 2}))
    assert len(data.test) > 0
    for sessions in (data.train, data.test.prefixes):
        assert sessions.context is not None
        assert sessions.times is not None
        for codes, time in zip(sessions.context, sessions.times.tolist(), strict=True):
            number = time // 1000 * 8 // DAY
            expected = {"referrer": f"r{(number + 1) // 3 % 3}", "region": str((number + 1) // 3 % 2)}
            exact = {"referrer": f"r{number // 3 % 3}", "region": str(number // 3 % 2)}
            assert data.context.values_of(codes) in (exact, expected)  # a time is cut to seconds


def test_at_most_a_thousand_values() -> None:
    rows = [(f"s{n // 2}", f"i{n % 3}", n, f"r{n // 2}", 1) for n in range(2 * MAX_VALUES + 400)]
    data: Any = read("clicks", log(rows), options=ClickOptions(**OPTIONS))
    assert len(data.context.values[0]) == MAX_VALUES
    assert (data.train.context[:, 0] == 1).sum() == 400


def test_wrong_columns() -> None:
    with pytest.raises(DataError, match="no column 'country'"):
        read("clicks", log(ROWS), options=ClickOptions(**{**OPTIONS, "context": ("country",)}))
    frame = log(ROWS).with_columns(region=pl.col("region").cast(pl.Float64))
    with pytest.raises(DataError, match="context column 'region' holds Float64"):
        read("clicks", frame, options=ClickOptions(**OPTIONS))
    for context in (("a", "a"), tuple("abcdefghi"), ("",), ("a\nb",)):
        with pytest.raises(UsageError, match="context"):
            ClickOptions(context=context)


def test_a_set_without_context_has_none() -> None:
    data = read("clicks", log(ROWS), options=ClickOptions(min_support=1, test_days=0.0))
    assert data.context is None
    assert data.train.context is None
    with pytest.raises(DataError, match="context does not fit"):
        Dataset(**{**{name: getattr(data, name) for name in ("name", "train", "test", "ids")}, "context": _columns()})


def _columns() -> Any:
    return read("clicks", log(ROWS), options=ClickOptions(**OPTIONS)).context
