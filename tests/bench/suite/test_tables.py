"""Every table of the pages is what its records give, and is made by the newest file that has its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.harness.machine import machine_class
from bench.suite import speed_tables, tables
from bench.suite.cells import duration, number, size
from bench.suite.measured import Measured
from mtaw_fast.errors import DataError
from tests.support.bench.rows import MACHINE, row

PAGES = sorted((tables.ROOT / "docs").glob("*.md"))


@pytest.fixture(scope="module")
def made() -> tables.Blocks:
    return tables.blocks()


def test_every_table_of_the_pages_is_what_its_records_give(made: tables.Blocks) -> None:
    """A figure that was changed by hand, or whose record changed, is found here."""
    changed = [
        path.name for path in PAGES if tables.filled(path.read_text(encoding="utf-8"), made) != path.read_text("utf-8")
    ]
    assert changed == [], "python -m bench.suite.tables --write docs"


def test_every_table_has_a_place(made: tables.Blocks) -> None:
    placed = {match["name"] for path in PAGES for match in tables.BLOCK.finditer(path.read_text(encoding="utf-8"))}
    assert set(made) == placed


def test_a_table_that_nothing_makes_is_refused(made: tables.Blocks) -> None:
    with pytest.raises(DataError, match="no command makes the table <!-- bench speed -->"):
        tables.filled("<!-- bench speed -->\nold\n<!-- end -->\n", made)


def kept(folder: Path, name: str, rows: list[dict[str, Any]], cores: int = 2, **more: Any) -> None:
    """Write a result file of a bench."""
    machine = MACHINE | {"cores": cores, "load_average": 0.25}
    path = folder / machine_class(machine) / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps({"schema": 1, "machine": machine, "commit": "a" * 40, "results": rows, **more}))


def encoded(clicks: int, p50: float, baseline: str, ratio: float) -> dict[str, Any]:
    params = {"clicks": clicks, "threads": 1}
    return row(
        ratio, bench="encoder", case="encode", params=params, p50=p50, p95=p50, p99=p50, baseline=baseline, floor=0.8
    )


def test_a_table_is_of_one_file_the_newest_that_is_not_quick(tmp_path: Path) -> None:
    quick = {"suite": {"date": "2026-11-29", "quick": True}}
    kept(tmp_path, "2026-11-27-encoder.json", [encoded(1, 9.0, "numpy", 2.0), encoded(10, 90.0, "numpy", 2.0)])
    kept(
        tmp_path,
        "b.json",
        [encoded(1, 1.5, "numpy", 20.0), encoded(1, 1.5, "eager", 200.4)],
        4,
        at="2026-11-28T01:00:00",
    )
    kept(tmp_path, "2026-11-29-quick.json", [encoded(1, 5.0, "numpy", 3.0)], **quick)
    table = speed_tables.encode(Measured.read(tmp_path))
    name = machine_class(MACHINE | {"cores": 4})
    assert table.startswith(f"`{name}`, 2026-11-28, commit aaaaaaaa, load average 0.2:\n\n")
    assert table.splitlines()[-1].split("|")[1:-1] == [
        " encode ", " 1      ", " 1.50   ", " 20.0 x  ", " 200 x   ", " 0.80  "
    ]  # fmt: skip
    assert len(table.splitlines()) == 5


def test_without_records_a_table_says_so(tmp_path: Path) -> None:
    assert speed_tables.encode(Measured.read(tmp_path)) == speed_tables.NOTHING


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        (number(0.8), "0.80"), (number(12.345), "12.3"), (number(12345.6), "12,346"),
        (duration(999.4, "latency_us"), "999 us"), (duration(2260, "latency_us"), "2.26 ms"),
        (duration(0.0001, "cpu_us"), "0.00 us"), (duration(60.5, "build_s"), "60.5 s"),
        (duration(0.02, "x_s"), "20.0 ms"),
        (size(512), "512"), (size(10_000), "10^4"), (size(3e6), "3x10^6"), (size(40_727), "40,727"),
    ],
)  # fmt: skip
def test_cells(made: str, wanted: str) -> None:
    assert made == wanted
