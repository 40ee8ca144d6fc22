"""Generic click logs: against a plain-Python reference, types of ids, parts, bad files and bad rows."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import FORMATS, ClickOptions, read, read_stream
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.errors import DataError, UsageError
from tests.support.data import reference_reader as reference
from tests.support.data.raw_logs import FRAME, HEADER, LOOSE, NAMES, SKIP, click_log, refused, write_text

DAY = 86_400

click_rows = st.lists(
    st.tuples(st.integers(0, 12), st.integers(0, 7), st.integers(0, 40).map(lambda t: t * DAY * 250)), max_size=60
)
options_of = st.fixed_dictionaries(
    {
        "min_session": st.just(3), "max_session": st.sampled_from([None, 4, 6]), "min_support": st.integers(1, 6),
        "support_rounds": st.sampled_from(["once", "until-stable"]), "min_prefix": st.integers(1, 2),
        "test_days": st.sampled_from([0.0, 0.25, 1.0, 3.5]), "time_unit": st.just("ms"),
    }
)  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(rows=click_rows, chosen=options_of, shorter=st.booleans(), text=st.booleans())
def test_equals_the_plain_reference(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any], chosen: dict[str, Any], shorter: bool, text: bool
) -> None:
    """Random small logs, many of equal times and ends (a day has four stamps)."""
    session, item = ("s{}", "Ä-{}") if text else ("{}", "{}")
    named = [(session.format(s), item.format(i), t) for s, i, t in rows]
    path = click_log(tmp_path_factory.mktemp("log") / "log.csv", named)
    options = ClickOptions(**chosen | ({"min_session": chosen["min_prefix"] + 1} if shorter else {}))
    sessions = reference.sessions_by_owner([(s, i if text else int(i), t) for s, i, t in named])
    expected = reference.prepare(sessions, options)
    if expected is None:
        refused(path, options)
    else:
        assert reference.contents(read("clicks", path, options=options)) == expected


@pytest.mark.parametrize("unit", ["auto", "ms"])
@pytest.mark.parametrize("far", [False, True])
def test_a_log_that_mixes_seconds_and_milliseconds_is_refused(tmp_path: Path, unit: Any, far: bool) -> None:
    """Two units in one column, after the rows that the reader samples, as texts and numbers, and in two parts."""
    rows: list[tuple[Any, ...]] = [(f"s{k // 2}", "a", 1_700_000_000_000 + k) for k in range(3000 if far else 2)]
    options = dataclasses.replace(LOOSE, time_unit=unit)
    path = click_log(tmp_path / "log.csv", [*rows, ("z", "a", 1_700_000_123), ("z", "b", 0)])
    message = refused(path, options)
    for part in (f"1700000123 in data row {len(rows) + 1} is seconds", "1700000000000 in data row 1 milliseconds"):
        assert part in message
    pl.read_csv(path).write_parquet(tmp_path / "log.parquet")
    assert f"1700000123 in data row {len(rows) + 1} is seconds" in refused(tmp_path / "log.parquet", options)
    (tmp_path / "log.parquet").unlink()
    click_log(path, rows)
    click_log(tmp_path / "more.csv", [("z", "a", "1700000123.5")])
    message = refused(tmp_path, options)
    assert "1700000123.5 in data row 1 of more.csv is seconds" in message
    assert "1700000000000 in data row 1 of log.csv milliseconds" in message


def test_same_log_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Codes that several threads hand out must not show through."""
    rng = np.random.default_rng(0)
    rows = [(f"s{s}", f"i{i}", t // 100) for s, i, t in rng.integers(0, 2000, (20_000, 3)).tolist()]
    path = click_log(tmp_path / "log.csv", rows)
    options = dataclasses.replace(LOOSE, user="session_id", gap=3.0)
    prints = set()
    for k in range(3):
        read("clicks", path, options=options).save(tmp_path / str(k))
        prints.add(Dataset.load(tmp_path / str(k)).fingerprint)
    assert len(prints) == 1


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["is empty"]),
        (HEADER, ["has no click"]),
        ("session_id,item,timestamp\n1,a,2\n", ["no column 'item_id'", "; did you mean 'item'?"]),
        ("session_id;item_id;timestamp\n1;a;2\n", ["'session_id;item_id;timestamp'", "separator"]),
        ("session_id,item_id,item_id,timestamp\n1,a,b,2\n", ["two columns 'item_id'"]),
        (HEADER + "1,a,5\n1,b,noon\n1,c,soon\n", ["'timestamp' holds 'noon' in data row 2", "epoch"]),
        (HEADER + "1,a,noon\n", ["'noon' in data row 1"]),
        (HEADER + "1,a,2024-01-01\n1,a,2024-13-01\n", ["'2024-13-01' in data row 2", "ISO-8601"]),
        (HEADER + "1,a,2024-01-01\n1,b,2024-01-02\n1,b,17\n", ["'17' in data row 3"]),
        (HEADER + "1,a,1\n1,b,nan\n", ["'nan' in data row 2"]),
        (HEADER + "1,a,1\n1,b,\n", ["'timestamp' is empty in data row 2"]),
        (HEADER + "1,a,1\n1,,2\n1,c,3\n1,,4\n", ["'item_id' is empty in data row 2", "1 more"]),
        (HEADER + '1,a,1\n"",b,2\n', ["'session_id' is empty"]),
        (HEADER + "1,a,1e30\n", ["1000000000000000019884624838656", "nanoseconds"]),
        (HEADER + "1,a,1\n1,b,2,3\n", ["cannot be read", "more fields"]),
        (HEADER + "1,a,1\n", ["none of 1 clicks in 1 sessions", "no session has at least 2 clicks", "loosen"]),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, parts: list[str]) -> None:
    message = refused(write_text(tmp_path / "log.csv", text))
    for part in ["log.csv", *parts]:
        assert part in message


