"""Loading, and switching to a compacted bundle: whatever fails, nothing is left open, and learning goes on."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.errors import LearnError, MtawError, UsageError
from mtaw_fast.online import learner, switching
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.served_pipeline import ServedPipeline
from mtaw_fast.service.bundles import Reloader
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import load_snapshot, signature
from mtaw_fast.system import host
from tests.support.online.file_logs import cannot_start, raises, system_error
from tests.support.online.recommenders import N, until_learned
from tests.support.random_bundle import bundle_parts
from tests.support.service.running import eventually

pytestmark = pytest.mark.slow

Make = Callable[..., Recommender]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 0.05)
    monkeypatch.setattr(switching, "RETRY_SECONDS", 0.05)


def fail(owner: Any, name: str, error: Exception, calls: int, patch: pytest.MonkeyPatch, hits: list[int]) -> None:
    """Let a call of the switching thread fail once, after so many."""
    real, before = getattr(owner, name), list[int]()

    def failing(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread().name == "mtaw-learner":
            before.append(1)
            if len(before) > calls and not hits:
                hits.append(1)
                raise error
        return real(*arguments, **named)

    patch.setattr(owner, name, failing)


FAILURES: dict[str, Callable[..., None]] = {
    # When the log was read to its end and the new state is about to serve.
    "read": lambda rec, *more: fail(rec.learner.log, "end", LearnError("Redis does not answer"), 1, *more),
    "publish": lambda _, *more: fail(Pipeline, "of", MemoryError("no room for a catalog"), 0, *more),
    "start": lambda _, *more: fail(threading.Thread, "start", RuntimeError("can't start new thread"), 0, *more),
}


@pytest.mark.parametrize("failing", FAILURES)
def test_a_failed_switch_ends_no_learning_and_is_retried(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    rec, hits = learning(), list[int]()
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
    FAILURES[failing](rec, monkeypatch, hits)
    compact_folder(folder, rec.learner.settings)  # as another process does
    eventually(lambda: rec.learner.follower is not before, 10)
    assert hits, "nothing failed"
    until_learned(rec, rec.observe("t", ["newest"]))
    assert "newest" in rec.ids
    assert rec.bundle.model.log_progress is not None
    assert tries[:2] == [(True, True)] * 2, "serving and learning used two bundles, or nothing was learned"
    assert [message for message in caplog.messages if message.startswith("cannot switch to the compacted bundle")]
    eventually(lambda: sum(thread.name == "mtaw-follower" for thread in threading.enumerate()) == 1, 5)


def test_other_internal_ids_after_a_failed_switch_ask_for_a_reload(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The served bundle keeps those that sessions and filters hold."""
    writer, rec = learning(), learning()
    real, failures = learner.current_bundle, ["too many open files"]

    def current_bundle(*arguments: Any) -> Any:
        if failures:
            raise LearnError(failures[0])
        return real(*arguments)

    monkeypatch.setattr(learner, "current_bundle", current_bundle)
    with rec.learner.follower.paused():
        writer.observe("s", ["its-item"])
        writer.observe("t", ["newest"])
        position = writer.forget("s")  # the click that brought the first new item is redacted
        compact_folder(folder, rec.learner.settings)
    until_learned(rec, position)
    assert rec.ids.lookup(["newest"])[0] == N
    assert not rec.learner.must_reload
    visit, prepared = rec.session(["newest"], id="v"), rec.filter(exclude=["newest"])
    failures.clear()
    eventually(lambda: rec.learner.must_reload, 10)
    assert "'newest' among them; load it again to serve it" in caplog.text
    assert visit.clicks == ["newest"]
    assert "newest" not in rec.recommend(["sku-1"], k=100, filter=prepared).items
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


@pytest.fixture
def left(tmp_path: Path) -> Callable[[], list[object]]:
    """Return a function that lists threads started since, and open files of the learning folder."""
    before = set(threading.enumerate())

    def found() -> list[object]:
        targets = [os.path.realpath(path) for path in Path("/proc/self/fd").iterdir()]
        files = [target for target in targets if target.startswith(str(tmp_path / "learned"))]
        return [*(set(threading.enumerate()) - before), *files]

    return found


LOAD_FAILURES: dict[str, Callable[[pytest.MonkeyPatch], object]] = {
    "log": lambda patch: patch.setattr(FileLog, "read", raises(LearnError("cannot read the log"))),
    "publish": lambda patch: patch.setattr(ServedPipeline, "switch_to", raises(MemoryError("no room"))),
    "follower": lambda patch: cannot_start(patch, "mtaw-follower"),
    "flusher": lambda patch: cannot_start(patch, "mtaw-fsync"),
    "watch": lambda patch: cannot_start(patch, "mtaw-learner"),
    "answer": lambda patch: patch.setattr(Pipeline, "recommend", raises(MemoryError("no room"))),
}


@pytest.mark.parametrize("failing", LOAD_FAILURES)
def test_a_load_that_fails_releases_everything(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Callable[[], list[object]], failing: str
) -> None:
    LOAD_FAILURES[failing](monkeypatch)
    with pytest.raises((MtawError, MemoryError, RuntimeError)):
        load_snapshot(folder, "auto", "auto", LearningSettings(tmp_path / "learned", compact=False))
    assert left() == []


def test_what_cannot_learn_opens_no_log(tmp_path: Path, left: Callable[[], list[object]]) -> None:
    fields = bundle_parts(n_items=40, embedding_dim=8, seed=1)
    fields.pop("metrics"), fields.pop("dataset")
    Bundle.save(tmp_path / "plain", Model.of(**fields), metrics={}, dataset={})
    with pytest.raises(UsageError, match="has no session memory, so it cannot learn; train it with preset full"):
        Recommender.load(tmp_path / "plain", learn=tmp_path / "learned")
    assert left() == []
    assert not (tmp_path / "learned").exists()


def test_a_full_disk_is_a_folder_that_cannot_be_learned_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: Callable[[], list[object]]
) -> None:
    monkeypatch.setattr(host, "open_stream", raises(system_error(errno.ENOSPC)))
    with pytest.raises(LearnError, match=r"cannot write .*log\.json: No space left on device; free some space"):
        FileLog(tmp_path / "learned")
    assert left() == []
