"""Where requests wait for the processor: a bounded queue, served in order, one ranking a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from time import perf_counter
from typing import Any, TypeVar

from mtaw_fast.service.http.problems import ServiceError, unavailable
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Limits

T = TypeVar("T")

_FEWEST = 2  # requests that are worked on together: a scan reads the catalog once for two or three


@dataclass(frozen=True, slots=True)
class Joint:
    """How a request can be worked on together with others that wait.

    key: those with the same one can. payload: what this one brings. work: from all payloads, and the seconds that each
    has waited, to a result each.
    """

    key: tuple[Any, ...]
    payload: Any
    work: Callable[[list[Any], list[float]], list[Any]]


@dataclass(slots=True)
class _Waiting:
    since: float
    work: Callable[[float], Any]
    joint: Joint | None
    outcome: asyncio.Future[Any]


class RequestQueue:
    """A worker's queue. Short work runs on the event loop itself, long work in one thread beside it.

    Between two rankings the loop looks at its sockets, so that the queue is what waits, and not the network: the
    newest request is refused at once where it is full, and one that has waited for too long is not worked on any more.
    Where several at its head can be worked on together, they are: so the longer it gets, the faster it moves.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._most, self._deadline, self._metrics = limits.queue, limits.deadline, metrics
        self._micro_batch = limits.micro_batch
        self._waiting: deque[_Waiting] = deque()
        self._working = False
        self._aside = 0
        self._thread = ThreadPoolExecutor(1, "aside")

    @property
    def length(self) -> int:
        """How many requests are in the queue or being worked on aside."""
        return len(self._waiting) + self._aside

    async def run(self, work: Callable[[float], T], joint: Joint | None = None) -> T:
        """The result of short `work`, which is told how many seconds it has waited, or its part of `joint` work.

        Raises ServiceError where the queue is full, or the deadline passed in it.
        """
        self._admit()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Waiting(perf_counter(), work, joint, outcome))
        if not self._working:
            self._working = True
            loop.call_soon(self._turn, loop)
        return await outcome

    async def run_aside(self, work: Callable[[float, Callable[[], None]], T]) -> T:
        """The result of long `work`, from the thread; errors as `run`.

        `work` is told how many seconds it has waited, and gets a function to call now and then, which raises
        ServiceError once the deadline has passed.
        """
        self._admit()
        since = perf_counter()

        def check() -> None:
            if perf_counter() - since > self._deadline:
                raise _too_late(self._deadline)

        def start() -> T:
            check()
            return work(perf_counter() - since, check)

        self._aside += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, start)
        except ServiceError as problem:
            if problem.code == "deadline_passed":
                self._metrics.add("mtaw_rejected_total", "deadline_passed")
            raise
        finally:
            self._aside -= 1

    def _admit(self) -> None:
        if self.length >= self._most:
            self._metrics.add("mtaw_rejected_total", "overloaded")
            raise unavailable("overloaded", f"{self._most} requests wait already; try again")

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answer the first request that is still worth it, and those behind it that go together with it."""
        first = self._next()
        if first is not None:
            group = self._group(first)
            now = perf_counter()
            waited = [now - one.since for one in group]
            try:
                if first.joint is not None and len(group) > 1:
                    payloads = [one.joint.payload for one in group if one.joint is not None]
                    results = first.joint.work(payloads, waited)
                else:
                    results = [first.work(waited[0])]
                for one, result in zip(group, results, strict=True):
                    one.outcome.set_result(result)
            except Exception as error:  # it belongs to the requests, not to the queue
                for one in group:
                    if not one.outcome.done():
                        one.outcome.set_exception(error)
        self._working = bool(self._waiting)
        if self._working:
            loop.call_soon(self._turn, loop)

    def _next(self) -> _Waiting | None:
        """Take the first request that is still worth it from the queue."""
        while self._waiting:
            one = self._waiting.popleft()
            if one.outcome.done():
                continue  # its client's connection was given up
            if perf_counter() - one.since <= self._deadline:
                return one
            self._metrics.add("mtaw_rejected_total", "deadline_passed")
            one.outcome.set_exception(_too_late(self._deadline))
        return None

    def _group(self, first: _Waiting) -> list[_Waiting]:
        """The first request, with those behind it that it is faster to work on together. All leave the queue."""
        if first.joint is None or len(self._waiting) + 1 < _FEWEST:
            return [first]
        key, count = first.joint.key, 0
        for one in self._waiting:
            if one.joint is None or one.joint.key != key or one.outcome.done() or count + 1 >= self._micro_batch:
                break
            count += 1
        if count + 1 < _FEWEST:
            return [first]
        return [first, *(self._waiting.popleft() for _ in range(count))]

    def close(self) -> None:
        """Let the thread end; what it still has to do is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _too_late(deadline: float) -> ServiceError:
    return unavailable("deadline_passed", f"not answered within {deadline * 1000:.0f} ms; try again, or ask for less")
