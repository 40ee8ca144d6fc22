"""Item tables from files: kinds, ids and one-line errors; prepare, the command, and what a bundle keeps."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.items.readers import read_change
from mtaw_fast.workflow import prepare
from tests.support.random_bundle import save_random

pl = pytest.importorskip("polars")

ROWS = {
    "sku": ["007", "8", "9"],
    "price": [1.5, None, 3.0],
    "brand": ["x", "y", "x"],
    "on": [True, False, None],
    "since": ["2026-03-01", "2026-03-02", None],
}
KINDS = {"price": "number", "brand": "category", "on": "boolean", "since": "time"}


def written(folder: Path) -> list[Path]:
    frame = pl.DataFrame(ROWS)
    frame.write_csv(folder / "t.csv")
    frame.write_csv(folder / "t.tsv", separator="\t")
    frame.write_parquet(folder / "t.parquet")
    frame.write_ndjson(folder / "t.jsonl")
    for ending in ("csv", "tsv", "jsonl"):
        (folder / f"t.{ending}.gz").write_bytes(gzip.compress((folder / f"t.{ending}").read_bytes()))
    return [folder / f"t.{ending}" for ending in ("csv", "tsv", "parquet", "jsonl", "csv.gz", "tsv.gz", "jsonl.gz")]


def test_files_agree(tmp_path: Path) -> None:
    for path in written(tmp_path):
        frame = read_change(path, "str", id="sku").frame
        assert frame.ids == ["007", "8", "9"], path
        assert {name: column.kind for name, column in frame.columns.items()} == KINDS, path
        assert frame.columns["price"].values_at(np.arange(3)) == [1.5, None, 3.0]
        assert frame.columns["on"].values_at(np.arange(3)) == [True, False, None]


def test_a_name_with_the_signs_of_a_pattern_is_one_file(tmp_path: Path) -> None:
    for path in written(tmp_path)[:4]:  # polars would read these
        named = path.with_name(path.name.replace("t.", "[t]."))
        named.write_bytes(path.read_bytes().replace(b"007", b"006"))
        assert read_change(named, "str", id="sku").frame.ids == ["006", "8", "9"], named


def test_a_patch_of_json_lines_leaves_alone_what_a_line_does_not_have(tmp_path: Path) -> None:
    rows = [{"id": 7, "price": 9.5}, {"id": 8, "on": False}, {"id": 9, "price": None}]
    (tmp_path / "t.jsonl").write_text("\ufeff" + "\n\n".join(map(json.dumps, rows)))
    before = read_change({"id": [7, 8, 9], "price": [1.0, 2.0, 3.0], "on": [True] * 3}, "int")

    def lookup(ids: Any) -> np.ndarray:
        return np.array([item - 7 for item in ids], dtype=np.int32)

    table = before.applied(ItemTable(3), lookup, 3)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress((tmp_path / "t.jsonl").read_bytes()))
    for source in (rows, tmp_path / "t.jsonl", tmp_path / "t.jsonl.gz"):
        patched = read_change(source, "int", "patch", before=table).applied(table, lookup, 3)
        values = patched.values_at(["price", "on"], np.arange(3))
        assert values == [{"price": 9.5, "on": True}, {"price": 2.0, "on": False}, {"on": True}]


def test_declared_labels_of_a_csv_are_its_texts(tmp_path: Path) -> None:
    rows = ["id,code,size,model,parts", "1,007,5.0,1.50,010|3", "2,10,,2,7", "3,,12.0,true,"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    kinds = {"code": "category", "size": "category", "model": "text", "parts": "categories"}
    columns = read_change(tmp_path / "t.csv", "int", kinds=kinds).frame.columns
    assert {name: column.values_at(np.arange(3)) for name, column in columns.items()} == {
        "code": ["007", "10", None],
        "size": ["5", None, "12"],
        "model": ["1.50", "2", "true"],
        "parts": [["010", "3"], ["7"], None],
    }
    kept = ItemTable(3, columns)
    patch = read_change(tmp_path / "t.csv", "int", "patch", before=kept, kinds={"parts": "categories"})
    assert patch.frame.columns["code"].values_at(np.arange(3)) == ["007", "10", None]
    with pytest.raises(DataError, match=r"column 'code', row 1 .*: 7 is not a text; declare the column as category"):
        read_change([{"id": 1, "code": 7}], "int", "patch", before=kept)


def test_ids_get_the_type_of_the_catalog(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("id,x\n8,1\n9,2\n")
    assert read_change(tmp_path / "t.csv", "int").frame.ids == [8, 9]
    assert read_change(tmp_path / "t.csv", "str").frame.ids == ["8", "9"]
    for wrong in ("008", str(2**63)):
        (tmp_path / "t.csv").write_text(f"id,x\n9,2\n{wrong},1\n")
        message = rf"t\.csv: column 'id', row 2: '{wrong}' is not an id; this catalog's item ids are int"  # and not 8
        with pytest.raises(DataError, match=message):
            read_change(tmp_path / "t.csv", "int")
    assert read_change({"id": [8]}, "str").frame.ids == ["8"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "id,price\na,1\na,2\n", "t.csv: column 'id', row 2: id 'a' is in row 1 already"),
        ("t.csv", "id,price\na,1\n,2\n", "row 2: the id is missing"),
        ("t.csv", "id,price\na,cheap\nb,2\n", "t.csv: column 'price', row 1 (id 'a'): 'cheap' is not a number"),
        ("t.csv", "id,price,price\na,1,2\n", "t.csv: there are two columns 'price'; rename one of them"),
        ("t.csv", "sku,price\na,1\n", "there is no column 'id' of item ids"),
        ("t.csv", "", "is empty"),
        ("t.parquet", "no parquet", "cannot be read as an item table"),
        ("t.jsonl", "{", "cannot be read as an item table"),
        ("t.jsonl", '{"id": "a", "title": "' + "x" * 10**5 + '"}\n', "a value of 100,000 characters is too long"),
    ],
)
def test_refused_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    (tmp_path / name).write_text(text)
    kinds = {"price": "number"} if "price" in text else None
    with pytest.raises(MtawError) as error:
        read_change(tmp_path / name, "str", kinds=kinds)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_a_compressed_file_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    for path in written(tmp_path):
        if path.suffix == ".gz":
            path.write_bytes(path.read_bytes()[:-12])
            with pytest.raises(DataError, match=r"cannot (be )?read"):
                read_change(path, "str", id="sku")


def test_wrong_options(tmp_path: Path) -> None:
    for options in ({"public": ["nope"]}, {"availability": "nope"}, {"kinds": {"nope": "text"}}, {"public": "sku"}):
        with pytest.raises(UsageError):
            read_change(ROWS, "str", id="sku", **options)
    with pytest.raises(DataError, match="does not exist"):
        read_change(tmp_path / "none.csv", "str")
    with pytest.raises(DataError, match="is a column of category, not boolean"):
        read_change(ROWS, "str", id="sku", availability="brand")


def test_prepare_with_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clicks = {"session_id": np.repeat(np.arange(40), 3), "item_id": np.tile(["007", "8", "12"], 40)}
    clicks["timestamp"] = np.arange(120) * 1000 + 1_700_000_000
    pl.DataFrame(clicks).write_parquet(tmp_path / "log.parquet")
    path = written(tmp_path)[2]
    arguments = [
        "--items", str(path), "--item-id", "sku", "--public", "brand,price", "--availability", "on", "--test-days", "0",
    ]  # fmt: skip
    for parts in ([], ["--partitions", "2"]):
        folder = tmp_path / f"set{len(parts)}"
        assert main(["prepare", "clicks", str(tmp_path / "log.parquet"), str(folder), *parts, *arguments]) == 0
        assert "3 rows: 2 of items in the catalog, 0 of new items, 1 that wait" in capsys.readouterr().out
        dataset = Dataset.load(folder)
        table: Any = dataset.items
        assert (table.kinds, table.public, table.availability) == (KINDS, ("price", "brand"), "on")
        assert table.waiting.ids == ["9"]
        assert table.values_at(["brand"], dataset.ids.lookup(["8", "12", "007"])) == [
            {"brand": "y"},
            {},
            {"brand": "x"},
        ]
        assert dataset.preparation["items"]["unlisted"] == 1
        assert main(["info", str(folder)]) == 0
        assert "price=number, public, 1 values" in capsys.readouterr().out
        dataset.save(tmp_path / "again", overwrite=True)
        assert Dataset.load(tmp_path / "again").items is not None
    plain = prepare(tmp_path / "log.parquet", tmp_path / "plain", test_days=0)
    assert plain.items is None
    assert plain.fingerprint == dataset.fingerprint  # the table is not what a model is trained on


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "b"
    save_random(folder)
    items: dict[str, Any] = {"id": ["sku-1", "sku-2", "later"], "price": [1.0, 2.0, 3.0], "stock": [True, False, True]}
    pl.DataFrame(items).write_parquet(tmp_path / "t.parquet")
    table = str(tmp_path / "t.parquet")
    assert main(["items", str(folder), table, "--public", "price", "--availability", "stock", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["rows"], report["known"], report["unlisted"]) == (3, 2, 58)
    first: Any = Bundle.load(folder)
    assert first.items.public == ("price",)
    (tmp_path / "p.csv").write_text("id,price\nsku-2,9\n")
    assert main(["items", str(folder), str(tmp_path / "p.csv"), "--patch"]) == 0
    patched = Bundle.load(folder).items
    assert isinstance(patched, ItemTable)
    assert patched.made > first.items.made
    assert patched.values_at(["price", "stock"], np.array([1, 2])) == [
        {"price": 1.0, "stock": True}, {"price": 9.0, "stock": False},
    ]  # fmt: skip
    capsys.readouterr()
    assert main(["info", str(folder)]) == 0
    assert "not available=1, hidden by hand=0" in capsys.readouterr().out
    (tmp_path / "p.csv").write_text("id,price\nsku-2,cheap\n")
    before = (folder / "manifest.json").read_bytes()
    assert main(["items", str(folder), str(tmp_path / "p.csv"), "--patch"]) == 1
    assert "column 'price', row 1 (id 'sku-2'): 'cheap' is not a number" in capsys.readouterr().err
    assert main(["items", str(folder), str(tmp_path / "p.csv"), "--kind", "price"]) == 2
    assert (folder / "manifest.json").read_bytes() == before
    assert len(list(folder.glob("item_table-*"))) == 1
    (tmp_path / "state").mkdir()
    assert main(["items", str(folder), table, "--state", str(tmp_path / "state")]) == 0
    assert (folder / "manifest.json").read_bytes() == before
    assert main(["items", str(folder), table, "--learn", str(tmp_path / "nothing")]) == 2
    assert main(["items", str(folder), table, "--learn", "redis://:secret@localhost"]) == 2
    error = capsys.readouterr().err
    assert "MTAW_REDIS_PASSWORD" in error
    assert "secret" not in error
