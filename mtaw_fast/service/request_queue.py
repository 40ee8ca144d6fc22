"""The queue of waiting requests: bounded, in order, one ranking for each turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from mtaw_fast.service.errors import ServiceError, unavailable
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Limits

T = TypeVar("T")

_AGED = 0.95  # what earlier long work counts for, after each further one
_FIRST_PACE = 0.01, 100.0  # seconds, and the cost that takes so long
_FEWEST = 2  # requests of a batch: a scan reads the catalog once for two or three


@dataclass(frozen=True, slots=True)
class BatchedWork:
    """How a request is answered in one batch with other waiting requests.

    key: requests with equal keys go into a batch. payload: this request's input. work: takes all payloads and the
    seconds that each request has waited; returns a result for each.
    """

    key: tuple[Any, ...]
    payload: Any
    work: Callable[[list[Any], list[float]], list[Any]]


@dataclass(slots=True)
class _Waiting:
    since: float
    work: Callable[[float], Any]
    batched: BatchedWork | None
    outcome: asyncio.Future[Any]


class RequestQueue:
    """A worker's queue. Short work runs on the event loop, long work in one thread.

    Between two rankings the event loop reads its sockets, so that requests wait in the queue and not in the network. A
    full queue refuses the newest request at once. A request past its deadline is dropped. Requests at the head of the
    queue that can be batched are answered in one batch, so that a longer queue moves faster.

    Long work is admitted by its estimated cost: only if what is before it will have begun within the deadline. Half of
    the queue's places are for short work alone.

    is_alone: returns whether the request that is being handled is the only one that has arrived.
    """

    def __init__(self, limits: Limits, metrics: Metrics, is_alone: Callable[[], bool] = lambda: False) -> None:
        self._max_waiting, self._deadline, self._metrics = limits.queue, limits.deadline, metrics
        self._micro_batch = limits.micro_batch
        self._waiting: deque[_Waiting] = deque()
        self._working = False
        self._in_thread = 0
        self._in_thread_cost = 0.0
        self._seconds, self._cost = _FIRST_PACE  # of long work so far, the older the less
        self._thread = ThreadPoolExecutor(1, "long-requests")
        self._is_alone = is_alone

    @property
    def length(self) -> int:
        """Number of requests that wait, or are in the thread."""
        return len(self._waiting) + self._in_thread

    def is_free(self) -> bool:
        """Return whether a request may be answered at once, because nobody waits and no other has arrived."""
        return not self._working and not self._in_thread and self._is_alone()

    async def run(self, work: Callable[[float], T], batched: BatchedWork | None = None) -> T:
        """Run short `work` on the event loop, or as part of a batch; return its result.

        `work` gets the seconds that it has waited. Raises ServiceError (503) if the queue is full, or the deadline
        passed while the request waited.
        """
        self._admit()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Waiting(perf_counter(), work, batched, outcome))
        if not self._working:
            self._working = True
            loop.call_soon(self._turn, loop)
        return await outcome

    async def run_in_thread(self, work: Callable[[float, Callable[[], None]], T], cost: float = 1.0) -> T:
        """Run long `work` in the thread; return its result. Raises as `run`.

        `work` gets the seconds that it has waited, and a function to call now and then: it raises ServiceError (503)
        once the deadline has passed. cost: estimated, in any unit that all callers use.
        """
        self._admit_long()
        began, spent = perf_counter(), 0.0

        def check() -> None:
            if perf_counter() - began > self._deadline:
                raise _too_late(self._deadline)

        def start() -> T:
            nonlocal spent
            check()
            start = perf_counter()
            try:
                return work(start - began, check)
            finally:
                spent = perf_counter() - start

        self._in_thread += 1
        self._in_thread_cost += cost
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, start)
        except ServiceError as problem:
            if problem.code == "deadline_passed":
                self._metrics.add("mtaw_rejected_total", "deadline_passed")
            raise
        finally:
            self._in_thread -= 1
            self._in_thread_cost = self._in_thread_cost - cost if self._in_thread else 0.0
            if spent:
                self._seconds, self._cost = _AGED * self._seconds + spent, _AGED * self._cost + cost

    def _admit_long(self) -> None:
        self._admit()
        before = self._in_thread_cost * self._seconds / self._cost
        if before > self._deadline or self._in_thread >= max(1, self._max_waiting // 2):
            self._metrics.add("mtaw_rejected_total", "overloaded")
            raise unavailable("overloaded", f"{self._in_thread} long requests are waiting already; try again")

    def _admit(self) -> None:
        if self.length >= self._max_waiting:
            self._metrics.add("mtaw_rejected_total", "overloaded")
            raise unavailable("overloaded", f"{self._max_waiting} requests are waiting already; try again")

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer the first request that is not too late, together with those behind it that make a batch with it."""
        first = self._next()
        if first is not None:
            group = self._group(first)
            now = perf_counter()
            waited = [now - request.since for request in group]
            try:
                if first.batched is not None and len(group) > 1:
                    payloads = [request.batched.payload for request in group if request.batched is not None]
                    results = first.batched.work(payloads, waited)
                else:
                    results = [first.work(waited[0])]
                for request, result in zip(group, results, strict=True):
                    request.outcome.set_result(result)
            except Exception as error:  # each request of the batch gets it
                for request in group:
                    if not request.outcome.done():
                        request.outcome.set_exception(error)
        self._working = bool(self._waiting)
        if self._working:
            loop.call_soon(self._turn, loop)

    def _next(self) -> _Waiting | None:
        """Take the first request that is not too late from the queue."""
        while self._waiting:
            request = self._waiting.popleft()
            if request.outcome.done():
                continue  # its client has gone
            if perf_counter() - request.since <= self._deadline:
                return request
            self._metrics.add("mtaw_rejected_total", "deadline_passed")
            request.outcome.set_exception(_too_late(self._deadline))
        return None

    def _group(self, first: _Waiting) -> list[_Waiting]:
        """Return the first request with those behind it that make a batch with it; they leave the queue."""
        if first.batched is None or len(self._waiting) + 1 < _FEWEST:
            return [first]
        key, count = first.batched.key, 0
        for request in self._waiting:
            if (
                request.batched is None
                or request.batched.key != key
                or request.outcome.done()
                or count + 1 >= self._micro_batch
            ):
                break
            count += 1
        if count + 1 < _FEWEST:
            return [first]
        return [first, *(self._waiting.popleft() for _ in range(count))]

    def close(self) -> None:
        """End the thread; work that it has not begun is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _too_late(deadline: float) -> ServiceError:
    return unavailable("deadline_passed", f"not answered within {deadline * 1000:.0f} ms; try again, or ask for less")
