"""Calls a second: `recommend` from several threads of one process, and from several processes on one bundle."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from mtaw_fast.recommender import Recommender

Burst = Callable[[], list[list[Any]]]


@dataclass(frozen=True, slots=True)
class Load:
    """The work of a worker in a burst: `calls` rankings of k items, over the requests in turn."""

    requests: Sequence[Sequence[Any]]
    k: int
    calls: int

    def run(self, recommender: Recommender, number: int) -> list[Any]:
        """Run the burst of worker `number`; return its last answer."""
        items: list[Any] = []
        for call in range(number * self.calls, (number + 1) * self.calls):
            items = recommender.recommend(self.requests[call % len(self.requests)], self.k).items
        return items


@contextmanager
def bursts(by: str, recommender: Recommender, load: Load, workers: int) -> Iterator[Burst]:
    """Yield how to run a burst on every worker: threads that share a Recommender, or processes that map its bundle."""
    pool: Executor
    work: Callable[[int], list[Any]]
    if by == "threads":
        pool, work = ThreadPoolExecutor(workers), partial(_work, threading.Barrier(workers), recommender, load)
    else:
        context = multiprocessing.get_context("spawn")
        names = recommender.bundle.folder, recommender.encoder.name, recommender.index.name
        pool = ProcessPoolExecutor(workers, context, _open, (context.Barrier(workers), names, load))
        work = _work_here
    with pool:
        list(pool.map(work, range(workers)))
        yield lambda: list(pool.map(work, range(workers)))


def _work(start: Any, recommender: Recommender, load: Load, number: int) -> list[Any]:
    start.wait()  # so that no worker takes two of the jobs
    return load.run(recommender, number)


_WORK: list[Callable[[int], list[Any]]] = []  # of a process


def _open(start: Any, names: Sequence[Any], load: Load) -> None:
    _WORK.append(partial(_work, start, Recommender.load(*names, verify=False), load))


def _work_here(number: int) -> list[Any]:
    return _WORK[0](number)
