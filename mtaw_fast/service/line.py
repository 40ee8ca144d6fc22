"""Where requests wait for the processor: a bounded queue, served in order, one ranking a turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import Any, TypeVar

from mtaw_fast.service.metrics import Metrics
from mtaw_fast.service.problems import ServiceError, unavailable
from mtaw_fast.service.settings import Limits

T = TypeVar("T")


class Line:
    """A worker's queue. Short work runs on the event loop itself, long work in one thread beside it.

    Between two rankings the loop looks at its sockets, so that the queue is what waits, and not the network: the
    newest request is refused at once where it is full, and one that has waited for too long is not worked on any more.
    """

    def __init__(self, limits: Limits, metrics: Metrics) -> None:
        self._most, self._deadline, self._metrics = limits.queue, limits.deadline, metrics
        self._waiting: deque[tuple[float, Callable[[float], Any], asyncio.Future[Any]]] = deque()
        self._serving = False
        self._aside = 0
        self._thread = ThreadPoolExecutor(1, "aside")

    @property
    def length(self) -> int:
        """How many requests are in the queue or being worked on aside."""
        return len(self._waiting) + self._aside

    async def run(self, work: Callable[[float], T]) -> T:
        """The result of short `work`, which is told how many seconds it has waited.

        Raises ServiceError where the queue is full, or the deadline passed in it.
        """
        self._admit()
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[T] = loop.create_future()
        self._waiting.append((perf_counter(), work, outcome))
        if not self._serving:
            self._serving = True
            loop.call_soon(self._turn, loop)
        return await outcome

    async def run_aside(self, work: Callable[[Callable[[], None]], T]) -> T:
        """The result of long `work`, from the thread; errors as `run`.

        `work` gets a function to call now and then, which raises ServiceError once the deadline has passed.
        """
        self._admit()
        since = perf_counter()

        def check() -> None:
            if perf_counter() - since > self._deadline:
                raise _too_late(self._deadline)

        def start() -> T:
            check()
            return work(check)

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
        """Answer the first request that is still worth it."""
        while self._waiting:
            since, work, outcome = self._waiting.popleft()
            waited = perf_counter() - since
            if outcome.done():
                continue  # its client's connection was given up
            if waited > self._deadline:
                self._metrics.add("mtaw_rejected_total", "deadline_passed")
                outcome.set_exception(_too_late(self._deadline))
                continue
            try:
                outcome.set_result(work(waited))
            except Exception as error:  # it belongs to the request, not to the queue
                outcome.set_exception(error)
            break
        self._serving = bool(self._waiting)
        if self._serving:
            loop.call_soon(self._turn, loop)

    def close(self) -> None:
        """Let the thread end; what it still has to do is dropped."""
        self._thread.shutdown(wait=False, cancel_futures=True)


def _too_late(deadline: float) -> ServiceError:
    return unavailable("deadline_passed", f"not answered within {deadline * 1000:.0f} ms; try again, or ask for less")
