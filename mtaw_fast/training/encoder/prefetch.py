"""Make batches in a thread while the device works on earlier ones."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")
_POLL_SECONDS = 0.1  # how soon a waiting thread notices that the consumer has stopped


def made_ahead(make: Callable[[Given], Made], givens: Sequence[Given], ahead: int) -> Iterator[tuple[Given, Made]]:
    """Yield (given, make(given)) for each, in order.

    make: called in order from one thread. ahead: how many may be ready in addition to the one that is being made. 0
    makes each on request, in the caller's thread.
    Raises what `make` raised, when its result is requested; nothing is made after it.
    """
    if ahead == 0:
        yield from ((given, make(given)) for given in givens)
        return
    ready: queue.Queue[tuple[Made | None, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def put(result: tuple[Made | None, BaseException | None]) -> None:
        while not stopped.is_set():
            try:
                ready.put(result, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def work() -> None:
        for given in givens:
            if stopped.is_set():
                return
            try:
                result = make(given), None
            except BaseException as error:
                put((None, error))
                return
            put(result)

    thread = threading.Thread(target=work, name="batches", daemon=True)
    thread.start()
    try:
        for given in givens:
            made, error = ready.get()
            if error is not None:
                raise error
            yield given, made  # type: ignore[misc]  # without an error it was made
    finally:
        stopped.set()
        thread.join()
