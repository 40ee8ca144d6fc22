"""The sessions that the ranker learns from: a share of all, at most so many clicks."""

from __future__ import annotations

import pytest

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.training.ranker import last_sessions
from mtaw_fast.training.ranker.last_sessions import split_for_ranker, warn_if_capped


def test_one_session_is_too_few_whatever_the_data_set_has() -> None:
    """With validation_fraction=0.99 a ranker gets the one session that is left of a hundred."""
    with pytest.raises(DataError, match="a ranker, of only 1; add more, or lower validation_fraction"):
        split_for_ranker(Config.of(), Sessions.from_lists([[1, 2, 3]]))


@pytest.mark.parametrize(("most", "expected"), [(100, 5), (10, 5), (9, 4), (1, 1), (0, 1)])
def test_at_most_so_many_clicks_and_one_session_at_least(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, most: int, expected: int
) -> None:
    monkeypatch.setattr(last_sessions, "MAX_CLICKS", most)
    sessions = Sessions.from_lists([[k, k + 1] for k in range(20)])
    before, last = split_for_ranker(Config.of(ranker_fraction=0.25), sessions)
    assert (len(before), len(last)) == (20 - expected, expected)
    assert [*before.items.tolist(), *last.items.tolist()] == sessions.items.tolist()
    warn_if_capped(Config.of(ranker_fraction=0.25), sessions)
    assert caplog.messages == (
        [] if most >= 10 else [
            f"ranker: learns from the last {most} clicks, since the last 0.25 of the sessions (ranker_fraction) have 10"
        ]
    )  # fmt: skip
