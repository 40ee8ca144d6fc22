"""Warn of weights on types whose targets mostly repeat the click before them."""

from __future__ import annotations

import logging

import numpy as np

from mtaw_fast.data.sessions import Sessions

_MAX_REPEAT_SHARE = 0.5  # share of a type's targets; from more on, a warning


def log_weights(sessions: Sessions, type_names: tuple[str, ...], weights: np.ndarray | None) -> None:
    """Warn of each type that weighs more than another and whose targets mostly repeat the last click.

    A target is every click but a session's first. weights: float32[K], by type, or None.
    """
    if weights is None or sessions.types is None:
        return
    is_target = np.ones(sessions.n_clicks, dtype=bool)
    is_target[sessions.offsets[:-1][sessions.lengths > 0]] = False
    targets = np.flatnonzero(is_target)
    types = sessions.types[targets]
    counts = np.bincount(types, minlength=len(type_names))
    repeats = np.bincount(types[sessions.items[targets] == sessions.items[targets - 1]], minlength=len(type_names))
    lowest = weights[counts > 0].min(initial=np.inf)
    for code, name in enumerate(type_names):
        if weights[code] > lowest and repeats[code] > _MAX_REPEAT_SHARE * counts[code]:
            logging.getLogger("mtaw_fast").warning(
                f"{repeats[code] / counts[code]:.0%} of the targets of type {name} repeat the click before them, so "
                "weights on it raise the weighted metrics by that alone: prepare the data set with --merge-types"
            )
