"""What one ranking went through: the candidates, where they came from, and the ranker's view of each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtaw_fast.kernels.native.memory_query import QuerySettings
from mtaw_fast.ranking.why.explanation import Source


class Trace:
    """The arrays of `engine.trace` (`kernels.native.rank`), by item. settings: None without a session memory."""

    def __init__(self, arrays: Mapping[str, Any], settings: QuerySettings | None) -> None:
        self._arrays, self._settings = arrays, settings
        self.has_memory = settings is not None
        self.list: np.ndarray = arrays["list"][0]
        self.list_scores: np.ndarray = arrays["list"][1]
        self._dense: np.ndarray = arrays["dense"][0] if self.has_memory else self.list
        self._slots = {item: slot for slot, item in enumerate(arrays["items"].tolist())}
        self._ranked = {item: row for row, item in enumerate(arrays["ranked"].tolist())}
        self.features: np.ndarray = (
            arrays["features"].reshape(len(self._ranked), -1) if self._ranked else np.empty((0, 0))
        )
        others = np.arange(len(self._slots)) >= arrays["n_own"]
        self._others = np.flatnonzero(others & arrays["is_allowed"])

    @property
    def n_ranked(self) -> int:
        """How many candidates got the ranker's score."""
        return len(self._ranked)

    def row(self, item: int) -> int | None:
        """Return a candidate's row of `features`; None if it did not get the ranker's score."""
        return self._ranked.get(item)

    def is_candidate(self, item: int) -> bool:
        """Return whether an item is a candidate of the session memory."""
        slot = self._slots.get(item)
        return slot is not None and bool(self._arrays["is_candidate"][slot])

    def quick(self, item: int) -> tuple[float, float]:
        """Return the quick score of a candidate that was not ranked, and the least of those that were by it."""
        quick: np.ndarray = self._arrays["quick"]
        ranked = [slot for slot in self._others.tolist() if int(self._arrays["items"][slot]) in self._ranked]
        kept = np.sort(quick[ranked])[::-1][: self._settings.ranked if self._settings else None]
        return float(quick[self._slots[item]]), float(kept[-1])

    def sources(self, item: int) -> list[Source]:
        """Return where an item was looked for as a candidate."""
        dense = np.flatnonzero(self._dense == item)
        dense_rank = int(dense[0]) + 1 if len(dense) else None
        if self._settings is None:
            return [
                Source("encoder", dense_rank, len(self._dense), _ranked_text("the encoder's list", dense_rank, None))
            ]
        settings, sources = self._settings, list[Source]()
        slot = self._slots.get(item)
        if slot is not None and slot < self._arrays["n_own"]:
            sources.append(Source("session", slot + 1, settings.own, f"in the session: {_nth(slot + 1)} latest item"))
        else:
            rank = None if slot is None else self._rank_together(slot)
            text = _ranked_text("what is clicked together with the session's items", rank, settings.others)
            sources.append(Source("together", rank, settings.others, text))
        if settings.dense:
            text = _ranked_text("the encoder's list", dense_rank, settings.dense)
            sources.append(Source("encoder", dense_rank, settings.dense, text))
        if settings.trends:
            rising = slot is not None and self._arrays["trending"][slot] > 0
            rank = self._rank_by("trending", slot) if rising and slot is not None else None
            count = int(np.count_nonzero(self._arrays["trending"] > 0))
            sources.append(Source("trends", rank, count, _ranked_text("what is clicked lately", rank, count)))
        return sources

    def _rank_together(self, slot: int) -> int | None:
        """Return the place of a pool item by past sessions; None if it shares none."""
        arrays = self._arrays
        if not arrays["is_allowed"][slot] or (arrays["together"][slot] == 0 and arrays["second"][slot] == 0):
            return None
        values, items = arrays["together"][self._others], arrays["items"][self._others]
        own = arrays["together"][slot]
        return 1 + int(np.count_nonzero((values > own) | ((values == own) & (items < arrays["items"][slot]))))

    def _rank_by(self, name: str, slot: int) -> int:
        return 1 + int(np.count_nonzero(self._arrays[name] > self._arrays[name][slot]))


def _nth(number: int) -> str:
    suffix = "th" if number % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{suffix}"


def _ranked_text(name: str, rank: int | None, most: int | None) -> str:
    if rank is None:
        return f"{name}: it is not there"
    if most is None:
        return f"{name}: {_nth(rank)}"
    taken = f"the first {most:,} are candidates"
    return f"{name}: {_nth(rank)}; {taken}"


nth = _nth
