"""Tables as they come in: kinds by their values, sources, and what is refused."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.items import ItemFrame

DAY = datetime.date(2026, 3, 1)
MS = 1_772_323_200_000


@pytest.mark.parametrize(
    ("values", "kind", "plain"),
    [
        ([1, 2.5, None], "number", [1.0, 2.5, None]),
        ([decimal.Decimal("1.5"), None, float("nan")], "number", [1.5, None, None]),
        (np.array([1, 2, 3], dtype=np.uint8), "number", [1.0, 2.0, 3.0]),
        ([True, None, False], "boolean", [True, None, False]),
        (np.array([True, False, True]), "boolean", [True, False, True]),
        (["x", None, ""], "category", ["x", None, None]),
        ([None, None, None], "category", [None, None, None]),
        (["Red shoe", "Blue shoe", "Old hat"], "text", ["Red shoe", "Blue shoe", "Old hat"]),
        (["https://a/b.jpg", None, "x"], "text", ["https://a/b.jpg", None, "x"]),
        ([["b", "a", "b"], [], None], "categories", [["b", "a"], None, None]),
        ([["a", None, float("nan")], [float("nan")], ["", "b"]], "categories", [["a"], None, ["b"]]),
        ([[3, 9], None, (3,)], "categories", [["3", "9"], None, ["3"]]),
        ([[0.5, 1], None, [2.0, 3.0]], "vector", [[0.5, 1.0], None, [2.0, 3.0]]),
        ([[0.5, 1], [], None], "vector", [[0.5, 1.0], None, None]),
        (np.ones((3, 2), dtype=np.float32), "vector", [[1.0, 1.0]] * 3),
        ([DAY, None, datetime.datetime(2026, 3, 1, 1, tzinfo=datetime.UTC)], "time", [MS, None, MS + 3_600_000]),
        (["2026-03-01", "2026-03-01T01:00", "2026-03-01 01:00:00Z"], "time", [MS, MS + 3_600_000, MS + 3_600_000]),
        (np.array(["2026-03-01", "NaT", "2026-03-01"], dtype="datetime64[us]"), "time", [MS, None, MS]),
    ],
)  # fmt: skip
def test_kinds(values: Any, kind: str, plain: list[Any]) -> None:
    column = ItemFrame.of({"id": [1, 2, 3], "x": values}).columns["x"]
    assert column.kind == kind
    assert column.values_at(np.arange(3)) == plain
    assert column.missing.tolist() == [value is None for value in plain]


@pytest.mark.parametrize(
    ("kind", "values", "plain"),
    [
        ("category", [281, 281.0, "281"], ["281"] * 3),
        ("boolean", [0, 1, 1.0], [False, True, True]),
        ("categories", ["a|b", "a", None], [["a", "b"], ["a"], None]),
        ("time", [MS, float(MS), None], [MS, MS, None]),
        ("vector", [[1, 2], [3, 4], None], [[1.0, 2.0], [3.0, 4.0], None]),
        ("text", ["a", 7, None], ["a", "7", None]),
    ],
)
def test_declared_kinds_convert(kind: str, values: list[Any], plain: list[Any]) -> None:
    column = ItemFrame.of({"id": [1, 2, 3], "x": values}, kinds={"x": kind}).columns["x"]
    assert (column.kind, column.values_at(np.arange(3))) == (kind, plain)


WRONG: list[tuple[Any, str]] = [
    ({"id": ["a", "b", "a"]}, "row 3: id 'a' is in row 1 already"),
    ({"id": ["a", None]}, "row 2: the id is missing"),
    ({"id": ["a", 3]}, "row 2: 3 is not a text, as the first id is"),
    ({"id": [1, 2**63]}, "row 2: 9223372036854775808 is outside 64 bits"),
    ({"id": ["x" * 513]}, "row 1: an id of 513 characters; at most 512"),
    ({"id": ["a"], "price": [float("inf")]}, "column 'price', row 1 (id 'a'): inf is not a finite number"),
    ({"id": ["a"], "price": np.array([-np.inf])}, "column 'price', row 1 (id 'a'): -inf is not a finite number"),
    ({"id": ["a", "b"], "price": [10**400, 1]}, "row 1 (id 'a')"),
    ({"id": ["a", "b"], "price": [1, "cheap"]}, "column 'price', row 1 (id 'a'): 1 is not a text"),
    ({"id": ["a"], "title": ["x" * 10**5]}, "a value of 100,000 characters is too long; at most 4,096"),
    ({"id": ["a"], "brand": ["\ud800"]}, "is not valid Unicode"),
    ({"id": ["a"], "tags": [["x" * 10**5]]}, "a value of 100,000 characters is too long; at most 512"),
    ({"id": ["a"], "tags": [[str(i) for i in range(300)]]}, "a list of 300 is too long"),
    ({"id": ["a", "b"], "face": [[1.0], [1.0, 2.0]]}, "row 2 (id 'b'): a vector of 2 numbers, where others have 1"),
    ({"id": ["a"], "tags": [["x", float("inf")]]}, "column 'tags', row 1 (id 'a'): inf is not a text"),
    ({"id": ["a"], "tags": [[np.array(["x", "y"])]]}, "column 'tags', row 1 (id 'a'): array(['x', 'y']"),
    ({"id": ["a"], "face": [[1.0, float("nan")]]}, "has a number that is not finite"),
    ({"id": ["a"], "since": [datetime.date(1066, 1, 1)]}, "is not a time"),
    ({"id": ["a"], "": [1]}, "'' cannot name a column"),
    ({"id": ["a"], "x" * 65: [1]}, "cannot name a column"),
    ({"id": ["a"], 7: [1]}, "7 cannot name a column"),
    ({"id": ["a"], "price": [1, 2]}, "column 'price' has 2 rows for 1 ids"),
    ({"id": ["a"]} | {f"x{i}": [1] for i in range(257)}, "there are 257 columns; at most 256"),
    ([{"id": "a"}, 3], "row 2 is 3"),
    ([{"id": "a"}, {"price": 3}], "row 2: the id is missing"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "message"), WRONG)
def test_refused_in_one_line(data: Any, message: str) -> None:
    with pytest.raises(DataError) as error:
        ItemFrame.of(data, where="new.parquet")
    assert message in str(error.value)
    assert str(error.value).startswith("new.parquet: ")
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("data", [{"sku": ["a"]}, {"id": "abc"}, {"id": 3}, "items", 7, []])
def test_what_is_no_table(data: Any) -> None:
    with pytest.raises(UsageError):
        ItemFrame.of(data)


@pytest.mark.parametrize("kind", ["category", "text"])
def test_long_numbers_next_to_missing_ones_keep_their_digits(kind: str) -> None:
    pl, pd = (pytest.importorskip(name) for name in ("polars", "pandas"))
    brands = [2**53 + 1, None, 2**53, 2**63 - 1]
    for values in (brands, pl.Series(brands), pd.Series(brands, dtype="Int64")):
        column = ItemFrame.of({"id": [1, 2, 3, 4], "brand": values}, kinds={"brand": kind}).columns["brand"]
        assert column.values_at(np.arange(4)) == [None if brand is None else str(brand) for brand in brands]


def test_polars_types_that_numpy_lacks() -> None:
    pl = pytest.importorskip("polars")
    for values, kind, plain in (
        (pl.Series([2**64, 5, None], dtype=pl.Int128), "number", [2.0**64, 5.0, None]),
        (pl.Series([None, None, None]), "category", [None, None, None]),
    ):
        column = ItemFrame.of(pl.DataFrame({"id": [1, 2, 3], "x": values})).columns["x"]
        assert (column.kind, column.values_at(np.arange(3))) == (kind, plain)
    objects = pl.DataFrame({"id": [1], "price": [{"amount": 1.5, "tax": 0.3}]})  # numpy makes a vector of them
    with pytest.raises(DataError, match=r"column 'price', row 1 \(id 1\): \{'amount': 1.5, 'tax': 0.3\} is not a text"):
        ItemFrame.of(objects)


def test_two_columns_of_one_name_are_refused() -> None:
    pd, pa = (pytest.importorskip(name) for name in ("pandas", "pyarrow"))
    columns, names = [[1, 2], [1.0, 2.0], [3.0, 4.0]], ["id", "price", "price"]
    frame = pd.DataFrame(dict(enumerate(columns))).set_axis(names, axis=1)  # pandas gives both at once, as a vector
    for table in (frame, pa.table([pa.array(column) for column in columns], names=names)):
        with pytest.raises(DataError, match=r"^items: there are two columns 'price'; rename one of them"):
            ItemFrame.of(table)


def test_times_in_seconds_are_refused() -> None:
    with pytest.raises(DataError, match="1700000000 is in seconds"):
        ItemFrame.of({"id": ["a"], "x": [1_700_000_000]}, kinds={"x": "time"})
    with pytest.raises(UsageError, match="no kind 'hue'"):
        ItemFrame.of({"id": ["a"], "x": [1]}, kinds={"x": "hue"})


def test_sources_agree() -> None:
    pl, pd, pa = (pytest.importorskip(name) for name in ("polars", "pandas", "pyarrow"))
    data = {
        "sku": ["a", "b", "c"], "price": [1.5, None, 3.0], "n": [1, 2, 3], "brand": ["x", None, "x"],
        "on": [True, False, True], "tags": [["u", "v"], None, ["u"]],
    }  # fmt: skip
    day = [datetime.datetime(2026, 3, 1), None, datetime.datetime(2026, 3, 2)]
    frames: dict[str, Any] = {"dict": data | {"day": day}}
    frames["polars"] = pl.DataFrame(frames["dict"])
    frames["lazy"] = frames["polars"].lazy()
    frames["pandas"] = pd.DataFrame(frames["dict"])
    frames["nullable"] = frames["pandas"].convert_dtypes()
    frames["arrow"] = pa.table(frames["dict"])
    frames["rows"] = frames["polars"].to_dicts()
    for name, source in frames.items():
        frame = ItemFrame.of(source, id="sku")
        assert frame.ids == data["sku"], name
        plain = {key: column.values_at(np.arange(3)) for key, column in frame.columns.items()}
        assert plain == {key: column for key, column in data.items() if key != "sku"} | {
            "day": [MS, None, MS + 86_400_000]
        }, name
