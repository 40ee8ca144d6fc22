"""Rankings of bundles with times are the same bits with any exact index: at any moment, with a delta, new items."""

from __future__ import annotations

import copy
from array import array
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.rank import engine_of
from mtaw_fast.online import learner
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from mtaw_fast.ranking.answer import Recommendations
from mtaw_fast.recommender import Recommender
from tests.support.ranking.context_model import context_model
from tests.support.ranking.native_bundles import answered, assert_same
from tests.support.ranking.timed_model import END, HOUR, N, timed_model
from tests.support.ranking.typed_model import TYPES, typed_model

LATER = [0, 1, END - HOUR, END, END + 1, END + 61_000, END + 7 * 24 * HOUR, 4 * 10**12]
REFERRERS = [None, {"referrer": "mail"}, {"referrer": "search", "region": "north"}, {"region": "never seen"}]
RULES = [None, {"filter": 'category != "c1"', "boost": [{"when": 'category == "c2"', "by": 2.0}], "pin": {"sku-9": 2}}]
CLICK_TYPES = [*TYPES, None, "never seen"]
Pair = tuple[Recommender, Recommender]


MODELS: dict[str, Any] = {
    "few ranked": partial(timed_model, ranked_candidates=5),
    "context": context_model,
    "context and types": typed_model,
}


@pytest.fixture(scope="module", params=list(MODELS))
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("moments") / "bundle"
    Bundle.save(folder, MODELS[request.param](), metrics={}, dataset={})
    return folder


def changed(rec: Recommender, history: str) -> Recommender:
    """Apply the same changes: items by hand, or events."""
    rng = np.random.default_rng(6)
    if history == "items":
        rec.add_items([f"new-{i}" for i in range(9)], vectors=rng.normal(size=(9, 8)).astype(np.float32))
        rec.add_items(["later"], neighbors=[["sku-12", "new-3"]])
        rec.remove_items(["sku-20", "new-1"])
    if history == "learned":
        for visit in range(40):
            items = [f"sku-{i}" for i in rng.integers(0, N + 6, rng.integers(1, 6))]
            times = [END + HOUR + visit * 60_000 + 5_000 * place for place in range(len(items))]
            rec.observe(f"s-{visit}", items, at=times)
        rec.forget("s-3")
        rec.remove_items(["sku-20"])
    return rec


