"""The protocol of an evaluation: lists, reports, groups by type, and rankers that break their contract."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast import assessment
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, DataWarning, UsageError
from mtaw_fast.evaluation import Evaluated, evaluate, ranks_of, report_of
from mtaw_fast.evaluation.list_metrics import RestOfSessions
from mtaw_fast.evaluation.metrics import METRICS, gains_of, means_of, session_bootstrap
from mtaw_fast.evaluation.protocol import translated
from tests.support.evaluation.rankers import Dense, brute_force_rank, samples_of, tables
from tests.support.random_bundle import save_random


@dataclass
class Fixed:
    """Gives the same list to every session."""

    ids: list[int]
    scores: list[float]

    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        count = len(sessions)
        ids = np.full((count, k), -1, np.int32)
        scores = np.full((count, k), -np.inf, np.float32)
        ids[:, : len(self.ids)] = self.ids[:k]
        scores[:, : len(self.ids)] = self.scores[:k]
        return ids, scores


def shuffled(samples: Samples, order: np.ndarray) -> Samples:
    return Samples(samples.prefixes.select(order), samples.targets[order], samples.session[order])


@given(tables, st.data(), st.integers(1, 25))
@settings(max_examples=150, deadline=None)
def test_listed_ranks_equal_brute_force_over_the_whole_catalog(
    table: list[list[float]], data: st.DataObject, max_k: int
) -> None:
    """A list cut at max_k + 1 must give the same ranks as the whole catalog: ties over the cut are misses."""
    table = [[0.25 if value != value else value for value in row] for row in table]
    targets = [data.draw(st.integers(0, len(table[0]) - 1)) for _ in table]
    expected = [brute_force_rank(row, target) for row, target in zip(table, targets, strict=True)]
    # Clicks are the rows' numbers, which Dense looks up; they need not be items of the catalog.
    ranks = ranks_of(Dense(np.array(table, np.float32)), samples_of(targets, list(range(len(table)))), max_k)
    assert ranks.dtype == np.int32
    assert ranks.tolist() == [rank if rank <= max_k else 0 for rank in expected]


@pytest.mark.parametrize("seed", range(5))
def test_recall_counts_targets_that_the_catalog_lacks(seed: int) -> None:
    """No list has them, so a ranker without them finds as much as one that knows them and never lists them."""
    rng = np.random.default_rng(seed)
    whole, known = ItemIds.from_list([f"i{item}" for item in range(12)]), rng.permutation(12)[:5]
    sessions = [rng.integers(0, 12, rng.integers(2, 9)) for _ in range(20)]
    samples = Samples.from_sessions(Sessions.from_lists(sessions), 1)
    smaller = translated(samples, whole, ItemIds.from_list([f"i{item}" for item in known]))
    assert np.array_equal(smaller.targets < 5, np.isin(samples.targets, known))
    lists = np.array([rng.permutation(5) for _ in range(len(samples))])
    recall = RestOfSessions(smaller).recall(lists, 0, (1, 5))
    assert np.array_equal(recall, RestOfSessions(samples).recall(known[lists], 0, (1, 5)))


def test_repeats_of_items_that_the_catalog_lacks_are_repeats(tmp_path: Path) -> None:
    bundle = save_random(tmp_path / "bundle", n_items=8)  # sku-0 .. sku-7
    ids = ItemIds.from_list([f"sku-{item}" for item in range(4, 12)])
    sessions = Sessions.from_lists([[5, 5, 1], [1, 6, 6, 1], [2, 7, 0]])
    data = Dataset("shop", sessions, Samples.from_sessions(sessions, 1), ids)
    report = assessment.evaluate(bundle, data).report
    assert report.repeat_samples == 3
    assert report.slices["target in session"]["repeat"]["samples"] == 3


def test_the_last_click_may_be_one_that_the_catalog_lacks(tmp_path: Path) -> None:
    bundle = save_random(tmp_path / "bundle", n_items=8)
    ids = ItemIds.from_list([*(f"sku-{item}" for item in range(8)), "unknown"])
    sessions = Sessions(np.array([3, 8, 3, 3], np.int32), np.array([0, 4]), types=np.array([0, 0, 1, 2], np.uint8))
    names = ("view", "cart", "purchase")
    data = Dataset("shop", sessions, Samples.from_sessions(sessions, 1), ids, type_names=names)
    with pytest.warns(DataWarning, match="100% of the hits of type purchase repeat the last click"):
        report = assessment.evaluate(bundle, data).report
    assert report.on_last_click == {"view": pytest.approx(np.nan, nan_ok=True), "cart": 0, "purchase": 100}


def test_scores_do_not_depend_on_the_batch_or_its_order() -> None:
    generator = np.random.default_rng(0)
    table = generator.integers(0, 40, size=(60, 60)).astype(np.float32)
    samples = samples_of(
        generator.integers(60, size=300).tolist(),
        generator.integers(60, size=300).tolist(),
        generator.integers(30, size=300).tolist(),
    )
    expected = ranks_of(Dense(table), samples)
    report = report_of(expected, samples)
    assert 0 < report.metrics["P@20"] < 100
    for chunk in (1, 7, 299, 300, 1000):
        assert np.array_equal(ranks_of(Dense(table), samples, chunk=chunk), expected)
    order = generator.permutation(300)
    ranks = ranks_of(Dense(table), shuffled(samples, order))
    assert np.array_equal(ranks, expected[order])
    other = report_of(ranks, shuffled(samples, order))
    assert other.metrics == pytest.approx(report.metrics, abs=1e-9)
    assert all(other.intervals[name] == pytest.approx(report.intervals[name], abs=1e-9) for name in METRICS)


def test_report_as_json() -> None:
    prefixes = Sessions.from_lists([[1, 2], [1, 2, 3], [5], [5, 6]])
    samples = Samples(prefixes, np.array([2, 4, 6, 5], np.int32), np.array([8, 8, 3, 3], np.int32))
    report = report_of(np.array([1, 0, 4, 20], np.int32), samples)
    value = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert set(value) == {*METRICS, "intervals", "repeat", "non_repeat", "samples", "sessions", "unseen", "by_type"}
    assert METRICS == ("P@10", "MRR@10", "P@20", "MRR@20")
    assert (value["P@10"], value["P@20"], value["samples"], value["sessions"]) == (50, 75, 4, 2)
    assert value["repeat"] == {"P@10": 50, "MRR@10": 50, "P@20": 100, "MRR@20": pytest.approx(52.5), "samples": 2}
    assert value["non_repeat"]["P@20"] == 50
    assert value["non_repeat"]["samples"] == 2
    for name in METRICS:
        low, high = value["intervals"][name]
        assert low <= value[name] <= high


def test_metrics_by_type_of_the_target() -> None:
    rng = np.random.default_rng(4)
    ranks, types = rng.integers(0, 25, 200).astype(np.int32) % 21, rng.integers(0, 3, 200).astype(np.uint8)
    types[types == 1] = 2
    prefixes = Sessions(np.zeros(200, np.int32), np.arange(201), np.zeros(200, np.int64), np.zeros(200, np.uint8))
    samples = Samples(prefixes, np.ones(200, np.int32), np.arange(200, dtype=np.int32), np.zeros(200, np.int64), types)
    report = report_of(ranks, samples, type_names=("view", "cart", "buy"), unseen=np.array([1, 2], np.int32))
    assert set(report.by_type) == {"view", "buy"}  # none of the targets is a cart
    for code, name in ((0, "view"), (2, "buy")):
        of_type = ranks[types == code]
        assert report.by_type[name] == {**means_of(gains_of(of_type)), "samples": len(of_type)}
    assert list(report.by_type) == sorted(report.by_type, key=lambda name: -report.by_type[name]["samples"])
    json.dumps(report.as_dict(), allow_nan=False)
    assert report_of(ranks, samples).by_type == {}


def test_first_targets_and_repeats_of_the_last_click_by_type() -> None:
    """Views of items new to the session, carts of the last click, purchases of one click before it or of new items."""
    prefixes = [[1, 2, 3]] * 8
    targets = np.array([7, 8, 3, 3, 2, 2, 9, 3], np.int32)
    types = np.array([0, 0, 1, 1, 2, 2, 2, 2], np.uint8)
    ranks = np.array([1, 0, 2, 5, 3, 0, 4, 1], np.int32)
    sessions = Sessions.from_lists(prefixes)
    typed = Sessions(sessions.items, sessions.offsets, types=np.zeros(24, np.uint8))
    samples = Samples(typed, targets, np.arange(8, dtype=np.int32), target_types=types)
    report = report_of(ranks, samples, type_names=("view", "cart", "buy", "sale"))
    assert set(report.first_by_type) == {"view", "cart", "buy"}  # no target is a sale
    assert report.first_by_type["view"] == {**means_of(gains_of(ranks[:2])), "samples": 2}
    assert report.first_by_type["buy"] == {**means_of(gains_of(ranks[6:7])), "samples": 1}
    assert report.first_by_type["cart"]["samples"] == 0
    # Of the hits: no view repeats the last click, both carts do, and one of three purchases.
    assert report.on_last_click == {"view": 0, "cart": 100, "buy": pytest.approx(100 / 3)}
    value = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert value["first_by_type"]["cart"] == {**dict.fromkeys(METRICS), "samples": 0}
    missed = report_of(np.zeros(8, np.int32), samples, type_names=("view", "cart", "buy"))
    assert json.loads(json.dumps(missed.as_dict(), allow_nan=False))["on_last_click"]["cart"] is None


class _Narrow:
    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(sessions), k - 1), np.int32), np.zeros((len(sessions), k - 1), np.float32)


class _FloatIds:
    def rank(self, sessions: Sessions, k: int) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((len(sessions), k), np.float32), np.zeros((len(sessions), k), np.float32)


@pytest.mark.parametrize(
    ("ranker", "words"),
    [(_Narrow(), "shape"), (_FloatIds(), "integer ids"), (Fixed([3, 3], [2.0, 1.0]), "has an item twice")],
)
def test_a_ranker_that_breaks_its_contract_is_named(ranker: Evaluated, words: str) -> None:
    with pytest.raises(UsageError, match=words) as error:
        ranks_of(ranker, samples_of([3]))
    assert type(ranker).__name__ in str(error.value)
    assert "\n" not in str(error.value)


def test_nothing_to_evaluate_is_an_error() -> None:
    with pytest.raises(DataError, match="no sample"):
        evaluate(Fixed([1], [1.0]), samples_of([]))


@pytest.mark.parametrize("arguments", [{"max_k": 0}, {"chunk": 0}])
def test_senseless_sizes_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        ranks_of(Fixed([1], [1.0]), samples_of([1]), **arguments)


def test_weighted_metrics_equal_those_of_repeated_samples() -> None:
    rng, count = np.random.default_rng(5), 200
    ranks, session = rng.integers(0, 21, count).astype(np.int32), np.sort(rng.integers(0, 60, count)).astype(np.int32)
    counts = rng.integers(0, 5, count)
    prefixes = Sessions.from_lists([[number % 7] for number in range(count)])
    samples = Samples(prefixes, np.full(count, 3, np.int32), session)
    report = report_of(ranks, samples, weights=counts.astype(np.float32))
    gains = gains_of(np.repeat(ranks, counts))
    for name, value in means_of(gains).items():
        assert report.weighted[name] == pytest.approx(value, rel=1e-12)
    assert set(session) != set(np.repeat(session, counts))  # sessions whose samples all have weight 0 are left out
    for name, interval in session_bootstrap(gains, np.repeat(session, counts)).items():
        assert report.weighted_intervals[name] == pytest.approx(interval, rel=1e-12)
    plain = report_of(ranks, samples)
    assert (report.metrics, report.intervals) == (plain.metrics, plain.intervals)
    assert "weighted" not in plain.as_dict()
    assert set(report.as_dict()["weighted"]) == {*METRICS, "intervals"}
    with pytest.raises(DataError, match="all samples have the weight 0"):
        report_of(ranks, samples, weights=np.zeros(count, np.float32))
    with pytest.raises(UsageError, match="weights do not work with unseen targets"):
        report_of(ranks, samples, weights=np.ones(count, np.float32), unseen=np.array([1], np.int32))
    assert np.isnan(means_of(gains_of(ranks), np.zeros(count))["P@20"])
