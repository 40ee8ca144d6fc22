"""The answer of `/metrics`: however often it is asked for, it is built once in a while, and not on the event loop."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable

from mtaw_fast.service.resources import in_background


class MetricsPage:
    """The metrics of all workers as text.

    gauge: updates this worker's gauges, on the event loop. build: returns the text. interval: seconds that it is kept.
    """

    def __init__(self, gauge: Callable[[], None], build: Callable[[], str], interval: float) -> None:
        self._gauge, self._build, self._interval = gauge, build, interval
        self._body, self._built_at = b"", -math.inf
        self._building = asyncio.Lock()

    async def body(self) -> bytes:
        """Return the text, at most `interval` seconds old."""
        async with self._building:
            if time.monotonic() - self._built_at >= self._interval:
                self._gauge()
                text = await in_background(self._build)
                self._body, self._built_at = text.encode(errors="replace"), time.monotonic()  # folders may not be UTF-8
            return self._body
