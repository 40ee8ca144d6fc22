"""The bundles that a worker serves, and which of them answers whom."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from itertools import accumulate

from mtaw_fast.service.reload import Reloader

_DIGEST = 8  # bytes of a hash
_PERSON = b"mtaw_fast.share"


def place_of(session: str) -> float:
    """Where a session's id lies in 0 <= x < 1: evenly spread, and the same in every process, on every machine."""
    text = session.encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(text, digest_size=_DIGEST, person=_PERSON).digest()
    return (int.from_bytes(digest, "big") >> 11) / (1 << 53)  # as many bits as a float holds: 1 is never reached


class Bundles:
    """One bundle, or several side by side.

    Parameters
    ----------
    reloaders : sequence of Reloader
        One a bundle.
    weights : sequence of float
        How much of the sessions each is to answer, relative to the others; by default the first has all.
    """

    def __init__(self, reloaders: Sequence[Reloader], weights: Sequence[float] = ()) -> None:
        self._reloaders = list(reloaders)
        self.first = self._reloaders[0]
        total = sum(weights)
        self.shares = [weight / total for weight in weights] or [1.0]
        self._ends = [end / total for end in accumulate(weights)][:-1]  # of all but the last, whose end is 1

    def __len__(self) -> int:
        return len(self._reloaders)

    def __iter__(self) -> Iterator[Reloader]:
        return iter(self._reloaders)

    def of(self, session: str | None) -> Reloader:
        """The one that answers a session, by its id; the first where the session has none.

        The same for as long as the weights are; of two, a session only ever moves to the bundle whose weight grew.
        """
        if session is None or not self._ends:
            return self.first
        place = place_of(session)
        return self._reloaders[sum(end <= place for end in self._ends)]
