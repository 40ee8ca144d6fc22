"""Every table of the pages is what its records give, and is made by the newest file that has its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bench.harness.machine import machine_class
from bench.harness.report import number
from bench.quality.records import records_in
from bench.suite import service_tables, speed_tables, tables
from bench.suite.cells import duration, size
from bench.suite.figures import Records
from bench.suite.measured import Measured
from bench.suite.result_tables import final_sets, refit_gain
from mtaw_fast.errors import DataError
from tests.support.bench.rows import MACHINE, row

PAGES = [tables.ROOT / "README.md", *sorted((tables.ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def made() -> tables.Blocks:
    return tables.blocks()


def test_every_table_of_the_pages_is_what_its_records_give(made: tables.Blocks) -> None:
    """A figure that was changed by hand, or whose record changed, is found here."""
    changed = [
        path.name for path in PAGES if tables.filled(path.read_text(encoding="utf-8"), made) != path.read_text("utf-8")
    ]
    assert changed == [], "python -m bench.suite.tables --write docs (README: --write .)"


def test_the_sets_on_which_nothing_was_chosen_have_held_out_runs_alone(tmp_path: Path) -> None:
    runs = records_in(tables.ROOT / "docs/results").every()
    name, run = next((name, run) for name, run in runs.items() if name.startswith("diginetica-paper-"))
    for protocol in ("held-out", "not-refit", "published"):
        line = {
            **run,
            "protocol": protocol,
            "metrics": {**run["metrics"], "P@20": 1.0 if protocol == "held-out" else 99.0},
        }
        records_in(tmp_path).entry(f"{name}-{protocol}").write(line)
    assert "1.00 [" in final_sets(tmp_path)
    assert "±" not in final_sets(tmp_path)


def test_gains_of_the_refit_are_not_averaged_over_settings(tmp_path: Path) -> None:
    run = next(run for run in records_in(tables.ROOT / "docs/results").finished() if run["preset"] == "full")
    for changed, gain in (({}, 1.0), ({"gamma": 6.0}, 3.0)):
        for protocol, p20 in (("not-refit", 50.0), ("held-out", 50.0 + gain)):
            line = {**run, "changed": changed, "protocol": protocol, "dataset": {"name": "tmall"}, "seed": 0}
            metrics = {**run["metrics"], "P@20": p20}
            records_in(tmp_path).entry(f"{gain}-{protocol}").write({**line, "split": "test", "metrics": metrics})
    assert [(line[0], line[2], line[5].split(" / ")[0]) for line in cells(refit_gain(tmp_path))] == [
        ("`full` gamma=6", "1", "+3.00"), ("`full`", "1", "+1.00")
    ]  # fmt: skip


def test_every_table_has_a_place(made: tables.Blocks) -> None:
    placed = {match["name"] for path in PAGES for match in tables.BLOCK.finditer(path.read_text(encoding="utf-8"))}
    assert set(made) == placed


def test_a_table_that_nothing_makes_is_refused(made: tables.Blocks) -> None:
    with pytest.raises(DataError, match="no command makes the table <!-- bench speed -->"):
        tables.filled("<!-- bench speed -->\nold\n<!-- end -->\n", made)


def test_a_remark_above_a_table_is_no_table() -> None:
    page = "<!-- prose: ignore -->\ntext\n\n<!-- one -->\nold\n<!-- end -->\n"
    assert tables.filled(page, {"one": lambda: "new"}) == page.replace("old", "\nnew\n")


def test_names_and_write_contradict_each_other(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert tables.main(["bench loss", "--write", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: --write writes every table: leave the names out\n"


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
    quick: dict[str, Any] = {"suite": {"date": "2026-11-29", "quick": True}}
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


def test_a_bench_s_own_quick_file_loses_to_an_older_full_one(tmp_path: Path) -> None:
    older = [encoded(1, 1.5, "numpy", 20.0)]
    kept(tmp_path, "2026-11-29-encoder.json", [encoded(1, 5.0, "numpy", 3.0)], quick=True)
    assert ", `--quick`, load average" in speed_tables.encode(Measured.read(tmp_path)).splitlines()[0]
    kept(tmp_path, "2026-11-28-encoder.json", older, quick=False)
    assert [line[2] for line in cells(speed_tables.encode(Measured.read(tmp_path)))] == ["1.50"]


def one(bench: str, case: str, params: dict[str, Any], metric: str, value: float, **more: Any) -> dict[str, Any]:
    return row(
        None, bench=bench, case=case, params={"threads": 1, **params}, metric=metric, p50=value, p95=value, p99=value,
        baseline=None, floor=None, floor_what=None, **more,
    )  # fmt: skip


def cells(table: str) -> list[list[str]]:
    """Return the cells below a table's head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_what_learning_costs_stands_next_to_its_targets(tmp_path: Path) -> None:
    params = {"catalog": 9, "base_clicks": 10_000, "events": 200, "times": True}
    added = one("live", "recommend-added", params, "latency_us", 100.0) | {"baseline": "tables", "ratio": 0.95}
    rate = {"event_rate": 2000.0, "rate": 500.0}
    kept(tmp_path, "2026-11-29-live.json", [
        added,
        one("live", "places-as-in-a-rebuild", params, "percent", 99.95, k=20, target=99.9),
        one("live", "event", {"stage": "total"}, "cpu_us", 30.0),
        one("live", "rate", rate, "latency_ms", 1.0, p90_ratio=1.25),
        one("live", "fresh", {}, "latency_ms", 50.0, max=54.0),
        one("live", "fresh", {"event_rate": 2000.0}, "latency_ms", 300.0, accepted=1990.4, refused=9.6),
        one("live", "loss", {"kills": 3, "acknowledged": 1200}, "reopen_s", 0.1, lost=0, doubled=0),
        one("live", "worker-memory", {"events": 1000}, "bytes_per_event", 326.0, step_ms=100, delta=272.0),
        one("live", "compaction-memory", {"events": 1000}, "bytes", 286.0 * 2**20),
        one("live", "redact", {"events": 1000}, "redact_s", 1.0, bytes=1.5 * 2**20),
    ])  # fmt: skip
    measured = Measured.read(tmp_path)
    assert cells(service_tables.learning(measured)) == [
        ["`recommend-added`: 200 events, tables of 10^4 clicks", "+5.0 us on 95.0", "+10 us"],
        ["top-20 ranks as after a rebuild, tables of 10^4 clicks", "99.95%", "99.9%"],
        ["`event`: processor time", "30.0 us", "25 us, missed"],
        ["`rate`: p90 at 2,000 events/s over none", "1.25", "1.3"],
        ["`fresh`: until another worker knows a click", "at most 54.0 ms", "1 s"],
        ["`loss`: 3 kills, 1,200 events", "0 lost, 0 twice", "0, 0"],
    ]
    assert cells(service_tables.freshness(measured)) == [["2,000", "1,990", "10", "300", "300"]]
    assert cells(service_tables.memory_use(measured)) == [
        ["worker, bytes an event, of a day", "326, of them 272 in the native delta", "200, missed"],
        ["compaction, the bundle included", "286 MiB", "300 MiB"],
        ["redaction of one session", "1.00 s, 1.5 MiB", ""],
    ]


