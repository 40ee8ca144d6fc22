"""Messages and waits between processes: of any length, and ended when one of them fails."""

from __future__ import annotations

import threading
import time

import pytest
from torch.distributed import HashStore

from mtaw_fast.training.group.channel import Channel, GroupError


def test_a_wait_outlives_the_stores_own_patience() -> None:
    """A wait of the store itself would time out; the channel polls."""
    store = HashStore()
    first, second = (Channel(store, rank, 2) for rank in range(2))
    threading.Timer(1.0, lambda: first.send("late")).start()
    began = time.monotonic()
    assert second.receive() == "late"
    assert time.monotonic() - began >= 0.9
    assert [channel.first_to_report() for channel in (second, first)] == [True, False]


def test_a_waiting_process_learns_that_another_one_failed() -> None:
    store = HashStore()
    first, second = (Channel(store, rank, 2) for rank in range(2))
    assert first.failure(0) is None
    second.report_failure("no space left")
    with pytest.raises(GroupError, match=r"has ended \(no space left\); the last whole epoch is kept"):
        first.gather()
    with pytest.raises(GroupError):
        first.receive()
    assert first.failure(0) == "no space left"


def test_a_store_that_is_gone_ends_the_wait() -> None:
    class Gone(HashStore):
        def check(self, names: list[str]) -> bool:
            raise RuntimeError("Connection reset by peer")

    with pytest.raises(GroupError, match="killed, or its machine is gone"):
        Channel(Gone(), 1, 2).receive()
