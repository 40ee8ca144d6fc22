"""Brings what was written to the disk, away from the threads that write: they never wait for it."""

from __future__ import annotations

import contextlib
import os
import threading

FLUSH_SECONDS = 0.02


class Flusher:
    """A thread that flushes one file, and files before it, some 20 ms after something was written. Thread-safe.

    It alone closes the files that it was given, so that none is closed while it is flushed.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dirty = threading.Event()
        self._file = -1
        self._left: list[int] = []
        self._closed = False
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
        """Flush and close every file, and end the thread."""
        self._closed = True
        self._dirty.set()
        self._thread.join()
        self._flush()
        with self._lock:
            if self._file >= 0:
                os.close(self._file)
            self._file = -1

    def _flush_for_ever(self) -> None:
        while not self._closed:
            self._dirty.wait()
            if not self._closed:
                threading.Event().wait(FLUSH_SECONDS)
            self._dirty.clear()
            self._flush()

    def _flush(self) -> None:
        with self._lock:
            file, left, self._left = self._file, self._left, []
        for one in [*left, file]:
            with contextlib.suppress(OSError):  # the next append meets the same disk and says so
                os.fdatasync(one)
        for one in left:
            os.close(one)
