"""The cost of a delta per recommendation: tables alone against tables with a delta, on one shop, interleaved."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.harness.comparison import Case, Contender, Plan
from bench.live.inputs import ALL, Shop, external, make_shop, portions, queries, strangers, stream, with_memory
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MtawError
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender

K = 20
AGREEMENT = 0.999  # target share of top-20 positions with the same item
# A defect gives far less (tables alone give a quarter). A little is lost if an item has more neighbors than its row in
# the tables holds: a pair that was cut there starts in the delta without its past.
MIN_OVERLAP = 0.99
# With times: rising items are listed at every tenth second of the events, in a rebuild at the last of them.
MIN_OVERLAP_TIMED = 0.95
# A delta rounds its sums to bf16 after adding to a base that was rounded before. A score of a few scaled features moves
# by up to this, so that closer scores may come in either order.
ROUNDING = 0.02
_ASKED = 1000
_PORTION = 1000  # events per append
_PATIENCE = 600.0


@dataclass(frozen=True, slots=True)
class Agreement:
    """Shares of the top-20 positions with the same item as a rebuild: `strict`, and up to `ROUNDING`."""

    strict: float
    up_to_rounding: float

    @classmethod
    def of(cls, live: Recommender, rebuilt: Recommender, query_sessions: Sessions) -> Agreement:
        """Compare the answers of two recommenders."""
        (items, scores), (rebuilt_items, rebuilt_scores) = live.rank(query_sessions, K), rebuilt.rank(query_sessions, K)
        same = items == rebuilt_items
        return cls(float(same.mean()), float((same | (np.abs(scores - rebuilt_scores) <= ROUNDING)).mean()))


class Learned:
    """A shop's recommender that has learned some events, and one with the tables alone.

    timed: whether the past has times, so that the recommenders have trends.
    """

    def __init__(
        self, n_items: int, past_clicks: int, n_events: int, folder: Path, threads: int = 1, *, timed: bool = True
    ) -> None:
        shop = make_shop(n_items, past_clicks, n_events + 20 * _ASKED, threads=threads, timed=timed)
        events = stream(shop.later, n_events)
        self._at = int(events.times[-1]) if timed else None
        self._min_overlap = MIN_OVERLAP_TIMED if timed else MIN_OVERLAP
        bundle = shop.saved(folder / "bundle")
        self.alone = Recommender.load(bundle, verify=False)
        settings = LearningSettings(folder / "learned", compact=False, limits=ALL)
        self.live = Recommender.load(bundle, learn=settings, verify=False)
        learner = self.live.learner
        assert learner is not None
        for portion in portions(events.clicks(), _PORTION):
            learner.append(portion)
        self._await(n_events)
        # Sessions that nothing was learned from.
        unseen = shop.later.slice(int(events.handles.max()) + 1, len(shop.later))
        self.query_sessions = queries(unseen, _ASKED)
        self.agreement = self._agreement(shop, events.ordered(), folder, threads)
        self.delta_bytes = learner.state.delta.n_bytes

    def _await(self, n_events: int) -> None:
        assert self.live.learner is not None
        event_processor, deadline = self.live.learner.state.event_processor, time.monotonic() + _PATIENCE
        while event_processor.learned_clicks + event_processor.tracker.refused.total() < n_events:
            if time.monotonic() > deadline:
                raise MtawError(
                    f"{event_processor.learned_clicks} of {n_events} events were learned in {_PATIENCE:g} s"
                )
            time.sleep(0.05)
        if event_processor.learned_clicks != n_events:
            raise MtawError(
                f"{event_processor.learned_clicks} of {n_events} events were learned: "
                f"{dict(event_processor.tracker.refused)}"
            )

    def _agreement(self, shop: Shop, learned: Sessions, folder: Path, threads: int) -> Agreement:
        assert shop.model.memory is not None
        sessions = Sessions.concatenate([shop.model.sessions, learned])
        bundle = Shop(with_memory(shop.model, sessions, threads), shop.later).saved(folder / "rebuilt")
        return Agreement.of(self.live, Recommender.load(bundle, verify=False), strangers(self.query_sessions, learned))

    def case(self, params: dict[str, int], plan: Plan) -> Case:
        """Return the case of one recommendation; a ratio > 1 would mean that the delta costs nothing."""
        sessions = external(self.query_sessions)

        def contender(name: str, one: Recommender) -> Contender:
            return Contender(name, lambda number: one.recommend(sessions[number % len(sessions)], K, at=self._at))

        return Case(
            name="recommend-added",
            params={**params, "k": K, "threads": 1},
            metric="latency_us",
            ours=contender("base-and-delta", self.live),
            baselines=[contender("base-alone", self.alone)],
            check=self._check,
            plan=plan,
        )

    def _check(self, contender: Contender) -> str | None:
        if contender.name == "base-alone" or self.agreement.strict >= self._min_overlap:
            return None
        return (
            f"{self.agreement.strict:.2%} of the top-{K} ranks are as in a rebuild, {self._min_overlap:.0%} are needed"
        )
