"""The page of results: which charts it has, what they say, and that it needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("jinja2", reason="the page needs the extra 'report'")
pytest.importorskip("matplotlib", reason="the page needs the extra 'report'")
from PIL import Image

from bench.__main__ import main
from bench.harness.machine import machine_class
from bench.suite import picture
from bench.suite.charts import charts_of
from bench.suite.page import latest_rows
from bench.suite.results import ROOT, read_runs
from tests.support.bench.rows import MACHINE, row
from tests.support.html_page import Page

HERE = MACHINE | {"memory_gib": 16.0, "load_average": 0.25}


def load(rate: float, p50: float) -> dict[str, Any]:
    params = {"catalog": 1000, "index": "native", "rate": rate, "threads": 1}
    return row(None, bench="serving", case="poisson", params=params, p50=p50, p99=4 * p50, p90=2 * p50)


def grown(catalog: int, value: float, metric: str = "processor_us") -> dict[str, Any]:
    params = {"catalog": catalog, "d": 100}
    found = row(None, bench="scaling", case="catalog-scan", params=params, metric=metric, p50=value, along="catalog")
    return found | {"spread": 0.0}


ROWS = [
    load(500, 3.0), load(250, 2.0), row(baseline="<i>compiled</i>", p50=64.0, floor=32.0),
    grown(1000, 10.0), grown(100_000, 1000.0), grown(1000, 5.0, "peak_mb"),
]  # fmt: skip


def kept(
    folder: Path, name: str, rows: list[dict[str, Any]], at: str, quick: bool = False, machine: dict[str, Any] = HERE
) -> None:
    path = folder / machine_class(machine) / name
    path.parent.mkdir(exist_ok=True, parents=True)
    value = {"schema": 1, "machine": machine, "commit": "a" * 40, "at": at, "quick": quick, "results": rows}
    path.write_text(json.dumps(value), encoding="utf-8")


def test_the_charts_say_what_the_rows_say() -> None:
    load_chart, scaling = charts_of(ROWS)
    assert load_chart.panels[0].lines == [
        ("p50", [250, 500], [2.0, 3.0]), ("p90", [250, 500], [4.0, 6.0]), ("p99", [250, 500], [8.0, 12.0])
    ]  # fmt: skip
    ((name, sizes, costs),) = scaling.panels[0].lines
    assert len(scaling.panels) == 1  # of one point there is no line
    assert name.startswith("scan: 1.00 [")
    assert (sizes, costs) == ([1000, 100_000], pytest.approx([0.01, 1.0]))
    assert not charts_of([])


@pytest.mark.slow
def test_the_page_needs_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept(tmp_path / "results", "one.json", [line for line in ROWS if line["bench"] != "serving"], "2026-11-26")
    out = tmp_path / "bench.html"
    command = ["report", str(out), "--results", str(tmp_path / "results")]
    assert main(command) == 0
    assert [path.name for path in tmp_path.glob("*.png")] == ["bench-scaling-catalog.png"]
    assert capsys.readouterr().out.splitlines()[0] == f"wrote {out}"
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "script" not in page.tags
    assert "<i>compiled" not in html
    text = " ".join(page.text.split())
    assert "AMD EPYC family 26 model 2, 2 cores" in text
    assert re.search(r"retrieval exact catalog 1000, .* 64\.0 us <i>compiled</i> 4\.00 3\.80 to 4\.20 50%", text)
    assert main(command) == 0  # over the page of before
    out.write_text("something else")
    assert main(command) == 2
    assert out.read_text() == "something else"


def test_full_runs_count_before_quick_ones_and_later_before_earlier(tmp_path: Path) -> None:
    kept(tmp_path, "z.json", [row(1.0)], "2026-11-26T09")
    kept(tmp_path, "b.json", [row(2.0, params=row()["params"] | {"recall": 0.9})], "2026-11-26T10")
    kept(tmp_path, "c.json", [row(3.0), row(5.0, case="new")], "2026-11-27", quick=True)
    assert {line["case"]: line["ratio"] for line in latest_rows(read_runs(tmp_path.glob("*/*")))} == {
        "exact": 2.0, "new": 5.0
    }  # fmt: skip


def test_the_picture_of_the_trainings_is_of_today_s_records() -> None:
    trainings = picture.trainings_of(ROOT / "docs/results", picture.MACHINE)
    with Image.open(ROOT / "docs/images/quality.png") as drawn:
        again = "python -m bench.suite.picture docs/images/quality.png"
        assert drawn.info.get("Data") == picture.digest_of(trainings), again
