"""Files of the previous release are read: a bundle, a data set, and a learning folder with its log and its bundle.

`shop.tar.gz` was written by release 0.2. `shop.bundle` is trained on `shop.dataset` (60 items). The log in
`shop.learned` has 40 sessions, an added item, a removed item and a session to forget; the bundle there was compacted
before the last 10 sessions. `expected.json` has that release's rankings of `queries` at the time `at`, and
`learned.json` the present release's after the log.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Dataset, Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.online.compaction import redaction
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.events import AddItems, Click, Forget, RemoveItems
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings

# That release took the ages of items however far they were from the fitted ones, made more prior sessions, and counted
# a pair as often as a session repeated it. So scores of learned sessions are those that the present release gives.
CLOSE = 0.015  # of frozen rankings, whose ages are bounded now
ROUNDING = 1e-4  # scores were written with AVX-512; other instruction sets add in another order
FOLDER = Path(__file__).parents[1] / "support" / "previous_release"
ARCHIVE = FOLDER / "shop.tar.gz"


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The files of the previous release, unpacked."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


@pytest.fixture
def expected(shop: Path) -> dict[str, Any]:
    return json.loads((shop / "expected.json").read_text())


@pytest.fixture
def settings(shop: Path) -> LearningSettings:
    limits = LearningLimits(pair_floor=1000)  # its log was learned without this one
    return LearningSettings(shop / "shop.learned", compact=False, limits=limits)


@pytest.fixture
def learner(shop: Path, settings: LearningSettings) -> Iterator[Recommender]:
    """A recommender that has learned the log."""
    rec = Recommender.load(shop / "shop.bundle", encoder="native", index="native", learn=settings)
    rec.learner.catch_up()
    yield rec
    rec.close()


def test_the_bundle_ranks_as_before(shop: Path, expected: dict[str, Any]) -> None:
    rec = Recommender.load(shop / "shop.bundle", encoder="native", index="native")
    for query, wanted in zip(expected["queries"], expected["frozen"], strict=True):
        ranking = rec.recommend(query, k=10, at=expected["at"])
        assert ranking.items == wanted["items"]
        np.testing.assert_allclose(ranking.scores, wanted["scores"], atol=CLOSE)


def test_the_data_set_is_read(shop: Path) -> None:
    dataset = Dataset.load(shop / "shop.dataset")
    assert (dataset.n_items, len(dataset.train.lengths)) == (60, 459)
    assert dataset.fingerprint == "8cac62582035-0da85726c670-c84457de3d84"


def test_the_learning_folder_ranks_as_before_and_learns_on(learner: Recommender, expected: dict[str, Any]) -> None:
    assert learner.log_position == expected["position"]
    learned = json.loads((FOLDER / "learned.json").read_text())
    for query, wanted in zip(expected["queries"], learned, strict=True):
        ranking = learner.recommend(query, k=10, at=expected["at"])
        assert ranking.items == wanted["items"]
        np.testing.assert_allclose(ranking.scores, wanted["scores"], rtol=ROUNDING, atol=ROUNDING)
    learner.observe("another", ["item-1", "another-item"])
    learner.learner.catch_up()
    assert learner.log_position > expected["position"]
    assert {"new-1", "added-1", "another-item"} <= set(learner.ids)


def test_the_learning_folder_is_compacted(shop: Path, settings: LearningSettings, expected: dict[str, Any]) -> None:
    written = compact_folder(shop / "shop.bundle", settings)
    assert written is not None
    compacted = Bundle.load(written)
    assert compacted.folder == settings.folder / "bundle"
    assert compacted.model.log_progress.position == expected["position"]
    assert {"new-1", "added-1"} <= set(compacted.ids)
    rec = Recommender.load(shop / "shop.bundle", learn=settings)
    assert rec.bundle.manifest == compacted.manifest
    assert "item-7" not in rec.recommend(["item-1"], k=60).items
    rec.close()


def test_the_log_alone_brings_back_what_was_learned(shop: Path, settings: LearningSettings) -> None:
    for path in (settings.folder / "bundle").iterdir():
        path.unlink()
    (settings.folder / "bundle").rmdir()
    rec = Recommender.load(shop / "shop.bundle", learn=settings)
    assert {"new-1", "added-1"} <= set(rec.ids)
    assert "added-1" in rec.recommend(["item-3", "item-4"], k=60).items
    rec.close()


def test_every_event_of_the_log_is_read(settings: LearningSettings) -> None:
    log = FileLog(settings.folder)
    events = [entry.event for entry in log.read("")]
    assert log.damaged == 0
    assert sum(type(event) is Click for event in events) == 27 * 3 + 10 * 2 + 2 * 3  # one session's are redacted
    (added,) = [event for event in events if type(event) is AddItems]
    assert (added.items, added.neighbors) == (("added-1",), (("item-3", "item-4"),))
    assert [event.items for event in events if type(event) is RemoveItems] == [("item-7",)]
    assert [event.session for event in events if type(event) is Forget] == ["s-3"]
    log.close()


def test_what_was_redacted_is_not_redacted_again(
    shop: Path, settings: LearningSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    redacted: list[dict[str, str]] = []
    monkeypatch.setattr(FileLog, "redact", lambda self, forgotten: redacted.append(dict(forgotten)) or 0)
    compact_folder(shop / "shop.bundle", settings)
    assert redacted == [{}]
    assert {path.name for path in settings.folder.glob("*.json")} == {"log.json", redaction.MARK}
