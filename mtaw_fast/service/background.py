"""Slow work of a worker beside its event loop, in threads that do not keep the process alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_YIELDING = 5  # niceness of work that can wait


async def in_background(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own that yields the processor to requests where they compete for it."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        with contextlib.suppress(OSError, AttributeError):  # niceness of a single thread is Linux's own
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _YIELDING)
        try:
            result = work()
        except BaseException as error:  # handed to whoever waits, whatever it is
            failure = error
            _hand_over(loop, outcome, lambda: outcome.set_exception(failure))
        else:
            _hand_over(loop, outcome, lambda: outcome.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await outcome


def _hand_over(loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T], settle: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if outcome.done() else settle())
