"""A cached property in a forked child, while another thread of the parent computes it."""

from __future__ import annotations

import threading

from mtaw_fast.system.cached_property import cached_property
from tests.support.forks import PATIENCE, child


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
