"""Searches of many threads on a device that takes one call at a time: those that wait go together in the next call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

Found = tuple[np.ndarray, np.ndarray]


class _Asked:
    """What one caller waits for. Whoever sets `ready` has given it `found`, an `error`, or the `lead`."""

    __slots__ = ("error", "fetch", "found", "lead", "queries", "ready")

    def __init__(self, queries: np.ndarray, fetch: int) -> None:
        self.queries, self.fetch = queries, fetch
        self.ready = threading.Event()
        self.found: Found | None = None
        self.error: Exception | None = None
        self.lead = False


class SharedCalls:
    """Calls of `search` for any number of threads, one at a time, each for all that wait for the same `fetch`.

    A caller that finds the device idle searches at once, on its own thread; there is no thread and no delay beside it.
    Callers that come meanwhile wait, and the first of them searches for all when the device is free: one pass over the
    catalog for the group, where a lock would make a pass for each. No lock is held while a search runs.

    Parameters
    ----------
    search : callable
        (queries float32[B, d], fetch) to (dots float32[B, fetch], ids int64[B, fetch]); a row may not depend on the
        others. It is never called by two threads at a time.
    most : int
        Queries of one call, at most.
    """

    def __init__(self, search: Callable[[np.ndarray, int], Found], most: int) -> None:
        self._search, self._most = search, most
        self._lock = threading.Lock()
        self._waiting: deque[_Asked] = deque()
        self._busy = False  # somebody leads, or was told to

    def search(self, queries: np.ndarray, fetch: int) -> Found:
        """Both results of `search` for float32[B, d], B >= 1, in calls of `most` queries at most.

        A long batch gives way between its calls to whoever waits. Raises what `search` raised; so does every caller
        whose queries were in that call.
        """
        cuts = range(0, len(queries), self._most)
        parts = [self._one(_Asked(queries[cut : cut + self._most], fetch)) for cut in cuts]
        return (
            parts[0]
            if len(parts) == 1
            else (np.concatenate([a for a, _ in parts]), np.concatenate([b for _, b in parts]))
        )

    def _one(self, asked: _Asked) -> Found:
        with self._lock:
            self._waiting.append(asked)
            asked.lead, self._busy = not self._busy, True
        if not asked.lead:
            try:
                asked.ready.wait()
            except BaseException:  # Ctrl-C: nobody may wait for a leader that has left
                self._leave(asked)
                raise
        if asked.lead:
            self._run()
        if asked.error is not None:
            raise asked.error
        assert asked.found is not None
        return asked.found

    def _run(self) -> None:
        """One call for the first of those that wait, the caller itself, and for all that can go with it."""
        group = self._group()
        try:
            queries = group[0].queries if len(group) == 1 else np.concatenate([asked.queries for asked in group])
            dots, ids = self._search(queries, group[0].fetch)
            begin = 0
            for asked in group:
                end = begin + len(asked.queries)
                asked.found = dots[begin:end], ids[begin:end]
                begin = end
        except Exception as error:
            for asked in group:
                asked.error = error
        except BaseException:  # Ctrl-C ends the leader alone: the others wait on
            with self._lock:
                self._waiting.extendleft(reversed(group[1:]))
            del group[1:]
            raise
        finally:
            for asked in group[1:]:
                asked.ready.set()
            self._hand_over()

    def _group(self) -> list[_Asked]:
        """Take out the first that waits and, in their order, those of the same `fetch` that fit into its call."""
        with self._lock:
            first = self._waiting.popleft()
            group, rows, left = [first], len(first.queries), deque[_Asked]()
            for asked in self._waiting:
                if asked.fetch == first.fetch and rows + len(asked.queries) <= self._most:
                    group.append(asked)
                    rows += len(asked.queries)
                else:
                    left.append(asked)
            self._waiting = left
        return group

    def _hand_over(self) -> None:
        """Let the first that waits lead, or nobody."""
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting[0].lead = True
                self._waiting[0].ready.set()

    def _leave(self, asked: _Asked) -> None:
        with self._lock:
            if asked in self._waiting:
                self._waiting.remove(asked)
        if asked.lead:
            self._hand_over()
