"""Items that are added by hand rank next to the neighbors that are named with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Model
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.online.log.events import Event
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.support.online.recommenders import model_fields, plain_ranker, save, until_learned

N = 600
END, DAYS = 1_764_150_000_000, 30 * 24 * 3_600_000


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Bundles with items in groups of ten that are clicked together, so that the neighbors of an item are known.

    "timed": over 30 days, with trends; the ranker's ages are those of items clicked for weeks.
    """
    rng = np.random.default_rng(4)
    past = [10 * rng.integers(N // 10) + rng.permutation(10)[: rng.integers(2, 7)] for _ in range(3000)]
    starts = END - DAYS * (len(past) - np.arange(len(past))) // len(past)
    times = np.concatenate([start + 20_000 * np.arange(len(items)) for start, items in zip(starts, past, strict=True)])
    sessions = Sessions.from_lists(past)
    net = plain_ranker(trends=True)
    mean, scale, linear = net.mean.copy(), net.scale.copy(), net.linear.copy()
    for name in ("t_first", "t_last_age"):
        place = net.features.index(name)
        mean[place], scale[place], linear[place] = 10.4, 6.0, 0.4
    fields, memory = model_fields(N), MemoryTables.build(sessions, N)
    plain = Model.of(**fields, memory=memory, ranker_net=plain_ranker())
    timed = Model.of(
        **{**fields, "popularity": np.bincount(sessions.items, minlength=N)},
        memory=memory, ranker_net=replace(net, mean=mean, scale=scale, linear=linear),
        clicked_at=times, trends=TrendTables.build(sessions, times, N),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("groups")
    return {"plain": save(folder / "plain", plain), "timed": save(folder / "timed", timed)}


@pytest.fixture
def folder(folders: dict[str, Path]) -> Path:
    return folders["plain"]


def groups(rec: Recommender) -> list[list[str]]:
    """Return 60 items, each with its two nearest by sessions."""
    places = np.random.default_rng(5).permutation(N)[:60].astype(np.int32)
    return [[item, *rec.similar_items(item, k=2, by="sessions").items] for item in rec.ids.external(places)]


@pytest.mark.parametrize(("kind", "at"), [("plain", None), ("timed", None), ("timed", END + 60_000)])
@pytest.mark.parametrize("learns", [False, True])
def test_an_item_ranks_next_to_its_neighbors(
    folders: dict[str, Path], tmp_path: Path, learns: bool, kind: str, at: int | None
) -> None:
    """With trends too, where its age of 0 is far from those of items that have been clicked for weeks."""
    settings = LearningSettings(tmp_path / "learned", compact=False) if learns else None
    rec = Recommender.load(folders[kind], learn=settings)
    neighbors = groups(rec)
    rec.add_items([f"new-{place}" for place in range(60)], neighbors=neighbors)
    hits = [f"new-{place}" in rec.recommend(session, k=20, at=at).items for place, session in enumerate(neighbors)]
    assert sum(hits) >= 57
    rec.close()
    if learns:
        restarted = Recommender.load(folders[kind], learn=settings)
        restarted.add_items(["once-more"], neighbors=[neighbors[0]])
        assert "once-more" in restarted.recommend(neighbors[0], k=20, at=at).items
        restarted.close()


def test_an_item_that_was_clicked_once_ranks_next_to_what_was_clicked_with_it(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    rec = Recommender.load(folders["timed"], learn=LearningSettings(tmp_path / "learned", compact=False))
    neighbors = groups(rec)
    for place, session in enumerate(neighbors):
        began = END + 30_000 * place
        last = rec.observe(f"s{place}", [*session, f"new-{place}"], at=[began + 5_000 * k for k in range(4)])
    until_learned(rec, last)
    moment = END + 30_000 * len(neighbors)
    hits = [f"new-{place}" in rec.recommend(session, k=20, at=moment).items for place, session in enumerate(neighbors)]
    assert sum(hits) >= 57


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
