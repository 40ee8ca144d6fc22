"""The placements of a shop, as they are kept with the item table: their rule sets, with history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

MAX_REVISIONS = 16  # that a placement keeps, the oldest dropped first


class Revision(NamedTuple):
    """What a placement was once set to. number: from 1. time: Unix milliseconds. content: see `rules.placement`."""

    number: int
    time: int
    content: Mapping[str, Any]


Placements = Mapping[str, tuple[Revision, ...]]  # the revisions of each placement, the last of them in force


def placements_after(kept: Placements, name: str, content: Mapping[str, Any] | None, time: int) -> Placements:
    """Return the placements after one is set to something, or removed with its history (None)."""
    if content is None:
        return {other: revisions for other, revisions in kept.items() if other != name}
    earlier = kept.get(name, ())
    if any((revision.time, revision.content) == (time, content) for revision in earlier):
        return kept  # the same event again
    number = earlier[-1].number + 1 if earlier else 1
    return {**kept, name: (*earlier, Revision(number, time, content))[-MAX_REVISIONS:]}
