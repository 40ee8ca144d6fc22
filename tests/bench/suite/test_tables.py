"""Every table of the pages is what its records give, and every other figure of some pages has a record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.harness.machine import machine_class
from bench.suite.figures import figures, recorded, without_record
from bench.suite.results import ROOT
from bench.suite.tables import (
    BLOCK,
    NOTHING,
    SPEED,
    Blocks,
    blocks,
    filled,
    main,
    pages,
    runs_below,
    speed,
)
from mtaw_fast.errors import DataError
from tests.support.bench.rows import MACHINE, row


@pytest.fixture(scope="module")
def made() -> Blocks:
    return blocks()


def test_every_table_of_the_pages_is_what_its_records_give_and_has_a_place(made: Blocks) -> None:
    """A figure that was changed by hand, or whose record changed, is found here."""
    texts = {path: path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *pages(ROOT / "docs"))}
    changed = [path.name for path, text in texts.items() if filled(text, made) != text]
    assert changed == [], "python -m bench.suite.tables --write docs"
    assert {match["name"] for text in texts.values() for match in BLOCK.finditer(text)} == set(made)


def test_every_figure_of_the_pages_has_a_record() -> None:
    """A new figure needs a record of its section; so does one whose heading was renamed."""
    assert without_record() == {}


def test_what_counts_as_a_figure() -> None:
    page = "\n".join([
        "lost -0.77 / -0.20, gained +0.04 [-0.01, +0.09], of 1.5..2.5, Apache-2.0, 1.5-fold",
        "# One", "**53.80 / 24.13** and 36.26 ± 0.10 [34.94, 37.62], `1.5`, Python 3.11, [a](b1.2), version 1.2.3.",
        "```console", "run --lr 0.5", "```", "    pip install x==1.2", "## Two", "takes 1,234.5 ms.",
        "```text", "P@20 77.02", "```", "- a list", "    - with 66.50 / 5.25", "      and 7.50", "",
        "<!-- prose: ignore -->", "is 1.25 or", "<!-- peers tmall quality -->", "| 9.99 |", "<!-- end -->",
        "<!-- not made -->", "| 8.75 |", "<!-- end -->",
    ])  # fmt: skip
    assert figures(page, {"peers tmall quality"}) == {
        "": ["-0.77 / -0.20", "+0.04", "[-0.01, +0.09]", "1.5"],
        "One": ["53.80 / 24.13", "36.26 ± 0.10", "[34.94, 37.62]"],
        "Two": ["1,234.5", "77.02", "66.50 / 5.25", "7.50", "1.25", "8.75"],
    }


def test_a_figure_has_a_record_only_in_the_sources_of_its_section() -> None:
    """Not of another set, of one seed for the mean of several, nor of epochs that the test set chose."""
    assert "53.80 / 24.13" in recorded("test")
    assert "53.80 / 24.13" not in recorded("validation") | recorded("by-hand")
    assert "53.81 / 24.13" not in recorded("test")
    assert ("33.39 / 17.75" in recorded("test"), "33.39 / 17.75" in recorded("leaking test")) == (True, False)
    assert ("35.60 / 17.87" in recorded("test"), "35.60 / 17.87" in recorded("leaking test")) == (False, True)
    assert "39.21 / 22.33" not in recorded("validation")  # it has two more seeds
    assert recorded("run tmall-paper-literal-6ce92adf-validation-seed0") == {"39.21 / 22.33"}


def test_a_mark_that_nothing_makes_is_refused(made: Blocks) -> None:
    with pytest.raises(DataError, match="no command makes the table <!-- bench speed -->"):
        filled("<!-- bench speed -->\nold\n<!-- end -->\n", made)


def test_the_command_prints_tables_or_writes_them_into_pages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench loss"]) == 0
    printed = capsys.readouterr().out
    assert main(["bench speed"]) == 2
    assert main(["bench loss", "--write", str(tmp_path)]) == 2
    assert "error: --write writes every table: leave the names out\n" in capsys.readouterr().err
    page = tmp_path / "results" / "loss.md"
    page.parent.mkdir()
    page.write_text("<!-- bench loss -->\n<!-- end -->\n")
    assert main(["--write", str(tmp_path)]) == 0
    assert page.read_text() == f"{printed.rstrip()}\n\n<!-- end -->\n"


def kept(root: Path, name: str, rows: list[dict[str, Any]], cores: int = 2, **more: Any) -> None:
    """Write a result file of a bench into a checkout."""
    machine = MACHINE | {"cores": cores, "load_average": 0.25}
    path = root / "bench/results" / machine_class(machine) / name
    path.parent.mkdir(exist_ok=True, parents=True)
    value = {"schema": 1, "machine": machine, "commit": "a" * 40, "at": name[:10], "results": rows, **more}
    path.write_text(json.dumps(value))


def encoded(clicks: int, p50: float, baseline: str, ratio: float) -> dict[str, Any]:
    params = {"clicks": clicks, "threads": 1}
    return row(ratio, bench="encoder", case="encode", params=params, p50=p50, baseline=baseline, floor=0.8)


def cells(table: str) -> list[list[str]]:
    """Return the cells below a table's head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_a_table_is_of_the_newest_file_that_is_not_quick(tmp_path: Path) -> None:
    assert speed(SPEED["encode"], runs_below(tmp_path)) == NOTHING
    kept(tmp_path, "2026-11-27-a.json", [encoded(1, 9.0, "numpy", 2.0), encoded(10, 90.0, "numpy", 2.0)])
    kept(tmp_path, "2026-11-28-b.json", [encoded(1, 1.5, "numpy", 20.0), encoded(1, 1.5, "torch", 200.4)], cores=4)
    kept(tmp_path, "2026-11-29-c.json", [encoded(1, 5.0, "numpy", 3.0)], quick=True)
    table = speed(SPEED["encode"], runs_below(tmp_path))
    name = machine_class(MACHINE | {"cores": 4})
    assert table.startswith(f"`{name}`, 2026-11-28, commit aaaaaaaa, load average 0.2:\n\n")
    assert cells(table) == [["encode", "1", "1.50", "0.80", "20.0 x", "200 x"]]
