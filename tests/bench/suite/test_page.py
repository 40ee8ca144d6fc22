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

from bench.harness.machine import machine_class
from bench.suite.charts import Training, charts_of, digest_of, trainings_of
from bench.suite.command import main
from bench.suite.page import latest_rows, runs_of
from tests.support.bench.rows import MACHINE, row
from tests.support.html_page import Page

ROOT = Path(__file__).parents[3]
HERE = MACHINE | {"memory_gib": 16.0, "load_average": 0.25}


def loss(batch: int, catalog: int, p50: float, baseline: str, ratio: float) -> dict[str, Any]:
    params = {"catalog": catalog, "d": 100, "batch": batch, "gamma": 2.0, "threads": 2, "backend": "native"}
    return row(
        ratio, bench="training", case="aw_loss", params=params, metric="latency_ms", p50=p50, p95=p50, p99=p50,
        baseline=baseline, floor=p50 / 2, floor_what="products",
    )  # fmt: skip


def curve(index: str, effort: int, recall: float, p50: float, catalog: int = 1000) -> dict[str, Any]:
    params = {"catalog": catalog, "index": index, "effort": effort, "recall": recall, "threads": 1}
    return row(None, case="recall-curve", params=params, p50=p50, p95=p50, p99=p50)


def load(rate: float, p50: float) -> dict[str, Any]:
    params = {"catalog": 1000, "index": "scan", "rate": rate, "threads": 1}
    return row(
        None, bench="serving", case="poisson", params=params, metric="latency_ms", p50=p50, p95=3 * p50, p99=4 * p50,
        p90=2 * p50,
    )  # fmt: skip


ROWS = [
    curve("ladder", 8, 0.95, 20.0),
    curve("ladder", 16, 0.99, 40.0),
    curve("exact", 0, 1.0, 100.0),
    curve("exact", 0, 1.0, 9.0, catalog=500),
    load(500, 3.0),
    load(250, 2.0),
    loss(512, 1000, 64.0, "eager", 4.0),
    loss(512, 1000, 64.0, "<i>compiled</i>", 2.0),
    loss(512, 100_000, 640.0, "eager", 4.0),
    row(bench="training", case="memory", params={"catalog": 10}, metric="peak_extra_mb", p50=5.0),
    row(bench="training", case="memory", params={"catalog": 1000}, metric="peak_extra_mb", p50=500.0),
]


def kept(
    folder: Path,
    name: str,
    rows: list[dict],
    date: str,
    quick: bool,
    machine: dict | None = None,
    at: str | None = None,
) -> None:
    record = machine or HERE
    path = folder / machine_class(record) / name
    path.parent.mkdir(exist_ok=True, parents=True)
    suite = {"date": date, "quick": quick, "benches": [], **({} if at is None else {"at": at})}
    path.write_text(
        json.dumps({"schema": 1, "machine": record, "commit": "a" * 40, "results": rows, "suite": suite}),
        encoding="utf-8",
    )


def test_the_charts_say_what_the_rows_say():
    trainings = [
        Training("Tmall", "paper (ours)", (30.0, 60.0), (36.0, 37.0)),
        Training("Tmall", "Item-KNN", (0.5,), (9.0,)),
        Training("Ring", "Item-KNN", (2.0,), (20.0,)),
    ]
    recall, loads, training, catalog, roofline, *_, quality = charts_of(ROWS, trainings)
    assert [
        (panel.title, [(series.name, series.x, series.values) for series in panel.series]) for panel in quality.panels
    ] == [
        ("Tmall", [("paper (ours)", [30.0, 60.0], [36.0, 37.0]), ("Item-KNN", [1.0], [9.0])]),
        ("Ring", [("Item-KNN", [2.0], [20.0])]),
    ]
    (panel,) = recall.panels
    assert panel.title == "1,000 items"  # the larger catalog
    assert [(series.name, series.x, series.values) for series in panel.series] == [
        ("ladder", [0.95, 0.99], [20.0, 40.0]), ("exact", [1.0], [100.0]),
    ]  # fmt: skip
    (panel,) = loads.panels
    assert [(series.name, series.x, series.values) for series in panel.series] == [
        ("p50", [250, 500], [2.0, 3.0]), ("p90", [250, 500], [4.0, 6.0]), ("p99", [250, 500], [8.0, 12.0]),
    ]  # fmt: skip
    (panel,) = training.panels
    assert {series.name: dict(zip(series.x, series.values, strict=True)) for series in panel.series} == {
        "ours (native)": {"512 x 1,000": 8000.0, "512 x 100,000": 800.0},
        "eager": {"512 x 1,000": 2000.0, "512 x 100,000": 200.0},
        "<i>compiled</i>": {"512 x 1,000": 4000.0},
    }
    time, memory = catalog.panels
    assert [(series.name, series.x, series.values) for series in time.series] == [
        ("training aw_loss: N^0.50", [1000, 100_000], [64.0, 640.0])
    ]
    assert [series.name for series in memory.series] == ["training memory peak_extra_mb: N^1.00"]
    (panel,) = roofline.panels
    assert panel.series[0].values == [50.0, 50.0]
    assert all(not chart.panels for chart in charts_of([]))


