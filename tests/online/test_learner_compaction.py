"""Waiting for a compaction ends when the result is served, or with an error that gives the reason."""

from __future__ import annotations

import copy
import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import LearnError
from mtaw_fast.online import learner
from mtaw_fast.online.compaction import compactor, redaction, schedule
from mtaw_fast.online.compaction.compactor import BUSY, CLEANUP_FAILED, LogCleanupError, compact_folder
from mtaw_fast.online.compaction.current import learned_position
from mtaw_fast.online.log.events import Click, Forget
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.system import host
from tests.support.forks import child
from tests.support.online.file_logs import raises, system_error
from tests.support.online.recommenders import HOUR, NOON, until_learned
from tests.support.service.running import eventually

pytestmark = pytest.mark.slow

Make = Callable[..., Recommender]


@contextmanager
def another_compactor(settings: LearningSettings) -> Iterator[None]:
    """Hold the folder's lock as another compactor does that is killed at the end."""
    with (settings.folder / ".compact.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def position_served(rec: Recommender) -> str:
    assert rec.bundle is rec.learner.bundle
    return rec.bundle.model.log_progress.position


def test_compact_waits_until_the_result_is_served(learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    rec, real = learning(), learner.current_bundle

    def slow(*arguments: Any) -> Any:
        time.sleep(0.5)  # as if a large bundle were read and verified
        return real(*arguments)

    monkeypatch.setattr(learner, "current_bundle", slow)
    for session in ("s", "t"):
        position = rec.observe(session, ["sku-1", "sku-2"])
        until_learned(rec, position)
        rec.learner.compact(wait=True)
        assert position_served(rec) >= position


def test_a_busy_folder_has_its_own_exit_code(folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = learning().learner.settings
    monkeypatch.setattr(os, "nice", lambda _: 0)
    with another_compactor(settings):
        assert compact_folder(folder, settings) is None
        assert compactor.main([str(folder), *settings.arguments()]) == BUSY
    assert compactor.main([str(folder), *settings.arguments()]) == 0


def test_a_waiting_compactor_starts_after_another_one_is_killed(learning: Make) -> None:
    rec = learning()
    position = rec.observe("s", ["sku-1", "sku-2"])
    until_learned(rec, position)
    with ThreadPoolExecutor(1) as pool:
        with another_compactor(rec.learner.settings):
            future = pool.submit(rec.learner.compact, wait=True)
            eventually(lambda: (latest := rec.learner.compactions.latest) is not None and _waits_for_lock(latest), 20)
        future.result(30)
    assert position_served(rec) >= position


def _waits_for_lock(process: Any) -> bool:
    assert process.poll() is None, "it did not wait"
    return any(f" {process.pid} " in line and "->" in line for line in Path("/proc/locks").read_text().splitlines())


def test_closing_ends_the_waiting(learning: Make) -> None:
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1", "sku-2"]))
    failures: list[LearnError] = []

    def waiting() -> None:
        with pytest.raises(LearnError) as caught:
            rec.learner.compact(wait=True)
        failures.append(caught.value)

    thread = threading.Thread(target=waiting)
    with another_compactor(rec.learner.settings):
        thread.start()
        eventually(lambda: rec.learner.compactions.latest is not None, 10)
        rec.close()
        thread.join(10)
    assert "was stopped before its compacted bundle was served" in str(failures[0])
    rec.learner.compactions.latest.wait(30)  # it continues by itself


def test_if_the_log_cannot_be_cleaned_up_the_result_is_served(learning: Make) -> None:
    rec = learning()
    position = rec.observe("s", ["sku-1", "newest"])
    until_learned(rec, position)
    (rec.learner.settings.folder / redaction.MARK).mkdir()
    with pytest.raises(LearnError, match="has its compacted bundle, but its log still holds forgotten clicks"):
        rec.learner.compact(wait=True)
    assert rec.learner.compactions.latest.returncode == CLEANUP_FAILED
    assert position_served(rec) >= position
    (rec.learner.settings.folder / redaction.MARK).rmdir()
    rec.learner.compact(wait=True)


failing = raises(LearnError("the disk failed"))


def test_if_redaction_fails_the_log_still_expires(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False, max_log_bytes=1)
    log = FileLog(settings.folder, segment_bytes=1000)
    for n in range(30):
        log.append([Click(f"s{n}", "sku-1", NOON + n * HOUR), Forget(f"s{n}", NOON)])
    before = len(log.read(""))
    monkeypatch.setattr(compactor, "redact_forgotten", failing)
    with pytest.raises(LogCleanupError, match="its log is not cleaned up: the disk failed"):
        compact_folder(folder, settings)
    assert len(log.read("")) < before


def test_a_failed_compaction_leaves_the_log_s_last_event(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False)
    log = FileLog(settings.folder)
    for _ in range(3):  # sent again: a compaction removes what comes again
        acknowledged = log.append([Click("s", "sku-1", NOON, id="e")])
    monkeypatch.setattr(compactor, "save_bundle", failing)
    with pytest.raises(LearnError, match="the disk failed"):
        compact_folder(folder, settings)
    monkeypatch.undo()
    assert [entry.position for entry in log.read("")][-1] == acknowledged
    compact_folder(folder, settings)
    assert learned_position(settings.folder) == acknowledged, "who waits for this position would wait for ever"
    assert len(log.read("")) == 1, "and it is gone once a bundle has the position"


def test_a_repeat_that_could_not_be_removed_goes_with_the_next_compaction(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False)
    log = FileLog(settings.folder)
    log.append([Click("s", "sku-1", NOON, id="e"), Forget("s", NOON), Click("s", "sku-1", NOON, id="e")])
    monkeypatch.setattr(FileLog, "remove", lambda _, positions: failing() if positions else None)
    with pytest.raises(LogCleanupError, match="its log is not cleaned up: the disk failed"):
        compact_folder(folder, settings)
    monkeypatch.undo()
    log.append([Click("t", "sku-2", NOON, id="f")])
    compact_folder(folder, settings)
    assert [type(entry.event) for entry in log.read("")] == [Forget, Click], "no click of the forgotten session is left"


def should_start(one: learner.OnlineLearner | None, **settings: Any) -> bool:
    assert one is not None
    compactions = copy.copy(one.compactions)  # a copy, so that no compaction starts by itself
    compactions._settings = replace(one.settings, compact=True, **settings)
    return compactions.should_start(one.state.event_processor, one.bundle, one.log)


def test_what_starts_a_compaction(learning: Make) -> None:
    rec = learning()
    online_learner = rec.learner

    def is_needed() -> bool:
        return should_start(online_learner, compact_seconds=1e-9)

    assert not is_needed(), "nothing was clicked"
    rec.observe("first", ["sku-1"], NOON)
    until_learned(rec, rec.observe("last", ["sku-2"], NOON + HOUR))
    assert is_needed()
    online_learner.compact(wait=True)
    assert online_learner.state.event_processor.learned_clicks == 1, "the last session is still open"
    assert not is_needed(), "nothing came since"
    until_learned(rec, rec.forget("last"))
    assert is_needed()
    online_learner.compact(wait=True)
    assert online_learner.state.event_processor.learned_clicks == 0
    until_learned(rec, rec.forget("first"))
    assert is_needed(), "there is a session to forget"
    online_learner.compact(wait=True)
    assert not is_needed()
    (online_learner.settings.folder / redaction.MARK).unlink()
    assert is_needed(), "the compaction was ended before the log was redacted"


def test_the_pause_after_a_compaction_of_another_process_is_as_long(folder: Path, learning: Make) -> None:
    rec = learning()
    online_learner = rec.learner
    online_learner.compactions._tried -= online_learner.settings.compact_seconds
    rec.observe("s", ["sku-1"])
    compact_folder(folder, online_learner.settings)
    eventually(lambda: online_learner._served_signature == learner.signature_of(online_learner.settings.folder))
    until_learned(rec, rec.observe("s", ["sku-2"]))
    assert not should_start(online_learner)
    online_learner.compactions._tried -= online_learner.settings.compact_seconds
    assert should_start(online_learner)


def test_a_child_of_a_fork_waits_for_no_compaction(learning: Make) -> None:
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1"]))

    def work() -> None:
        with pytest.raises(LearnError, match="was stopped before its compacted bundle was served"):
            rec.learner.compact(wait=True)

    assert child(work) == 0


def test_a_failure_before_a_compaction_is_not_logged_at_every_poll(
    learning: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    online_learner, polls, real = learning().learner, list[float](), learner.signature_of
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 0.02)
    monkeypatch.setattr(schedule, "is_redacted", raises(system_error()))
    monkeypatch.setattr(learner, "signature_of", lambda folder: polls.append(0.0) or real(folder))
    online_learner.compactions._tried -= 60
    online_learner.compactions._settings = replace(online_learner.settings, compact=True, compact_seconds=60.0)
    eventually(lambda: len(polls) > 10, 10)
    assert len([line for line in caplog.messages if "cannot compact what was learned" in line]) == 1


def test_a_clock_that_jumped_stops_compactions_until_an_operator_confirms_it(
    folder: Path, learning: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rec = learning()
    until_learned(rec, rec.observe("s", ["sku-1", "sku-2"]))
    real = host.time_ns
    monkeypatch.setattr(host, "time_ns", lambda: real() + 40 * 86_400 * 10**9)
    until_learned(rec, rec.observe("t", ["sku-3"]))
    settings = rec.learner.settings
    for compact in (rec.compact, rec.learner.request_compaction, lambda: compact_folder(folder, settings)):
        with pytest.raises(LearnError, match=r"arrived 40\.0 days after those before them.*--confirm-clock"):
            compact()
    assert not rec.learner.compactions.should_start(rec.learner.state.event_processor, rec.bundle, rec.learner.log)
    eventually(lambda: "arrived 40.0 days" in caplog.text, 5)
    assert compact_folder(folder, settings, confirm_clock=True) is not None
    eventually(lambda: rec.learner.clock_jump == 0 and "times are confirmed" in caplog.text, 5)
