"""Sources of a log and forms of its times: JSON lines, frames, an object store; zones, micro- and nanoseconds."""

from __future__ import annotations

import dataclasses
import datetime
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data.readers import ClickOptions, read, read_stream
from mtaw_fast.errors import DataError, UsageError
from tests.support.data.reference_reader import contents

LOOSE = ClickOptions(min_support=1, test_days=0, max_session=None)
SKIP = dataclasses.replace(LOOSE, bad_rows="skip")
ROWS = [(s, f"i{(s + t) % 5}", 1_700_000_000 + 100 * s + t) for s in range(12) for t in range(3)]
NAMES = ("session_id", "item_id", "timestamp")


def frame() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=NAMES, orient="row")


def csv(path: Path, texts: list[Any]) -> Path:
    """One session, an item a row, at these times."""
    path.write_text(",".join(NAMES) + "\n" + "".join(f"s,i{k},{text}\n" for k, text in enumerate(texts)))
    return path


def times_of(source: Any, options: ClickOptions = LOOSE) -> list[int]:
    found = read("clicks", source, options=options).train.times
    assert found is not None
    return found.tolist()


@pytest.mark.parametrize(
    ("texts", "millis"),
    [
        (["2024-05-01 12:30:00 UTC", "2024-05-01 12:30:00.250 UTC"], [1_714_566_600_000, 1_714_566_600_250]),
        (["2024-05-01T12:30:00 GMT", "2024-05-01T12:30:01Z"], [1_714_566_600_000, 1_714_566_601_000]),
        (["2024-05-01 12:30 Europe/Berlin", "2024-05-01 13:30 UTC"], [1_714_559_400_000, 1_714_570_200_000]),
        # The hour that comes twice is the first one.
        (["2024-10-27 02:30:00 Europe/Berlin", "2024-10-27 03:30:00 Europe/Berlin"],
         [1_729_989_000_000, 1_729_996_200_000]),
        ([1_700_000_000_123_456, 1_700_000_000_999_999], [1_700_000_000_123, 1_700_000_000_999]),
        ([1_700_000_000_123_456_789, 1_700_000_001_000_000_000], [1_700_000_000_123, 1_700_000_001_000]),
        (["1700000000123456.5", 1_700_000_000_999_999], [1_700_000_000_123, 1_700_000_001_000]),
    ],
)  # fmt: skip
def test_times(tmp_path: Path, texts: list[Any], millis: list[int]) -> None:
    assert times_of(csv(tmp_path / "log.csv", texts)) == millis


def test_zones_past_the_rows_that_are_sampled(tmp_path: Path) -> None:
    texts = [f"2024-05-01T00:{k // 60 % 60:02}:{k % 60:02}Z" for k in range(2000)]
    assert times_of(csv(tmp_path / "log.csv", [*texts, "2024-05-02 02:00:00 Europe/Berlin"]))[-1] == 1_714_608_000_000


@pytest.mark.parametrize("text", ["2024-05-01 12:30:00 PST", "2024-03-31 02:30:00 Europe/Berlin", "12:30 PM"])
def test_a_time_of_no_zone_is_named(tmp_path: Path, text: str) -> None:
    """An unknown name, an hour that the clocks left out, no zone at all."""
    with pytest.raises(DataError, match=re.escape(f"holds '{text}' in data row 2")):
        read("clicks", csv(tmp_path / "log.csv", ["2024-05-01 12:30:00 UTC", text]), options=LOOSE)


def test_each_unit_equals_the_datetimes(tmp_path: Path) -> None:
    moments = [datetime.datetime(2024, 5, 1, 12, 30, k, 1000 * k, tzinfo=datetime.UTC) for k in range(5)]
    expected = [round(moment.timestamp() * 1000) for moment in moments]
    for per_second in (10**3, 10**6, 10**9):
        numbers = [round(moment.timestamp() * 1000) * per_second // 1000 for moment in moments]
        assert times_of(csv(tmp_path / "log.csv", numbers)) == expected
    for unit in ("ms", "us", "ns"):
        typed = pl.DataFrame({"session_id": ["s"] * 5, "item_id": list("abcde"), "timestamp": moments})
        assert times_of(typed.with_columns(pl.col("timestamp").dt.cast_time_unit(unit))) == expected  # type: ignore[arg-type]


def test_a_wrong_unit_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path / "log.csv", [1_700_000_000_000_000, 1_700_000_000_000_001])
    with pytest.raises(DataError, match="too large for milliseconds"):
        read("clicks", path, options=dataclasses.replace(LOOSE, time_unit="ms"))
    with pytest.raises(
        DataError, match=r"1700000000000 in data row 2 is milliseconds.* 1700000000000000 in data row 1 micro"
    ):
        read("clicks", csv(path, [1_700_000_000_000_000, 1_700_000_000_000]), options=LOOSE)


