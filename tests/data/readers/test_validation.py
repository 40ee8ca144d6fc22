"""Rows of a log that are refused or skipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data.readers import read, read_stream
from mtaw_fast.errors import DataError
from tests.support.data.odd_logs import LOOSE, NAMES, SKIP


def test_bad_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    good = [("s", f"i{k}", 1_700_000_000_000 + k) for k in range(6)]
    bad: list[tuple[Any, ...]] = [
        ("", "a", 1_700_000_000_000), ("s", "", 1_700_000_000_000), ("s", "b", ""), ("s", "c", "noon"),
        ("s", "d", 1_700_000_000), ("s", "e", "1700000000000000"),
    ]  # fmt: skip
    path = tmp_path / "log.csv"
    path.write_text(",".join(NAMES) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in [*good, *bad]))
    with pytest.raises(DataError, match="--bad-rows skip"):
        read("clicks", path, options=LOOSE)
    dataset = read("clicks", path, options=SKIP)
    assert dataset.train.items.tolist() == list(range(6))
    report = dataset.preparation["log"]
    assert (report["rows"], report["bad_rows"], report["clicks"]) == (12, 6, 6)
    path.write_text(",".join(NAMES) + "\n" + ",a,1\n")
    with pytest.raises(DataError, match="none of 1 rows can be read"):
        read("clicks", path, options=SKIP)


def test_skipping_keeps_int_ids(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(",".join(NAMES) + "\n1,10,100\n1,,101\n1,20,102\n,30,103\n")
    dataset = read("clicks", path, options=SKIP)
    assert dataset.ids.external(np.arange(2)) == [10, 20]
    stream = read_stream(path, dataset.reader)
    assert stream.item_ids == [10, 20] or sorted(map(int, stream.item_ids))[-2:] == [10, 20]
    assert len(stream) == 2


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
