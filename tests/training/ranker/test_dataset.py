"""The ranker's data set: what is read of it, and a share of its queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker.fit_ranker import DrawnCandidates, RankerFit, fit_ranker
from tests.support.training.queries import dataset_of, drawn


def test_a_fit_that_reads_only_what_it_draws_has_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtaw_fast.training.ranker.dataset._MAPPED", 5000)  # so that pages are given back
    dataset = dataset_of(drawn(2, 120), tmp_path)

    class Whole:
        """The same dataset, but only with whole batches."""

        features, left_out, batch = dataset.features, dataset.left_out, dataset.batch

    settings = RankerFit(epochs=2, lr=1e-2, batch=32, negatives=7)
    fitted = [
        fit_ranker(candidates, dataset.targets, dataset.lengths, settings, 3, "ranker", Silent())
        for candidates in (dataset, Whole())
    ]
    assert isinstance(dataset, DrawnCandidates)
    assert not isinstance(Whole(), DrawnCandidates)
    for name, array in fitted[0][0].arrays().items():
        assert np.array_equal(array, fitted[1][0].arrays()[name]), name
    losses = [[record["losses"] for record in history] for _, history in fitted]
    assert losses[0] == losses[1]


def test_some_of_the_queries_are_those_queries(tmp_path: Path) -> None:
    dataset = dataset_of(drawn(2, 30), tmp_path)
    chosen = np.array([1, 4, 5, 20])
    subset = dataset.subset(chosen)
    assert subset.targets.tolist() == dataset.targets[chosen].tolist()
    assert subset.lengths.tolist() == dataset.lengths[chosen].tolist()
    for got, expected in zip(subset.batch(np.array([3, 0])), dataset.batch(chosen[[3, 0]]), strict=True):
        assert np.array_equal(got, expected)