@pytest.mark.parametrize("huge", [2**63, 2**64 - 1, "1e25"])
@pytest.mark.parametrize("others", [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000_000])
def test_a_time_too_large_for_any_unit(tmp_path: Path, huge: Any, others: int) -> None:
    """Next to ordinary times, in a CSV and in a column of unsigned integers; and skipped with the bad rows."""
    path = csv(tmp_path / "log.csv", [others, others + 1, huge])
    expected = f"{re.escape(str(huge))} in data row 3 nanoseconds; write every time in one unit"
    if others >= 10**17:
        expected = r"column 'timestamp' reaches \d+, too large for nanoseconds since 1970"
    with pytest.raises(DataError, match=expected) as caught:
        read("clicks", path, options=LOOSE)
    assert "\n" not in str(caught.value)
    assert len(times_of(path, SKIP)) == 2
    if isinstance(huge, int):
        typed = pl.DataFrame(
            {
                "session_id": [1] * 3,
                "item_id": [1] * 3,
                "timestamp": pl.Series([others, others + 1, huge], dtype=pl.UInt64),
            }
        )
        with pytest.raises(DataError, match=expected):
            read("clicks", typed, options=LOOSE)
        assert len(times_of(typed, SKIP)) == 2


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
    found = read("clicks", path, options=SKIP)
    assert found.train.items.tolist() == list(range(6))
    report = found.preparation["log"]
    assert (report["rows"], report["bad_rows"], report["clicks"]) == (12, 6, 6)
    path.write_text(",".join(NAMES) + "\n" + ",a,1\n")
    with pytest.raises(DataError, match="none of 1 rows can be read"):
        read("clicks", path, options=SKIP)


def test_skipping_keeps_int_ids(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(",".join(NAMES) + "\n1,10,100\n1,,101\n1,20,102\n,30,103\n")
    found = read("clicks", path, options=SKIP)
    assert found.ids.external(np.arange(2)) == [10, 20]
    stream = read_stream(path, found.reader)
    assert stream.item_ids == [10, 20] or sorted(map(int, stream.item_ids))[-2:] == [10, 20]
    assert len(stream) == 2


TOTALS = ",".join(NAMES) + "\n1,10,100\n1,20,101\n2,20,102\n2,10,103\nall,TOTAL,\n"


def test_rows_that_are_left_out_do_not_make_texts_of_ids(tmp_path: Path) -> None:
    """A last line of sums: neither its item nor its session counts, also where the catalog's are ints already."""
    path = tmp_path / "log.csv"
    path.write_text(TOTALS)
    found = read("clicks", path, options=SKIP)
    assert (found.reader["item_ids"], found.ids.external(np.arange(2))) == ("int", [10, 20])
    for kind in ("int", "auto"):
        stream = read_stream(path, {**found.reader, "item_ids": kind})
        assert (sorted(stream.session_ids), len(stream)) == ([1, 2], 4)
    # A session of text whose item no catalog of ints holds is left out there, and is a session elsewhere.
    path.write_text(TOTALS.replace("all,TOTAL,", "all,x,104"))
    assert sorted(read_stream(path, found.reader).session_ids) == [1, 2]
    assert read_stream(path, {**found.reader, "item_ids": "auto"}).session_ids == ["1", "2", "all"]
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
    found = read("clicks", path, options=SKIP)
    assert (found.train.n_clicks, found.ids.external(np.arange(1))) == (4, ["7"])
    assert read_stream(path, found.reader).session_ids == ["1"]


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "jsonl.gz"])
def test_json_lines(tmp_path: Path, ending: str) -> None:
    text = "".join(json.dumps({**dict(zip(NAMES, row, strict=True)), "more": {"a": [1]}}) + "\n" for row in ROWS)
    path = tmp_path / f"log.{ending}"
    if ending.endswith("gz"):
        import gzip

        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    (tmp_path / "log.csv").write_text(frame().write_csv())
    assert contents(read("clicks", path, options=LOOSE)) == contents(
        read("clicks", tmp_path / "log.csv", options=LOOSE)
    )