@pytest.mark.parametrize("before", [0, 3000])
@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
@pytest.mark.parametrize("bad_rows", ["refuse", "skip"])
def test_a_row_of_too_many_fields_is_refused_where_a_column_is_not_read(
    tmp_path: Path, before: int, ending: str, bad_rows: Any
) -> None:
    """Its cells may be others': an unquoted comma in the name moves the item and the time. Past the rows that the
    reader samples, too, and with partitions."""
    rows = [(f"s{k // 2}", "name", k % 9, 1_700_000_000 + k) for k in range(before + 2)]
    rows.append(("s0", "na", "me", 1_700_000_000, 1_700_000_000))  # type: ignore[arg-type]
    text = click_log(tmp_path / "log", rows, "session_id,name,item_id,timestamp\n").read_bytes()
    path = tmp_path / f"log.{ending}"
    path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    options = dataclasses.replace(LOOSE, bad_rows=bad_rows)
    message = refused(path, options)
    for part in (path.name, "cannot be read as a log", "more fields"):
        assert part in message
    with pytest.raises(DataError) as caught:
        prepare_in_partitions(path, tmp_path / "set", options, partitions=2)
    assert str(caught.value) == message


def test_damaged_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(HEADER.encode() + b"1,\xff\xfe,1\n1,b,2\n")
    assert "utf-8" in refused(tmp_path / "log.csv").lower()
    path = tmp_path / "log.parquet"
    FRAME.write_parquet(path)
    path.write_bytes(path.read_bytes()[:-40])
    assert "cannot be read" in refused(path)


