"""The queue: in order, bounded, and it drops work that no client waits for."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.recommender import Recommender
from mtaw_fast.service.errors import ServiceError
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.request_queue import BatchedWork, RequestQueue
from mtaw_fast.service.settings import Limits
from tests.support.random_bundle import save_random
from tests.support.service.running import eventually, running, traffic


@pytest.fixture
def metrics() -> Metrics:
    return Metrics.open(Metrics.make(1), 1, 0)


@pytest.fixture
def queue(metrics: Metrics) -> Iterator[RequestQueue]:
    """At most 4 in the queue, for at most 0.2 s."""
    queue = RequestQueue(Limits(queue=4, deadline=0.2), metrics)
    yield queue
    queue.close()


def rejected(metrics: Metrics, reason: str) -> bool:
    return f'mtaw_rejected_total{{reason="{reason}"}} 1' in metrics.text()


def outcomes(make: Callable[[], Iterable[Awaitable[Any]]]) -> list[Any]:
    """Return the results, or errors, of requests that are made at once."""

    async def main() -> list[Any]:
        return await asyncio.gather(*make(), return_exceptions=True)

    return asyncio.run(main())


def test_work_runs_in_order_and_each_caller_gets_its_result(queue: RequestQueue) -> None:
    numbers: list[int] = []

    def work(number: int) -> int:
        numbers.append(number)
        return 10 * number

    results = outcomes(lambda: [queue.run(lambda _, n=n: work(n)) for n in range(2)] + [queue.run(lambda _: 1 // 0)])
    assert results[:2] == [0, 10]
    assert numbers == [0, 1]
    assert isinstance(results[2], ZeroDivisionError)
    assert outcomes(lambda: [queue.run(lambda _: "fine")]) == ["fine"]


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
    *first, last = outcomes(lambda: [queue.run(lambda _: "done") for _ in range(5)])
    assert first == ["done"] * 4
    assert isinstance(last, ServiceError)
    assert (last.status, last.code, last.headers) == (503, "overloaded", {"Retry-After": "1"})
    assert rejected(metrics, "overloaded")
    assert queue.length == 0


def test_a_request_past_its_deadline_is_dropped(queue: RequestQueue, metrics: Metrics) -> None:
    worked: list[str] = []
    _, late = outcomes(lambda: [queue.run(lambda _: time.sleep(0.3)), queue.run(lambda _: worked.append("late"))])
    assert isinstance(late, ServiceError)
    assert (late.status, late.code) == (503, "deadline_passed")
    assert not worked
    assert rejected(metrics, "deadline_passed")


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


def test_long_work_leaves_the_loop_free_and_counts_as_waiting(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=4, deadline=60), metrics)
    release = threading.Event()

    async def main() -> tuple[float, float, float]:
        def work(waited: float, _: object) -> float:
            release.wait(5)
            return waited

        first, second = (asyncio.create_task(queue.run_in_thread(work)) for _ in range(2))
        await asyncio.sleep(0)
        both_wait = time.perf_counter()
        assert await queue.run(lambda _: "meanwhile") == "meanwhile"
        assert queue.length == 2
        time.sleep(0.05)
        least = time.perf_counter() - both_wait
        release.set()
        return await first, await second, least

    first, second, least = asyncio.run(main())
    assert 0 <= first < second
    assert second >= least
    assert queue.length == 0
    queue.close()


def test_long_work_ends_at_the_deadline(queue: RequestQueue, metrics: Metrics) -> None:
    def work(_: float, check: Callable[[], None]) -> None:
        while True:
            time.sleep(0.01)
            check()

    (late,) = outcomes(lambda: [queue.run_in_thread(work)])
    assert isinstance(late, ServiceError)
    assert "200 ms" in str(late)
    assert rejected(metrics, "deadline_passed")


def test_short_work_keeps_half_of_the_places(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=6, deadline=60), metrics)
    release = threading.Event()

    async def main() -> list[Any]:
        long = [asyncio.create_task(queue.run_in_thread(lambda *_: release.wait(5))) for _ in range(4)]
        await asyncio.sleep(0)
        short = await asyncio.gather(*(queue.run(lambda _: "short") for _ in range(4)), return_exceptions=True)
        release.set()
        return [*short, *await asyncio.gather(*long, return_exceptions=True)]

    results = asyncio.run(main())
    assert [str(result) for result in results if isinstance(result, ServiceError)] == [
        "6 requests are waiting already; try again", "3 long requests are waiting already; try again",
    ]  # fmt: skip
    assert results[:3] == ["short"] * 3
    assert results[4:7] == [True] * 3
    queue.close()


def test_long_work_is_admitted_by_what_is_before_it(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=100, deadline=1), metrics)

    async def admitted(cost: float) -> int:
        """Return how many requests of a cost are admitted at once."""
        release = threading.Event()
        tasks = [asyncio.create_task(queue.run_in_thread(lambda *_: release.wait(5), cost)) for _ in range(40)]
        await asyncio.sleep(0)
        length = queue.length
        release.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        return length

    # At first, a cost of 100 counts for 0.01 s; the first request is always admitted.
    assert asyncio.run(admitted(1e9)) == 1
    queue = RequestQueue(Limits(queue=100, deadline=1), metrics)
    assert asyncio.run(admitted(4000)) == 3
    queue = RequestQueue(Limits(queue=100, deadline=1), metrics)

    async def slow() -> int:
        await queue.run_in_thread(lambda *_: time.sleep(0.2), 1)
        return await admitted(4000)

    assert asyncio.run(slow()) == 1  # the work so far has taken longer than estimated
    queue.close()


def batchedly(queue: RequestQueue, keys: list[object]) -> tuple[list[object], list[list[int]]]:
    """Return the results of requests 0, 1, .. with these keys (None: not batched), and the batches."""
    groups: list[list[int]] = []

    def together(numbers: list[int], waited: list[float]) -> list[str]:
        assert len(waited) == len(numbers)
        assert all(0 <= seconds < 5 for seconds in waited)
        groups.append(numbers)
        return [f"batched {number}" for number in numbers]

    def requests() -> list[Any]:
        batches = [None if key is None else BatchedWork((key,), number, together) for number, key in enumerate(keys)]
        return [queue.run(lambda _, n=number: f"single {n}", batch) for number, batch in enumerate(batches)]

    return outcomes(requests), groups


@pytest.mark.parametrize(
    ("keys", "most", "batches"),
    [
        (["a"] * 13, 6, [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]),  # the last one is alone
        (["a", "b", None, "b", "b", "b", "b", "a", "a", None], 9, [[3, 4, 5, 6], [7, 8]]),  # of equal keys
        (["a"] * 9, 1, []),
    ],
)
def test_waiting_requests_are_batched(
    metrics: Metrics, keys: list[object], most: int, batches: list[list[int]]
) -> None:
    results, groups = batchedly(RequestQueue(Limits(queue=50, micro_batch=most), metrics), keys)
    assert groups == batches
    batched = {number for group in groups for number in group}
    assert results == [f"{'batched' if number in batched else 'single'} {number}" for number in range(len(keys))]


def test_an_error_of_batched_work_goes_to_all_of_it(metrics: Metrics) -> None:
    queue = RequestQueue(Limits(queue=50), metrics)

    def broken(numbers: list[int], waited: list[float]) -> list[str]:
        raise ZeroDivisionError

    def requests() -> list[Any]:
        batched = [queue.run(lambda _: "single", BatchedWork((), number, broken)) for number in range(5)]
        return [*batched, queue.run(lambda _: "fine")]

    *failed, fine = outcomes(requests)
    assert all(isinstance(error, ZeroDivisionError) for error in failed)
    assert fine == "fine"


def test_answers_are_the_same_to_the_bit(tmp_path: Path) -> None:
    # Large enough that requests arrive faster than they are ranked one by one.
    folder = tmp_path / "bundle"
    save_random(folder, n_items=150_000, embedding_dim=48, text=False)
    rec = Recommender.load(folder)
    sessions = [[7 + 10 * (31 * n + 977 * t) for t in range(3)] for n in range(32)] + [[], [5]]

    def make(client: int, number: int) -> tuple[str, Any]:
        body = {"session": sessions[(client + 3 * number) % len(sessions)], "k": 5 + 5 * (client % 2)}
        return "/v1/recommend", {**body, "exclude_seen": number % 9 == 0, "repeats": client % 2 == 1}

    with running(folder) as service:
        with traffic(service, make, clients=12) as records:
            eventually(lambda: service.metric("mtaw_batched_answers_total") > 100, 60)
        assert service.metric('mtaw_stage_seconds_count{stage="batched"}') > 5
    for record in records:
        assert not record.lost
        for body, reply in record.replies:
            out = rec.recommend(body["session"], body["k"], exclude_seen=body["exclude_seen"], repeats=True)
            answer = reply.json
            assert (answer["items"], answer["scores"]) == (out.items, out.scores.tolist())
            assert (answer["unknown"], answer["fallback"]) == (out.unknown, out.fallback)
            if body["repeats"]:
                assert out.repeats is not None
                assert answer["repeats"] == out.repeats.tolist()
