"""Locks, events and cached properties in a forked child, while another thread of the parent uses them."""

from __future__ import annotations

import threading
import time

import pytest

from mtaw_fast.system.cached_property import cached_property
from mtaw_fast.system.fork_lock import ForkEvent, ForkLock
from tests.support.forks import PATIENCE, child


def test_a_locked_lock_is_free_in_the_child() -> None:
    lock = ForkLock()
    locked, go = threading.Event(), threading.Event()

    def keep_lock() -> None:
        with lock:
            locked.set()
            go.wait(PATIENCE)

    thread = threading.Thread(target=keep_lock)
    thread.start()
    locked.wait()

    def work() -> None:
        counted = []

        def enter() -> None:
            with lock:
                before = len(counted)
                time.sleep(0.01)
                counted.append(before)

        threads = [threading.Thread(target=enter) for _ in range(4)]
        for worker in threads:
            worker.start()
        for worker in threads:
            worker.join()
        assert counted == [0, 1, 2, 3]  # the lock works in the child

    assert child(work) == 0
    go.set()
    thread.join()
    with lock:
        pass


@pytest.mark.parametrize("given", [False, True])
def test_an_event_keeps_its_state_in_the_child(given: bool) -> None:
    event = ForkEvent()
    if given:
        event.set()

    def work() -> None:
        assert event.is_set() == event.wait(0.01) == given
        threading.Timer(0.01, event.set).start()
        assert event.wait(PATIENCE)
        event.clear()
        assert not event.is_set()

    with event._event._cond:  # type: ignore[attr-defined]
        assert child(work) == 0
    assert event.is_set() == given


class _Slow:
    """An attribute whose computation waits for `go`."""

    computing, go = threading.Event(), threading.Event()

    def __init__(self, waits: bool) -> None:
        self.waits, self.computed = waits, 0

    @cached_property
    def attribute(self) -> object:
        self.computed += 1
        if self.waits:
            self.computing.set()
            self.go.wait(PATIENCE)
        return object()


def test_an_attribute_that_another_thread_computes_is_computed_in_the_child() -> None:
    slow, free = _Slow(True), _Slow(False)
    thread = threading.Thread(target=lambda: slow.attribute)
    thread.start()
    slow.computing.wait()

    def work() -> None:
        slow.waits = False
        assert slow.attribute is slow.attribute
        assert free.attribute is free.attribute

    assert child(work) == 0
    slow.waits = False
    early = slow.attribute  # a second thread does not wait either
    slow.go.set()
    thread.join()
    assert slow.attribute is early
    assert slow.computed == 2
