"""A learner that forgot sessions answers as one that never saw them."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import HOUR, NOON, N, drawn, model_fields, plain_ranker, save, until_learned

DAY = 24 * HOUR


def model(timed: bool) -> Model:
    """Return a model whose memory holds sessions of the day before NOON."""
    fields = model_fields(seed=3)
    rng = np.random.default_rng(3)
    lists = [(N * rng.random(rng.integers(2, 9)) ** 3).astype(int) for _ in range(1500)]
    begins = NOON - DAY + np.arange(len(lists)) * (DAY // len(lists) // 2)
    times = np.concatenate([begin + 5000 * np.arange(len(items)) for begin, items in zip(begins, lists, strict=True)])
    past = Sessions.from_lists(lists)
    fields["popularity"] = np.bincount(past.items, minlength=N).astype(np.int64)
    fields |= {"memory": MemoryTables.build(past, N), "ranker_net": plain_ranker(timed, weigh_trends=timed)}
    if timed:
        fields |= {"clicked_at": times, "trends": TrendTables.build(past, times, N)}
    return Model.of(**fields)


def clicks(seed: int, sessions: int = 70, begin: int = NOON) -> list[Click]:
    """Return clicks of interleaved sessions by time, some on new items."""
    rng = np.random.default_rng(seed)
    events = []
    for session in range(sessions):
        names = [
            f"sku-{i}" if i < N else f"new-{i - N}" for i in (rng.random(rng.integers(2, 8)) * (N + 8)).astype(int)
        ]
        for place, name in enumerate(names):
            events.append(Click(f"s{seed}-{session}", name, begin + session * 20_000 + place * 7_000))
    return sorted(events, key=lambda click: click.time)


class Learner:
    """A recommender that learns in a folder of its own."""

    def __init__(self, bundle: Path, folder: Path) -> None:
        # What the guards decided while a session counted is not undone.
        limits = LearningLimits(item_floor=10**6, pair_floor=10**6)
        self.settings = LearningSettings(folder, compact=False, limits=limits)
        self.bundle = bundle
        self.rec = Recommender.load(bundle, learn=self.settings)

    def observe(self, some: list[Click]) -> None:
        until_learned(self.rec, [self.rec.observe(click.session, [click.item], at=click.time) for click in some][-1])

    def forget(self, sessions: list[str]) -> None:
        until_learned(self.rec, [self.rec.forget(session) for session in sessions][-1])

    def answers(self, at: int) -> dict[str, list[tuple[object, float]]]:
        """Return everything that a service would answer, with external ids."""
        sessions = [*drawn(5, 30), *([f"new-{i}", "sku-1"] for i in range(6)), []]
        rankings = {f"rank {session}": self.rec.recommend(session, k=10, at=at) for session in sessions}
        for item in [*(f"sku-{i}" for i in range(0, N, 3)), *(f"new-{i}" for i in range(8))]:
            if item in self.rec.ids:
                rankings[f"similar {item}"] = self.rec.similar_items(item, 10)
                rankings[f"together {item}"] = self.rec.similar_items(item, 10, by="sessions")
        return {name: list(answer) for name, answer in rankings.items()}


@pytest.fixture(params=[False, True], ids=["plain", "timed"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Learner, Learner]:
    bundle = save(tmp_path / "bundle", model(request.param))
    return Learner(bundle, tmp_path / "forgot"), Learner(bundle, tmp_path / "never")


def assert_same(forgot: Learner, never: Learner, at: int, within: float = 1e-4, vectors: bool = True) -> None:
    """Compare all answers: the same items up to near ties, and the same scores. vectors: those of new items too."""
    ours, theirs = forgot.answers(at), never.answers(at)
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        if not vectors and ("similar" in name or "new-" in name):
            continue
        answer = ours[name]
        assert len(answer) == len(expected), name
        scores = np.array([[score for _, score in ranking] for ranking in (answer, expected)])
        np.testing.assert_allclose(scores[0], scores[1], rtol=within, atol=within, err_msg=name)
        by_item = dict(expected)
        for item, score in answer[:-1]:
            assert item in by_item or abs(score - expected[-1][1]) <= within, (name, item)
            if item in by_item:
                assert abs(by_item[item] - score) <= max(within, within * abs(score)), (name, item)


def some_of(events: list[Click], seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    names = sorted({click.session for click in events})
    return [name for name in names if rng.random() < 0.3]


@pytest.mark.parametrize("seed", [1, 2])
def test_sessions_of_the_delta(pair: tuple[Learner, Learner], seed: int) -> None:
    forgot, never = pair
    events = clicks(seed)
    names = some_of(events, seed)
    early, late = events[: len(events) // 2], events[len(events) // 2 :]
    forgot.observe(early)
    forgot.forget(names[::2])
    forgot.observe([click for click in late if click.session not in names[::2]])
    forgot.forget(names[1::2])
    never.observe([click for click in events if click.session not in names])
    end = [Click("last", "sku-3", events[-1].time + 60_000)]  # both list rising items again
    forgot.observe(end)
    never.observe(end)
    for learner in pair:
        renew(learner)
    assert_same(forgot, never, events[-1].time + 90_000)
    reader = Learner(forgot.bundle, forgot.settings.folder)  # replays the log
    renew(reader)
    assert_same(reader, never, events[-1].time + 90_000)


def renew(learner: Learner) -> None:
    """Compute the vectors of all new items: otherwise they depend on when each was computed last."""
    online = learner.rec.learner
    assert online is not None
    with online.follower.paused():
        new_items = online.state.event_processor.items.new_items
        for _ in range(20):  # vectors follow each other
            for place in range(len(new_items)):
                new_items.request_update(place)
            online.state.refresh_vectors()
        online.state.event_processor.items.changed = True
    online.catch_up()


@pytest.mark.parametrize("seed", [3])
def test_sessions_of_the_tables(pair: tuple[Learner, Learner], seed: int) -> None:
    """Sessions that a compaction merged are forgotten at once too, and the next compaction is that of a log without."""
    forgot, never = pair
    events = clicks(seed)
    names = some_of(events, seed)
    later = clicks(seed + 1, sessions=20, begin=events[-1].time + 2 * HOUR)
    forgot.observe(events)
    never.observe([click for click in events if click.session not in names])
    for learner in pair:
        learner.observe(later)
        learner.rec.compact()
    assert forgot.rec.bundle.memory.n_sessions > never.rec.bundle.memory.n_sessions
    forgot.forget([*names, *names])  # once more changes nothing
    end = [Click("last", "sku-3", later[-1].time + 60_000)]
    for learner in pair:
        learner.observe(end)
        renew(learner)
    # Until the compaction, ages of pairs that no forgotten session touched count a few sessions more, and new items of
    # the tables keep their vectors.
    assert_same(forgot, never, later[-1].time + 90_000, within=0.1, vectors=False)
    assert forgot.rec.learner is not None
    assert forgot.rec.learner.state.event_processor.keeps_vectors
    for learner in pair:
        learner.rec.compact()
    # Vectors of the tables' new items also depend on what they were before.
    assert_same(forgot, never, later[-1].time + 90_000, vectors=False)
    assert not holds_session(forgot.settings.folder, names)


def holds_session(folder: Path, sessions: list[str]) -> list[Path]:
    """Return the files that hold a click of one of the sessions."""
    marks = [f'"session":"{session}"'.encode() for session in sessions]
    found = []
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # a compaction writes drafts and renames them
            if path.is_file() and any(mark in path.read_bytes() for mark in marks):
                found.append(path)
    return found
