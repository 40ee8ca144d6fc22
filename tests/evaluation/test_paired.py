"""Two rankers on the same samples: differences, verdicts, lists and examples by hand and by brute force."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mtaw_fast.evaluation.measuring import COLUMNS, COVERAGE, GINI, TOP, Measured
from mtaw_fast.evaluation.paired import Comparison, Difference, ListDifferences, compared, list_differences, parting
from mtaw_fast.evaluation.slices import Slicing
from tests.support.evaluation.rankers import samples_of


def measured(ranks: np.ndarray) -> Measured:
    count = len(ranks)
    return Measured(
        ranks.astype(np.int32), np.zeros((count, 2)), np.zeros(count), np.ones(count), np.array([1, 0, 2]),
        np.zeros((count, TOP), np.int32),
    )  # fmt: skip


def comparison(first: np.ndarray, second: np.ndarray, session: list[int], slices: Any = ()) -> Comparison:
    samples = samples_of([0] * len(first), session=session)
    metrics, by_slice = compared(measured(first), measured(second), samples, slices)
    lists = ListDifferences(90.0, 50.0, 10.0, 1, 2, 3.0)
    return Comparison("a", "b", "shop", "test", len(first), len(set(session)), metrics, by_slice, lists)


RNG = np.random.default_rng(0)
SESSION = np.sort(RNG.integers(0, 300, 900)).tolist()
BASE = RNG.integers(0, 41, 900)
BASE[BASE > 20] = 0


def test_a_shown_difference_is_one_sentence() -> None:
    better = BASE.copy()
    better[RNG.permutation(np.flatnonzero(BASE == 0))[:60]] = 4
    result = comparison(BASE, better, SESSION)
    hits = result.metrics["P@20"]
    assert hits.difference == pytest.approx(100 * 60 / 900)
    assert hits.shown
    assert hits.interval is not None
    low, high = hits.interval
    assert result.verdict == f"b finds 6.67 more of 100 targets than a, 95% interval {low:.2f} to {high:.2f}."
    reverse = comparison(better, BASE, SESSION)
    assert reverse.verdict == f"b finds 6.67 fewer of 100 targets than a, 95% interval {low:.2f} to {high:.2f}."
    # The same draws for both rankers: far narrower than the interval of either.
    alone = comparison(np.zeros(900), better, SESSION).metrics["P@20"].interval
    assert alone is not None
    assert high - low < 0.7 * (alone[1] - alone[0])
    assert result.metrics[COVERAGE] == Difference(pytest.approx(200 / 3), pytest.approx(200 / 3), 0)  # type: ignore[arg-type]
    assert result.metrics[GINI].interval is None


def test_a_comparison_as_text_is_the_report() -> None:
    slicing = Slicing("first click", ("one", "more"), np.arange(60) % 2)
    result = comparison(BASE[:60], BASE[:60], SESSION[:60], [slicing])
    lines = str(result).splitlines()
    assert lines[0] == result.verdict
    assert lines[1] == f"60 test samples of {result.sessions} sessions of shop"
    assert any(line.startswith("coverage@20") and line.endswith("+0.00") for line in lines)
    assert "  first click" in lines
    assert lines[-1] == "items: 1 are shown by A alone, 2 by B alone, on 3.0% of its positions"


def test_noise_is_not_called_a_difference() -> None:
    other = BASE.copy()
    places = RNG.permutation(900)[:100]
    other[places] = RNG.permutation(other[places])  # as many hits, elsewhere
    text = comparison(BASE, other, SESSION).verdict
    assert text.startswith("No difference is shown: b finds 0.00 more of 100 targets than a, 95% interval -")
    higher = np.where(BASE > 1, 1, BASE)  # the same hits, all on the first place
    text = comparison(BASE, higher, SESSION).verdict
    assert text.startswith("No difference is shown: b finds 0.00 more")
    assert "; but it places them higher, MRR@20 by +" in text
    assert comparison(BASE[:3], other[:3], [1, 2, 3]).verdict.startswith("Too few sessions to compare: b finds ")


def test_slices_hold_only_where_all_intervals_together_do() -> None:
    group = np.arange(900) % 3 == 0
    better = np.where(group & (BASE == 0), 5, BASE)
    rare = np.zeros(900, int)
    rare[:5] = 1
    slices = [Slicing("half", ("one", "other"), np.where(group, 0, 1)), Slicing("rare", ("no", "yes"), rare)]
    result = comparison(BASE, better, SESSION, slices)
    assert result.slices["half"]["one"].holds
    assert not result.slices["half"]["other"].holds
    assert result.slices["half"]["other"].metrics["P@20"].difference == 0
    assert result.slices["rare"]["yes"].metrics["P@20"].interval is None
    assert not result.slices["rare"]["yes"].holds
    for code, label in enumerate(("one", "other")):
        chosen = np.where(group, 0, 1) == code
        difference = result.slices["half"][label].metrics["P@20"]
        assert difference.first == pytest.approx(100 * (BASE[chosen] > 0).mean())
        assert difference.second == pytest.approx(100 * (better[chosen] > 0).mean())
    value = json.loads(json.dumps(result.as_dict(), allow_nan=False))
    assert value["verdict"] == result.verdict
    assert value["slices"]["half"]["one"]["metrics"]["P@20"]["difference"] > 0
    frame = result.to_frame()
    assert len(frame) == len(COLUMNS) + 2 + 4 * len(COLUMNS)
    assert frame["value"].unique().sort().to_list() == ["all", "no", "one", "other", "yes"]


def test_many_noisy_slices_seldom_hold() -> None:
    """200 values of pure noise: one interval in twenty leaves 0 out, and none of those for all values together."""
    rng = np.random.default_rng(3)
    count = 8000
    ranks = [np.where(rng.random(count) < 0.5, 1, 0) for _ in range(2)]
    codes = rng.integers(0, 200, count)
    slicing = Slicing("noise", tuple(map(str, range(200))), codes)
    parts = comparison(ranks[0], ranks[1], list(range(count)), [slicing]).slices["noise"].values()
    assert 3 <= sum(part.metrics["P@20"].shown for part in parts) <= 25
    assert sum(part.holds for part in parts) <= 1


def test_lists_are_compared_as_sets_and_by_place() -> None:
    rng = np.random.default_rng(1)
    first = np.stack([rng.permutation(30)[:20] for _ in range(9)])
    second = first.copy()
    second[1] = second[1][::-1]
    second[2] = rng.permutation(np.arange(20, 45))[:20]
    first[3, 5:], second[4] = -1, -1
    result = list_differences(first, second)
    overlap = []
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        a, b = set(a) - {-1}, set(b) - {-1}
        overlap.append(len(a & b) / max(len(a), len(b), 1))
    assert result.overlap == pytest.approx(100 * np.mean(overlap))
    assert result.same_first == pytest.approx(100 * (first[:, 0] == second[:, 0]).mean())
    assert result.same_list == pytest.approx(100 * 5 / 9)
    shown = [set(ids[ids >= 0].tolist()) for ids in (first, second)]
    assert (result.only_first, result.only_second) == (len(shown[0] - shown[1]), len(shown[1] - shown[0]))
    new = [item not in shown[0] for item in second[second >= 0].tolist()]
    assert result.new_share == pytest.approx(100 * np.mean(new))


def test_examples_are_where_one_finds_what_the_other_misses() -> None:
    first = np.array([1, 0, 5, 0, 0, 2, 9], np.int32)
    second = np.array([1, 3, 0, 1, 7, 0, 0], np.int32)
    session = np.array([0, 1, 2, 1, 4, 5, 6])
    assert parting(first, second, session, 10) == [3, 5, 4, 2, 6]  # in turn; session 1 comes once
    assert parting(first, second, session, 2) == [3, 5]
    assert parting(first, second, session, 0) == []
    assert parting(first, first, session, 4) == []
