"""Failures of a switch to a compacted bundle: when to try again, and items that would change their internal ids."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mtaw_fast.errors import LearnError, shown
from mtaw_fast.online.compaction.current import Signature
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.system import host

RETRY_SECONDS, MAX_RETRY_SECONDS = 1.0, 600.0  # of switching to a bundle, which is read and verified as a whole


@dataclass(frozen=True, slots=True)
class SwitchFailure:
    """Why a switch to the bundle of a signature failed. pause: seconds until the next try, which is at `until`."""

    signature: Signature
    message: str
    pause: float
    until: float

    @classmethod
    def after(cls, before: SwitchFailure | None, signature: Signature, message: str) -> SwitchFailure:
        """Return the failure after `before`; the pause doubles for the same bundle."""
        pause = RETRY_SECONDS
        if before is not None and before.signature == signature:
            pause = min(2 * before.pause, MAX_RETRY_SECONDS)
        return cls(signature, message, pause, host.monotonic() + pause)

    def is_over(self, signature: Signature) -> bool:
        """Return whether to try a bundle now."""
        return signature != self.signature or host.monotonic() >= self.until


class MovedItemsError(LearnError):
    """Items have other internal ids than those that sessions and filters hold."""


def check_internal_ids(served: OnlineState, fresh: OnlineState) -> None:
    """Raise MovedItemsError if a new item has another internal id than the one that sessions and filters hold.

    This happens if a compacted bundle was lost and built again from a log that had lost the first click on some item,
    or if the switch to a bundle failed for a while and the log was redacted meanwhile.
    """
    learned, new_items = served.model.log_progress, served.event_processor.items.new_items
    untrained = np.empty(0, dtype=np.int32) if learned is None else learned.untrained
    items = [*served.model.ids.external(untrained), *new_items.ids]
    internal_ids = np.concatenate([untrained, np.arange(len(new_items)) + served.model.n_items])
    moved = np.flatnonzero(fresh.event_processor.items.internal_ids_of(items) != internal_ids).tolist()
    if moved:
        raise MovedItemsError(
            f"{len(moved)} items have other internal ids in the compacted bundle than in the one that is served, "
            f"{shown(items[moved[0]])} among them; load it again to serve it"
        )
