"""The phases of a training: their order and their purpose."""

from __future__ import annotations

from collections.abc import Mapping

from mtaw_fast.config import Config

EXPLAINED: Mapping[str, str] = {
    "slice": "the encoder without the last sessions (ranker_fraction), so that the ranker is trained on sessions that "
    "the encoder has not seen",
    "ranker": "the ranker of the session memory on the last sessions: first its dataset (every click is ranked, then "
    "learned), then its epochs over that",
    "search": "the encoder on all sessions except the validation ones; without a session memory each epoch is measured "
    "on these, and the best one is chosen",
    "validate": "encoder, memory and ranker together on the validation sessions, and the importance of each feature of "
    "the ranker",
    "slice-refit": "'slice' again, with the validation sessions",
    "ranker-refit": "'ranker' again, with the validation sessions",
    "refit": "'search' again, with the validation sessions, for the number of epochs found",
}


def phases_of(config: Config, refit: bool) -> tuple[str, ...]:
    """Return the phases of a training in order: 'full' has seven, 'paper' two.

    Without `refit` there are no refit phases, and with dense_candidates=0 no 'slice'.
    """
    encoder = ("slice",) if config.memory.enabled and config.memory.dense_candidates > 0 else ()
    ranker = ("ranker",) if config.memory.enabled else ()
    validate = ("validate",) if config.memory.enabled else ()
    refit_phases = (*(f"{phase}-refit" for phase in (*encoder, *ranker)), "refit")
    return (*encoder, *ranker, "search", *validate, *(refit_phases if refit else ()))
