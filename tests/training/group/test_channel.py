"""Words and waits between processes: of any length, and over when one of them fails."""

from __future__ import annotations

import threading
import time

import pytest
from torch.distributed import HashStore

from mtaw_fast.training.group.channel import Channel, GroupError
from tests.training.group.worlds import in_threads


def test_words_arrive_in_order_and_a_meeting_is_of_all() -> None:
    def work(process_group: object) -> list[object]:
        channel = process_group.channel  # type: ignore[attr-defined]
        rank = process_group.rank  # type: ignore[attr-defined]
        heard = [channel.share({"word": number} if rank == 0 else None) for number in range(3)]
        return [*heard, channel.settle(rank * 10), channel.settle()]

    for got in in_threads(3, work):
        assert got == [{"word": 0}, {"word": 1}, {"word": 2}, [0, 10, 20], [None] * 3]


def test_a_wait_outlives_the_stores_own_patience() -> None:
    """The store itself would give up: here it is asked again and again."""
    store = HashStore()
    one, two = (Channel(store, rank, 2) for rank in range(2))
    threading.Timer(1.0, lambda: one.say("late")).start()
    began = time.monotonic()
    assert two.hear() == "late"
    assert time.monotonic() - began >= 0.9


def test_who_waits_hears_that_another_one_failed() -> None:
    store = HashStore()
    one, two = (Channel(store, rank, 2) for rank in range(2))
    assert one.failure(0) is None
    two.fail("no space left")
    with pytest.raises(GroupError, match=r"has ended \(no space left\); the last whole epoch is kept"):
        one.settle()
    with pytest.raises(GroupError):
        one.hear()
    assert one.failure(0) == "no space left"


def test_one_process_tells_of_what_all_see() -> None:
    store = HashStore()
    assert [Channel(store, rank, 3).first_to_tell() for rank in (2, 0, 1)] == [True, False, False]


def test_a_store_that_is_gone_ends_the_wait() -> None:
    class Gone(HashStore):
        def check(self, names: list[str]) -> bool:
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(GroupError, match="killed, or its machine is gone"):
        Channel(Gone(), 1, 2).hear()
