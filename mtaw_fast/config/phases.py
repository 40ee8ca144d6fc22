"""The phases of a training: their order, and what each is for."""

from __future__ import annotations

from collections.abc import Mapping

from mtaw_fast.config import Config

EXPLAINED: Mapping[str, str] = {
    "slice": "the encoder on the sessions before the last ones (the slice: ranker_fraction of all), so that it has not "
    "seen what it is asked about next",
    "ranker": "the ranker of the session memory on the slice: first lessons (every next click of the slice is asked "
    "for, then learned), then its own epochs over them",
    "search": "the encoder on all sessions but the validation ones; without a session memory each epoch is scored on "
    "these, and the best one is chosen",
    "validate": "encoder, memory and ranker together on the validation sessions, and what each feature of the ranker "
    "is worth there",
    "slice-refit": "'slice' once more, the validation sessions included",
    "ranker-refit": "'ranker' once more, the validation sessions included",
    "refit": "'search' once more, the validation sessions included, for the epochs that are known now",
}


def phases_of(config: Config, refit: bool) -> tuple[str, ...]:
    """The phases of a training, in order: 'full' has seven, 'paper' two.

    Without `refit` the last ones are left out, and without the encoder's candidates (dense_candidates=0) its slice.
    """
    encoder = (
        ("slice",) if config.memory.enabled and config.memory.dense_candidates > 0 else ()
    )  # whether the ranker hears of it
    ranker = ("ranker",) if config.memory.enabled else ()
    validate = ("validate",) if config.memory.enabled else ()
    again = (*(f"{phase}-refit" for phase in (*encoder, *ranker)), "refit")
    return (*encoder, *ranker, "search", *validate, *(again if refit else ()))
