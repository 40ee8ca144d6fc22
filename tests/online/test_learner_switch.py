"""Switching to a compacted bundle: whatever fails, learning continues and the switch is retried."""

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

pytestmark = pytest.mark.slow

Make = Callable[..., Recommender]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 0.05)
    monkeypatch.setattr(learner, "RETRY_SECONDS", 0.05)


def is_switching() -> bool:
    return threading.current_thread().name == "mtaw-learner"


def fails_to_read(rec: Recommender, patch: pytest.MonkeyPatch, hits: list[str]) -> None:
    """Fail once, when the log was read to its end and the new state is about to serve."""
    real, ends = rec.learner.log.end, list[str]()

    def end() -> str:
        if is_switching():
            if ends and not hits:
                hits.append(ends[0])
                raise LearnError("Redis does not answer")
            ends.append(real())
        return real()

    patch.setattr(rec.learner.log, "end", end)


def fails_to_publish(rec: Recommender, patch: pytest.MonkeyPatch, hits: list[str]) -> None:
    real = Pipeline.of

    def of(*arguments: Any, **named: Any) -> Pipeline:
        if is_switching() and not hits:
            hits.append("publish")
            raise MemoryError("no room for a catalog")
        return real(*arguments, **named)

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
def test_a_failed_switch_ends_no_learning_and_is_retried(
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

    def recording(self: learner.OnlineLearner) -> None:
        try:
            real(self)
        finally:
            whole = rec.bundle is self.bundle and rec._pipeline.catalog.model is self.bundle.model
            tries.append((whole, self.follower._thread.is_alive()))

    monkeypatch.setattr(learner.OnlineLearner, "_switch", recording)
    failing(rec, monkeypatch, hits)
    compact_folder(folder, rec.learner.settings)  # as another process does
    eventually(lambda: rec.learner.follower is not before, 10)
    assert hits, "nothing failed"
    until_learned(rec, rec.observe("t", ["newest"]))
    assert "newest" in rec.ids
    assert rec.bundle.model.log_progress is not None
    assert tries[:2] == [(True, True)] * 2, "serving and learning used two bundles, or nothing was learned"
    assert [one for one in caplog.messages if one.startswith("cannot switch to the compacted bundle")]
    eventually(lambda: sum(one.name == "mtaw-follower" for one in threading.enumerate()) == 1, 5)


def test_a_bot_that_continues_prevents_no_switch(folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the old nor the new state learns its clicks, so both give new items the same internal ids."""
    rec, real, go = learning(), learner.current_bundle, threading.Event()

    def delayed(*arguments: Any) -> Any:
        found = real(*arguments)
        assert go.wait(20)
        return found

    monkeypatch.setattr(learner, "current_bundle", delayed)
    until_learned(rec, rec.observe("bot", [f"sku-{n % 20}" for n in range(40)]))
    compact_folder(folder, rec.learner.settings)
    rec.observe("bot", ["its-item"])
    until_learned(rec, rec.observe("visitor", ["newest"]))
    place = rec.ids.lookup(["newest"])[0]
    go.set()
    eventually(lambda: rec.bundle.model.log_progress is not None, 10)
    assert rec.ids.lookup(["newest"])[0] == place
    assert "its-item" not in rec.ids


def test_a_bundle_that_is_compacted_during_a_load_is_switched_to(
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