def test_the_readme_s_time_is_that_of_a_ranking_with_a_session_memory(tmp_path: Path) -> None:
    """It is the median in the table of rankings, and of the newest file alone."""
    params, results = {"catalog": 9, "batch": 1, "data": "tmall", "clicks": 5}, tmp_path / "bench/results"
    ranking = one("throughput", "recommend", params, "latency_us", 153.7)
    kept(results, "2026-11-28-a.json", [ranking, one("throughput", "memory", params, "latency_us", 80.0)])
    assert Records(tmp_path).of("ranking") == {"0.15"}
    kept(results, "2026-11-29-b.json", [ranking])
    assert Records(tmp_path).of("ranking") == frozenset()


def test_a_request_s_cost_is_put_together_from_three_files(tmp_path: Path) -> None:
    parts = {"service": 132.0, "bare": 19.0, "recommend": 31.0}
    alone = [one("serving.cost", case, {"catalog": 10_000}, "cpu_us", value) for case, value in parts.items()]
    loaded = {"catalog": 10_000, "rate": 400.0, "workers": 2, "index": "native"}
    kept(tmp_path, "2026-11-29-a.json", alone)
    kept(tmp_path, "2026-11-29-b.json", [one("serving", "poisson", loaded, "latency_ms", 1.0, server_cpu_us=471.4)])
    kept(tmp_path, "2026-11-29-c.json", [one("serving", "bare", loaded, "latency_ms", 1.0, server_cpu_us=152.0)])
    kept(tmp_path, "2026-11-29-d.json", [
        one("serving", "poisson", loaded | {"rate": 1000.0}, "latency_ms", 0.7, p90=1.3, server_cpu_us=397.0, errors=0)
    ])  # fmt: skip
    measured = Measured.read(tmp_path)
    assert [line[1:] for line in cells(service_tables.request_cost(measured))] == [
        ["132", ""], ["31.0", ""], ["19.0", ""], ["82.0", ""], ["471", "150 us, missed"], ["152", ""]
    ]  # fmt: skip
    assert service_tables.curve(measured) == service_tables.NOTHING
    assert cells(service_tables.load(measured)) == [["10,000", "`native`", "1,000", "0.70", "1.30", "0.70", "397", "0"]]


