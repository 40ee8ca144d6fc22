"""Checks of a service's answers: against float64, and against the ranking of the bundle version they name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.agreement import ranking_error
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.ranking.encoders import make_encoder
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.snapshot import current_version

_BLOCK = 1 << 16  # items
_CELLS = 1 << 24  # exact scores in memory at once: sessions x catalog
_VERSION = re.compile(rb"\r\nx-bundle-version:\s*(\S+)\s*\r\n", re.IGNORECASE)
_TOLERANCE = 4e-6  # of cosines: two encoders in float32


@dataclass(frozen=True, slots=True)
class Answer:
    """One response. version, header_version: the bundle version in the body and in the header."""

    items: list[Any]
    scores: list[float]
    version: str
    header_version: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of a check.

    error: why an answer is wrong, or None. checked: number of answers checked. recall, recall_error: mean share of the
    exact top k in the answers, ties included, and its standard error.
    """

    error: str | None
    checked: int
    recall: float
    recall_error: float


def parse_answer(response: bytes) -> Answer:
    """Return the answer in the bytes of a whole response of `POST /v1/recommend`."""
    head, _, body = response.partition(b"\r\n\r\n")
    header = _VERSION.search(head + b"\r\n")
    answer = json.loads(body)
    return Answer(answer["items"], answer["scores"], answer["version"], header[1].decode() if header else "")


def check_sample(folder: Path, sessions: Sessions, answers: Mapping[int, Answer], k: int, exact: bool) -> Verdict:
    """Compare answers with the whole catalog scored in float64 by the numpy encoder: no native code, no index.

    answers: by the number of their session. exact: the k items must be the exact ones up to ties. Otherwise any k items
    are valid, with their exact scores in descending order, and the recall is computed.
    """
    bundle = Bundle.load(folder, verify=False)
    encoder, scale = make_encoder("numpy", bundle), bundle.config.model.scale
    tie = _TOLERANCE * scale
    numbers = np.array(sorted(answers))
    recalls: list[float] = []
    step = max(1, _CELLS // bundle.n_items)
    for begin in range(0, len(numbers), step):
        block = numbers[begin : begin + step]
        truth = _true_logits(bundle, encoder.encode(sessions.select(block)).astype(np.float64))
        for row, number in zip(truth, block.tolist(), strict=True):
            answer = answers[number]
            ids = bundle.ids.lookup(answer.items)[None]
            scores = np.array([answer.scores])
            if ids.shape[1] != min(k, bundle.n_items):
                return Verdict(f"session {number}: {ids.shape[1]} items, not {k}", len(recalls), 0.0, 0.0)
            among = np.sort(ids[0])
            error = ranking_error(ids, scores, row[None], tie) if exact else _order_error(ids, scores, row, among, tie)
            if error is not None:
                return Verdict(error.replace("session 0", f"session {number}"), len(recalls), 0.0, 0.0)
            kth_score = np.partition(row, -ids.shape[1])[-ids.shape[1]]
            recalls.append(float((row[ids[0]] >= kth_score - tie).mean()))
    spread = float(np.std(recalls) / np.sqrt(len(recalls))) if recalls else 0.0
    return Verdict(None, len(recalls), float(np.mean(recalls)) if recalls else 0.0, spread)


def _order_error(ids: np.ndarray, scores: np.ndarray, row: np.ndarray, among: np.ndarray, tie: float) -> str | None:
    """Apply `ranking_error` to the catalog of the answered items."""
    if among[0] < 0:
        return "session 0: ids outside the catalog"
    return ranking_error(np.searchsorted(among, ids), scores, row[None, among], tie)


def _true_logits(bundle: Bundle, queries: np.ndarray) -> np.ndarray:
    """Return scale * cos of unit queries float64[B, d] with the catalog's unit vectors: float64[B, N]."""
    logits = np.empty((len(queries), bundle.n_items))
    for begin in range(0, bundle.n_items, _BLOCK):
        block = bundle.item_vectors[begin : begin + _BLOCK].astype(np.float64)
        logits[:, begin : begin + _BLOCK] = bundle.config.model.scale * (queries @ block.T)
    return logits


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
