"""Context columns of a click log: read, prepared, saved, and read again as a stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data.context import MAX_VALUES
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickOptions, read, read_stream
from mtaw_fast.errors import DataError, UsageError

OPTIONS: dict[str, Any] = {"min_support": 1, "test_days": 0.0, "context": ("referrer", "region")}
DAY = 86_400


def log(rows: Sequence[tuple[str, str, int, str | None, int | None]]) -> pl.DataFrame:
    names = ("session_id", "item_id", "timestamp", "referrer", "region")
    return pl.DataFrame(rows, schema=names, orient="row")


ROWS: list[tuple[str, str, int, str | None, int | None]] = [
    ("a", "x", 10, "search", 7), ("b", "y", 20, "direct", 7), ("a", "y", 30, "search", None),
    ("b", "x", 40, None, 9), ("a", "z", 5, "", 9), ("c", "x", 50, "search", 9), ("c", "z", 60, "search", 9),
]  # fmt: skip


def test_codes_by_count_then_text() -> None:
    data = read("clicks", log(ROWS), options=ClickOptions(**OPTIONS))
    assert data.context is not None
    assert data.context.names == ("referrer", "region")
    assert data.context.values == (("search", "direct"), ("9", "7"))
    assert data.train.context is not None
    names = data.ids.external(data.train.items)
    clicks = [
        (name, *(data.context.values_of(codes).get(column) for column in data.context.names))
        for name, codes in zip(names, data.train.context, strict=True)
    ]
    assert clicks == [
        ("z", None, "9"), ("x", "search", "7"), ("y", "search", None),
        ("y", "direct", "7"), ("x", None, "9"),
        ("x", "search", "9"), ("z", "search", "9"),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["csv", "parquet", "ndjson"])
def test_every_kind_of_file_and_the_folder(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"log.{'jsonl' if kind == 'ndjson' else kind}"
    getattr(log(ROWS), f"write_{kind}")(path)
    data = read("clicks", path, options=ClickOptions(**OPTIONS))
    data.save(tmp_path / "set")
    loaded = Dataset.load(tmp_path / "set")
    assert loaded.context is not None
    assert data.context is not None
    assert loaded.context.values == data.context.values == (("search", "direct"), ("9", "7"))
    np.testing.assert_array_equal(loaded.train.context, data.train.context)
    assert loaded.reader["context"] == ["referrer", "region"]
    stream = read_stream(path, loaded.reader)
    values = [stream.context_of(click) for click in range(len(stream))]
    assert values[0] == {"region": "9"}  # the earliest click
    assert values[-1] == {"referrer": "search", "region": "9"}


def test_test_samples_and_filters_keep_their_context() -> None:
    rows = [(f"s{n // 3}", f"i{n % 5}", n * DAY // 8, f"r{n // 3 % 3}", n // 3 % 2) for n in range(90)]
    data = read("clicks", log(rows), options=ClickOptions(**{**OPTIONS, "test_days": 3.0, "min_support": 2}))
    assert len(data.test) > 0
    for sessions in (data.train, data.test.prefixes):
        assert sessions.context is not None
        assert sessions.times is not None
        assert data.context is not None
        for codes, time in zip(sessions.context, sessions.times.tolist(), strict=True):
            number = time // 1000 * 8 // DAY
            expected = {"referrer": f"r{(number + 1) // 3 % 3}", "region": str((number + 1) // 3 % 2)}
            exact = {"referrer": f"r{number // 3 % 3}", "region": str(number // 3 % 2)}
            assert data.context.values_of(codes) in (exact, expected)  # a time is cut to seconds


def test_at_most_a_thousand_values() -> None:
    rows = [(f"s{n // 2}", f"i{n % 3}", n, f"r{n // 2}", 1) for n in range(2 * MAX_VALUES + 400)]
    data = read("clicks", log(rows), options=ClickOptions(**OPTIONS))
    assert data.context is not None
    assert data.train.context is not None
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
