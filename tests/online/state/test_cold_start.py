"""Items that are added by hand rank next to the neighbors that are named with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.online.log.events import Event
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import plain_ranker, until_learned
from tests.support.random_bundle import bundle_parts

N = 600
END, DAYS = 1_764_150_000_000, 30 * 24 * 3_600_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with items in groups of ten that are clicked together, so that the neighbors of an item are known."""
    rng = np.random.default_rng(4)
    past = [10 * rng.integers(N // 10) + rng.permutation(10)[: rng.integers(2, 7)] for _ in range(3000)]
    fields = bundle_parts(n_items=N, embedding_dim=8)
    fields.pop("metrics"), fields.pop("dataset")
    memory = MemoryTables.build(Sessions.from_lists(past), N)
    folder = tmp_path_factory.mktemp("groups") / "bundle"
    Bundle.save(folder, Model.of(**fields, memory=memory, ranker_net=plain_ranker()), metrics={}, dataset={})
    return folder


@pytest.fixture(scope="module")
def timed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same items and sessions over 30 days, with trends. The ranker's ages are those of items clicked for weeks."""
    rng = np.random.default_rng(4)
    past = [10 * rng.integers(N // 10) + rng.permutation(10)[: rng.integers(2, 7)] for _ in range(3000)]
    starts = END - DAYS * (len(past) - np.arange(len(past))) // len(past)
    times = np.concatenate([start + 20_000 * np.arange(len(items)) for start, items in zip(starts, past, strict=True)])
    fields = bundle_parts(n_items=N, embedding_dim=8)
    fields.pop("metrics"), fields.pop("dataset")
    sessions = Sessions.from_lists(past)
    net = plain_ranker(trends=True)
    mean, scale, linear = net.mean.copy(), net.scale.copy(), net.linear.copy()
    for name in ("t_first", "t_last_age"):
        place = net.features.index(name)
        mean[place], scale[place], linear[place] = 10.4, 6.0, 0.4
    model = Model.of(
        **{**fields, "popularity": np.bincount(sessions.items, minlength=N)},
        memory=MemoryTables.build(sessions, N), ranker_net=replace(net, mean=mean, scale=scale, linear=linear),
        clicked_at=times, trends=TrendTables.build(sessions, times, N),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("timed") / "bundle"
    Bundle.save(folder, model, metrics={}, dataset={})
    return folder


def groups(rec: Recommender) -> list[list[str]]:
    """Return 60 items, each with its two nearest by sessions."""
    places = np.random.default_rng(5).permutation(N)[:60].astype(np.int32)
    return [[item, *rec.similar_items(item, k=2, by="sessions").items] for item in rec.ids.external(places)]


@pytest.mark.parametrize("learns", [False, True])
def test_an_item_ranks_next_to_its_neighbors(folder: Path, tmp_path: Path, learns: bool) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False) if learns else None
    rec = Recommender.load(folder, learn=settings)
    neighbors = groups(rec)
    rec.add_items([f"new-{place}" for place in range(60)], neighbors=neighbors)
    hits = [f"new-{place}" in rec.recommend(session, k=20).items for place, session in enumerate(neighbors)]
    assert sum(hits) >= 57
    rec.close()
    if learns:
        restarted = Recommender.load(folder, learn=settings)
        restarted.add_items(["once-more"], neighbors=[neighbors[0]])
        assert "once-more" in restarted.recommend(neighbors[0], k=20).items
        restarted.close()


@pytest.mark.parametrize("at", [None, END + 60_000])
@pytest.mark.parametrize("learns", [False, True])
def test_an_item_ranks_next_to_its_neighbors_in_a_bundle_with_trends(
    timed_folder: Path, tmp_path: Path, learns: bool, at: int | None
) -> None:
    """Its age of 0 is far from those of items that have been clicked for weeks."""
    settings = LearningSettings(tmp_path / "learned", compact=False) if learns else None
    rec = Recommender.load(timed_folder, learn=settings)
    neighbors = groups(rec)
    rec.add_items([f"new-{place}" for place in range(60)], neighbors=neighbors)
    hits = [f"new-{place}" in rec.recommend(session, k=20, at=at).items for place, session in enumerate(neighbors)]
    assert sum(hits) >= 57
    rec.close()


def test_an_item_that_was_clicked_once_ranks_next_to_what_was_clicked_with_it(
    timed_folder: Path, tmp_path: Path
) -> None:
    rec = Recommender.load(timed_folder, learn=LearningSettings(tmp_path / "learned", compact=False))
    neighbors = groups(rec)
    for place, session in enumerate(neighbors):
        began = END + 30_000 * place
        last = rec.observe(f"s{place}", [*session, f"new-{place}"], at=[began + 5_000 * k for k in range(4)])
    until_learned(rec, last)
    moment = END + 30_000 * len(neighbors)
    hits = [f"new-{place}" in rec.recommend(session, k=20, at=moment).items for place, session in enumerate(neighbors)]
    assert sum(hits) >= 57
    rec.close()


def test_few_added_items_leave_other_rankings_as_they_were(folder: Path) -> None:
    rec = Recommender.load(folder)
    neighbors = groups(rec)
    queries = [session for session in neighbors[3:] if not {group[0] for group in neighbors[:3]} & set(session)]
    before = [rec.recommend(session, k=20).items for session in queries]
    rec.add_items(["new-0", "new-1", "new-2"], neighbors=neighbors[:3])
    rec.remove_items(["new-0", "new-1", "new-2"])
    after = [rec.recommend(session, k=20).items for session in queries]
    assert np.mean([len(set(old) & set(new)) / 20 for old, new in zip(before, after, strict=True)]) > 0.9


def test_a_change_knows_what_another_process_changed_before(folder: Path, tmp_path: Path) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False)
    first, second = (Recommender.load(folder, learn=settings) for _ in range(2))
    for rec in (first, second):
        rec.learner.follower.stop()  # neither follows the log by itself
    neighbors = groups(first)[:1]
    first.add_items(["new-0"], neighbors=neighbors)
    second.remove_items(["new-0"])
    first.add_items(["new-0"], neighbors=neighbors)
    with pytest.raises(DataError, match="'new-0'"):
        second.add_items(["new-0"], neighbors=neighbors)
    second.remove_items(["new-0"])
    with pytest.raises(DataError, match="'new-0'"):
        first.remove_items(["new-0"])
    for rec in (first, second):
        rec.close()


@pytest.mark.parametrize("item", ["", "x" * 513])
def test_an_id_that_no_table_holds_is_refused_with_its_whole_call(folder: Path, tmp_path: Path, item: str) -> None:
    rec = Recommender.load(folder, learn=LearningSettings(tmp_path / "learned", compact=False))
    neighbors = groups(rec)[:2]
    with pytest.raises(DataError, match=r"item '.* cannot be added: an id is a string of 1 to 512 characters"):
        rec.add_items(["new-0", item], neighbors=neighbors)
    assert "new-0" not in rec.ids
    assert rec.learner.log.read("") == []
    rec.add_items([np.str_("x" * 512)], neighbors=neighbors[:1])
    assert "x" * 512 in rec.ids
    rec.close()


def test_items_that_came_after_the_limit_was_reached_are_reported(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = LearningSettings(tmp_path / "learned", compact=False, limits=LearningLimits(new_items=2))
    first, second = (Recommender.load(folder, learn=settings) for _ in range(2))
    neighbors, append = groups(first)[:2], first.learner.log.append

    def later(events: Sequence[Event]) -> str:
        second.add_items(["first"], neighbors=neighbors[:1])
        return append(events)

    monkeypatch.setattr(first.learner.log, "append", later)
    with pytest.raises(DataError, match=r"1 of 2 items did not enter the catalog, 'third' .* limit new_items of 2"):
        first.add_items(["second", "third"], neighbors=neighbors)
    assert "second" in first.ids
    for rec in (first, second):
        rec.close()
