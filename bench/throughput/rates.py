"""Calls a second: `recommend` from several threads of one process, and from several processes on one bundle."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.harness.comparison import Case, Contender, Plan
from mtaw_fast.errors import MtawError
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
def threads(recommender: Recommender, load: Load, workers: int) -> Iterator[Burst]:
    """Yield how to run a burst on every worker, threads of this process that share its Recommender."""
    start = threading.Barrier(workers)

    def work(number: int) -> list[Any]:
        start.wait()  # so that no thread takes two of the jobs
        return load.run(recommender, number)

    with ThreadPoolExecutor(workers) as pool:
        yield lambda: list(pool.map(work, range(workers)))


@contextmanager
def processes(recommender: Recommender, load: Load, workers: int) -> Iterator[Burst]:
    """Yield how to run a burst on every worker, processes that have the bundle mapped."""
    context = multiprocessing.get_context("spawn")
    names = recommender.bundle.folder, recommender.encoder.name, recommender.index.name
    pipes: list[Connection] = []
    started = []
    for number in range(workers):
        own_pipe, child_pipe = context.Pipe()
        process = context.Process(target=_serve, args=(child_pipe, *names, load, number), daemon=True)
        process.start()
        child_pipe.close()
        pipes.append(own_pipe)
        started.append(process)
    try:
        for pipe in pipes:
            pipe.recv()
    except EOFError:
        raise MtawError("a worker process ended before it was ready; see its error above") from None

    def burst() -> list[list[Any]]:
        for pipe in pipes:
            pipe.send(True)
        return [pipe.recv() for pipe in pipes]

    try:
        yield burst
    finally:
        for pipe, process in zip(pipes, started, strict=True):
            pipe.send(False)
            pipe.close()
            process.join()


def _serve(pipe: Connection, folder: Path, encoder: str, index: str, load: Load, number: int) -> None:
    recommender = Recommender.load(folder, encoder, index, verify=False)
    pipe.send(True)
    while pipe.recv():
        pipe.send(load.run(recommender, number))


def rate_case(
    burst: Burst, by: str, workers: int, recommender: Recommender, load: Load, params: dict[str, Any], plan: Plan
) -> Case:
    """Return the case that times a burst on all workers. Its answers must equal those of a single worker."""

    def check(contender: Contender) -> str | None:
        expected = [load.run(recommender, number) for number in range(workers)]
        return None if contender.run(0) == expected else f"{workers} {by} give other answers than one"

    params = {**params, "workers": workers, "by": by, "calls": workers * load.calls}
    return Case("recommend-rate", params, "burst_ms", Contender("ours", lambda _: burst()), [], check, plan)
