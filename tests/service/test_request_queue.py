"""The queue: in order, bounded, and it drops work that no client waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.request_queue import BatchedWork, RequestQueue
from mtaw_fast.service.settings import Limits


@pytest.fixture
def metrics() -> Metrics:
    """Counters of one worker."""
    return Metrics.open(Metrics.make(1), 1, 0)


@pytest.fixture
def queue(metrics: Metrics) -> Iterator[RequestQueue]:
    """At most 4 in the queue, for at most 0.2 s."""
    queue = RequestQueue(Limits(queue=4, deadline=0.2), metrics)
    yield queue
    queue.close()


def rejected(metrics: Metrics, reason: str) -> bool:
    return f'mtaw_rejected_total{{reason="{reason}"}} 1' in metrics.text()


def test_work_runs_in_order_and_each_caller_gets_its_result(queue: RequestQueue) -> None:
    numbers: list[int] = []

    async def main() -> list[int]:
        def work(number: int) -> int:
            numbers.append(number)
            return 10 * number

        return await asyncio.gather(*(queue.run(lambda _, n=n: work(n)) for n in range(4)))

    assert asyncio.run(main()) == [0, 10, 20, 30]
    assert numbers == [0, 1, 2, 3]


def test_only_a_request_that_is_alone_may_be_answered_without_the_queue(metrics: Metrics) -> None:
    alone = True
    queue = RequestQueue(Limits(queue=4, deadline=60), metrics, lambda: alone)

    async def main() -> list[bool]:
        nonlocal alone
        free = [queue.is_free()]
        task = asyncio.create_task(queue.run(lambda _: None))
        await asyncio.sleep(0)
        free.append(queue.is_free())
        await task
        event = threading.Event()
        in_thread = asyncio.create_task(queue.run_in_thread(lambda *_: event.wait()))
        await asyncio.sleep(0)
        free.append(queue.is_free())
        event.set()
        await in_thread
        free.append(queue.is_free())
        alone = False
        return [*free, queue.is_free()]

    assert asyncio.run(main()) == [True, False, False, True, False]
    queue.close()


def test_a_full_queue_refuses_the_newest(queue: RequestQueue, metrics: Metrics) -> None:
    async def main() -> list[object]:
        return await asyncio.gather(*(queue.run(lambda _: "done") for _ in range(5)), return_exceptions=True)

    *first, last = asyncio.run(main())
    assert first == ["done"] * 4
    assert isinstance(last, ServiceError)
    assert (last.status, last.code, last.headers) == (503, "overloaded", {"Retry-After": "1"})
    assert rejected(metrics, "overloaded")
    assert queue.length == 0


def test_a_request_past_its_deadline_is_dropped(queue: RequestQueue, metrics: Metrics) -> None:
    worked: list[str] = []

    async def main() -> Any:
        slow = queue.run(lambda _: time.sleep(0.3))
        late = queue.run(lambda _: worked.append("late"))
        return await asyncio.gather(slow, late, return_exceptions=True)

    _, late = asyncio.run(main())
    assert isinstance(late, ServiceError)
    assert (late.status, late.code) == (503, "deadline_passed")
    assert not worked
    assert rejected(metrics, "deadline_passed")


def test_an_error_goes_to_its_caller_and_the_next_request_runs(queue: RequestQueue) -> None:
    async def main() -> Any:
        return await asyncio.gather(queue.run(lambda _: 1 // 0), queue.run(lambda _: "fine"), return_exceptions=True)

    failed, fine = asyncio.run(main())
    assert isinstance(failed, ZeroDivisionError)
    assert fine == "fine"


def test_an_abandoned_request_is_dropped(queue: RequestQueue) -> None:
    worked: list[str] = []

    async def main() -> None:
        gone = asyncio.create_task(queue.run(lambda _: worked.append("gone")))
        stays = asyncio.create_task(queue.run(lambda _: worked.append("stays")))
        await asyncio.sleep(0)
        gone.cancel()
        await stays

    asyncio.run(main())
    assert worked == ["stays"]


def test_the_event_loop_reads_its_sockets_between_two_rankings(queue: RequestQueue) -> None:
    order: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        work = [asyncio.create_task(queue.run(lambda _, n=n: order.append(f"work {n}"))) for n in range(3)]
        await asyncio.sleep(0)
        loop.call_soon(lambda: order.append("socket"))
        await asyncio.gather(*work)

    asyncio.run(main())
    assert order.index("socket") < order.index("work 2")


def test_long_work_leaves_the_loop_free_and_counts_as_waiting(queue: RequestQueue) -> None:
    release = threading.Event()

    async def main() -> object:
        long = asyncio.create_task(queue.run_in_thread(lambda _, check: release.wait(5)))
        await asyncio.sleep(0)
        assert await queue.run(lambda _: "meanwhile") == "meanwhile"
        assert queue.length == 1
        release.set()
        return await long

    assert asyncio.run(main()) is True
    assert queue.length == 0


def test_long_work_gets_its_waiting_time(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=4, deadline=60), metrics)
    release = threading.Event()

    async def main() -> tuple[float, float, float]:
        def work(waited: float, _: object) -> float:
            release.wait(5)
            return waited

        first, second = (asyncio.create_task(queue.run_in_thread(work)) for _ in range(2))
        await asyncio.sleep(0)
        assert queue.length == 2
        both_wait = time.perf_counter()
        time.sleep(0.05)
        least = time.perf_counter() - both_wait
        release.set()
        return await first, await second, least

    first, second, least = asyncio.run(main())
    assert 0 <= first < second
    assert second >= least
    queue.close()


def test_long_work_ends_at_the_deadline(queue: RequestQueue, metrics: Metrics) -> None:
    async def main() -> None:
        def work(_: float, check: Callable[[], None]) -> None:
            while True:
                time.sleep(0.01)
                check()

        await queue.run_in_thread(work)

    with pytest.raises(ServiceError, match="200 ms"):
        asyncio.run(main())
    assert rejected(metrics, "deadline_passed")


def batchedly(queue: RequestQueue, keys: list[object]) -> tuple[list[object], list[list[int]]]:
    """Return the results of requests 0, 1, .. with these keys (None: not batched), and the batches."""
    groups: list[list[int]] = []

    def together(numbers: list[int], waited: list[float]) -> list[str]:
        assert len(waited) == len(numbers)
        assert all(0 <= seconds < 5 for seconds in waited)
        groups.append(numbers)
        return [f"batched {number}" for number in numbers]

    async def main() -> list[object]:
        requests = [
            queue.run(lambda _, n=number: f"single {n}", None if key is None else BatchedWork((key,), number, together))
            for number, key in enumerate(keys)
        ]
        return await asyncio.gather(*requests, return_exceptions=True)

    return asyncio.run(main()), groups


def test_waiting_requests_are_batched(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=50, micro_batch=6), metrics)
    results, groups = batchedly(queue, ["a"] * 13)
    assert groups == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]  # at most 6; the last one is alone
    assert results == [f"batched {n}" for n in range(12)] + ["single 12"]


def test_only_requests_with_equal_keys_are_batched(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=50, micro_batch=9), metrics)
    results, groups = batchedly(queue, ["a", "b", None, "b", "b", "b", "b", "a", "a", None])
    assert groups == [[3, 4, 5, 6], [7, 8]]
    kinds = ["single"] * 3 + ["batched"] * 6 + ["single"]
    assert results == [f"{kind} {n}" for n, kind in enumerate(kinds)]


def test_a_micro_batch_of_1_batches_nothing(metrics: Metrics) -> None:
    results, groups = batchedly(RequestQueue(Limits(queue=50, micro_batch=1), metrics), ["a"] * 9)
    assert groups == []
    assert results == [f"single {n}" for n in range(9)]


def test_an_error_of_batched_work_goes_to_all_of_it(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=50), metrics)

    def broken(numbers: list[int], waited: list[float]) -> list[str]:
        raise ZeroDivisionError

    async def main() -> list[object]:
        requests = [queue.run(lambda _: "single", BatchedWork((), number, broken)) for number in range(5)]
        return await asyncio.gather(*requests, queue.run(lambda _: "fine"), return_exceptions=True)

    *failed, fine = asyncio.run(main())
    assert all(isinstance(error, ZeroDivisionError) for error in failed)
    assert fine == "fine"
