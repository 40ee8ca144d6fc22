"""Calls a second: `recommend` from several threads of one process, and from several processes on one bundle."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.harness.comparison import Case, Contender, Plan, Timing
from mtaw_fast.errors import MtawError
from mtaw_fast.recommender import Recommender


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


class Threads(AbstractContextManager["Threads"]):
    """Workers that are threads of this process and share its Recommender."""

    def __init__(self, recommender: Recommender, load: Load, workers: int) -> None:
        self._recommender, self._load, self._workers = recommender, load, workers
        self._pool = ThreadPoolExecutor(workers)
        self._start = threading.Barrier(workers)

    def run(self, _: int) -> list[list[Any]]:
        """Run a burst on every worker; return the last answer of each."""
        jobs = [self._pool.submit(self._work, number) for number in range(self._workers)]
        return [job.result() for job in jobs]

    def _work(self, number: int) -> list[Any]:
        self._start.wait()  # so that no thread takes two of the jobs
        return self._load.run(self._recommender, number)

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()


class Processes(AbstractContextManager["Processes"]):
    """Workers that are processes, each with the bundle mapped."""

    def __init__(self, recommender: Recommender, load: Load, workers: int) -> None:
        context = multiprocessing.get_context("spawn")
        names = recommender.bundle.folder, recommender.encoder.name, recommender.index.name
        self._pipes: list[Connection] = []
        self._processes = []
        for number in range(workers):
            own_pipe, child_pipe = context.Pipe()
            process = context.Process(target=_serve, args=(child_pipe, *names, load, number), daemon=True)
            process.start()
            child_pipe.close()
            self._pipes.append(own_pipe)
            self._processes.append(process)
        try:
            for pipe in self._pipes:
                pipe.recv()
        except EOFError:
            raise MtawError("a worker process ended before it was ready; see its error above") from None

    def run(self, _: int) -> list[list[Any]]:
        """Run a burst on every worker; return the last answer of each."""
        for pipe in self._pipes:
            pipe.send(True)
        return [pipe.recv() for pipe in self._pipes]

    def __exit__(self, *_: object) -> None:
        for pipe in self._pipes:
            pipe.send(False)
            pipe.close()
        for process in self._processes:
            process.join()


def _serve(pipe: Connection, folder: Path, encoder: str, index: str, load: Load, number: int) -> None:
    recommender = Recommender.load(folder, encoder, index, verify=False)
    pipe.send(True)
    while pipe.recv():
        pipe.send(load.run(recommender, number))


def rate_case(
    work_queue: Threads | Processes,
    workers: int,
    recommender: Recommender,
    load: Load,
    params: dict[str, Any],
    plan: Plan,
) -> Case:
    """Return the case that times a burst on all workers. Its answers must equal those of a single worker."""
    kind = type(work_queue).__name__.lower()

    def check(contender: Contender) -> str | None:
        expected = [load.run(recommender, number) for number in range(workers)]
        return None if contender.run(0) == expected else f"{workers} {kind} give other answers than one"

    params = {**params, "workers": workers, "by": kind, "calls": workers * load.calls}
    return Case("recommend-rate", params, "burst_ms", Contender("ours", work_queue.run), [], check, plan)


def calls_a_second(case: Case, timing: Timing) -> float:
    """Return the calls a second of the median burst."""
    return case.params["calls"] / timing.median
