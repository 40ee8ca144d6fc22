"""How exact a learning service is between compactions: its rankings, against those of a rebuild from the same clicks.

    python -m bench.live.exactness shop.dataset shop.bundle --clicks 30000

The sessions that had ended before the last clicks of the data set become tables. The last clicks are learned one by
one, and everything is also built from scratch. Both rank sessions that come later (`later`), and learned sessions with
one more click (`longer`): these touch what was just learned. A session that equals a learned one counts as the session
that asks, so that its own clicks are no evidence: no rebuild does that, and it is not compared.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import Moment, SessionMemory
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import memory_settings, query_settings
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model

K = 20
_ASKED = 1500
_PORTION = 1000  # clicks that are learned at once


@dataclass(frozen=True, slots=True)
class Side:
    """What ranks: a memory, and trends if the model was trained with times."""

    memory: SessionMemory
    trends: Trends | None

    def rank(self, model: Model, asked: Sessions, now: int) -> np.ndarray:
        """Return int32[Q, K]."""
        assert model.ranker_net is not None
        count = len(asked)
        moment = None
        if self.trends is not None:
            times = np.full(len(asked.items), now - 5000, np.int64)
            moment = Moment(self.trends, np.full(count, now, np.int64), times)
        ranges = asked.items.copy(), asked.offsets[:-1].copy(), asked.offsets[1:].copy()
        return self.memory.rank(model.ranker_net.native(), *ranges, K, moment=moment)[0]


def compare(dataset: Dataset, model: Model, n_clicks: int) -> dict[str, tuple[float, int]]:
    """Return the share of equal places and the number of rankings, by kind of session.

    Raises UsageError if the data set has no times, or too few clicks.
    """
    sessions = dataset.train
    if sessions.times is None or n_clicks >= len(sessions.items) // 2:
        raise UsageError("the data set needs times, and more than twice as many clicks as are learned")
    last = sessions.times[sessions.offsets[1:] - 1]
    order = np.argsort(last, kind="stable")
    sessions, last = sessions.select(order), last[order]
    assert sessions.times is not None
    n_later = len(sessions.items) // 20
    begin = np.sort(sessions.times)[-(n_clicks + n_later)]
    n_past = int(np.searchsorted(last, begin))
    past, rest = sessions.slice(0, n_past), sessions.slice(n_past, len(sessions))
    assert past.times is not None
    assert rest.times is not None
    taken = np.argsort(rest.times, kind="stable")[:n_clicks]
    handles = np.repeat(np.arange(len(rest)), rest.lengths)[taken]
    items, times = rest.items[taken].copy(), rest.times[taken].copy()
    now = int(times[-1]) + 1000

    tables = MemoryTables.build(past, model.n_items, memory_settings(model.config))
    chosen = tables.settings
    assert chosen.recency is not None
    delta = MemoryDelta(
        tables.arrays(), window=chosen.window, span=chosen.span, recency=chosen.recency,
        max_neighbors=chosen.max_neighbors, max_postings=chosen.max_postings, capacity=0,
    )  # fmt: skip
    trends = _trends(model, past, past.times)
    for at in range(0, n_clicks, _PORTION):
        some = slice(at, at + _PORTION)
        delta.click(handles[some], items[some])
        if trends is not None:
            trends.click(handles[some], items[some], times[some])
    kept, kept_items, offsets = delta.ordered()
    learned = Sessions(kept_items, offsets)
    by_session = np.argsort(np.argsort(kept)[np.searchsorted(np.sort(kept), handles)], kind="stable")
    asked = query_settings(model.config, model.trends is not None)
    live = Side(tables.queries(delta.n_catalog, asked, delta=delta), trends)
    whole = tables.update(learned)
    all_times = np.concatenate([past.times, times[by_session]])
    rebuilt = Side(whole.queries(model.n_items, asked), _trends(model, whole.sessions, all_times))

    known = {one.tobytes() for one in learned}
    started = np.zeros(len(rest), dtype=bool)
    started[kept] = True
    later = [one[: max(1, len(one) - 1)] for one in rest.select(np.flatnonzero(~started)[: 3 * _ASKED])]
    later = [one for one in later if one.tobytes() not in known][:_ASKED]
    drawn = np.random.default_rng(0).choice(len(learned), min(_ASKED, len(learned)), replace=False)
    longer = [np.append(learned[i], later[place % len(later)][0]) for place, i in enumerate(drawn.tolist())]
    longer = [one for one in longer if one.tobytes() not in known]
    found = {}
    for name, lists in (("later", later), ("longer", longer)):
        packed = Sessions.from_lists(lists)
        same = live.rank(model, packed, now) == rebuilt.rank(model, packed, now)
        found[name] = float(same.mean()), len(lists)
    return found


def _trends(model: Model, sessions: Sessions, times: np.ndarray) -> Trends | None:
    """Return trends of sessions with the model's settings; None without trends."""
    if model.trends is None:
        return None
    return TrendTables.build(sessions, times, model.n_items, model.trends.settings).live(model.n_items)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.live.exactness", description=__doc__)
    parser.add_argument("dataset", type=Path, help="made by 'prepare', with times")
    parser.add_argument("bundle", type=Path, help="trained on it: its ranker ranks")
    parser.add_argument("--clicks", type=int, default=30_000, help="that are learned (default: 30000)")
    options = parser.parse_args()
    model = Bundle.load(options.bundle).model
    for name, (share, count) in compare(Dataset.load(options.dataset), model, options.clicks).items():
        print(f"{name}: {100 * (1 - share):.2f}% of the top-{K} places differ, {count} rankings")


if __name__ == "__main__":
    main()
