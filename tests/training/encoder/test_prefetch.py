"""Batches made ahead: their order, how far ahead, errors, and a thread that always ends."""

from __future__ import annotations

import threading
import time

import pytest

from mtaw_fast.training.encoder.prefetch import made_ahead


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "batches"]


@pytest.mark.parametrize("ahead", [0, 1, 3])
def test_all_come_in_order(ahead: int) -> None:
    assert list(made_ahead(lambda n: n * n, range(20), ahead)) == [(n, n * n) for n in range(20)]
    assert not threads()


def test_without_ahead_each_is_made_when_asked_for_in_this_thread() -> None:
    calls: list[tuple[int, threading.Thread]] = []
    pairs = made_ahead(lambda n: calls.append((n, threading.current_thread())), range(5), 0)
    next(pairs)
    assert calls == [(0, threading.main_thread())]


def test_no_more_are_made_than_may_lie_ready() -> None:
    numbers: list[int] = []
    pairs = made_ahead(numbers.append, range(50), 2)
    for count in range(1, 6):
        next(pairs)
        time.sleep(0.02)
        assert len(numbers) <= count + 2 + 1  # those that are ready, and the one that waits
    pairs.close()  # type: ignore[attr-defined]
    assert not threads()
    assert len(numbers) <= 8


def test_an_error_comes_where_its_batch_is_asked_for() -> None:
    numbers: list[int] = []

    def make(n: int) -> int:
        numbers.append(n)
        if n == 3:
            raise ValueError("batch 3")
        return n

    received = []
    with pytest.raises(ValueError, match="batch 3"):
        received.extend(n for n, _ in made_ahead(make, range(9), 2))
    assert numbers == [0, 1, 2, 3]
    assert not threads()


@pytest.mark.parametrize("ahead", [1, 3])
def test_where_the_taker_fails_the_thread_ends(ahead: int) -> None:
    numbers: list[int] = []

    def take() -> None:
        for number, _ in made_ahead(numbers.append, range(1000), ahead):
            _ = 1 / (2 - number)

    with pytest.raises(ZeroDivisionError):
        take()
    assert not threads()
    assert len(numbers) <= 2 + ahead + 2