def test_the_curve_has_a_column_for_each_index_and_a_row_for_each_rate(tmp_path: Path) -> None:
    small, large = {"catalog": 10_000, "index": "native"}, {"catalog": 1_000_000, "index": "ann"}
    kept(tmp_path, "2026-11-29-a.json", [
        one("serving", "poisson", params | {"rate": rate}, "latency_ms", 1.0, p90=p90)
        for params, rate, p90 in ((small, 250.0, 0.9), (small, 375.0, 1.25), (large, 250.0, 4.0))
    ])  # fmt: skip
    assert cells(service_tables.curve(Measured.read(tmp_path))) == [["250", "0.90", "4.00"], ["375", "1.25", ""]]


def test_trainings_and_searches_have_their_tables(tmp_path: Path) -> None:
    epoch = {"data": "tmall", "samples": 1000, "steps": 10, "threads": 2}
    stages = {"batch": 1.0, "loss forward": 3.0, "loss backward": 5.0, "clipping and Adam": 1.0}
    ann = {"catalog": 10**6, "batch": 1, "data": "clustered", "kind": "ivfpq", "recall": 0.9929}
    million = {"catalog": 10**6}
    curve = [("ann", 8, 0.98, 100.0), ("ann", 16, 0.992, 450.0), ("hnsw", 64, 0.995, 301.0), ("flat", 0, 0.5, 1.0)]
    times = {"catalog": 2946, "data": "its memory", "clicks": 10}
    kept(tmp_path, "2026-11-29-all.json", [
        one("training", "epoch", epoch, "epoch_s", 30.0) | {"floor": 20.0, "floor_what": "products"},
        *(one("training", "stage", {**epoch, "stage": name}, "latency_ms", value) for name, value in stages.items()),
        one("training", "batch-step", {"batch": 1024, "steps": 345}, "processor_ms", 81.3),
        one("training", "batch-step", {"batch": 100, "steps": 3714}, "processor_ms", 16.1),
        one("training", "small-batch-epoch", {"batch": 100, "steps": 3714}, "times_large", 2.15),
        one("training", "train", {"data": "tmall", "preset": "full"}, "train_s", 126.0),
        one("training", "train", {"data": "tmall", "preset": "full"}, "train_processor_s", 240.0),
        one("retrieval", "ladder", ann, "latency_us", 832.0) | {"baseline": "faiss-flat", "ratio": 20.0},
        *(
            one("retrieval", "recall-curve", million | {"index": name, "effort": effort, "recall": recall}, "x_us", us)
            for name, effort, recall, us in curve
        ),
        one("throughput", "recommend-times", times, "latency_us", 172.0) | {"baseline": "without-times", "ratio": 0.5},
    ])  # fmt: skip
    measured = Measured.read(tmp_path)
    assert cells(speed_tables.epoch(measured)) == [["tmall", "1,000", "10", "2", "30.0 s", "20.0 s", "1.50 x", "80%"]]
    assert cells(speed_tables.small_batch(measured)) == [
        ["1,024", "345", "81.3 ms", "1", ""], ["100", "3,714", "16.1 ms", "2.15", "2.5"]
    ]  # fmt: skip
    assert cells(speed_tables.preset(measured)) == [["tmall", "`full`", "1", "126 s", "240 s"]]
    assert cells(speed_tables.top_k(measured)) == [
        ["`ann` (ivfpq)", "1,000,000", "1", "0.9929", "832 us", "", "20.0 x"]
    ]
    assert cells(speed_tables.recall(measured)) == [["hnsw", "301", "0.9950", "64"], ["ann", "450", "0.9920", "16"]]
    assert cells(speed_tables.with_times(measured)) == [["2,946 items, 10 clicks", "172", "86.0", "2.00 x, missed"]]


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
