"""A recommender that learns: clicks reach other processes, survive restarts and kills, and are compacted."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import (
    MODEL,
    NOON,
    N,
    answers,
    drawn,
    stream,
    until_learned,
)

pytestmark = pytest.mark.slow


def test_a_changed_working_directory_ends_no_learning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rec = Recommender.load(folder.name, learn=LearningSettings(Path("learned"), compact=False))
    monkeypatch.chdir("/")
    until_learned(rec, rec.observe("s", ["sku-1", "newest"]))
    rec.learner.compact(wait=True)
    assert "newest" in rec.bundle.ids
    rec.close()


def test_a_click_reaches_the_rankings_of_others(learning: Callable[..., Recommender]) -> None:
    rec, other = learning(), learning()
    before = other.recommend(["sku-1"], k=N)
    for visitor in range(30):
        position = rec.observe(f"v{visitor}", ["sku-1", "sku-2"])
    for reader in (rec, other):
        until_learned(reader, position)
    after = other.recommend(["sku-1"], k=N)
    assert after.scores.tolist() != before.scores.tolist()
    assert after.log_position is not None
    assert after.log_position >= position
    assert answers(rec, drawn(1)) == answers(other, drawn(1)), "the states of two processes differ"


def test_an_unknown_item_enters_the_catalog_and_is_recommended(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    for visitor in range(20):
        position = rec.observe(f"v{visitor}", ["sku-1", "brand-new", "sku-2"])
    until_learned(rec, position)
    deadline = time.monotonic() + 10
    while "brand-new" not in rec.ids.external(np.arange(len(rec.ids), dtype=np.int32)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert "brand-new" in rec.recommend(["sku-1"], k=N + 1).items
    assert rec.recommend(["brand-new"]).unknown == []
    assert rec.similar_items("brand-new", k=3).items
    vector = rec._pipeline.catalog.vector(N)[0]
    assert np.isclose(np.linalg.norm(vector), 1, atol=1e-5)


def test_growing_sessions_are_learned_and_know_their_new_items(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    visit = rec.session(["sku-1", "fresh", "sku-2"], id="visitor")
    rec.observe("x", ["sku-3"])
    until_learned(rec, rec.observe("y", ["sku-1"]))
    deadline = time.monotonic() + 10
    while visit.recommend(k=3).unknown:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert visit.clicks == ["sku-1", "fresh", "sku-2"]
    whole = rec.recommend(["sku-1", "fresh", "sku-2"], k=10)
    assert visit.recommend(k=10).items == whole.items
    assert rec.learner.state.event_processor.learned_clicks == 5


def test_growing_sessions_do_not_know_items_that_only_forgotten_sessions_held(
    learning: Callable[..., Recommender],
) -> None:
    rec, clicks = learning(), ["sku-1", "fresh", "sku-2"]
    visit, other = rec.session(clicks, id="visitor"), rec.session(["fresh"], id="other")
    rec.catch_up()
    assert (visit.clicks, len(visit)) == (clicks, 3)
    assert visit.recommend(k=9) == rec.recommend(clicks, k=9)
    rec.forget("visitor")
    rec.forget("other")
    rec.catch_up()
    assert rec.recommend(["fresh"]).fallback
    assert visit.recommend(k=9) == rec.recommend(clicks, k=9)
    assert other.recommend(k=9) == rec.recommend(["fresh"], k=9)
    assert (visit.clicks, len(other)) == (["sku-1", "sku-2"], 0)
    rec.observe("another", ["fresh", "sku-3"])
    rec.catch_up()
    assert visit.recommend(k=9) == rec.recommend(clicks, k=9)
    assert visit.clicks == clicks


def test_what_was_learned_is_there_after_a_restart(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    for place, session in enumerate(drawn(4)):
        position = rec.observe(f"s{place}", [*session, "late-comer"])
    rec.add_items(["by-hand"], neighbors=[["sku-7", "sku-8"]])
    rec.remove_items(["sku-9"])
    position = rec.forget("s3")
    until_learned(rec, position)
    rec.close()
    restarted = learning()
    assert restarted.log_position == position
    questions = drawn(5)
    until_learned(rec, position)
    assert answers(restarted, questions) == answers(rec, questions)
    assert "by-hand" in restarted.recommend(["sku-7", "sku-8"], k=N + 2).items
    assert "sku-9" not in restarted.recommend(["sku-7"], k=N + 2).items


def test_a_compacted_bundle_is_switched_to_while_serving(folder: Path, tmp_path: Path) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False, limits=LearningLimits(session_gap=1000))
    rec = Recommender.load(folder, learn=settings)
    for event in stream(12):
        position = rec.learner.append([event])
    until_learned(rec, position)
    before = answers(rec, drawn(13))
    prepared = rec.filter(exclude=["sku-1"])
    rec.learner.compact(wait=True)
    until_learned(rec, position)
    assert rec.bundle.folder == tmp_path / "learned" / "bundle"
    assert rec.bundle.model.log_progress is not None
    after = answers(rec, drawn(13))
    places = [
        old_item == new_item
        for old, new in zip(before, after, strict=True)
        for old_item, new_item in zip(old[0], new[0], strict=True)
    ]
    assert np.mean(places) > 0.99
    until_learned(rec, rec.observe("s", ["sku-1", "newer still"]))
    assert "sku-1" not in rec.recommend(["sku-2"], k=N, filter=prepared).items
    rec.close()
    restarted = Recommender.load(folder, learn=settings)
    until_learned(restarted, position)
    assert len(answers(restarted, drawn(13))) == 60
    restarted.close()


def test_killed_at_any_moment_nothing_acknowledged_is_lost_or_counted_twice(folder: Path, tmp_path: Path) -> None:
    learned = tmp_path / "learned"
    script = (
        "import sys\nfrom mtaw_fast import Recommender\nfrom mtaw_fast.online.settings import LearningSettings\n"
        "from pathlib import Path\n"
        "rec = Recommender.load(sys.argv[1], learn=LearningSettings(Path(sys.argv[2]), compact=False))\n"
        "n = int(sys.argv[3])\n"
        "while True:\n"
        "    rec.observe(f's{n // 4}', [f'sku-{n % 40}'], ids=[f'e{n}'])\n"
        "    print(n, flush=True)\n    n += 1\n"
    )
    rng = np.random.default_rng(14)
    count = 0
    for turn in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(folder), str(learned), str(count)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        for _ in range(int(rng.integers(5, 60))):
            count = int(process.stdout.readline()) + 1
        process.send_signal(signal.SIGKILL)
        output, _ = process.communicate()
        numbers = [int(line) for line in output.split("\n")[:-1] if line]
        count = max([count, *(number + 1 for number in numbers)])
        if turn == 1:  # the client cannot know whether its last events arrived, and sends some again
            count = max(0, count - 3)
        compact_folder(folder, LearningSettings(learned))
    rec = Recommender.load(folder, learn=LearningSettings(learned, compact=False))
    event_processor = rec.learner.state.event_processor
    events = {entry.event.id for entry in FileLog(learned).read("", 100_000)}
    counted = int(event_processor.items.clicks.sum() - MODEL.popularity.sum())
    rec.close()
    assert {f"e{n}" for n in range(count)} <= events
    assert counted == len(events)


def test_learning_without_the_setting_is_refused(folder: Path) -> None:
    rec = Recommender.load(folder)
    assert rec.log_position is None
    with pytest.raises(UsageError, match="does not learn; load it with learn=FOLDER"):
        rec.observe("s", ["sku-1"])
    with pytest.raises(UsageError, match="does not learn"):
        rec.forget("s")
    assert rec.recommend(["sku-1"]).log_position is None


def test_bad_clicks_are_refused_as_a_whole(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    for arguments in (
        ("", ["sku-1"]), ("s", [None]), ("s", ["sku-1"], -5), ("s", ["sku-1", "sku-2"], [NOON]), ("s", ["sku-1"], 1.5),
    ):  # fmt: skip
        with pytest.raises(DataError, match="observe"):
            rec.observe(*arguments)
    wrong: list[dict[str, Any]] = [{"types": "view"}, {"ids": "abcd"}]
    for letters in wrong:
        with pytest.raises(DataError, match="must be a list, one for each click"):
            rec.observe("s", ["sku-1"] * 4, **letters)
    assert rec.learner.log.read("") == []


def test_times_of_numpy_are_times(learning: Callable[..., Recommender]) -> None:
    rec = learning()
    rec.observe("s", ["sku-1", "sku-2"], np.int64(NOON))  # type: ignore[arg-type]
    rec.observe("s", ["sku-3"], np.array([NOON + 1]))  # type: ignore[arg-type]
    assert [entry.event.time for entry in rec.learner.log.read("")] == [NOON, NOON, NOON + 1]
