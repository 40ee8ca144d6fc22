"""A missing or damaged compacted bundle is skipped; one that cannot be read now stays unchanged."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import FORMAT_VERSION, MANIFEST, READABLE_VERSIONS
from mtaw_fast.errors import BundleError, LearnError
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.online import learner
from mtaw_fast.online.batch_update import apply_log, log_limits
from mtaw_fast.online.compaction import compactor
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.compaction.current import current_bundle, former_position, model_for
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from tests.support.online.file_logs import raises, system_error
from tests.support.online.logs import drawn_rows, log_file, saved, trained_before
from tests.support.online.recommenders import HOUR, NOON, parts, save, until_learned
from tests.support.service.running import eventually

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle and a learning folder, whose compacted bundle knows 30 sessions that the log has lost."""
    place = tmp_path_factory.mktemp("expired")
    folder = save(place / "bundle")
    settings = LearningSettings(place / "learned", compact=False, max_log_bytes=1, retention_days=3650)
    log = FileLog(settings.folder, segment_bytes=1000)
    for n in range(30):
        log.append([Click(f"s{n}", "sku-1", NOON + n * HOUR), Click(f"s{n}", "fresh", NOON + n * HOUR + 1)])
    assert compact_folder(folder, settings) is not None
    log.append([Click("later", "sku-3", NOON + 40 * HOUR)])
    assert len(log.read("")) < 30
    log.close()
    return place


@pytest.fixture
def settings(expired: Path, folder: Path, tmp_path: Path) -> LearningSettings:
    """Settings for a copy of that learning folder."""
    shutil.copytree(expired / "learned", tmp_path / "learned")
    return LearningSettings(tmp_path / "learned", compact=False, max_log_bytes=1, retention_days=3650)


