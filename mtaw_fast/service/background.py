"""Slow work of a worker, in threads that leave its event loop free and do not keep the process alive."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_NICENESS = 5


async def in_background(work: Callable[[], T]) -> T:
    """Run `work` in a thread of its own, at a lower priority than requests; return its result or raise its error."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        with contextlib.suppress(OSError, AttributeError):  # only Linux has a niceness of single threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        try:
            result = work()
        except BaseException as error:  # whatever it is, the caller gets it
            failure = error
            _deliver(loop, outcome, lambda: outcome.set_exception(failure))
        else:
            _deliver(loop, outcome, lambda: outcome.set_result(result))

    threading.Thread(target=run, daemon=True).start()
    return await outcome


def _deliver(loop: asyncio.AbstractEventLoop, outcome: asyncio.Future[T], settle: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
        loop.call_soon_threadsafe(lambda: None if outcome.done() else settle())
