"""A small model with a session memory, events for it, and what recommenders that learn or keep them answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle, Model
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.items import ItemTable
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click, Event
from mtaw_fast.storage.tensor_file import write_tensors
from tests.support.random_bundle import bundle_parts, memory_parts

N, D = 40, 8
NOON = 1_764_150_000_000
HOUR = 3_600_000
_WEIGHTS = {"pre": 1.0, "own": 2.0, "ses_dec": 0.5, "rec_dec": 0.5, "clicks": 0.1, "logit": 0.05}
_TREND_WEIGHTS = {"t_pre": 0.5, "t_last": -0.05, "t_first": -0.02, "t_fwd_last_1": 0.1, "t_later_3": 0.1}


def model_fields(n_items: int = N, embedding_dim: int = D, **settings: Any) -> dict[str, Any]:
    """Return the arguments of `Model.of` for a random model; settings as in `bundle_parts`."""
    fields = bundle_parts(n_items=n_items, embedding_dim=embedding_dim, **settings)
    del fields["metrics"], fields["dataset"]
    return fields


def plain_ranker(trends: bool = False, weigh_trends: bool = False, others: Sequence[str] = ()) -> RankerNet:
    """Return a ranker with the main features of a trained one; a random one would amplify rounding.

    trends: with those of trends, which count for nothing unless `weigh_trends`. others: names of the features after
    them, which count for nothing.
    """
    names = (*feature_names(trends=trends), *others)
    arrays = {name: np.zeros_like(array) for name, array in memory_parts()["ranker_net"].arrays().items()}
    for name in ("mean", "scale", "linear", "w1"):
        arrays[name] = np.zeros((len(names), *arrays[name].shape[1:]), np.float32)
    arrays["scale"] += 1
    for name, weight in (_WEIGHTS | (_TREND_WEIGHTS if weigh_trends else {})).items():
        arrays["linear"][names.index(name)] = weight
    return RankerNet(features=names, **arrays)


def parts(seed: int = 3) -> Model:
    """Return a random model whose memory holds far more sessions than the tests add, as in production."""
    rng = np.random.default_rng(seed)
    past = Sessions.from_lists([(N * rng.random(rng.integers(2, 9)) ** 3).astype(int) for _ in range(4000)])
    return Model.of(**model_fields(seed=seed), memory=MemoryTables.build(past, N), ranker_net=plain_ranker())


MODEL = parts()


def save(folder: Path, model: Model = MODEL) -> Path:
    """Save a model as a bundle, in place of one that is there."""
    return Bundle.save(folder, model, metrics={}, dataset={"name": "x", "fingerprint": "y"}, overwrite=True).folder


def until_learned(rec: Recommender, position: str, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while rec.log_position is None or rec.log_position < position:
        assert time.monotonic() < deadline, "a click was not learned in time"
        time.sleep(0.005)


def answers(rec: Recommender, sessions: list[list[str]]) -> list[tuple[list[str], bytes]]:
    results = [rec.recommend(session, k=15) for session in sessions]
    return [(result.items, result.scores.tobytes()) for result in results]


def drawn(seed: int, count: int = 60) -> list[list[str]]:
    rng = np.random.default_rng(seed)
    return [[f"sku-{i}" for i in rng.integers(0, N, rng.integers(1, 6))] for _ in range(count)]


def stream(seed: int, sessions: int = 80, new_items: int = 5) -> list[Event]:
    """Return clicks of interleaved sessions, one starting per minute, some on unknown items."""
    rng = np.random.default_rng(seed)
    clicks = []
    for session in range(sessions):
        names = [f"sku-{i}" if i < N else f"new-{i - N}" for i in rng.integers(0, N + new_items, rng.integers(1, 8))]
        for position, name in enumerate(names):
            time = NOON + session * 60_000 + position * int(rng.integers(1_000, 90_000))
            clicks.append(Click(f"s{session}", name, time))
    return sorted(clicks, key=lambda click: click.time)


def entries(events: Sequence[Event]) -> list[LogEntry]:
    return [LogEntry(event, f"{position:010d}-000000000000") for position, event in enumerate(events)]


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
