"""Brings what was written to the disk, away from the threads that write: they never wait for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

FLUSH_SECONDS = 0.02
RETRY_SECONDS = 1.0  # after a flush that failed, where nothing is written meanwhile
_LOG = logging.getLogger("mtaw_fast.online")


class Flusher:
    """A thread that flushes one file, and files before it, some 20 ms after something was written. Thread-safe.

    It alone closes the files that it was given, so that none is closed while it is flushed.

    Parameters
    ----------
    name : str
        What the files are, for the log line about a flush that failed.

    Attributes
    ----------
    failure : str | None
        Why the last flush failed. It is tried again until one succeeds; a system may have dropped by then what it
        could not write, and then says nothing of it, so that a success means what is written from then on.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._file = -1
        self._left: list[int] = []
        self._closed = False
        self.failure: str | None = None
        self._thread = threading.Thread(target=self._flush_for_ever, name="mtaw-fsync", daemon=True)
        self._thread.start()

    def follow(self, file: int) -> None:
        """Flush this descriptor from now on; the one before is flushed once more and closed."""
        with self._lock:
            if self._file >= 0:
                self._left.append(self._file)
            self._file = file
        self._dirty.set()

    def written(self) -> None:
        """Something was written to the file."""
        self._dirty.set()

    def close(self) -> None:
        """Flush and close every file, and end the thread; what fails then is logged."""
        self._closed = True
        self._dirty.set()
        self._thread.join()
        with self._lock:
            if self._file >= 0:
                self._left.append(self._file)
            self._file = -1
        self._flush()

    def _flush_for_ever(self) -> None:
        while not self._closed:
            self._dirty.wait(RETRY_SECONDS if self.failure else None)
            if not self._closed:
                threading.Event().wait(FLUSH_SECONDS)
            self._dirty.clear()
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            file, left, self._left = self._file, self._left, []
        failures = [_failure(os.fdatasync, one) for one in [*left, file] if one >= 0]
        failures += [_failure(os.close, one) for one in left]  # which may tell of a write, too, on a network's disk
        failure = next(filter(None, failures), None)
        if failure and not self.failure:  # said once, until it is over
            _LOG.error(
                "cannot flush %s: %s; nothing more is kept until that succeeds, and what was acknowledged since the "
                "flush before may be lost with the machine's power; see to its disk", self._name, failure,
            )  # fmt: skip
        self.failure = failure


def _failure(call: Callable[[int], None], file: int) -> str | None:
    try:
        call(file)
    except OSError as error:
        return error.strerror or str(error)
    return None