def test_missing_sources_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "no.csv")
    assert "no file matches" in refused(tmp_path / "*.csv")
    assert "has no log file" in refused(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"gap": 0.0},
        {"gap": float("nan")},
        {"time_unit": "m"},
        {"bad_rows": "repair"},
        {"dedupe": -1.0},
        {"separator": ";;"},
        {"min_prefix": 0},
        {"min_support": 0},
        {"support_rounds": "twice"},
        {"test_days": -1.0},
        {"test_days": float("inf")},
        {"min_session": 1},
        {"min_session": 2, "min_prefix": 2},
        {"max_session": 1},
        {"types": ("view",)},
        {"merge_types": True},
        {"type": "kind", "types": "view"},
        {"context": "referrer"},
    ],
)
def test_senseless_options_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ClickOptions(**changes)


def test_arguments_of_read(tmp_path: Path) -> None:
    assert list(FORMATS) == ["clicks", "npz", "pickle", "retailrocket", "tmall"]
    with pytest.raises(UsageError, match="no format 'csv'"):
        read("csv", tmp_path)
    with pytest.raises(UsageError, match="takes no click options"):
        read("npz", tmp_path, options=LOOSE)
    with pytest.raises(UsageError, match="min_prefix"):
        read("clicks", tmp_path, min_prefix=2)
    with pytest.raises(UsageError, match="fixes it"):
        read("tmall", tmp_path, min_prefix=2)


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (["7", "-3"], [7, -3]),
        (["007", "7"], ["007", "7"]),
        (["1.0", "2"], ["1.0", "2"]),
        (["9223372036854775807", "1"], [2**63 - 1, 1]),
        (["9223372036854775808", "1"], ["9223372036854775808", "1"]),
        (["naïve ☕", "日本"], ["naïve ☕", "日本"]),
        (['"a,""b"""', "c"], ['a,"b"', "c"]),
    ],
)
def test_ids_stay_what_they_are(tmp_path: Path, ids: list[str], expected: list[Any]) -> None:
    path = click_log(tmp_path / "log.csv", [("s", value, k) for k, value in enumerate(ids)])
    dataset = read("clicks", path, options=LOOSE)
    assert dataset.ids.external(np.arange(2)) == expected
    assert dataset.ids.lookup(expected).tolist() == [0, 1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"session_id": pl.col("session_id").cast(pl.UInt8)},
        {"session_id": pl.col("session_id").cast(pl.String).cast(pl.Categorical)},
        {"item_id": pl.col("item_id").cast(pl.Categorical)},
        {"timestamp": pl.col("timestamp").cast(pl.Float64)},
        {"timestamp": pl.from_epoch("timestamp", time_unit="s")},
        {"timestamp": pl.from_epoch("timestamp", time_unit="s").dt.replace_time_zone("UTC")},
        {"timestamp": pl.from_epoch("timestamp", time_unit="s").cast(pl.Datetime("ns"))},
        {"timestamp": pl.from_epoch("timestamp", time_unit="s").dt.strftime("%Y-%m-%dT%H:%M:%S")},
    ],
)
def test_parquet_types(tmp_path: Path, changes: dict[str, Any]) -> None:
    FRAME.with_columns(**changes).write_parquet(tmp_path / "log.parquet")
    contents = reference.contents(read("clicks", tmp_path / "log.parquet", options=LOOSE))
    assert contents["train"] == [["a", "b"], ["b", "a"]]
    assert contents["times"] == [1000, 2000, 3000, 4000]
    assert (contents["ids"], contents["test"]) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"item_id": pl.lit(1.5)}, "item_id"),
        ({"session_id": pl.lit(True)}, "session_id"),
        ({"timestamp": pl.lit(True)}, "timestamp"),
        ({"timestamp": pl.lit(float("nan"))}, "timestamp"),
        ({"item_id": pl.lit(None, pl.String)}, "item_id"),
    ],
)
def test_parquet_types_of_no_use_are_refused(tmp_path: Path, changes: dict[str, Any], name: str) -> None:
    FRAME.with_columns(**changes).write_parquet(tmp_path / "log.parquet")
    assert repr(name) in refused(tmp_path / "log.parquet")


