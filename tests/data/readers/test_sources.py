"""Sources of a log: JSON lines, frames, an object store."""

from __future__ import annotations

import dataclasses
import gzip
import http.server
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mtaw_fast.data.readers import ClickOptions, read
from mtaw_fast.errors import DataError, UsageError
from tests.support.data.raw_logs import LOOSE, NAMES, SKIP, csv
from tests.support.data.reference_reader import contents

ROWS = [(s, f"i{(s + t) % 5}", 1_700_000_000 + 100 * s + t) for s in range(12) for t in range(3)]


def frame() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=NAMES, orient="row")


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "jsonl.gz", "json.gz"])
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


def test_a_json_line_may_be_a_session_with_its_events(tmp_path: Path) -> None:
    lines = [
        {"session_id": s, "events": [{"item_id": i, "timestamp": t} for owner, i, t in ROWS if owner == s]}
        for s in range(12)
    ]
    text = "".join(json.dumps(line) + "\n" for line in [*lines, {"session_id": 99, "events": []}])
    (tmp_path / "log.jsonl").write_text(text)
    assert contents(read("clicks", tmp_path / "log.jsonl", options=LOOSE)) == contents(
        read("clicks", frame(), options=LOOSE)
    )
    (tmp_path / "log.jsonl").write_text(text + "no json\n")
    assert read("clicks", tmp_path / "log.jsonl", options=SKIP).preparation["log"]["bad_rows"] == 1
    with pytest.raises(DataError, match="has no column 'aid'; it has 'session_id', 'events'"):
        read("clicks", tmp_path / "log.jsonl", options=dataclasses.replace(SKIP, item="aid"))


OTTO = ClickOptions(session="session", item="aid", time="ts", type="type", min_support=1, test_days=0)


def otto_lines() -> list[str]:
    return [
        json.dumps({"session": s, "events": [{"aid": s + t, "ts": 1_659_304_800_000 + 1000 * t, "type": kind}
                                             for t, kind in enumerate(("clicks", "carts", "clicks", "orders"))]})
        for s in range(6)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("no json", r"line 6 \(no json\) cannot be read"),
        ('{"session": 7, "events": [{"aid": 1, "ts": 1659', "line 6 .* cannot be read"),
        ("[1, 2]", r"line 6 \(\[1, 2\]\) cannot be read"),
        ('{"session": 7, "events": 5}', "line 6 .* cannot be read"),
        ('{"session": 7, "events": [5]}', "line 6 .* cannot be read"),
        ('{"session": 7, "events": [{"ts": 1659304800000, "type": "clicks"}]}', "column 'aid' is empty in line 6"),
        (
            '{"session": 7, "events": [{"aid": 1, "ts": "soon", "type": "clicks"}]}',
            "column 'ts' holds 'soon' in line 6",
        ),
        (
            '{"session": 7, "events": [{"aid": 1, "ts": 1659304800, "type": "carts"}]}',
            "1659304800 in line 6 is seconds",
        ),
        ('{"events": [{"aid": 1, "ts": 1659304800000, "type": "carts"}]}', "column 'session' is empty in line 6"),
        ('{"session": 7, "events": [{"aid": 1, "ts": 1659304800000}]}', "column 'type' is empty in line 6"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path, lines = tmp_path / "train.jsonl", otto_lines()
    path.write_text("\n".join(["", *lines[:2], " ", lines[2], line, *lines[3:]]))
    with pytest.raises(DataError, match=rf"train\.jsonl: {message}|train\.jsonl: column 'ts' mixes units: {message}"):
        read("clicks", path, options=OTTO)
    if line.endswith(("5}", "[5]}")):
        return  # an object of another shape is refused
    dataset = read("clicks", path, options=dataclasses.replace(OTTO, bad_rows="skip"))
    assert (dataset.train.n_clicks, dataset.preparation["log"]["bad_rows"]) == (24, 1)


@pytest.mark.parametrize("value", ["5", "null", '"a"'])
def test_a_value_that_is_no_object_is_skipped_like_a_broken_line(tmp_path: Path, value: str) -> None:
    path, lines = tmp_path / "train.jsonl", otto_lines()
    path.write_text("\n".join([lines[0], value, '{"s":', *lines[1:]]))
    with pytest.raises(DataError, match=r"line 2 \(.*\) cannot be read: it is no JSON object; .* --bad-rows skip"):
        read("clicks", path, options=dataclasses.replace(OTTO, bad_rows="refuse"))
    skip = dataclasses.replace(OTTO, bad_rows="skip")
    for text, broken in (([lines[0], value, '{"s":', *lines[1:]], 2), ([value, *lines], 1)):
        path.write_text("\n".join(text))
        dataset = read("clicks", path, options=skip)
        assert (dataset.train.n_clicks, dataset.preparation["log"]["bad_rows"]) == (24, broken)
    path.write_text("\n".join([lines[0], value, '{"session": 7, "events": 5}', *lines[1:]]))
    with pytest.raises(DataError, match=r"line 3 \(\{.*\) cannot be read: ") as caught:
        read("clicks", path, options=skip)
    assert "--bad-rows" not in str(caught.value)


def test_a_byte_order_mark_loses_no_line(tmp_path: Path) -> None:
    path, lines = tmp_path / "train.jsonl", otto_lines()
    path.write_text("\n".join(lines), encoding="utf-8-sig")
    assert read("clicks", path, options=OTTO).train.n_clicks == 24
    path.write_text("\n".join([*lines, "no json"]), encoding="utf-8-sig")
    with pytest.raises(DataError, match=r"line 7 \(no json\) cannot be read"):
        read("clicks", path, options=OTTO)
    dataset = read("clicks", path, options=dataclasses.replace(OTTO, bad_rows="skip"))
    assert (dataset.train.n_clicks, dataset.preparation["log"]["bad_rows"]) == (24, 1)


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("log[1].jsonl", ""),
        ("log*.jsonl", ""),
        ("log[1].jsonl", "\ufeff"),
        ("log[1].jsonl", "no json\n"),
        ("log[1].parquet", None),
        ("log[1].csv", None),
    ],
)
def test_a_name_with_the_signs_of_a_pattern_is_one_file(tmp_path: Path, name: str, first: str | None) -> None:
    """Polars would read `log1` in its place, or together with it."""
    path = tmp_path / name
    writer = {".jsonl": "write_ndjson", ".parquet": "write_parquet", ".csv": "write_csv"}[path.suffix]
    getattr(frame(), writer)(path)
    getattr(frame().with_columns(pl.lit("other").alias("item_id")), writer)(tmp_path / re.sub(r"\[1]|\*", "1", name))
    if first is not None:
        path.write_text(first + path.read_text())
    dataset = read("clicks", path, options=SKIP)
    assert (dataset.train.n_clicks, "other" in dataset.ids) == (36, False)
    if first == "no json\n":
        with pytest.raises(DataError, match=r"line 1 \(no json\) cannot be read"):
            read("clicks", path, options=LOOSE)