@pytest.mark.slow
def test_the_page_needs_nothing_else_and_says_what_is_absent(tmp_path, capsys):
    kept(tmp_path / "results", "one.json", [line for line in ROWS if line["bench"] != "serving"], "2026-11-26", False)
    out = tmp_path / "bench.html"
    (tmp_path / "bench-load.png").write_bytes(b"of an earlier page")
    command = ["report", str(out), "--results", str(tmp_path / "results"), "--quality", str(tmp_path / "none")]
    assert main(command) == 0
    pictures = sorted(path.name for path in tmp_path.glob("*.png"))
    assert pictures == [f"bench-{name}.png" for name in ("catalog", "recall", "roofline", "training")]
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in pictures)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 5
    assert shown[0] == f"wrote {out}"
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "script" not in page.tags
    assert "<i>compiled" not in html
    assert "&lt;i&gt;compiled" in html
    text = " ".join(page.text.split())
    assert "Missing charts No results for these charts yet. The command of each makes them. Latency under load" in text
    assert "python -m bench all --only serving" in text
    assert "AMD EPYC family 26 model 2, 2 cores" in text
    assert re.search(r"training aw_loss catalog 1000, .* 64\.0 ms eager 4\.00 3\.80 to 4\.20", text)
    assert main(command) == 0  # over the page of before
    out.write_text("something else")
    assert main(command) == 2
    assert out.read_text() == "something else"


def test_whole_runs_count_before_quick_ones_and_later_before_earlier(tmp_path):
    kept(tmp_path, "a.json", [row(1.0), curve("ladder", 8, 0.95, 1.0)], "2026-11-25", False)
    kept(tmp_path, "b.json", [row(2.0), curve("ladder", 8, 0.96, 2.0)], "2026-11-26", False)
    kept(tmp_path, "c.json", [row(3.0), row(5.0, case="new")], "2026-11-27", True)
    lines = latest_rows(runs_of(tmp_path, None))
    assert {line["case"]: line["ratio"] for line in lines} == {"exact": 2.0, "new": 5.0, "recall-curve": None}
    assert [line["params"]["recall"] for line in lines if line["case"] == "recall-curve"] == [0.96]


def test_of_a_day_the_last_run_counts_and_what_was_found_makes_no_second_row(tmp_path):
    params = row()["params"]
    runs = (("f00.json", 1.0, 0.99, "09"), ("f00-2.json", 2.0, 0.98, "10"), ("a.json", 3.0, 0.97, "11"))
    for name, ratio, recall, hour in runs:
        record = row(ratio, params=params | {"recall": recall})
        kept(tmp_path, name, [record], "2026-11-26", False, at=f"2026-11-26T{hour}:00:00+00:00")
    (only,) = latest_rows(runs_of(tmp_path, None))
    assert (only["ratio"], only["params"]["recall"]) == (3.0, 0.97)


def test_classes_of_machines_are_not_mixed(tmp_path, capsys):
    command = ["report", str(tmp_path / "bench.html"), "--results", str(tmp_path / "results")]
    assert main(command) == 2
    assert "holds no results; 'python -m bench all' makes some" in capsys.readouterr().err
    kept(tmp_path / "results", "a.json", [row()], "2026-11-25", False)
    kept(tmp_path / "results", "a.json", [row()], "2026-11-25", False, HERE | {"cores": 16})
    assert main(command) == 2
    assert "choose one with --machine" in capsys.readouterr().err
    assert main([*command, "--machine", "other"]) == 2
    assert not (tmp_path / "bench.html").exists()


def test_trainings_are_those_with_a_figure_ours_first(tmp_path):
    about = {"kind": "mtaw_fast peers", "schema": 1, "dataset": {"name": "tmall"}}

    def keep(name, title, training, **more):
        record = {**about, "system": name, "title": title, "training": training, **more}
        for record_name in (f"tmall-{name}", f"cost/intel-2c/tmall-{name}"):
            (tmp_path / "peers.jsonl").open("a").write(json.dumps({"name": record_name, **record}) + "\n")
            record.pop("validation", None)  # a cost has none

    history = [{"cpu_seconds": 60.0, "P@20": 12.0}, {"cpu_seconds": 90.0, "P@20": 18.0}]
    cut = {"ended": None, "epochs_done": 1.25, "epochs_asked": 300}
    whole = {"ended": "epochs", "epochs_done": 3, "epochs_asked": 3}
    keep("gru4rec", "GRU4Rec", {**cut, "history": history, "best": history[1]})
    keep("fpmc", "FPMC", {**cut, "history": [], "best": None})
    keep("item-knn", "Item-KNN", {**whole, "best": {"cpu_seconds": 0.5}}, validation={"P@20": 10.0})
    keep("ours-paper", "paper", {**whole, "history": history, "best": history[0]})
    keep("ours-full", "full", {**whole, "history": [{"cpu_seconds": 9.0}], "best": {"cpu_seconds": 99.0, "P@20": 56.0}})
    trainings = trainings_of(tmp_path, "intel-2c")
    assert {training.name for training in trainings[:2]} == {"paper (ours)", "full (ours)"}
    assert {training.name: (training.dataset, training.seconds, training.hits) for training in trainings} == {
        "paper (ours)": ("Tmall", (60.0, 90.0), (12.0, 18.0)),
        "full (ours)": ("Tmall", (99.0,), (56.0,)),
        "GRU4Rec, 1.2 of 300 epochs": ("Tmall", (60.0, 90.0), (12.0, 18.0)),
        "Item-KNN": ("Tmall", (0.5,), (10.0,)),
    }
    assert trainings_of(tmp_path, "amd-2c") == trainings_of(tmp_path / "none", "intel-2c") == []


def test_the_picture_of_the_trainings_is_of_today_s_records():
    zen4 = "amd-f25-m17-avx512bf16-2c"
    chart = charts_of([], trainings_of(ROOT / "docs/results", zen4))[-1]
    with Image.open(ROOT / "docs/images/quality.png") as picture:
        again = f"python -m bench report bench.html --machine {zen4}, then copy bench-quality.png there"
        assert picture.info.get("Data") == digest_of(chart), again
