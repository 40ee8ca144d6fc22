"""What another bundle would have earned: against formulas by hand, a simulated log with a known truth, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.experiment import drawn_log, errors_of_estimates
from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.drawn import read_draws
from mtaw_fast.experiment.estimate import Draws, doubly_robust, estimate
from mtaw_fast.recommender import Recommender
from tests.experiment.test_feedback_log import BEGIN, ranking, report, written
from tests.support.random_bundle import bundle_parts, save_parts


@pytest.mark.parametrize(
    ("runs", "sessions", "rate"),
    [
        (150, 1_000, 0.05),
        pytest.param(1_000, 300, 0.3, marks=pytest.mark.long(caught="here, by fewer runs")),
        pytest.param(1_000, 1_000, 0.05, marks=pytest.mark.long(caught="here, by fewer runs")),
        pytest.param(1_000, 3_000, 0.02, marks=pytest.mark.long(caught="here, by fewer runs")),
    ],
)
def test_estimates_are_unbiased_and_their_intervals_hold(runs: int, sessions: int, rate: float) -> None:
    for name, errors in errors_of_estimates(np.random.default_rng(1), runs, sessions, rate).items():
        assert abs(errors["bias"]) < 4 * errors["deviation"] / runs**0.5, name
        assert errors["coverage"] > 0.925 - 2.5 * (0.075 * 0.925 / runs) ** 0.5, name
    assert errors["deviation"] > 0


def test_each_estimate_is_its_formula() -> None:
    draws, _, _ = drawn_log(np.random.default_rng(2), 2_000, 0.05)
    w = np.where(draws.drawn == draws.chosen, 1 / draws.chance, 0.0)
    propensity, normalized, robust = estimate(draws).estimates
    assert propensity.value == pytest.approx((w * draws.earned).mean(), rel=1e-12)
    assert normalized.value == pytest.approx((w * draws.earned).sum() / w.sum(), rel=1e-12)
    assert estimate(draws).effective == pytest.approx(w.sum() ** 2 / (w**2).sum(), rel=1e-12)
    expected = []
    for session, chance, drawn, chosen, earned in zip(
        draws.session, draws.chance, draws.drawn, draws.chosen, draws.earned, strict=True
    ):
        other = draws.session % 2 != session % 2
        mean = draws.earned[other].mean()

        def model(item: int, other: np.ndarray = other, mean: float = mean) -> float:
            own = draws.earned[other & (draws.drawn == item)]
            return (own.sum() + 20 * mean) / (len(own) + 20)

        expected.append(model(chosen) + (drawn == chosen) / chance * (earned - model(drawn)))
    assert doubly_robust(draws) == pytest.approx(expected, rel=1e-9)
    assert robust.value == pytest.approx(np.mean(expected), rel=1e-12)


def test_the_recorded_bundle_has_no_difference_to_itself_and_an_interval_is_symmetric_without_skewness() -> None:
    n = 4_000
    ones, earned = np.ones(n), np.tile([0.0, 1.0], n // 2)
    result = estimate(Draws(np.arange(n), ones, np.zeros(n, np.int64), np.zeros(n, np.int64), earned))
    assert result.difference.value == 0
    low, high = result.recorded.interval
    assert low + high == pytest.approx(1)
    assert high - low == pytest.approx(2 * 1.959964 * 0.5 / (n - 1) ** 0.5, rel=1e-9)


def test_what_the_log_does_not_support_is_refused() -> None:
    draws, _, _ = drawn_log(np.random.default_rng(3), 2_000, 0.05)
    never = replace(draws, chosen=draws.drawn + 1)
    with pytest.raises(UsageError, match=r"placed the drawn item at 0 \(effective\) of [0-9,]+ explored"):
        estimate(never)
    with pytest.raises(UsageError, match=r"the mean 1\.[0-9]+ instead of 1, so rankings are missing"):
        estimate(replace(draws, chance=draws.chance * 0.8))
    with pytest.raises(UsageError, match="explored positions earned 0 events, and 50 are needed"):
        estimate(replace(draws, earned=np.zeros(len(draws))))


def explored(folder: Path, names: list[str], n: int = 1_200) -> Path:
    """A log whose drawn items are clicked by half if they are first by name among their candidates, else by a tenth."""
    rng = np.random.default_rng(5)
    rankings, reports = [], []
    for number in range(n):
        candidates = [str(item) for item in rng.choice(names, 2, replace=False)]
        item = candidates[int(rng.random() < 0.4)]
        chance = 0.6 if item == candidates[0] else 0.4
        draw: dict[str, Any] = {"position": 2, "candidates": candidates, "chance": chance}
        time = BEGIN + 1000 * number
        more: dict[str, Any] = {"items": ["sku-1", item, "sku-2"], "draws": [draw], "clicks": ["sku-3"]}
        rankings.append(ranking(number, f"s-{number % 900}", time, **more))
        if rng.random() < (0.5 if item == min(candidates) else 0.1):
            reports += [report(number, "clicked", time + 5, item)] * 2  # counted once
            reports.append(report(number, "bought", time + 9, item, values=[4.0]))
        reports.append(report(number, "clicked", time + 9, "sku-1"))  # of an item that was not drawn
    return written(folder, rankings, reports)


def test_a_log_is_read_as_draws_of_the_drawn_items_alone(tmp_path: Path) -> None:
    names = [f"new-{number}" for number in range(6)]
    log = explored(tmp_path / "log", names)
    read = read_draws(str(log), lambda _, candidates, __: candidates.index(min(candidates)))
    assert (len(read.draws), read.early, read.unknown, read.single) == (1_200, 0, 0, 0)
    assert read.draws.session.max() == 899
    for one in estimate(read.draws).estimates:
        assert abs(one.value - 0.5) < 0.05
        assert one.interval[0] < 0.5 < one.interval[1]
    assert 0.25 < estimate(read.draws).recorded.value < 0.35
    values = read_draws(str(log), lambda _, candidates, __: candidates.index(min(candidates)), "value")
    assert values.draws.earned.tolist() == [4 * earned for earned in read.draws.earned]
    late = read_draws(str(log), lambda *_: 0, learned_until=BEGIN + 199_000)
    assert (len(late.draws), late.early) == (1_000, 200)


def test_the_command_estimates_a_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_parts(tmp_path / "next.bundle", **bundle_parts(60))
    names = [f"sku-{number}" for number in range(50, 56)]
    log, bundle = str(explored(tmp_path / "log", names)), str(tmp_path / "next.bundle")
    assert main(["experiment", log, "--estimate", bundle]) == 0
    out = capsys.readouterr().out
    assert out.startswith("next.bundle would have earned ")
    assert "(95% interval " in out
    assert "1,200 explored positions of 900 sessions" in out
    assert "note: the bundle has no times" in out
    assert main(["experiment", log, "--estimate", bundle, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rec = Recommender.load(bundle)

    def choose(clicks: Any, candidates: Any, _: int) -> int:
        return candidates.index(rec.recommend(clicks, 60, allow=candidates).items[0])

    expected = estimate(read_draws(log, choose).draws)
    assert [one["value"] for one in found["estimates"]] == [one.value for one in expected.estimates]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--until", "2020-01-01"], "no explored positions that this bundle can be estimated by"),
        (["--arms", "rules", "--placement", "x"], "--estimate compares no arms"),
        (["--window", "0"], "--window 0 must be above 0"),
    ],
)
def test_options_and_logs_without_an_estimate_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    save_parts(tmp_path / "next.bundle", **bundle_parts(60))
    log = explored(tmp_path / "log", [f"sku-{number}" for number in range(50, 56)], n=20)
    assert main(["experiment", str(log), "--estimate", str(tmp_path / "next.bundle"), *options]) == 2
    assert words in capsys.readouterr().err


def test_items_that_the_bundle_does_not_know_and_days_without_draws_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_parts(tmp_path / "next.bundle", **bundle_parts(60))
    log = explored(tmp_path / "log", [f"new-{number}" for number in range(6)], n=20)
    assert main(["experiment", str(log), "--estimate", str(tmp_path / "next.bundle")]) == 2
    assert "knows none of the candidates of 20 of 20 explored positions" in capsys.readouterr().err
    lines = [{**ranking(1, "s", BEGIN)}]
    for name in ("draws", "clicks"):
        del lines[0][name]
    old = written(tmp_path / "old", lines, [report(1, "clicked", BEGIN + 1, "sku-1")])
    assert main(["experiment", str(old), "--estimate", str(tmp_path / "next.bundle")]) == 2
    assert "from before draws were recorded, say nothing of other bundles" in capsys.readouterr().err
