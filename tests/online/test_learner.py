"""What a learning recommender refuses, and what it does if its bundle, log or catalog changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import DataError, LearnError, UsageError
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits
from tests.support.online.recommenders import NOON, N, parts, until_learned

pytestmark = pytest.mark.slow

Learning = Callable[..., Recommender]


@pytest.mark.parametrize(("name", "value"), [("encoder", "onnx"), ("encoder", "onnx-cuda:1"), ("index", "ann")])
def test_an_encoder_or_index_that_cannot_learn_is_refused_first(
    folder: Path, tmp_path: Path, name: str, value: Any
) -> None:
    with pytest.raises(UsageError, match=f"{name} '{value}' .* does not learn"):
        Recommender.load(folder, learn=tmp_path / "learned", **{name: value})
    assert not (tmp_path / "learned").exists()


def test_if_a_compacted_bundle_cannot_be_served_the_old_one_learns_on(
    learning: Learning, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1"]))
    monkeypatch.setattr(
        "mtaw_fast.ranking.served_pipeline.make_encoder", lambda *_: (_ for _ in ()).throw(RuntimeError("no room"))
    )
    with pytest.raises(LearnError, match="cannot switch to the compacted bundle: no room"):
        rec.learner.compact(wait=True)
    until_learned(rec, rec.observe("t", ["newest"]))
    assert "newest" in rec.ids
    assert rec.learner.follower.failure is None


def test_another_training_in_the_same_folder_is_not_switched_to(
    folder: Path, learning: Learning, caplog: pytest.LogCaptureFixture
) -> None:
    """The internal ids that sessions and filters hold mean other items in it."""
    rec, other = learning(), parts(seed=4)
    visit, prepared = rec.session(["sku-1", "sku-2"]), rec.filter(exclude=["sku-5"])
    until_learned(rec, rec.observe("s", ["sku-3"]))
    Bundle.save(folder, other, metrics={}, dataset={"name": "x", "fingerprint": "z"}, overwrite=True)
    with pytest.raises(LearnError, match="holds another training now; load it again"):
        rec.learner.compact()
    second = learning()  # a process that was started later serves it, and compacts
    second.learner.compact(wait=True)
    deadline = time.monotonic() + 10
    while "holds another training now" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert visit.clicks == ["sku-1", "sku-2"]
    assert "sku-5" not in rec.recommend(["sku-1"], k=N, filter=prepared).items
    until_learned(rec, rec.observe("u", ["still learning"]))
    assert "still learning" in rec.ids


def test_a_click_is_stored_with_all_that_is_known_of_it(learning: Learning) -> None:
    rec = learning()
    rec.observe("s", ["sku-1"], NOON, ["view"], ["e-1"], {"referrer": "search"})
    (entry,) = rec.learner.log.read("")
    assert isinstance(entry.event, Click)
    assert replace(entry.event, arrived=None) == Click("s", "sku-1", NOON, "view", "e-1", None, {"referrer": "search"})


def test_a_session_id_that_is_not_a_string_cannot_be_forgotten(learning: Learning) -> None:
    rec = learning()
    with pytest.raises(DataError, match="forget: session must be a string that is not empty, not 123"):
        rec.forget(123)  # type: ignore[arg-type]
    assert rec.learner.log.read("") == []


def test_items_above_the_limit_are_refused_and_none_is_added(learning: Learning) -> None:
    rec = learning(limits=LearningLimits(new_items=2))
    rec.add_items(["n1"], neighbors=[["sku-1"]])
    rec.add_items(["sku-9b"], neighbors=[["sku-1"]])
    rec.remove_items(["n1"])
    rec.add_items(["n1"], neighbors=[["sku-2"]])  # known already: it counts once
    with pytest.raises(DataError, match=r"1 more items would make 3 new items .* the limit new_items is 2"):
        rec.add_items(["n2"], neighbors=[["sku-1"]])
    assert "n2" not in rec.ids
    assert rec.n_items == N + 2


def test_a_batch_has_a_log_position(learning: Learning) -> None:
    rec = learning()
    position = rec.observe("s", ["sku-1"])
    until_learned(rec, position)
    answers = rec.recommend_batch([["sku-1"], ["nobody knows"], []])
    assert [answer.log_position for answer in answers] == [rec.log_position] * 3
    assert answers[0].items == rec.recommend(["sku-1"]).items
    assert Recommender.load(rec.learner._folder).recommend_batch([["sku-1"]])[0].log_position is None


def test_a_change_of_the_index_is_logged(
    learning: Learning, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1"]))
    monkeypatch.setattr(type(rec.index), "name", "ann")
    real = rec.index
    other = type("Other", (), {"name": "native", "__getattr__": lambda _, name: getattr(real, name)})
    monkeypatch.setattr("mtaw_fast.ranking.served_pipeline.make_index", lambda *_: other())
    with caplog.at_level(logging.WARNING, "mtaw_fast"):
        rec.learner.compact(wait=True)
    assert "serving index native instead of ann" in caplog.text
    assert np.isfinite(rec.recommend(["sku-1"]).scores).all()
