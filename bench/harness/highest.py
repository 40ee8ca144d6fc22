"""The highest value of a figure while a piece of work runs, by a thread that looks again and again."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def highest(look: Callable[[], int], seconds: float) -> Iterator[list[int]]:
    """Look before, during and after the work; the thread ends with the work, however that ends.

    Parameters
    ----------
    look : callable
        Gives the figure.
    seconds : float
        Between two looks.

    Yields
    ------
    list of int
        The highest value so far, alone.
    """
    found, over = [look()], threading.Event()

    def watch() -> None:
        while not over.wait(seconds):
            found[0] = max(found[0], look())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        over.set()
        watcher.join()
    found[0] = max(found[0], look())