def test_json_texts_stay_texts_and_broken_lines_are_told(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = [{"session_id": 1, "item_id": str(k), "timestamp": 1_700_000_000 + k} for k in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read("clicks", path, options=LOOSE).ids.kind == "str"
    path.write_text(path.read_text() + 'no json\n\n{"session_id": 1, "item')
    with pytest.raises(DataError, match=r"log\.jsonl cannot be read as a log"):
        read("clicks", path, options=LOOSE)
    found = read("clicks", path, options=SKIP)
    assert found.ids.external(np.arange(4)) == ["0", "1", "2", "3"]
    assert (found.preparation["log"]["rows"], found.preparation["log"]["bad_rows"]) == (6, 2)


def test_frames_in_memory(tmp_path: Path) -> None:
    frame().write_parquet(tmp_path / "log.parquet")
    expected = contents(read("clicks", tmp_path / "log.parquet", options=LOOSE))
    assert contents(read("clicks", frame(), options=LOOSE)) == expected
    assert contents(read("clicks", frame().lazy(), options=LOOSE)) == expected
    for wrong in ([1, 2], {"session_id": [1]}, 7):
        with pytest.raises(UsageError, match="convert it first"):
            read("clicks", wrong, options=LOOSE)
    with pytest.raises(UsageError, match="reads files on disk alone"):
        read("npz", frame())


def test_frames_of_pandas_and_arrow(tmp_path: Path) -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}
    expected = contents(read("clicks", frame(), options=LOOSE))
    assert contents(read("clicks", pyarrow.table(columns), options=LOOSE)) == expected
    table = pandas.DataFrame({**columns, "odd": [object()] * len(ROWS)})
    assert contents(read("clicks", table, options=LOOSE)) == expected
    table["timestamp"] = pandas.to_datetime(table["timestamp"], unit="s")
    assert contents(read("clicks", table, options=LOOSE)) == expected


@pytest.mark.parametrize("items", [["x", 1, "y", 2.5], [1, 2, 3, 2**70], [1 + 2j] * 4])
def test_a_pandas_column_of_several_types_is_one_line(items: list[Any]) -> None:
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"session_id": [1, 1, 2, 2], "timestamp": [1, 2, 3, 4]})
    table["item_id"] = pandas.Series(items, dtype=complex if isinstance(items[0], complex) else object)
    with pytest.raises(DataError, match=r"the frame: column|the frame cannot be read as a log") as caught:
        read("clicks", table, options=LOOSE)
    assert "\n" not in str(caught.value)
    table["item_id"] = table["item_id"].astype(str)
    assert read("clicks", table, options=LOOSE).train.n_clicks == 4


def test_frames_whose_columns_are_not_one_of_each(tmp_path: Path) -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    columns = [[row[place] for row in ROWS] for place in range(3)]
    twice = [*NAMES, "item_id"]
    for table in (
        pyarrow.table([pyarrow.array(column) for column in (*columns, columns[1])], names=twice),
        pandas.concat([pandas.Series(column) for column in (*columns, columns[1])], axis=1).set_axis(twice, axis=1),
    ):
        with pytest.raises(DataError, match=r"^the frame has two columns 'item_id'; rename one of them$"):
            read("clicks", table, options=LOOSE)
        with pytest.raises(DataError, match=r"^the frame has no column 'sku'; it has 'session_id', 'item_id', "):
            read("clicks", table, options=dataclasses.replace(LOOSE, item="sku"))
    plain = pandas.DataFrame(dict(zip(NAMES, columns, strict=True)))
    one = dataclasses.replace(LOOSE, session="session_id", item="session_id")  # a column may be named for two
    assert contents(read("clicks", plain, options=one)) == contents(read("clicks", frame(), options=one))


def test_of_an_arrow_table_the_columns_that_are_read_alone_are_converted() -> None:
    """Polars has no unions, and refuses the whole table for one."""
    pyarrow = pytest.importorskip("pyarrow")
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}
    odd = pyarrow.UnionArray.from_sparse(
        pyarrow.array([0] * len(ROWS), pyarrow.int8()),
        [pyarrow.array([1] * len(ROWS)), pyarrow.array(["x"] * len(ROWS))],
    )
    assert contents(read("clicks", pyarrow.table({**columns, "odd": odd}), options=LOOSE)) == contents(
        read("clicks", frame(), options=LOOSE)
    )


