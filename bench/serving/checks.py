"""Checks of a service's answers against offline rankings of the bundle version that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.snapshot import current_version

_VERSION = re.compile(rb"\r\nx-bundle-version:\s*(\S+)\s*\r\n", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. version, header_version: the bundle version in the body and in the header."""

    items: list[Any]
    scores: list[float]
    version: str
    header_version: str


def parse_answer(response: bytes) -> Answer:
    """Return the answer in the bytes of a whole response of `POST /v1/recommend`."""
    head, _, body = response.partition(b"\r\n\r\n")
    header = _VERSION.search(head + b"\r\n")
    answer = json.loads(body)
    return Answer(answer["items"], answer["scores"], answer["version"], header[1].decode() if header else "")


class Versions:
    """The rankings of several bundle versions, computed offline: the valid answers of a service that reloads them."""

    def __init__(self, rankings: Mapping[str, tuple[list[list[Any]], np.ndarray]]) -> None:
        self._rankings = rankings

    @classmethod
    def of(cls, folders: Iterable[Path], sessions: Sessions, k: int) -> Versions:
        """Rank every session with every bundle."""
        rankings = {}
        for folder in folders:
            recommender = Recommender.load(folder, verify=False)
            ids, scores = recommender.rank(sessions, k)
            external = recommender.bundle.ids.external(ids.ravel())
            rankings[current_version(folder)] = [external[row * k : row * k + k] for row in range(len(ids))], scores
        return cls(rankings)

    def error(self, number: int, answer: Answer) -> str | None:
        """Return None, or why this is not, to the bit, the answer of the version that it names."""
        if answer.version != answer.header_version:
            return f"session {number}: version {answer.version} in the body, {answer.header_version} in the header"
        if answer.version not in self._rankings:
            return f"session {number}: version {answer.version} was never published"
        items, scores = self._rankings[answer.version]
        if answer.items != items[number]:
            return f"session {number}: its items are not those of version {answer.version}"
        if not np.array_equal(np.array(answer.scores, np.float32), scores[number]):
            return f"session {number}: its scores are not those of version {answer.version}"
        return None


def checked(folder: Path, sessions: Sessions, answers: Mapping[int, Answer], k: int) -> tuple[str | None, float, float]:
    """Compare answers, by the number of their session, with the bundle's own offline rankings.

    Returns why an answer is wrong, or None; the mean share of the exact top k in the answers, ties included; and its
    standard error.
    """
    if not answers:
        return "none of the kept requests was answered; give more --seconds", 0.0, 0.0
    asked = sessions.select(np.array(list(answers), dtype=np.int64))
    versions = Versions.of([folder], asked, k)
    for row, answer in enumerate(answers.values()):
        if (error := versions.error(row, answer)) is not None:
            return error, 0.0, 0.0
    exact = Recommender.load(folder, index="native", verify=False).rank(asked, k)[1]
    scores = np.array([answer.scores for answer in answers.values()], np.float32)
    recalls = (scores >= exact[:, -1:]).mean(axis=1)
    return None, float(recalls.mean()), float(recalls.std() / np.sqrt(len(recalls)))
