"""Switching to a compacted bundle: whatever fails, learning continues and the switch is retried."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender, recommender
from mtaw_fast.errors import LearnError
from mtaw_fast.online import learner, switching
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.compaction.current import signature_of
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import load_snapshot, signature
from tests.support.online.recommenders import N, until_learned
from tests.support.service.running import eventually

pytestmark = pytest.mark.slow

Make = Callable[..., Recommender]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 0.05)
    monkeypatch.setattr(switching, "RETRY_SECONDS", 0.05)


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

    def recording(self: learner.OnlineLearner, *arguments: Any) -> None:
        try:
            real(self, *arguments)
        finally:
            consistent = rec.bundle is self.bundle and rec._pipeline.catalog.model is self.bundle.model
            tries.append((consistent, self.follower._thread.is_alive()))

    monkeypatch.setattr(learner.OnlineLearner, "_switch", recording)
    failing(rec, monkeypatch, hits)
    compact_folder(folder, rec.learner.settings)  # as another process does
    eventually(lambda: rec.learner.follower is not before, 10)
    assert hits, "nothing failed"
    until_learned(rec, rec.observe("t", ["newest"]))
    assert "newest" in rec.ids
    assert rec.bundle.model.log_progress is not None
    assert tries[:2] == [(True, True)] * 2, "serving and learning used two bundles, or nothing was learned"
    assert [message for message in caplog.messages if message.startswith("cannot switch to the compacted bundle")]
    eventually(lambda: sum(thread.name == "mtaw-follower" for thread in threading.enumerate()) == 1, 5)


def test_a_bot_that_continues_prevents_no_switch(folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the old nor the new state learns its clicks, so both give new items the same internal ids."""
    rec, real, go = learning(), learner.current_bundle, threading.Event()

    def delayed(*arguments: Any) -> Any:
        bundle = real(*arguments)
        assert go.wait(20)
        return bundle

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


def test_a_bundle_that_is_compacted_during_a_load_is_loaded(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgotten_before_a_new_item(first := learning())
    first.close()
    real = recommender.open_log

    def opened(settings: LearningSettings) -> Any:
        compact_folder(folder, settings)
        monkeypatch.setattr(recommender, "open_log", real)
        return real(settings)

    monkeypatch.setattr(recommender, "open_log", opened)
    rec = learning()
    assert rec.bundle.model.log_progress is not None
    assert rec.bundle.ids.lookup(["newest"])[0] == rec.ids.lookup(["newest"])[0] == N + 1
    eventually(lambda: rec.learner._served_signature == signature_of(rec.learner.settings.folder), 10)


def forgotten_before_a_new_item(rec: Recommender) -> str:
    """Make a compaction redact the click that brought the first new item; return the log's position."""
    rec.observe("s", ["its-item"])
    rec.observe("t", ["newest"])
    return rec.forget("s")


def test_a_change_of_items_switches_to_a_bundle_first(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads a redacted log gives new items other internal ids than the bundle."""
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 1000)
    writer, rec = learning(), learning()
    with rec.learner.follower.paused():
        forgotten_before_a_new_item(writer)
        compact_folder(folder, rec.learner.settings)
    rec.hide(["sku-1"])
    assert rec.bundle.model.log_progress is not None
    assert rec.ids.lookup(["newest"])[0] == N + 1
    assert "sku-1" not in rec.recommend(["sku-2"], k=N).items


def test_other_internal_ids_after_a_failed_switch_ask_for_a_reload(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, rec = learning(), learning()
    real, failures = learner.current_bundle, ["too many open files"]

    def current_bundle(*arguments: Any) -> Any:
        if failures:
            raise LearnError(failures[0])
        return real(*arguments)

    monkeypatch.setattr(learner, "current_bundle", current_bundle)
    with rec.learner.follower.paused():
        position = forgotten_before_a_new_item(writer)
        compact_folder(folder, rec.learner.settings)
    until_learned(rec, position)
    assert rec.ids.lookup(["newest"])[0] == N
    assert not rec.learner.must_reload
    failures.clear()
    eventually(lambda: rec.learner.must_reload, 10)
    assert not learning().learner.must_reload


def test_a_service_reloads_if_learning_asks_for_it(folder: Path, tmp_path: Path) -> None:
    learn = LearningSettings(tmp_path / "learned", compact=False)
    metrics, settings = Metrics.open(Metrics.make(1), 1, 0), Settings(folder, learn=learn)

    async def main() -> None:
        first = load_snapshot(folder, "auto", "auto", learn)
        reloader = Reloader(settings, first, signature(folder), metrics)
        assert await reloader.reload() == "unchanged"
        watching = asyncio.create_task(reloader.watch())
        first.recommender.learner.must_reload = True
        while reloader.snapshot is first:
            await asyncio.sleep(0.01)
        watching.cancel()
        reloader.snapshot.recommender.close()

    asyncio.run(asyncio.wait_for(main(), 20))
