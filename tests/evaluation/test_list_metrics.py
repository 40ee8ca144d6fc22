"""The metrics of lists against RecTools and ranx on random cases, and against brute force on odd shapes."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.evaluation import measure
from mtaw_fast.evaluation.item_facts import Attribute, ItemFacts
from mtaw_fast.evaluation.list_metrics import (
    RestOfSessions,
    coverage,
    diversity_by_attributes,
    diversity_by_vectors,
    gini,
    information_of,
    novelty,
)
from mtaw_fast.evaluation.measuring import COLUMNS
from tests.support.evaluation.rankers import Listed

# Made once: `made_with` has the versions. Both libraries need a compiler and hundreds of MB, so no test installs them.
CASES = json.loads((Path(__file__).parents[1] / "support/evaluation/parity.json").read_text())["cases"]


def samples_of(case: dict[str, Any]) -> Samples:
    prefixes = Sessions.from_lists([[0] * length for length in case["prefix_lengths"]])
    return Samples(prefixes, np.array(case["targets"], np.int32), np.array(case["session"], np.int32))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shuffled", [False, True])
def test_metrics_equal_those_of_rectools_and_ranx(case: dict[str, Any], shuffled: bool) -> None:
    samples, lists = samples_of(case), np.array(case["lists"], np.int32)
    if shuffled:  # the samples of a session may come in any order
        order = np.random.default_rng(1).permutation(len(samples))
        samples = Samples(samples.prefixes.select(order), samples.targets[order], samples.session[order])
        lists = lists[order]
    users = len({user for user, _ in case["history"]})
    sessions_with = np.bincount([item for _, item in case["history"]], minlength=case["n_items"])
    attributes = [
        Attribute(str(number), np.array(values, np.int32), ("",) * 4)
        for number, values in enumerate(case["attributes"])
    ]
    facts = ItemFacts(sessions_with, information_of(sessions_with, users), attributes=tuple(attributes))
    measured = measure(Listed(lists), samples, facts, chunk=7)
    metrics = dict(zip(COLUMNS, measured.columns().mean(axis=0).tolist(), strict=True)) | measured.of_catalog()
    for library in ("rectools", "ranx"):
        for name, value in case[library].items():
            assert metrics[name] == pytest.approx(value, rel=1e-9), (library, name)


def test_recall_equals_brute_force() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 2, 17):
        sessions = rng.integers(0, 3, count).astype(np.int32)
        lengths = rng.permutation(count) + 1  # distinct, so the order in a session is one
        targets = rng.integers(0, 6, count).astype(np.int32)
        samples = Samples(Sessions.from_lists([[0] * length for length in lengths]), targets, sessions)
        lists = np.stack([rng.permutation(9)[:5] for _ in range(count)]).astype(np.int32)
        lists[0, 3:] = -1
        recall = RestOfSessions(samples).recall(lists, 0, (2, 20))
        for row in range(count):
            rest = {
                int(targets[k]) for k in range(count) if sessions[k] == sessions[row] and lengths[k] >= lengths[row]
            }
            for column, k in enumerate((2, 20)):
                hits = len(rest & set(lists[row][:k].tolist()))
                assert recall[row, column] == pytest.approx(100 * hits / len(rest))


def test_gini_is_half_the_relative_mean_difference() -> None:
    rng = np.random.default_rng(1)
    for shown in (rng.integers(0, 9, 30), np.array([5]), np.array([0, 0, 7]), np.full(8, 3)):
        differences = np.abs(shown[:, None] - shown[None, :]).sum()
        assert gini(shown) == pytest.approx(differences / (2 * len(shown) * shown.sum()))
    assert gini(np.full(8, 3)) == 0
    assert np.isnan(gini(np.zeros(4, int)))
    assert coverage(np.array([0, 2, 1, 0])) == 50
    assert np.isnan(coverage(np.zeros(0, int)))


def test_diversity_and_novelty_of_short_lists_equal_brute_force() -> None:
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(12, 5)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    codes = rng.integers(-1, 3, (2, 12)).astype(np.int32)
    information = information_of(rng.integers(0, 9, 12), 40)
    lists = np.stack([rng.permutation(12)[:6] for _ in range(4)])
    lists[1, 4:], lists[2, 1:], lists[3] = -1, -1, -1
    by_vectors, by_attributes = diversity_by_vectors(lists, vectors), diversity_by_attributes(lists, codes)
    bits = novelty(lists, information)
    for row, ids in enumerate(lists):
        listed = ids[ids >= 0].tolist()
        pairs = list(combinations(listed, 2))
        angles = [1 - float(vectors[a] @ vectors[b]) for a, b in pairs]
        differing = [float((codes[:, a] != codes[:, b]).mean()) for a, b in pairs]
        assert by_vectors[row] == pytest.approx(np.mean(angles) if pairs else 0, abs=1e-6)
        assert by_attributes[row] == pytest.approx(np.mean(differing) if pairs else 0)
        assert bits[row] == pytest.approx(information[listed].mean() if listed else 0)
    assert information_of(np.array([0, 1]), 40).tolist() == [np.log2(40)] * 2  # as RecTools counts an unknown item
