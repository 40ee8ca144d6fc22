"""The harness: what it calls and in which order, its statistics, and that wrong answers get no speed."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from bench.harness import floors
from bench.harness.comparison import (
    Case,
    Contender,
    Plan,
    Timing,
    WrongAnswerError,
    compare,
    limit_threads,
    ratio,
    time_interleaved,
)
from bench.harness.floors import Floor, largest_of, read_floor, sum_of
from mtaw_fast.errors import UsageError

PLAN = Plan(rounds=7, burst=3, settle=2, warmup=4)


def agree(contender: Contender) -> None:
    assert contender.name


def timing(name: str, seconds: np.ndarray) -> Timing:
    return Timing(name, seconds)


def case(check, *names: str) -> Case:
    contenders = [Contender(name, lambda call: call) for name in names]
    return Case("c", {}, "latency_us", contenders[0], contenders[1:], check, PLAN)


def test_every_contender_gets_the_same_calls_in_its_own_unbroken_turns():
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


def test_timing_stops_after_its_seconds_but_keeps_the_least_rounds(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("bench.harness.comparison.time.perf_counter", lambda: next(clock))
    (timed,) = time_interleaved([Contender("a", lambda call: call)], Plan(rounds=50, burst=1, seconds=10, min_rounds=3))
    assert 3 <= len(timed.seconds) <= 13
    (timed,) = time_interleaved([Contender("a", lambda call: call)], Plan(rounds=50, burst=1, seconds=0, min_rounds=3))
    assert len(timed.seconds) == 3


def test_a_failing_contender_is_not_swallowed():
    def fail(call: int) -> None:
        raise ZeroDivisionError(call)

    with pytest.raises(ZeroDivisionError):
        time_interleaved([Contender("a", fail)], PLAN)


def test_contenders_need_distinct_names():
    with pytest.raises(UsageError, match="distinct names"):
        time_interleaved([Contender("a", int), Contender("a", int)], PLAN)


@pytest.mark.parametrize("bad", [{"rounds": 0}, {"burst": 0}, {"min_rounds": 0}, {"settle": -1}, {"warmup": -1}])
def test_a_plan_without_work_is_refused(bad):
    with pytest.raises(UsageError, match="bench plan"):
        Plan(**bad)


def test_percentiles_are_timed_calls_and_never_interpolated():
    measured = timing("a", np.arange(1.0, 101.0).reshape(20, 5))
    assert [measured.percentile(p) for p in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert measured.median == 50.5
    assert measured.percentile(99) in measured.seconds


def test_interval_of_the_median_covers_the_true_median_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    true_median = 1.0
    hits = 0
    for _ in range(200):
        low, high = timing("a", rng.lognormal(0.0, 0.4, (40, 1))).median_interval(0.95)
        hits += low <= true_median <= high
    assert 180 <= hits <= 199


def test_interval_knows_that_calls_of_one_round_are_alike():
    per_round = np.random.default_rng(0).lognormal(0, 0.5, (20, 1))
    alike = timing("a", np.repeat(per_round, 50, axis=1)).median_interval()
    apart = timing("a", np.random.default_rng(0).lognormal(0, 0.5, (20, 50))).median_interval()
    assert alike[1] - alike[0] > 3 * (apart[1] - apart[0])


def test_ratio_above_one_means_ours_is_faster_and_shared_noise_cancels():
    rng = np.random.default_rng(1)
    disturbance = rng.lognormal(0, 1.0, (60, 1))  # slow phases of the machine, common to a round
    ours = timing("ours", disturbance * rng.normal(1.0, 0.01, (60, 5)))
    baseline = timing("base", 2 * disturbance * rng.normal(1.0, 0.01, (60, 5)))
    result = ratio(ours, baseline)
    assert 1.95 < result.low <= result.value <= result.high < 2.05
    low, high = ours.median_interval()
    assert high / low > 1.2  # while the figure alone is this uncertain
    assert ratio(baseline, ours).value == pytest.approx(1 / result.value)


def test_ratio_needs_timings_of_the_same_rounds():
    with pytest.raises(UsageError, match="not of the same rounds"):
        ratio(timing("a", np.ones((3, 2))), timing("b", np.ones((4, 2))))


def test_a_wrong_answer_of_ours_is_never_timed():
    timed = []
    ours, other = Contender("ours", timed.append), Contender("other", timed.append)
    wrong = Case(
        "c", {}, "latency_us", ours, [other], lambda contender: "off by one" if contender is ours else None, PLAN
    )
    with pytest.raises(WrongAnswerError, match=r"^c: ours: off by one; no speed is reported$"):
        compare(wrong)
    assert timed == []


def test_a_wrong_baseline_is_left_out_and_named():
    result = compare(case(lambda contender: "no" if contender.name == "b" else None, "a", "b", "c"))
    assert [t.name for t in result.baselines] == ["c"]
    assert result.refused == {"b": "no"}


def test_a_case_whose_every_baseline_is_wrong_is_refused():
    with pytest.raises(WrongAnswerError, match="c: b: no"):
        compare(case(lambda contender: "no" if contender.name == "b" else None, "a", "b"))


def test_the_check_runs_on_ours_first_then_on_each_baseline():
    seen: list[str] = []
    compare(case(lambda contender: seen.append(contender.name), "a", "b", "c"))
    assert seen == ["a", "b", "c"]


@pytest.mark.parametrize(("metric", "scale"), [("latency_us", 1e6), ("latency_ms", 1e3), ("epoch_s", 1.0)])
def test_the_metric_names_its_unit(metric, scale):
    contender = Contender("a", int)
    assert Case("c", {}, metric, contender, [], agree).scale == scale
    with pytest.raises(UsageError, match="must end in"):
        _ = Case("c", {}, "latency", contender, [], agree).scale


def test_threads_are_limited_inside_and_restored_after(monkeypatch):
    torch, faiss = pytest.importorskip("torch"), pytest.importorskip("faiss")
    threadpoolctl = pytest.importorskip("threadpoolctl")
    import os

    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    before = (torch.get_num_threads(), faiss.omp_get_max_threads())
    with limit_threads(2):
        assert torch.get_num_threads() == faiss.omp_get_max_threads() == 2
        assert os.environ["OMP_NUM_THREADS"] == "2"
        with limit_threads(1):
            assert torch.get_num_threads() == faiss.omp_get_max_threads() == 1
            assert all(pool["num_threads"] == 1 for pool in threadpoolctl.threadpool_info())
        assert torch.get_num_threads() == faiss.omp_get_max_threads() == 2
    assert (torch.get_num_threads(), faiss.omp_get_max_threads()) == before
    assert os.environ["OMP_NUM_THREADS"] == "3"
    with pytest.raises(UsageError, match="at least one thread"), limit_threads(0):
        pass


def test_read_floor_names_what_it_read_and_grows_with_the_bytes():
    small, large = read_floor(1 << 20, "a toy", repeats=5), read_floor(1 << 24, repeats=5)
    assert small.what.startswith("pure read of a toy, ")
    assert "GB/s" in small.what
    assert "one thread" in small.what
    assert f"{1 << 24} bytes" in large.what
    assert 0 < small.seconds < large.seconds
    with pytest.raises(UsageError, match="at least 64 bytes"):
        read_floor(8)


def test_matrix_product_floors():
    pytest.importorskip("torch")
    from bench.harness.floors import flop_floor, gemm_floor

    one, three = gemm_floor(64, 256, 32, repeats=3), gemm_floor(64, 256, 32, count=3, repeats=3)
    assert "1 x float32 product [64, 32] x [32, 256]" in one.what
    assert "3 x float32" in three.what
    assert "bfloat16" in gemm_floor(8, 8, 8, "bfloat16", repeats=2).what
    assert "MFLOP" in flop_floor(1e6, "toy", size=64).what
    assert flop_floor(1e9, "toy", size=64).seconds > flop_floor(1e3, "toy", size=64).seconds
    with pytest.raises(UsageError, match="float32 or bfloat16"):
        gemm_floor(8, 8, 8, "float16")


def test_exponential_floors_count_and_scale_with_the_threads():
    torch = pytest.importorskip("torch")
    with limit_threads(1):
        small, large = floors.exp_floor(1e6, "toy", size=1024, repeats=3), floors.exp_floor(1e9, "toy", size=1024)
        assert small.what.startswith("toy: 1 M exponentials at ")
        assert "1 thread)" in small.what
        assert 0 < small.seconds < large.seconds
    with limit_threads(2):
        assert floors.exp_floor(1e9, "toy", size=1024).seconds <= large.seconds / 2
        assert torch.get_num_threads() == 2


def test_a_floor_never_rises_again(monkeypatch):
    ticks = iter([0, 10, 20, 25, 30, 37])  # calls of 10, then 5 and 7 ns
    monkeypatch.setattr("bench.harness.floors.time.perf_counter_ns", lambda: next(ticks))
    assert [floors._fastest("key", int, 1, 1.0) for _ in range(3)] == pytest.approx([10e-9, 5e-9, 5e-9])


def test_floors_add_up_in_sequence_and_overlap_otherwise():
    first, second = Floor(1.0, "reading"), Floor(2.0, "thinking")
    assert sum_of(first, second) == Floor(3.0, "reading + thinking")
    assert largest_of(first, second) is second