def test_a_file_whose_name_is_no_text_is_one_line(tmp_path: Path) -> None:
    csv(tmp_path / "a.csv", [1, 2])
    path = tmp_path / "b\udcff.csv"
    try:
        csv(path, [1, 2])
    except OSError:
        pytest.skip("this file system takes no such name")
    for source in (path, tmp_path, tmp_path / "b*.csv"):
        with pytest.raises(DataError, match=r"b\\udcff\.csv' is not UTF-8 text, so it cannot be read; rename it$"):
            read("clicks", source, options=LOOSE)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served as the bucket 'shop' by the few requests of S3 that reading takes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")

    class Store(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0].removeprefix("/shop").lstrip("/")
            if not path:
                return self._list()
            file = tmp_path / path
            if not file.is_file():
                return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
            data, status, headers = file.read_bytes(), 200, {"ETag": '"1"'}
            span = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if span:
                first = int(span[1]) if span[1] else max(len(data) - int(span[2]), 0)
                last = min(int(span[2]) if span[1] and span[2] else len(data) - 1, len(data) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
                data, status = data[first : last + 1], 206
            return self._answer(status, data, headers)

        def _list(self) -> None:
            names = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
            prefix = re.search(r"prefix=([^&]*)", self.path)
            start = prefix[1].replace("%2F", "/") if prefix else ""
            entries = "".join(
                f"<Contents><Key>{name}</Key><LastModified>2024-05-01T00:00:00.000Z</LastModified><ETag>1</ETag>"
                f"<Size>{(tmp_path / name).stat().st_size}</Size></Contents>"
                for name in names
                if name.startswith(start)
            )
            text = f"<ListBucketResult><Name>shop</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            self._answer(200, text.encode())

        def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Last-Modified": "Wed, 01 May 2024 00:00:00 GMT", **(headers or {})}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Store)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield tmp_path
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_log_in_an_object_store(store: Path) -> None:
    expected = contents(read("clicks", frame(), options=LOOSE))
    (store / "day").mkdir()
    frame().head(20).write_parquet(store / "day/part-0.parquet")
    frame().tail(16).write_parquet(store / "day/part-1.parquet")
    frame().write_csv(store / "log.csv")
    frame().write_ndjson(store / "log.jsonl")
    for url in ("s3://shop/day/part-*.parquet", "s3://shop/log.csv", "s3://shop/log.jsonl"):
        assert contents(read("clicks", url, options=LOOSE)) == expected
    with pytest.raises(DataError) as caught:
        read("clicks", "s3://shop/none.parquet", options=LOOSE)
    assert "s3://shop/none.parquet" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(DataError) as caught:
        read("clicks", "s3://shop/log.parquet", options=LOOSE)
    assert str(caught.value).startswith("cannot read s3://shop/log.parquet (")
    assert "credentials" in str(caught.value)
    assert "\n" not in str(caught.value)
    for url in ("s3://shop/folder/", "gs://shop/log", "az://shop/log.xlsx"):
        with pytest.raises(UsageError, match="does not say the format"):
            read("clicks", url, options=LOOSE)


def test_the_unit_of_most_rows_counts_where_others_are_skipped(tmp_path: Path) -> None:
    """The first thousand rows are of the other unit."""
    path = csv(tmp_path / "log.csv", [*[1_700_000_000] * 1200, *range(1_700_000_000_000, 1_700_000_002_000)])
    found = read("clicks", path, options=SKIP)
    assert (found.train.n_clicks, found.preparation["log"]["bad_rows"]) == (2000, 1200)


def test_a_unit_that_is_named_counts_whatever_most_rows_are_of(tmp_path: Path) -> None:
    seconds, milliseconds = [1_700_000_000] * 1200, range(1_700_000_000_000, 1_700_000_001_000)
    path = csv(tmp_path / "mixed.csv", [*seconds, *milliseconds])
    found = read("clicks", path, options=dataclasses.replace(SKIP, time_unit="s"))
    assert (found.train.n_clicks, found.preparation["log"]["bad_rows"]) == (1200, 1000)

    since_the_start = [1 + 900_000 * day for day in range(100)]
    path = csv(tmp_path / "relative.csv", [*since_the_start, 99_999_999_999_999_999_999])
    for unit, last in (("ms", 89_100_001), ("us", 89_100)):
        found = read("clicks", path, options=dataclasses.replace(SKIP, time_unit=unit))
        assert found.train.times is not None
        assert (found.train.n_clicks, found.preparation["log"]["bad_rows"]) == (100, 1)
        assert found.train.times.max() == last
