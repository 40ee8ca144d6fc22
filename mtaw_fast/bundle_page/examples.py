"""Example sessions: their clicks, what came next, and what is recommended, with reasons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtaw_fast.assessment.inputs import rankable_by
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples
from mtaw_fast.evaluation.seen import may_know
from mtaw_fast.ranking.answer import Reason, Recommendations
from mtaw_fast.recommender import Recommender

_K = 10
_FAR = 100  # larger ranks are not searched
_TITLES, _IMAGES = ("title", "name"), ("image", "image_url")
_CLICKS = 12  # of a session that are shown, the latest


def examples_of(recommender: Recommender, dataset: Dataset | None, count: int) -> dict[str, Any]:
    """Return the examples and a sentence about their sessions.

    They are test samples of the data set, evenly spread; without one, the last sessions of the bundle's memory.
    """
    if dataset is not None and len(dataset.test):
        chosen, samples, ids = _spread(dataset.test, count), dataset.test, dataset.ids
        seen = "which training has not seen"
        if may_know(recommender.bundle, dataset, samples):
            seen = "which the bundle may have seen in another training or in logs"
        text = f"Test sessions, {seen}, spread evenly."
        rankable = rankable_by(recommender, samples, dataset).prefixes
    else:
        sessions = recommender.bundle.model.sessions
        sessions = sessions.slice(max(0, len(sessions) - 20 * count), len(sessions))
        samples, ids = Samples.from_sessions(sessions, 1), recommender.bundle.ids
        since = "" if recommender.bundle.model.log_progress is None else " and of logs since"
        text = f"Sessions of the training{since}: the memory has them, and what came next."
        chosen, rankable = _spread(samples, count), samples.prefixes
    # With the times, types and context of the clicks, as an evaluation ranks them.
    rankings = recommender.recommend_batch(rankable.select(chosen), k=_FAR, reasons=True)
    examples = []
    for sample, ranking in zip(chosen.tolist(), rankings, strict=True):
        clicks = ids.external(samples.prefixes[sample])
        target = ids.external(samples.targets[sample : sample + 1])[0]
        examples.append(_example(list(clicks), target, ranking, _Looks(recommender)))
    return {"text": text, "shown": examples}


class _Looks:
    """The titles and pictures of items, from the columns of the item table that are called so."""

    def __init__(self, recommender: Recommender) -> None:
        self._ids, self._table = recommender.ids, recommender.items
        self._title, self._image = self._column(_TITLES), self._column(_IMAGES)

    def _column(self, names: Sequence[str]) -> str | None:
        return next((name for name in names if self._table is not None and name in self._table), None)

    def of(self, items: Sequence[Any]) -> list[dict[str, str]]:
        """Return for each item its id, its title (else the id) and its image (else an empty text)."""
        looks = [{"id": str(item), "title": str(item), "image": ""} for item in items]
        for key, column in (("title", self._title), ("image", self._image)):
            if column is not None and self._table is not None:
                for look, value in zip(looks, self._table[column].values_at(self._ids.lookup(items)), strict=True):
                    if value is not None and (key == "title" or str(value).startswith(("https://", "http://"))):
                        look[key] = str(value)
        return looks


def _spread(samples: Samples, count: int) -> np.ndarray:
    """Return the indices of `count` samples, evenly spread over the sessions, with the longest prefix of each."""
    if not len(samples):
        return np.empty(0, dtype=np.int64)
    order = np.lexsort((samples.prefixes.lengths, samples.session))
    is_last = np.append(samples.session[order][1:] != samples.session[order][:-1], True)
    longest = np.sort(order[is_last])
    longest = longest[samples.prefixes.lengths[longest] > 1] if (samples.prefixes.lengths > 1).any() else longest
    return (
        longest[np.unique(np.linspace(0, len(longest) - 1, count).round().astype(np.int64))] if count else longest[:0]
    )


def _example(clicks: list[Any], target: Any, ranking: Recommendations, looks: _Looks) -> dict[str, Any]:
    items = list(ranking.items)
    rank = items.index(target) + 1 if target in items else None
    reasons: Sequence[Reason | None] = ranking.reasons or [None] * len(items)
    rows = [
        {"item": look, "score": f"{score:.2f}", "reason": _words(reason), "hit": item == target}
        for item, look, score, reason in zip(
            items[:_K], looks.of(items[:_K]), ranking.scores[:_K], reasons[:_K], strict=True
        )
    ]
    return {
        "clicks": looks.of(clicks[-_CLICKS:]),
        "left_out": max(0, len(clicks) - _CLICKS),
        "target": looks.of([target])[0],
        "rank": f"rank {rank}" if rank else f"not among the first {_FAR}",
        "hit": rank is not None and rank <= _K,
        "rows": rows,
        "fallback": ranking.fallback,
    }


def _words(reason: Reason | None) -> str:
    if reason is None:
        return "is popular or rising"
    if reason.kind == "session":
        return "is in the session"
    if reason.kind == "together":
        return f"occurs in past sessions with {', '.join(map(str, reason.items))}"
    return "is near the session's vector"
