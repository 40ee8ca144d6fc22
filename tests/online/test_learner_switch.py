"""Taking over a grown bundle: whatever fails on the way, learning goes on, and it is tried again."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender, recommender
from mtaw_fast.errors import LearnError
from mtaw_fast.online import learner
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.pipeline import Pipeline
from tests.support.online.recommenders import until_learned
from tests.support.service.running import eventually

Make = Callable[..., Recommender]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 0.05)
    monkeypatch.setattr(learner, "RETRY_SECONDS", 0.05)


def taking_over() -> bool:
    return threading.current_thread().name == "mtaw-learner"


def fails_to_read(rec: Recommender, patch: pytest.MonkeyPatch, hits: list[str]) -> None:
    """Once, where the log was read to its end already and the new state is about to serve."""
    real, ends = rec.learner.log.read, list[str]()

    def read(after: str, limit: int = 10_000) -> Any:
        if taking_over() and ends and not hits:
            hits.append(after)
            raise LearnError("Redis does not answer")
        found = real(after, limit)
        if taking_over() and not found:
            ends.append(after)
        return found

    patch.setattr(rec.learner.log, "read", read)


def fails_to_publish(rec: Recommender, patch: pytest.MonkeyPatch, hits: list[str]) -> None:
    real = Pipeline.of

    def of(*arguments: Any) -> Pipeline:
        if taking_over() and not hits:
            hits.append("publish")
            raise MemoryError("no room for a catalog")
        return real(*arguments)

    patch.setattr(Pipeline, "of", of)


def fails_to_start(rec: Recommender, patch: pytest.MonkeyPatch, hits: list[str]) -> None:
    real = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if thread.name == "mtaw-follower" and not hits:
            hits.append("start")
            raise RuntimeError("can't start new thread")
        real(thread)

    patch.setattr(threading.Thread, "start", start)


@pytest.mark.parametrize("failing", [fails_to_read, fails_to_publish, fails_to_start])
def test_a_hiccup_on_the_way_ends_no_learning_and_is_made_good(
    folder: Path,
    learning: Make,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    failing: Callable[..., None],
) -> None:
    rec, hits = learning(), list[str]()
    until_learned(rec, rec.observe("s", ["sku-1"]))
    before, tries = rec.learner.follower, list[tuple[bool, bool]]()
    real = learner.OnlineLearner._switch

    def noting(self: learner.OnlineLearner) -> None:
        try:
            real(self)
        finally:
            whole = rec.bundle is self.bundle and rec._pipeline.catalog.model is self.bundle.model
            tries.append((whole, self.follower._thread.is_alive()))

    monkeypatch.setattr(learner.OnlineLearner, "_switch", noting)
    failing(rec, monkeypatch, hits)
    compact_folder(folder, rec.learner.settings)  # as another process does
    eventually(lambda: rec.learner.follower is not before, 10)
    assert hits, "nothing failed"
    until_learned(rec, rec.observe("t", ["newest"]))
    assert "newest" in rec.ids
    assert rec.bundle.model.log_progress is not None
    assert tries[:2] == [(True, True)] * 2, "what serves and what learns were of two bundles, or nothing learned"
    assert [one for one in caplog.messages if one.startswith("cannot switch to the compacted bundle")]
    eventually(lambda: sum(one.name == "mtaw-follower" for one in threading.enumerate()) == 1, 5)


def test_a_machine_that_goes_on_keeps_no_bundle_from_being_taken_over(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its clicks are learned neither by what serves nor by what takes over: both give new items the same places."""
    rec, real, go = learning(), learner.current_bundle, threading.Event()

    def held_up(*arguments: Any) -> Any:
        found = real(*arguments)
        assert go.wait(20)
        return found

    monkeypatch.setattr(learner, "current_bundle", held_up)
    until_learned(rec, rec.observe("machine", [f"sku-{n % 20}" for n in range(40)]))
    compact_folder(folder, rec.learner.settings)
    rec.observe("machine", ["its-item"])
    until_learned(rec, rec.observe("visitor", ["newest"]))
    place = rec.ids.lookup(["newest"])[0]
    go.set()
    eventually(lambda: rec.bundle.model.log_progress is not None, 10)
    assert rec.ids.lookup(["newest"])[0] == place
    assert "its-item" not in rec.ids


def test_a_bundle_that_grows_while_one_is_loaded_is_taken_over(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = learning()
    until_learned(first, first.observe("s", ["sku-1"]))
    first.close()
    real = recommender.open_log

    def opened(settings: LearningSettings) -> Any:
        compact_folder(folder, settings)
        return real(settings)

    monkeypatch.setattr(recommender, "open_log", opened)
    rec = learning()
    eventually(lambda: rec.bundle.model.log_progress is not None, 10)
