"""A recommender that learns: what it refuses, and how clicks outlive restarts, kills and compactions."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.errors import DataError, ItemTypeError, LearnError, UsageError
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import MODEL, NOON, N, parts, save, until_learned
from tests.support.service.running import eventually

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
    save(folder, other)
    with pytest.raises(LearnError, match="holds another training now; load it again"):
        rec.learner.compact()
    second = learning()  # a process that was started later serves it, and compacts
    second.learner.compact(wait=True)
    eventually(lambda: "holds another training now" in caplog.text, 10)
    assert visit.clicks == ["sku-1", "sku-2"]
    assert "sku-5" not in rec.recommend(["sku-1"], k=N, filter=prepared).items
    until_learned(rec, rec.observe("u", ["still learning"]))
    assert "still learning" in rec.ids


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


def test_a_changed_working_directory_ends_no_learning(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rec = Recommender.load(folder.name, learn=LearningSettings(Path("learned"), compact=False))
    monkeypatch.chdir("/")
    until_learned(rec, rec.observe("s", ["sku-1", "newest"]))
    rec.learner.compact(wait=True)
    assert "newest" in rec.bundle.ids


def test_growing_sessions_do_not_know_items_that_only_forgotten_sessions_held(learning: Learning) -> None:
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


def test_bad_clicks_are_refused_as_a_whole(learning: Learning) -> None:
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
    with pytest.raises(ItemTypeError, match=r"observe has no id of the catalog's type: its first is 5 \(int\)"):
        rec.observe("s", [5, 6])
    with pytest.raises(DataError, match="forget: session must be a string that is not empty, not 123"):
        rec.forget(123)  # type: ignore[arg-type]
    assert rec.learner.log.read("") == []
    rec.observe("s", ["sku-1"], NOON, ["view"], ["e-1"], {"referrer": "search"})
    (entry,) = rec.learner.log.read("")
    assert isinstance(entry.event, Click)
    click = Click("s", "sku-1", NOON, "view", "e-1", None, {"referrer": "search"}, trusted=True)
    assert entry.event._replace(arrived=None) == click
    # Times of numpy are times.
    rec.observe("s", ["sku-1", "sku-2"], np.int64(NOON))  # type: ignore[arg-type]
    rec.observe("s", ["sku-3"], np.array([NOON + 1]))  # type: ignore[arg-type]
    assert [entry.event.time for entry in rec.learner.log.read(entry.position)] == [NOON, NOON, NOON + 1]
