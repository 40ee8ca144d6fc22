"""Searches of many threads on a device that takes one call at a time: waiting threads share the next call."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

import numpy as np

Found = tuple[np.ndarray, np.ndarray]


class _Request:
    """The request of one caller. Before `ready` is set it gets `found`, an `error`, or the `lead`."""

    __slots__ = ("error", "fetch", "found", "lead", "queries", "ready")

    def __init__(self, queries: np.ndarray, fetch: int) -> None:
        self.queries, self.fetch = queries, fetch
        self.ready = threading.Event()
        self.found: Found | None = None
        self.error: Exception | None = None
        self.lead = False


class SharedCalls:
    """Call `search` for any number of threads, one call at a time, each for all that wait with the same `fetch`.

    A caller that finds the device idle searches at once on its own thread. Callers that come during a search wait; the
    first of them then searches for all of them. That is one pass over the catalog for the group, where a lock would
    need one for each. There is no lock during a search, and no extra thread or delay.

    Parameters
    ----------
    search : callable
        (queries float32[B, d], fetch) to (dots float32[B, fetch], ids int64[B, fetch]); a row may not depend on the
        others. Two threads never call it at the same time.
    max_rows : int
        The largest number of queries in one call.
    """

    def __init__(self, search: Callable[[np.ndarray, int], Found], max_rows: int) -> None:
        self._search, self._max_rows = search, max_rows
        self._lock = threading.Lock()
        self._waiting: deque[_Request] = deque()
        self._busy = False  # a caller leads, or is about to

    def search(self, queries: np.ndarray, fetch: int) -> Found:
        """Return both results of `search` for float32[B, d], B >= 1, in calls of at most `max_rows` queries.

        A long batch lets other callers go first between its calls. An error of `search` is raised in every caller whose
        queries were in that call.
        """
        cuts = range(0, len(queries), self._max_rows)
        parts = [self._result_of(_Request(queries[cut : cut + self._max_rows], fetch)) for cut in cuts]
        if len(parts) == 1:
            return parts[0]
        return np.concatenate([first for first, _ in parts]), np.concatenate([second for _, second in parts])

    def _result_of(self, request: _Request) -> Found:
        with self._lock:
            self._waiting.append(request)
            request.lead, self._busy = not self._busy, True
        if not request.lead:
            try:
                request.ready.wait()
            except BaseException:  # Ctrl-C: no caller may wait for a leader that has left
                self._leave(request)
                raise
        if request.lead:
            self._run()
        if request.error is not None:
            raise request.error
        assert request.found is not None
        return request.found

    def _run(self) -> None:
        """Search for the first that waits, the caller itself, and for all that fit into its call."""
        group = self._group()
        try:
            queries = group[0].queries if len(group) == 1 else np.concatenate([request.queries for request in group])
            dots, ids = self._search(queries, group[0].fetch)
            begin = 0
            for request in group:
                end = begin + len(request.queries)
                request.found = dots[begin:end], ids[begin:end]
                begin = end
        except Exception as error:
            for request in group:
                request.error = error
        except BaseException:  # Ctrl-C ends the leader alone: the others keep waiting
            with self._lock:
                self._waiting.extendleft(reversed(group[1:]))
            del group[1:]
            raise
        finally:
            for request in group[1:]:
                request.ready.set()
            self._hand_over()

    def _group(self) -> list[_Request]:
        """Remove the first that waits and, in their order, those with the same `fetch` that fit into its call."""
        with self._lock:
            first = self._waiting.popleft()
            group, rows, remaining = [first], len(first.queries), deque[_Request]()
            for request in self._waiting:
                if request.fetch == first.fetch and rows + len(request.queries) <= self._max_rows:
                    group.append(request)
                    rows += len(request.queries)
                else:
                    remaining.append(request)
            self._waiting = remaining
        return group

    def _hand_over(self) -> None:
        """Let the first that waits lead, if there is one."""
        with self._lock:
            self._busy = bool(self._waiting)
            if self._busy:
                self._waiting[0].lead = True
                self._waiting[0].ready.set()

    def _leave(self, request: _Request) -> None:
        with self._lock:
            if request in self._waiting:
                self._waiting.remove(request)
        if request.lead:
            self._hand_over()
