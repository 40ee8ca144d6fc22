"""The harness: what it calls and in which order, its statistics, and that wrong answers get no speed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.harness.comparison import (
    Case,
    Comparison,
    Contender,
    Plan,
    Timing,
    WrongAnswerError,
    compare,
    time_interleaved,
)
from bench.harness.floors import Floor
from bench.harness.report import Report, bench_parser, parse, rows_of
from mtaw_fast.errors import UsageError
from tests.support.bench.schema import check_report

PLAN = Plan(rounds=7, burst=3, settle=2, warmup=4)
PARAMS = {"catalog": 10, "threads": 1}


def agree(contender: Contender) -> None:
    assert contender.name


def spin(call: int) -> int:
    return sum(range(200 + call))


def case(*baselines: str, check: Callable[[Contender], str | None] = agree, floor: Floor | None = None) -> Case:
    others = [Contender(name, spin) for name in baselines]
    return Case("toy", PARAMS, "latency_us", Contender("ours", spin), others, check, PLAN, floor)


def test_every_contender_gets_the_same_calls_in_its_own_unbroken_turns() -> None:
    log: list[tuple[str, int]] = []
    contenders = [Contender(name, lambda call, name=name: log.append((name, call))) for name in "abc"]
    timings = time_interleaved(contenders, PLAN)
    assert [t.name for t in timings] == ["a", "b", "c"]
    assert all(t.seconds.shape == (7, 3) and t.n == 21 and (t.seconds >= 0).all() for t in timings)
    calls = {name: [call for contender, call in log if contender == name] for name in "abc"}
    assert calls["a"] == calls["b"] == calls["c"] == [*range(4), *range(7 * 5)]
    turns = [log[12:][start : start + 5] for start in range(0, 7 * 3 * 5, 5)]
    assert all(len({contender for contender, _ in turn}) == 1 for turn in turns)
    orders = ["".join(turn[0][0] for turn in turns[start : start + 3]) for start in range(0, 21, 3)]
    assert all(Counter(order) == Counter("abc") for order in orders)
    assert len(set(orders)) > 1  # the order within a round varies


def test_timing_stops_after_its_seconds_but_keeps_the_least_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(10_000))
    monkeypatch.setattr("bench.harness.comparison.time.perf_counter", lambda: next(clock))
    for seconds, rounds in ((10, range(3, 14)), (0, (3,))):
        plan = Plan(rounds=50, burst=1, seconds=seconds, min_rounds=3)
        (timed,) = time_interleaved([Contender("a", spin)], plan)
        assert len(timed.seconds) in rounds


def test_wrong_answers_are_named_and_never_timed() -> None:
    """The check runs on ours first, then on each baseline; a wrong baseline is left out."""
    timed: list[int] = []
    ours, other = Contender("ours", timed.append), Contender("other", timed.append)
    wrong = Case("c", {}, "latency_us", ours, [other], lambda one: "off by one" if one is ours else None, PLAN)
    with pytest.raises(WrongAnswerError, match=r"^c: ours: off by one; no speed is reported$"):
        compare(wrong)
    assert timed == []
    seen: list[str] = []
    result = compare(case("b", "c", check=lambda one: seen.append(one.name) or ("no" if one.name == "b" else None)))
    assert seen == ["ours", "b", "c"]
    assert ([t.name for t in result.baselines], result.refused) == (["c"], {"b": "no"})
    with pytest.raises(WrongAnswerError, match="toy: b: no"):
        compare(case("b", check=lambda one: "no" if one.name == "b" else None))


def test_one_row_a_baseline_in_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("throughput", quick=True)
    report.run(case("slow", "slower", floor=Floor(2e-6, "pure read of 40 bytes, 20.0 GB/s")))
    report.run(case())
    assert report.finish(tmp_path / "out.json") == 0
    written = json.loads((tmp_path / "out.json").read_text())
    check_report(written)
    assert written["quick"] is True
    assert [row["baseline"] for row in written["results"]] == ["slow", "slower", None]
    first = written["results"][0]
    assert (first["bench"], first["case"], first["params"]) == ("throughput", "toy", PARAMS)
    assert (first["floor"], first["n"]) == (2.0, 21)
    printed = capsys.readouterr().out
    assert printed.count("floor of toy, 2.00 latency_us: pure read of 40 bytes, 20.0 GB/s") == 1
    assert all(name in printed for name in ("slow", "slower"))


def test_figures_are_in_the_metrics_unit_and_the_ratio_is_baseline_over_ours() -> None:
    ours, baseline = Timing("ours", np.arange(1.0, 101.0).reshape(20, 5) * 1e-6), Timing("slow", np.full((20, 5), 1e-4))
    (row,) = rows_of("b", Comparison(case(), ours, [baseline], {}))
    assert (row.p50, row.p95, row.p99, row.baseline_p50) == pytest.approx((50.5, 95, 99, 100))
    assert row.ratio == pytest.approx(100 / 50.5)


def test_a_wrong_answer_has_no_row_and_fails_the_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = Report("throughput", quick=False)
    report.run(case("slow", check=lambda one: "3 of 20 ids differ" if one.name == "ours" else None))
    assert report.finish(tmp_path / "out.json") == 1
    assert json.loads((tmp_path / "out.json").read_text())["results"] == []
    captured = capsys.readouterr()
    assert "refused: toy: ours: 3 of 20 ids differ; no speed is reported" in captured.err
    assert "p50" not in captured.out


def test_a_json_file_that_cannot_be_written_is_refused_before_measuring(tmp_path: Path) -> None:
    parser = bench_parser("throughput", "d")
    with pytest.raises(UsageError, match="its folder does not exist"):
        parse(parser, ["--json", str(tmp_path / "none" / "out.json")])
    assert "example: python -m bench.throughput" in parser.format_help()
