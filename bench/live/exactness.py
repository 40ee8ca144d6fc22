"""How exact a learning service is between compactions: its rankings, against those of a rebuild from the same clicks.

    python -m bench.live.exactness shop.dataset shop.bundle --clicks 10000,120000

The sessions that had ended before the last clicks of the data set become tables. The first of these clicks are learned
one by one, and everything is also built from scratch. Both rank sessions that come after all of them (`later`), and
learned sessions with one more click (`longer`). A session that equals a learned one counts as the session that asks, so
that its own clicks are no evidence: no rebuild does that, and it is not compared.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
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
class Ranking:
    """A session memory to rank with, and trends if the model was trained with times."""

    memory: SessionMemory
    trends: Trends | None

    def rank(self, model: Model, query_sessions: Sessions, now: int) -> np.ndarray:
        """Return the K best items of each of Q sessions at the time `now` (Unix ms): int32[Q, K]."""
        assert model.ranker_net is not None
        count = len(query_sessions)
        moment = None
        if self.trends is not None:
            times = np.full(len(query_sessions.items), now - 5000, np.int64)
            moment = Moment(self.trends, np.full(count, now, np.int64), times)
        ranges = query_sessions.items.copy(), query_sessions.offsets[:-1].copy(), query_sessions.offsets[1:].copy()
        return self.memory.rank(model.ranker_net.native(), *ranges, K, moment=moment)[0]


def compare(dataset: Dataset, model: Model, n_clicks: int, most_clicks: int) -> dict[str, tuple[float, int]]:
    """Return the share of positions with the same item and the number of rankings, by kind of session.

    most_clicks: that are left out of the tables. Raises UsageError if the data set has no times, or too few clicks.
    """
    sessions = dataset.train
    if sessions.times is None or most_clicks >= len(sessions.items) // 2:
        raise UsageError("the data set needs times, and more than twice as many clicks as are learned")
    last = sessions.times[sessions.offsets[1:] - 1]
    order = np.argsort(last, kind="stable")
    sessions, last = sessions.select(order), last[order]
    assert sessions.times is not None
    n_later = len(sessions.items) // 20
    begin = np.sort(sessions.times)[-(most_clicks + n_later)]
    n_past = int(np.searchsorted(last, begin))
    past, rest = sessions.slice(0, n_past), sessions.slice(n_past, len(sessions))
    assert past.times is not None
    assert rest.times is not None
    by_time, handles_by_click = np.argsort(rest.times, kind="stable"), np.repeat(np.arange(len(rest)), rest.lengths)
    first_clicks = by_time[:n_clicks]
    handles = handles_by_click[first_clicks]
    items, times = rest.items[first_clicks].copy(), rest.times[first_clicks].copy()
    now = int(times[-1]) + 1000

    tables = MemoryTables.build(past, model.n_items, memory_settings(model.config))
    tables = replace(tables, settings=replace(tables.settings, once_from=n_past))  # as learned sessions are counted
    delta = MemoryDelta(tables.arrays(), tables.settings.native, capacity=0)
    trends = _trends(model, past, past.times, n_past, once=True)
    for start in range(0, n_clicks, _PORTION):
        portion = slice(start, start + _PORTION)
        delta.click(handles[portion], items[portion])
        if trends is not None:
            trends.click(handles[portion], items[portion], times[portion])
    kept_handles, kept_items, offsets = delta.ordered()
    learned = Sessions(kept_items, offsets)
    by_session = np.argsort(np.argsort(kept_handles)[np.searchsorted(np.sort(kept_handles), handles)], kind="stable")
    rank_settings = query_settings(model.config, model.trends is not None)
    live = Ranking(tables.queries(delta.n_catalog, rank_settings, delta=delta), trends)
    updated = tables.update(learned)
    all_times = np.concatenate([past.times, times[by_session]])
    rebuilt = Ranking(
        updated.queries(model.n_items, rank_settings), _trends(model, updated.sessions, all_times, n_past)
    )

    known = {clicks.tobytes() for clicks in learned}
    started = np.zeros(len(rest), dtype=bool)
    started[handles_by_click[by_time[:most_clicks]]] = True
    later = [clicks[: max(1, len(clicks) - 1)] for clicks in rest.select(np.flatnonzero(~started)[: 3 * _ASKED])]
    later = [clicks for clicks in later if clicks.tobytes() not in known][:_ASKED]
    numbers = np.random.default_rng(0).choice(len(learned), min(_ASKED, len(learned)), replace=False)
    longer = [np.append(learned[i], later[row % len(later)][0]) for row, i in enumerate(numbers.tolist())]
    longer = [clicks for clicks in longer if clicks.tobytes() not in known]
    shares = {}
    for name, lists in (("later", later), ("longer", longer)):
        packed = Sessions.from_lists(lists)
        same = live.rank(model, packed, now) == rebuilt.rank(model, packed, now)
        shares[name] = float(same.mean()), len(lists)
    return shares


def _trends(model: Model, sessions: Sessions, times: np.ndarray, n_past: int, **options: bool) -> Trends | None:
    """Return trends of sessions with the model's settings; None without trends."""
    if model.trends is None:
        return None
    tables = TrendTables.build(sessions, times, model.n_items, model.trends.settings, once_from=n_past)
    return tables.live(model.n_items, **options)


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m bench.live.exactness", description=__doc__)
    parser.add_argument("dataset", type=Path, help="made by 'prepare', with times")
    parser.add_argument("bundle", type=Path, help="trained on it: its ranker ranks")
    parser.add_argument("--clicks", default="30000", help="numbers of clicks that are learned (default: 30000)")
    options = parser.parse_args()
    model = Bundle.load(options.bundle).model
    dataset, numbers = Dataset.load(options.dataset), [int(number) for number in options.clicks.split(",")]
    for n_clicks in numbers:
        for name, (share, count) in compare(dataset, model, n_clicks, max(numbers)).items():
            print(f"{n_clicks} clicks, {name}: {100 * (1 - share):.2f}% of the top-{K} ranks differ, {count} rankings")


if __name__ == "__main__":
    main()