@pytest.mark.parametrize("bad_rows", ["refuse", "skip"])
def test_text_in_another_encoding_is_named_by_its_line(tmp_path: Path, bad_rows: Any) -> None:
    path, lines = tmp_path / "train.jsonl", otto_lines()
    path.write_bytes("\n".join([*lines[:2], '{"session": "é"}', *lines[2:]]).encode("latin-1"))
    options = dataclasses.replace(OTTO, bad_rows=bad_rows)
    with pytest.raises(DataError, match=r"train\.jsonl: line 3 is not UTF-8 text; write the file as UTF-8$"):
        read("clicks", path, options=options)
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(DataError, match=r"train\.jsonl: line 3 is not UTF-8 text; write the file as UTF-8$"):
        read("clicks", path, options=options)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.jsonl \(unexpected end of file\); check the file"):
        read("clicks", path, options=options)


def test_a_damaged_line_is_found_behind_many_and_in_a_compressed_file(tmp_path: Path) -> None:
    lines = otto_lines() * 2000
    lines[9000] = lines[9000][:-30]
    path = tmp_path / "train.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    with pytest.raises(DataError, match=r"train\.jsonl\.gz: line 9001 "):
        read("clicks", path, options=OTTO)


def test_frames_in_memory(tmp_path: Path) -> None:
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    frame().write_parquet(tmp_path / "log.parquet")
    expected = contents(read("clicks", tmp_path / "log.parquet", options=LOOSE))
    columns = {name: [row[place] for row in ROWS] for place, name in enumerate(NAMES)}
    table = pandas.DataFrame({**columns, "odd": [object()] * len(ROWS)})
    timed = table.assign(timestamp=pandas.to_datetime(table["timestamp"], unit="s"))
    for source in (frame(), frame().lazy(), pyarrow.table(columns), table, timed):
        assert contents(read("clicks", source, options=LOOSE)) == expected
    for wrong in ([1, 2], {"session_id": [1]}, 7):
        with pytest.raises(UsageError, match="convert it first"):
            read("clicks", wrong, options=LOOSE)
    with pytest.raises(UsageError, match="reads files on disk alone"):
        read("npz", frame())


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
    options = dataclasses.replace(LOOSE, session="session_id", item="session_id")  # a column may be named for two
    assert contents(read("clicks", plain, options=options)) == contents(read("clicks", frame(), options=options))


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
