"""A thread that flushes a file to disk, so that the threads that write it never wait for the disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from mtaw_fast.system import host

FLUSH_SECONDS = 0.02
RETRY_SECONDS = 1.0  # after a failed flush, if nothing is written meanwhile
_LOG = logging.getLogger("mtaw_fast.online")


class Flusher:
    """Flushes a file, and the files before it, about 20 ms after a write. Thread-safe.

    It alone closes the files it was given, so that no file is closed during its flush. name: for a log line.

    failure: why the last flush failed. The flush is retried until one succeeds. The kernel may have dropped what it
    could not write and does not report it again, so a success covers only what is written from then on.
    """

    def __init__(self, name: str, file: int) -> None:
        self._name, self._file = name, file
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._dirty.set()
        self._left: list[int] = []
        self._closed = False
        self.failure: str | None = None
        self._thread = host.loop(self._run(), "mtaw-fsync")
        self._thread.start()

    def follow(self, file: int) -> None:
        """Flush this descriptor from now on; flush the one before once more and close it."""
        with self._lock:
            self._left.append(self._file)
            self._file = file
        self._dirty.set()

    def written(self) -> None:
        """Note that the file was written."""
        self._dirty.set()

    def close(self) -> None:
        """Flush and close every file, and end the thread; a failure is logged."""
        self._closed = True
        self._dirty.set()
        self._thread.join()
        with self._lock:
            if self._file >= 0:
                self._left.append(self._file)
            self._file = -1
        self._flush()

    def _run(self) -> host.Waits:
        while not self._closed:
            yield self._dirty, RETRY_SECONDS if self.failure else None
            if not self._closed:
                yield threading.Event(), FLUSH_SECONDS
            self._dirty.clear()
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            file, leftover, self._left = self._file, self._left, []
        failures = [_failure(host.fdatasync, descriptor) for descriptor in [*leftover, file] if descriptor >= 0]
        # close may report a failed write too, on a network disk
        failures += [_failure(host.close, descriptor) for descriptor in leftover]
        failure = next(filter(None, failures), None)
        if failure and not self.failure:  # logged once per outage
            _LOG.error(
                "cannot flush %s: %s; appends fail until a flush succeeds, and a power loss may lose events that were "
                "acknowledged since the last flush; check the disk", self._name, failure,
            )  # fmt: skip
        self.failure = failure


def _failure(call: Callable[[int], None], file: int) -> str | None:
    try:
        call(file)
    except OSError as error:
        return error.strerror or str(error)
    return None
