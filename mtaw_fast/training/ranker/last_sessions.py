"""The sessions that the ranker learns from: the last ones."""

from __future__ import annotations

import logging

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions

MAX_CLICKS = 10_000_000  # which learning them takes some gigabytes; the ranker's samples are fewer by far


def split_for_ranker(config: Config, sessions: Sessions) -> tuple[Sessions, Sessions]:
    """Split by whole session, in order: (those before, the last `ranker_fraction`, at most `MAX_CLICKS` clicks)."""
    before, last = sessions.split_last(config.ranker.ranker_fraction)
    if last.n_clicks <= MAX_CLICKS:
        return before, last
    boundary = int(np.searchsorted(sessions.offsets, sessions.n_clicks - MAX_CLICKS))
    boundary = min(boundary, len(sessions) - 1)
    return sessions.slice(0, boundary), sessions.slice(boundary, len(sessions))


def warn_if_capped(config: Config, sessions: Sessions) -> None:
    """Log a warning if the ranker learns from fewer sessions than `ranker_fraction` asks for."""
    n_clicks = sessions.split_last(config.ranker.ranker_fraction)[1].n_clicks
    if n_clicks > MAX_CLICKS:
        logging.getLogger("mtaw_fast").warning(
            f"ranker: learns from the last {MAX_CLICKS:,} clicks, since the last {config.ranker.ranker_fraction:g} of "
            f"the sessions (ranker_fraction) have {n_clicks:,}"
        )
