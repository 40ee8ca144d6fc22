"""Rows, tables and exit codes of a bench report."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench.harness.comparison import Case, Comparison, Contender, Floor, Plan, Timing
from bench.harness.report import Report, bench_parser, lines_of, number, parse
from mtaw_fast.errors import UsageError
from tests.support.bench.schema import check_report

PLAN = Plan(rounds=5, burst=4, settle=0, warmup=1)
PARAMS = {"catalog": 10, "threads": 1}


def spin(call: int) -> int:
    return sum(range(200 + call))


def agree(contender: Contender) -> None:
    assert contender.name


def case(check=agree, baselines: tuple[str, ...] = ("slow", "slower"), floor: Floor | None = None) -> Case:
    others = [Contender(name, spin) for name in baselines]
    return Case("toy", PARAMS, "latency_us", Contender("ours", spin), others, check, PLAN, floor)


def test_one_row_a_baseline_in_the_schema(tmp_path, capsys):
    report = Report("throughput", quick=True)
    report.run(case(floor=Floor(2e-6, "pure read of 40 bytes, 20.0 GB/s")))
    report.run(case(baselines=()))
    assert report.finish(tmp_path / "out.json") == 0

    written = json.loads((tmp_path / "out.json").read_text())
    check_report(written)
    assert written["quick"] is True
    assert [row["baseline"] for row in written["results"]] == ["slow", "slower", None]
    first = written["results"][0]
    assert first["bench"] == "throughput"
    assert first["case"] == "toy"
    assert first["params"] == PARAMS
    assert (first["floor"], first["n"]) == (2.0, 20)

    printed = capsys.readouterr().out
    assert "toy" in printed
    assert printed.count("floor of toy, 2.00 latency_us: pure read of 40 bytes, 20.0 GB/s") == 1
    assert all(name in printed for name in ("slow", "slower"))


def test_figures_are_in_the_metrics_unit_and_the_ratio_is_baseline_over_ours():
    ours = Timing("ours", np.full((5, 4), 2e-6))
    baseline = Timing("slow", np.full((5, 4), 5e-6))
    (line,) = lines_of("b", Comparison(case(), ours, [baseline], {}))
    assert (line.row.p50, line.row.p95, line.row.p99) == pytest.approx((2.0, 2.0, 2.0))
    assert line.row.ratio == pytest.approx(2.5)
    assert line.baseline_p50 == pytest.approx(5.0)
    assert line.interval == pytest.approx((2.0, 2.0))


def test_a_wrong_answer_has_no_row_and_fails_the_bench(tmp_path, capsys):
    report = Report("throughput", quick=False)
    report.run(case(lambda contender: "3 of 20 ids differ" if contender.name == "ours" else None))
    assert report.finish(tmp_path / "out.json") == 1
    assert json.loads((tmp_path / "out.json").read_text())["results"] == []
    captured = capsys.readouterr()
    assert "refused: toy: ours: 3 of 20 ids differ; no speed is reported" in captured.err
    assert "p50" not in captured.out


def test_a_wrong_baseline_loses_its_row_alone_and_fails_the_bench(capsys):
    report = Report("throughput", quick=False)
    report.run(case(lambda contender: "differs" if contender.name == "slow" else None))
    assert [line.row.baseline for line in report.lines] == ["slower"]
    assert report.finish(None) == 1
    assert "refused: toy: slow: differs" in capsys.readouterr().err


def test_a_json_file_that_cannot_be_written_is_refused_before_measuring(tmp_path):
    parser = bench_parser("throughput", "d")
    with pytest.raises(UsageError, match="its folder does not exist"):
        parse(parser, ["--json", str(tmp_path / "none" / "out.json")])
    options = parse(parser, ["--quick", "--json", str(tmp_path / "out.json")])
    assert options.quick
    assert options.json == tmp_path / "out.json"
    assert "example: python -m bench.throughput" in parser.format_help()


@pytest.mark.parametrize(
    ("value", "text"),
    [(1234.5, "1,234"), (-1234.5, "-1,234"), (99.44, "99.4"), (1.234, "1.23"), (0.004, "0.00")],
)
def test_figures_in_the_table(value, text):
    assert number(value) == text