def test_parts_of_a_folder_read_as_one_log(tmp_path: Path) -> None:
    """Parts by name, CSV with columns in another order, gzip and Parquet together; other files are ignored."""
    folder = tmp_path / "parts"
    folder.mkdir()
    write_text(folder / "a.csv", "session_id,item_id,timestamp\n1,a,1\n2,b,5\n")
    write_text(folder / "b.csv", "timestamp,extra,item_id,session_id\n2,,b,1\n")
    with gzip.open(folder / "c.csv.gz", "wt") as stream:
        stream.write("session_id,item_id,timestamp\n3,c,7\n3,a,8\n")
    pl.DataFrame({"session_id": [2], "item_id": ["c"], "timestamp": [6]}).write_parquet(folder / "d.parquet")
    write_text(folder / "e.tsv", "session_id\titem_id\ttimestamp\n4\tb\t9\n4\ta\t10\n")
    write_text(folder / "_SUCCESS", "")
    write_text(folder / "notes.md", "no log")
    dataset = read("clicks", folder, options=LOOSE)
    assert reference.contents(dataset)["train"] == [["a", "b"], ["b", "c"], ["c", "a"], ["b", "a"]]
    assert dataset.name == "parts"
    only_csv = read("clicks", folder / "*.csv", options=LOOSE)
    assert reference.contents(only_csv)["train"] == [["a", "b"]]
    assert only_csv.name == "parts"


def test_ints_in_one_part_and_texts_in_another_are_texts(tmp_path: Path) -> None:
    click_log(tmp_path / "a.csv", [("1", "5", 1), ("1", "6", 2)])
    click_log(tmp_path / "b.csv", [("x", "6", 3), ("x", "k", 4)])
    assert reference.contents(read("clicks", tmp_path, options=LOOSE))["ids"] == ["5", "6", "k"]


TOTALS = ",".join(NAMES) + "\n1,10,100\n1,20,101\n2,20,102\n2,10,103\nall,TOTAL,\n"


def test_rows_that_are_left_out_do_not_make_texts_of_ids(tmp_path: Path) -> None:
    """A last line of sums: neither its item nor its session counts, also where the catalog's are ints already."""
    path = tmp_path / "log.csv"
    path.write_text(TOTALS)
    dataset = read("clicks", path, options=SKIP)
    assert (dataset.reader["item_ids"], dataset.ids.external(np.arange(2))) == ("int", [10, 20])
    for kind in ("int", "auto"):
        stream = read_stream(path, {**dataset.reader, "item_ids": kind})
        assert (sorted(stream.session_ids), len(stream)) == ([1, 2], 4)
    # A session of text whose item no catalog of ints holds is left out there, and is a session elsewhere.
    path.write_text(TOTALS.replace("all,TOTAL,", "all,x,104"))
    assert sorted(read_stream(path, dataset.reader).session_ids) == [1, 2]
    assert read_stream(path, {**dataset.reader, "item_ids": "auto"}).session_ids == ["1", "2", "all"]
    # Where every row is bad there is no id to tell by.
    path.write_text(",".join(NAMES) + "\n1,10,\n,20,5\n")
    with pytest.raises(DataError, match="none of 2 rows can be read"):
        read("clicks", path, options=SKIP)


@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
@pytest.mark.parametrize("column", ["item_id", "session_id"])
def test_texts_that_are_half_empty_stay_texts(tmp_path: Path, ending: str, column: str) -> None:
    half = pl.DataFrame(
        {"session_id": ["1"] * 8, "item_id": ["7"] * 8, "timestamp": range(8)}
    ).with_columns(pl.when(pl.col("timestamp") < 4).then(pl.col(column)))  # fmt: skip
    path = tmp_path / f"log.{ending}"
    half.write_parquet(path) if ending == "parquet" else half.write_ndjson(path)
    dataset = read("clicks", path, options=SKIP)
    assert (dataset.train.n_clicks, dataset.ids.external(np.arange(1))) == (4, ["7"])
    assert read_stream(path, dataset.reader).session_ids == ["1"]