@pytest.mark.parametrize(
    ("part", "code"),
    [("memory-", errno.EMFILE), ("memory-", errno.EIO), ("learned-", errno.ENFILE), (MANIFEST, errno.EACCES)],
)
def test_a_bundle_that_cannot_be_read_now_is_neither_skipped_nor_overwritten(
    folder: Path, settings: LearningSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    part: str, code: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(compactor.os, "nice", lambda _: 0)
    before = current_bundle(folder, settings.folder, verify=True)
    real, place = os.open, str(settings.folder / learner.COMPACTED / part)

    def opened(path: Any, *arguments: Any, **named: Any) -> int:
        if str(path).startswith(place):
            raise OSError(code, os.strerror(code), str(path))
        return real(path, *arguments, **named)

    with monkeypatch.context() as patched:
        patched.setattr(os, "open", opened)
        with pytest.raises(BundleError, match=os.strerror(code)):
            current_bundle(folder, settings.folder, verify=True)
        assert compactor.main([str(folder), *settings.arguments()]) == 1
    assert os.strerror(code) in capsys.readouterr().err
    assert current_bundle(folder, settings.folder, verify=True).manifest == before.manifest
    written = compact_folder(folder, settings)
    assert written is not None
    compacted = Bundle.load(written)
    assert "fresh" in compacted.ids
    assert len(compacted.model.log_progress.keys) == 30


def test_a_compacted_bundle_of_a_later_release_stays(folder: Path, settings: LearningSettings) -> None:
    path = settings.folder / learner.COMPACTED / MANIFEST
    next_version = max(READABLE_VERSIONS) + 1
    later = path.read_text().replace(f'"format_version": {FORMAT_VERSION}', f'"format_version": {next_version}')
    path.write_text(later)
    message = f"has bundle format {next_version}, .*; upgrade mtaw-fast, or give another folder to learn in"
    for work in (lambda: current_bundle(folder, settings.folder, True), lambda: compact_folder(folder, settings)):
        with pytest.raises(BundleError, match=message):
            work()
    assert path.read_text() == later


def test_a_folder_that_cannot_be_accessed_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(Path, "exists", raises(system_error()))
        with pytest.raises(BundleError, match=f"cannot read {tmp_path / 'learned' / 'bundle'}: Input/output error"):
            current_bundle(folder, tmp_path / "learned", verify=False)


def spoil(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def lengthen(path: Path) -> None:
    """Let the manifest name a file whose name no disk takes."""
    manifest = path.with_name(MANIFEST)
    manifest.write_text(manifest.read_text().replace(path.name, "m" * 300))


@pytest.mark.parametrize(
    ("part", "how"),
    [(MANIFEST, spoil), (MANIFEST, Path.unlink), ("memory-", spoil), ("memory-", Path.unlink), ("memory-", lengthen)],
)
def test_a_damaged_bundle_is_skipped_with_a_log_line(
    folder: Path, settings: LearningSettings, caplog: pytest.LogCaptureFixture, part: str, how: Callable[[Path], None]
) -> None:
    (file,) = (settings.folder / "bundle").glob(f"{part}*")
    how(file)
    assert current_bundle(folder, settings.folder, verify=True).folder == folder
    lines = [message for message in caplog.messages if "; skipped it, and" in message]
    assert len(lines) == (0 if (part, how) == (MANIFEST, Path.unlink) else 1), "without a manifest there is no bundle"
    assert all(str(settings.folder / "bundle") in line for line in lines)


def test_a_running_process_never_goes_back_to_the_trained_bundle(
    settings: LearningSettings,
    learning: Callable[..., Recommender],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(learner, "_WATCH_SECONDS", 0.05)
    rec = learning()
    assert "fresh" in rec.bundle.ids
    until_learned(rec, rec.observe("t", ["sku-5"]))
    (file,) = (settings.folder / "bundle").glob("memory-*")
    spoil(file)
    os.utime(settings.folder / "bundle" / MANIFEST)
    eventually(lambda: any("cannot switch to the compacted bundle" in message for message in caplog.messages), 10)
    assert "fresh" in rec.bundle.ids
    until_learned(rec, rec.observe("t", ["newest"]))
    assert {"fresh", "newest"} <= set(rec.ids)


def test_what_a_former_training_knew_counts_for_its_own_log_alone(
    folder: Path, settings: LearningSettings, tmp_path: Path
) -> None:
    save(folder, parts(seed=4))
    bundle = current_bundle(folder, settings.folder, verify=False)
    for log, position in ((FileLog(settings.folder), former_position(bundle)), (FileLog(tmp_path / "other"), None)):
        former = model_for(bundle, log).log_progress.former
        assert (former and former.position) == position


@pytest.mark.parametrize("updated", [False, True])
def test_clicks_before_a_training_or_an_update_are_learned_neither_before_nor_after_compaction(
    tmp_path: Path, updated: bool
) -> None:
    rows = drawn_rows()
    model = trained_before(rows)
    if updated:
        model, _ = apply_log(log_file(tmp_path / "log.csv", rows, model), log_limits())
    bundle, settings = saved(tmp_path / "timed", model), LearningSettings(tmp_path / "learned", retention_days=3650)
    until = bundle.model.learned_until
    assert until is not None
    log, known = FileLog(settings.folder), [Click(*row) for row in rows if row[2] <= until]
    log.append([*known, Click("next", "sku-1", until + 1)])
    assert learned_clicks(tmp_path, settings) == (1, len(known))
    assert compact_folder(bundle.folder, settings) is not None
    late = [Click("late", "unheard-of", until)]
    log.append([*late, Click("next", "sku-2", until + 2)])
    assert compact_folder(bundle.folder, settings) is not None
    log.append([*late, Click("next", "sku-2", until + 3)])
    clicks, refused = learned_clicks(tmp_path, settings)
    assert (clicks, refused) == (3, 1), "the session was not carried along, or a late click was learned"


def learned_clicks(place: Path, settings: LearningSettings) -> tuple[int, int]:
    """Return (clicks learned since the served bundle, clicks refused because a training knew them)."""
    rec = Recommender.load(place / "timed", learn=settings)
    assert rec.learner is not None
    event_processor = rec.learner.state.event_processor
    assert "unheard-of" not in rec.ids
    rec.close()
    return event_processor.learned_clicks, event_processor.tracker.refused["trained"]


@pytest.mark.parametrize("position", ["0000000000-000000000000", "0000000007-000000000000"])
def test_a_bundle_that_learned_from_another_log_is_refused(folder: Path, tmp_path: Path, position: str) -> None:
    """Its position means nothing in this log: it may be in the middle, or beyond the end."""
    settings = LearningSettings(tmp_path / "learned", compact=False)
    log = FileLog(settings.folder)
    log.append([Click("s", "sku-1", NOON)])
    save(folder, replace(Bundle.load(folder).model, log_progress=LogProgress("another", position)))
    for work in (lambda: Recommender.load(folder, learn=settings), lambda: compact_folder(folder, settings)):
        with pytest.raises(LearnError, match="has learned from another log; give it the folder it learned in"):
            work()
