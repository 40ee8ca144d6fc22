"""Searches of many threads, one call at a time: each gets its own rows, and waiting threads share a call."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mtaw_fast.ranking.retrieval.shared_calls import SharedCalls


class Device:
    """Answers row x, fetch f with (x0 + f, x0); asserts that it is alone; waits at `gate` in every call."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []
        self.inside = 0
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.error: BaseException | None = None

    def search(self, queries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
        self.inside += 1
        assert self.inside == 1, "two threads on the device"
        self.calls.append((len(queries), fetch))
        self.entered.release()
        assert self.gate.wait(20)
        self.inside -= 1
        error, self.error = self.error, None
        if error is not None:
            raise error
        return queries[:, :1] + fetch, queries[:, :1].astype(np.int64)


def rows(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32)[:, None]


def waiting(shared: SharedCalls, count: int) -> None:
    """Wait until `count` callers wait."""
    for _ in range(4000):
        with shared._lock:
            if len(shared._waiting) == count:
                return
        threading.Event().wait(0.005)
    raise AssertionError(f"{len(shared._waiting)} wait, not {count}")


@pytest.fixture
def device() -> Device:
    return Device()


def held(device: Device, shared: SharedCalls, pool: ThreadPoolExecutor) -> Any:
    """Start a call that stays on the device until its gate opens."""
    device.gate.clear()
    first = pool.submit(shared.search, rows(0), 8)
    assert device.entered.acquire(timeout=20)
    return first


def test_an_idle_device_is_searched_at_once_by_the_caller(device: Device) -> None:
    shared = SharedCalls(device.search, 10)
    before = threading.active_count()
    dots, ids = shared.search(rows(3, 5), 8)
    assert dots.ravel().tolist() == [11, 13]
    assert ids.ravel().tolist() == [3, 5]
    assert device.calls == [(2, 8)]
    assert threading.active_count() == before


def test_those_that_wait_go_together(device: Device) -> None:
    shared = SharedCalls(device.search, 10)
    with ThreadPoolExecutor(8) as pool:
        first = held(device, shared, pool)
        others = []
        for number, (count, fetch) in enumerate([(1, 8), (2, 16), (1, 8), (9, 8), (1, 16)]):
            others.append(pool.submit(shared.search, rows(*[10 * number + i for i in range(count)]), fetch))
            waiting(shared, number + 1)
        device.gate.set()
        assert first.result(20)[1].tolist() == [[0]]
        for number, (other, (count, fetch)) in enumerate(
            zip(others, [(1, 8), (2, 16), (1, 8), (9, 8), (1, 16)], strict=True)
        ):
            dots, ids = other.result(20)
            assert ids.ravel().tolist() == [10 * number + i for i in range(count)]
            assert dots.ravel().tolist() == [10 * number + i + fetch for i in range(count)]
    # The first in line leads; callers with its fetch that fit into ten rows join; the rest keep their order.
    assert device.calls == [(1, 8), (2, 8), (3, 16), (9, 8)]


def test_a_long_batch_is_cut_and_gives_way(device: Device) -> None:
    shared = SharedCalls(device.search, 4)
    with ThreadPoolExecutor(2) as pool:
        device.gate.clear()
        long = pool.submit(shared.search, rows(*range(10)), 8)
        assert device.entered.acquire(timeout=20)
        short = pool.submit(shared.search, rows(100), 16)
        waiting(shared, 1)
        device.gate.set()
        assert short.result(20)[1].tolist() == [[100]]
        assert long.result(20)[1].ravel().tolist() == list(range(10))
    assert device.calls[:2] == [(4, 8), (1, 16)]
    assert sorted(device.calls[2:]) == [(2, 8), (4, 8)]


def test_an_error_reaches_all_of_its_group_and_nobody_else(device: Device) -> None:
    shared = SharedCalls(device.search, 10)
    with ThreadPoolExecutor(4) as pool:
        first = held(device, shared, pool)
        others = []
        for number, fetch in enumerate((8, 8, 16)):
            others.append(pool.submit(shared.search, rows(number), fetch))
            waiting(shared, number + 1)
        device.error = ValueError("the first call fails")
        device.gate.set()
        with pytest.raises(ValueError, match="the first call fails"):
            first.result(20)
        assert [other.result(20)[1].item() for other in others] == [0, 1, 2]
        first = held(device, shared, pool)
        others = []
        for number, fetch in enumerate((8, 8, 16)):
            others.append(pool.submit(shared.search, rows(number), fetch))
            waiting(shared, number + 1)
        calls = len(device.calls)
        serve = device.search

        def fails_once(queries: np.ndarray, fetch: int) -> tuple[np.ndarray, np.ndarray]:
            if len(device.calls) == calls:
                device.error = ValueError("the group fails")
            return serve(queries, fetch)

        shared._search = fails_once
        device.gate.set()
        assert first.result(20)[1].item() == 0
        for other in others[:2]:
            with pytest.raises(ValueError, match="the group fails"):
                other.result(20)
        assert others[2].result(20)[1].item() == 2
    assert shared.search(rows(1), 8)[1].item() == 1  # the device is free again


def test_ctrl_c_in_the_leader_leaves_the_others_to_the_next(device: Device) -> None:
    shared = SharedCalls(device.search, 10)
    with ThreadPoolExecutor(4) as pool:
        device.gate.clear()
        device.error = KeyboardInterrupt()
        first = pool.submit(shared.search, rows(0), 8)
        assert device.entered.acquire(timeout=20)
        others = []
        for number in (1, 2):
            others.append(pool.submit(shared.search, rows(number), 8))
            waiting(shared, number)
        device.gate.set()
        with pytest.raises(KeyboardInterrupt):
            first.result(20)
        assert [other.result(20)[1].item() for other in others] == [1, 2]
    assert not shared._busy


def test_ctrl_c_in_who_waits(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves the line, also if it has just become the leader."""
    shared = SharedCalls(device.search, 10)
    with ThreadPoolExecutor(4) as pool:
        first = held(device, shared, pool)
        wait = threading.Event.wait

        def interrupted(event: threading.Event, timeout: float | None = None) -> bool:
            if timeout is None and threading.current_thread().name == "leaves":
                wait(event, 20)  # until it becomes the leader
                raise KeyboardInterrupt
            return wait(event, timeout)

        monkeypatch.setattr(threading.Event, "wait", interrupted)
        errors: list[BaseException] = []

        def leaves() -> None:
            try:
                shared.search(rows(1), 8)
            except KeyboardInterrupt as error:
                errors.append(error)

        thread = threading.Thread(target=leaves, name="leaves")
        thread.start()
        waiting(shared, 1)
        last = pool.submit(shared.search, rows(2), 16)
        waiting(shared, 2)
        device.gate.set()
        assert first.result(20)[1].item() == 0
        assert last.result(20)[1].item() == 2
        thread.join(20)
    assert len(errors) == 1
    assert not shared._busy
    assert device.calls == [(1, 8), (1, 16)]


def test_many_threads_and_many_sizes(device: Device) -> None:
    shared = SharedCalls(device.search, 16)

    def one(number: int) -> bool:
        rng = np.random.default_rng(number)
        values = rng.integers(0, 1000, rng.integers(1, 40)).astype(np.float32)
        fetch = int(rng.choice([8, 16, 32]))
        dots, ids = shared.search(values[:, None], fetch)
        return bool((dots[:, 0] == values + fetch).all() and (ids[:, 0] == values).all())

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(600)))
    assert max(count for count, _ in device.calls) <= 16
