"""What tests of a changing item table compare."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.storage.tensor_file import write_tensors
from tests.support.online.recommenders import N, answers, drawn

SESSIONS = [*drawn(1, 12), ["nobody knows"]]


def everything(rec: Recommender) -> list[Any]:
    """Return every kind of ranking, scores to the bit."""
    similar = [rec.similar_items(f"sku-{i}", k=N, by=by) for i in (1, 7) for by in ("vectors", "sessions")]
    batch = rec.recommend_batch(SESSIONS, k=N)
    ids, scores = rec.rank(Sessions.from_lists([[1, 2], [], [5]]), N)
    visit = rec.session(["sku-1", "sku-2"]).recommend(k=N) if rec.learner is None else []
    return [
        answers(rec, SESSIONS), [(out.items, out.scores.tobytes()) for out in [*similar, *batch]], ids.tobytes(),
        scores.tobytes(), visit and (visit.items, visit.scores.tobytes()), rec.n_items,
    ]  # fmt: skip


def shown(rec: Recommender) -> set[Any]:
    """Return all items that any ranking has."""
    items = {item for out in rec.recommend_batch(SESSIONS, k=2 * N) for item in out.items}
    for by in ("vectors", "sessions"):
        items |= set(rec.similar_items("sku-1", k=2 * N, by=by).items) | set(rec.similar_items("sku-2", k=2 * N).items)
    ids, _ = rec.rank(Sessions.from_lists([[1, 2], [], [5]]), 2 * N)
    return items | set(rec.ids.external(np.unique(ids[ids >= 0])))


def put_table(folder: Path, table: ItemTable) -> None:
    """Give a bundle another item table."""

    def write(path: Path) -> None:
        write_tensors(path, table.arrays())

    manifest = dict(Bundle.load(folder).manifest)
    replace_parts(folder, manifest, {"item_table": Addition("safetensors", write)}, {})
