"""A click log as it is read: types of ids, files of a folder, columns."""

from __future__ import annotations

import dataclasses
import gzip
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data.readers import read
from tests.support.data import reference_reader as reference
from tests.support.data.click_files import FRAME, refused
from tests.support.data.raw_logs import LOOSE, click_log, write_text


def test_rows_in_any_order_and_ties_in_file_order(tmp_path: Path) -> None:
    rows = [("s", "c", 30), ("t", "x", 30), ("s", "a", 10), ("t", "y", 30), ("s", "b", 10), ("t", "x", 30)]
    contents = reference.contents(read("clicks", click_log(tmp_path / "log.csv", rows), options=LOOSE))
    assert contents["train"] == [["a", "b", "c"], ["x", "y", "x"]]
    assert contents["ids"] == ["a", "b", "c", "x", "y"]


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


def test_parquet_keeps_numeric_texts_as_texts(tmp_path: Path) -> None:
    FRAME.with_columns(item_id=pl.Series(["1", "2", "2", "1"])).write_parquet(tmp_path / "log.parquet")
    assert read("clicks", tmp_path / "log.parquet", options=LOOSE).ids.kind == "str"


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


def test_other_columns_and_separator(tmp_path: Path) -> None:
    path = write_text(tmp_path / "log.txt", "when;s;what\n1;x;a\n2;x;b\n")
    options = dataclasses.replace(LOOSE, session="s", item="what", time="when", separator=";")
    assert reference.contents(read("clicks", path, options=options, name="mine"))["train"] == [["a", "b"]]
    assert read("clicks", path, options=options, name="mine").name == "mine"
