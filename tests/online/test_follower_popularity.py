"""A ranking by popularity includes every event up to its `log_position`."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.online import follower
from mtaw_fast.online.follower import MAX_PUBLISH_SECONDS, PUBLISH_SECONDS, PUBLISH_SHARE
from mtaw_fast.online.log.events import Click
from tests.support.online.recommenders import MODEL, NOON, N, until_learned

Make = Callable[..., Recommender]


def test_clicks_on_known_items_change_the_popular_ones(learning: Make) -> None:
    assert MODEL.trends is None
    rec, other = learning(), learning()
    first, second = rec.recommend([], k=2).items
    lead = int(-np.diff(rec.recommend([], k=2).scores)[0])
    clicks = [Click(f"v{n}", second, NOON + n * 2_000) for n in range(lead + 1)]
    position = rec.learner.append(clicks)
    for reader in (rec, other):
        until_learned(reader, position)
        ranking = reader.recommend([], k=N)
        assert ranking.log_position is not None
        assert ranking.log_position >= position
        assert ranking.items[:2] == [second, first]
        assert ranking.scores.tolist() == sorted(
            reader.learner.state.event_processor.items.clicks[:N].tolist(), reverse=True
        )


def test_a_position_is_reported_once_popularity_includes_it(learning: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower, "PUBLISH_SECONDS", 1e9)
    rec = learning()
    before = rec.log_position
    position = rec.learner.append([Click("s", "sku-1", NOON)])
    deadline = time.monotonic() + 10
    while rec.learner.state.event_processor.position < position:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    rec.learner.follower.stop()
    assert rec.log_position == before
    rec.learner.catch_up()
    assert rec.log_position == position


def test_a_costly_catalog_is_published_rarely(learning: Make) -> None:
    rec = learning()
    log_follower = rec.learner.follower
    log_follower.stop()
    publish = log_follower._publish

    def costly(catalog: object) -> None:
        time.sleep(0.2)
        publish(catalog)

    log_follower._publish = costly
    rec.learner.append([Click("s", "sku-1", NOON)], wait=True)
    assert log_follower._pause() >= 0.2 / PUBLISH_SHARE > PUBLISH_SECONDS
    log_follower._cost = 3600.0  # the process was stopped for an hour
    assert log_follower._pause() == MAX_PUBLISH_SECONDS
    rec.observe("t", ["newest"])
    log_follower.read_ahead()
    assert log_follower._pause() == PUBLISH_SECONDS, "a new item does not wait"