@pytest.fixture(scope="module", params=["plain", "items", "learned"])
def both(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(learner, "_DISPLAYS_SECONDS", float("inf"))  # each would store its displays at moments of its own
    recommenders = []
    for index in ("native", "numpy"):
        learn = None
        if request.param == "learned":
            limits = LearningLimits(min_clicks=1)
            learn = LearningSettings(tmp_path_factory.mktemp("log") / "log", compact=False, limits=limits)
        recommenders.append(changed(Recommender.load(folder, "native", index, learn=learn), request.param))
    yield tuple(recommenders)
    for rec in recommenders:
        rec.close()
    patch.undo()


def named_clicks(rec: Recommender) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from([*rec.ids, "nobody"]), max_size=14)


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_another_index_gives_the_same_bits(both: Pair, data: st.DataObject) -> None:
    native = both[0]
    clicks = data.draw(named_clicks(native))
    k = data.draw(st.integers(1, len(native.ids) + 3))
    options: dict[str, Any] = {"at": data.draw(st.sampled_from(LATER)), "exclude_seen": data.draw(st.booleans())}
    if native.bundle.model.context is not None:
        options |= {"context": data.draw(st.sampled_from(REFERRERS)), "rules": data.draw(st.sampled_from(RULES))}
    if data.draw(st.booleans()):
        options |= {"exclude": clicks[:2], "allow": data.draw(named_clicks(native))}
    types: list[str | None] = [None] * len(clicks)
    if native.click_types:
        types = data.draw(st.lists(st.sampled_from(CLICK_TYPES), min_size=len(clicks), max_size=len(clicks)))
        options |= {"explore": data.draw(st.sampled_from([0.0, 0.3])), "explore_seed": 1}

    def ask(rec: Recommender, how: Any, *arguments: Any, **more: Any) -> Recommendations | None:
        impressions = rec._pipeline.impressions  # what was shown before decides what is explored
        impressions._counts[:], impressions._owed = 0, 0.0
        return answered(how, *arguments, k, **more, **options)

    answers = []
    for rec in both:
        visit = rec.session()
        visit._observe = None  # the clicks of a test are not learned
        visit.click_typed(clicks[: len(clicks) // 2], types[: len(clicks) // 2])
        ask(rec, visit.recommend)
        visit.click_typed(clicks[len(clicks) // 2 :], types[len(clicks) // 2 :])
        batch = {"types": [types, None, types[1:]]}
        answers.append(
            [
                ask(rec, rec.recommend, clicks, types=types),
                ask(rec, rec.recommend_batch, [clicks, clicks[:1], clicks[1:]], **batch),
                ask(rec, visit.recommend),
            ]
        )
    assert_same(*answers)


def test_packed_sessions_are_ranked_after_their_last_clicks(both: Pair) -> None:
    rng = np.random.default_rng(4)
    plain = Sessions.from_lists([rng.integers(0, len(both[0].ids), n) for n in (1, 0, 3, 20, 2, 1)])
    times = END + np.cumsum(rng.integers(0, HOUR, plain.n_clicks)).astype(np.int64)
    codes = rng.integers(0, 4, (plain.n_clicks, 2)).astype(np.uint16)
    types = rng.integers(0, 4, plain.n_clicks).astype(np.uint8)
    packed = Sessions(plain.items, plain.offsets, times, types, codes)
    for k in (1, 30):
        first, second = (rec.rank(packed, k) for rec in both)
        assert [array.tobytes() for array in first] == [array.tobytes() for array in second]
        assert first[1].tobytes() != both[0].rank(plain, k)[1].tobytes()


class TestTypes:
    """Requests with the types of clicks, for a bundle whose ranker reads them and for one that does not."""

    def test_unknown_and_missing_types_are_neutral(self, folder: Path) -> None:
        rec = Recommender.load(folder, "native", "native")
        plain = rec.recommend(["sku-12", "sku-13"], 9, at=END)
        for types in ([None, None], ["odd", None], iter(["never seen", "odd"])):
            assert (
                rec.recommend(["sku-12", "sku-13"], 9, at=END, types=types).scores.tobytes() == plain.scores.tobytes()
            )

    def test_types_go_with_the_clicks_that_are_known(self, folder: Path) -> None:
        rec = Recommender.load(folder, "native", "native")
        known = rec.recommend(["sku-12", "sku-13"], 9, at=END, types=["cart", "view"])
        gaps = rec.recommend(
            ["no", "sku-12", "nobody", "sku-13"], 9, at=END, types=["view", "cart", "purchase", "view"]
        )
        assert gaps.scores.tobytes() == known.scores.tobytes()

    def test_growing_sessions_keep_them(self, folder: Path) -> None:
        """Also of clicks on items that enter the catalog later, and in copies."""
        rec = Recommender.load(folder, "native", "native")
        visit = rec.session(["sku-12", "soon"], types=["cart", "purchase"]).click("sku-13", type="view").click("sku-14")
        clicks, types = ["sku-12", "soon", "sku-13", "sku-14"], ["cart", "purchase", "view", None]
        for growing in (visit, copy.deepcopy(visit)):
            expected = rec.recommend(clicks, 9, at=END, types=types)
            assert growing.recommend(9, at=END).scores.tobytes() == expected.scores.tobytes()
        rec.add_items(["soon"], neighbors=[["sku-30"]])
        expected = rec.recommend(clicks, 9, at=END, types=types)
        assert visit.recommend(9, at=END).scores.tobytes() == expected.scores.tobytes()

    @pytest.mark.parametrize("is_late", [False, True])
    def test_a_click_that_is_interrupted_is_there_with_its_type_or_not_at_all(
        self, folder: Path, is_late: bool
    ) -> None:
        class Interrupted(array):
            def append(self, click: int) -> None:
                if is_late:
                    super().append(click)
                raise KeyboardInterrupt

        rec = Recommender.load(folder, "native", "native")
        visit = rec.session(["sku-12"], types=["cart"])
        visit._clicks = Interrupted("i", visit._clicks)
        with pytest.raises(KeyboardInterrupt):
            visit.click("sku-13", type="purchase")
        visit._clicks = array("i", visit._clicks)
        clicks, types = ["sku-12", *["sku-13"] * is_late, "sku-14"], ["cart", *["purchase"] * is_late, "view"]
        again = visit.click("sku-14", type="view").recommend(9, at=END)
        assert again == rec.recommend(clicks, 9, at=END, types=types)

    def test_wrong_types_are_refused(self, folder: Path) -> None:
        rec = Recommender.load(folder, "native", "native")
        visit = rec.session(["sku-12"])
        for call, says in (
            (lambda: rec.recommend(["sku-12"], types=["view", "cart"]), "there are 2 types for 1 clicks"),
            (lambda: rec.recommend(["sku-12"], types=[3]), "3 is not a type"),  # type: ignore[list-item]
            (lambda: rec.recommend(["sku-12"], types="view"), "types must be a list"),
            (lambda: rec.recommend_batch([["sku-12"]], types=3), "types must be a list"),  # type: ignore[arg-type]
            (lambda: rec.recommend_batch([["sku-12"]], types=[["view"], ["view"]]), "2 lists for 1 sessions"),
            (lambda: rec.recommend_batch([["sku-12"]], types=[["view", None]]), "types of session 0: there are 2"),
            (lambda: rec.recommend_batch(Sessions.from_lists([[1]]), types=[["view"]]), "a part of packed Sessions"),
            (lambda: rec.session(["sku-12"], types=[]), "there are 0 types for 1 clicks"),
            (lambda: visit.click("sku-13", type=3), "3 is not a type"),  # type: ignore[arg-type]
        ):
            with pytest.raises(UsageError, match=says):
                call()
        assert visit.clicks == ["sku-12"]


class TestChecks:
    """The engine refuses parts and arguments that do not fit, in one line."""

    def test_parts(self, folder: Path) -> None:
        rec = Recommender.load(folder, "native", "native")
        catalog, ranker_parts = rec._pipeline.catalog, rec._pipeline.ranker
        assert catalog.model.trends is not None
        parts = (catalog.ids.table, rec.encoder.encoder, rec.index.scanner, catalog.scale)  # type: ignore[attr-defined]
        with pytest.raises(ValueError, match="reads other features of trends, context or content than there are"):
            engine_of(*parts, ranker_parts.memory, ranker_parts.ranker_net)
        with pytest.raises(ValueError, match="trends and content need a session memory"):
            engine_of(*parts, trends=catalog.trends)

    def test_arguments(self, folder: Path) -> None:
        rec = Recommender.load(folder, "native", "native")
        engine = rec._pipeline.ranker.engine
        items, offsets = np.array([1, 2], np.int32), np.array([0, 2], np.int64)
        with pytest.raises(ValueError, match="times must have one entry for each click"):
            engine.rank(items, offsets, 3, times=np.zeros(3, np.int64))
        with pytest.raises(ValueError, match="types must have one entry for each click"):
            engine.rank(items, offsets, 3, types=np.zeros(3, np.uint8))
        for clicks in (["sku-1"], ["sku-1", "nobody", "sku-2"]):
            with pytest.raises(ValueError, match="types must have one entry for each click"):
                engine.recommend(clicks, 3, types=np.zeros(2, np.uint8))
        if rec.bundle.model.context is None:
            return
        with pytest.raises(ValueError, match="context must have one code for each of 2 columns"):
            engine.recommend(["sku-1"], 3, context=np.zeros(3, np.uint16))
        with pytest.raises(ValueError, match="contexts must have one row for each click and 2 columns"):
            engine.rank(items, offsets, 3, contexts=np.zeros((2, 3), np.uint16))
