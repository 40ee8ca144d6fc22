"""The harness: what it calls and in which order, its statistics, and that wrong answers get no speed."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.harness import floors
from bench.harness.comparison import (
    Case,
    Comparison,
    Contender,
    Plan,
    Timing,
    WrongAnswerError,
    compare,
    limit_threads,
    ratio,
    time_interleaved,
)
from bench.harness.floors import Floor, exp_floor, flop_floor, read_floor, sum_of
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


def test_interval_of_the_median_covers_the_true_median_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    hits = 0
    for _ in range(200):
        low, high = Timing("a", rng.lognormal(0.0, 0.4, (40, 1))).median_interval(0.95)
        hits += low <= 1.0 <= high
    assert 180 <= hits <= 199
    per_round = np.random.default_rng(0).lognormal(0, 0.5, (20, 1))  # calls of one round are alike
    alike = Timing("a", np.repeat(per_round, 50, axis=1)).median_interval()
    apart = Timing("a", np.random.default_rng(0).lognormal(0, 0.5, (20, 50))).median_interval()
    assert alike[1] - alike[0] > 3 * (apart[1] - apart[0])


def test_ratio_above_one_means_ours_is_faster_and_shared_noise_cancels() -> None:
    rng = np.random.default_rng(1)
    disturbance = rng.lognormal(0, 1.0, (60, 1))  # slow phases of the machine, common to a round
    ours = Timing("ours", disturbance * rng.normal(1.0, 0.01, (60, 5)))
    baseline = Timing("base", 2 * disturbance * rng.normal(1.0, 0.01, (60, 5)))
    result = ratio(ours, baseline)
    assert 1.95 < result.low <= result.value <= result.high < 2.05
    low, high = ours.median_interval()
    assert high / low > 1.2  # while the figure alone is this uncertain
    assert ratio(baseline, ours).value == pytest.approx(1 / result.value)


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


def test_threads_are_limited_inside_and_restored_after(monkeypatch: pytest.MonkeyPatch) -> None:
    torch, faiss = pytest.importorskip("torch"), pytest.importorskip("faiss")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = (torch.get_num_threads(), faiss.omp_get_max_threads())
    with limit_threads(2):
        assert os.environ["OMP_NUM_THREADS"] == "2"
        with limit_threads(1):
            assert torch.get_num_threads() == faiss.omp_get_max_threads() == 1
            assert all(pool["num_threads"] == 1 for pool in threadpoolctl.threadpool_info())
        assert torch.get_num_threads() == faiss.omp_get_max_threads() == 2
    assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == before
    assert os.environ["OMP_NUM_THREADS"] == "3"
    with pytest.raises(UsageError, match="at least one thread"), limit_threads(0):
        pass


def test_floors_name_what_they_measure_and_grow_with_the_work() -> None:
    torch = pytest.importorskip("torch")
    small, large = read_floor(1 << 20, "a toy", repeats=5), read_floor(1 << 24, repeats=5)
    assert small.what.startswith("pure read of a toy, ")
    assert f"{1 << 24} bytes" in large.what
    assert 0 < small.seconds < large.seconds
    with pytest.raises(UsageError, match="at least 64 bytes"):
        read_floor(8)
    small, large = (flop_floor(flop, "toy", "bfloat16", size=64) for flop in (1e6, 1e9))
    assert "toy: 1 MFLOP at " in small.what
    assert large.seconds > small.seconds
    with limit_threads(2):
        assert "toy: 1 M exponentials at " in exp_floor(1e6, "toy", size=1024).what
        assert torch.get_num_threads() == 2
    assert sum_of(Floor(1.0, "reading"), Floor(2.0, "thinking")) == Floor(3.0, "reading + thinking")


def test_a_floor_never_rises_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0, 10, 20, 25, 30, 37])  # calls of 10, then 5 and 7 ns
    monkeypatch.setattr("bench.harness.floors.time.perf_counter_ns", lambda: next(ticks))
    assert [floors._fastest("key", int, 1, 1.0) for _ in range(3)] == pytest.approx([10e-9, 5e-9, 5e-9])


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
