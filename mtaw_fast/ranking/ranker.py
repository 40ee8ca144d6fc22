"""The interface of a ranker of one state of the catalog: for a whole session, a growing one, or many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.ranking.options import Conditions, Options

# Microseconds: (look-up of the clicks, encode, retrieve, session memory or None without one).
Times: TypeAlias = tuple[float, float, float, float | None]

# Microseconds: (encode, retrieve, session memory or None without one).
StageTimes: TypeAlias = tuple[float, float, float | None]

# As the native engine returns it: (items: external ids, best first; scores: float32[len(items)]; unknown: the clicks
# that the catalog does not know, None for a growing session; repeats: bool[len(items)] or None; times: Times). All but
# `unknown` are None if no click is known.
Ranked: TypeAlias = tuple[Any, Any, Any, np.ndarray | None, Any]


class GrowingState(Protocol):
    """A ranker's state of a session between two calls, so that it does not encode the whole session again."""

    @property
    def n_bytes(self) -> int:
        """Bytes of the state."""
        ...


class Ranker(Protocol):
    """Axes: B sessions. Thread-safe. The three methods give the same ranking of the same clicks, to the bit.

    Types of clicks are codes of those that the model's ranker net reads: `Options.types` of a single session,
    `Sessions.types` of many.
    """

    def recommend(self, session: Sequence[Any], options: Options) -> Ranked:
        """Rank for a session of external ids, a list or a tuple."""
        ...

    def recommend_growing(
        self, clicks: np.ndarray, state: GrowingState | None, options: Options
    ) -> tuple[Ranked, GrowingState | None]:
        """Rank for a growing session; also return the `state` of its next call.

        clicks: int32[m], m >= 1, all of its internal ids so far. state: what a ranker returned for its earlier clicks,
        or None; a state of another encoder is ignored. A state belongs to one call at a time and must not be used again
        after a call that raised.
        """
        ...

    def rank(self, sessions: Sessions, k: int, conditions: Conditions) -> tuple[np.ndarray, np.ndarray]:
        """Return (ids int32[B, k], scores float32[B, k]) of sessions of internal ids, none of them empty.

        Best first, padded with -1 / -inf.
        """
        ...

    def rank_timed(
        self, sessions: Sessions, k: int, conditions: Conditions
    ) -> tuple[tuple[np.ndarray, np.ndarray], StageTimes]:
        """Return what `rank` does, and the times of its stages."""
        ...
