"""Side features: context tables equal the plain ones to the bit, updates agree with all clicks, features with their
definitions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native.memory_query import Moment, QuerySettings
from mtaw_fast.kernels.native.trend_tables import build_trends
from mtaw_fast.kernels.native.trends import ItemContent, Trends
from mtaw_fast.kernels.native.trends import feature_names as trend_names
from mtaw_fast.memory import MemorySettings, MemoryTables
from mtaw_fast.memory.side_features import SideFeatures
from mtaw_fast.memory.trends import TrendSettings, TrendTables
from tests.memory.reference import side as reference
from tests.memory.reference.side import OnlineContext, Visit
from tests.memory.test_trends import ISAS, prefixes
from tests.memory.test_trends_ranking import ranker_with_trends
from tests.support.memory.queries import assert_ranked_by, random_dense, widened
from tests.support.memory.trend_logs import DAY, HOUR, MINUTE, START, own_items, packed, random_sessions

N_ITEMS, CAPACITY, SIZES = 30, 40, (3, 5)
SETTINGS = TrendSettings(max_neighbors=12, window=4)
SIDE = SideFeatures(("referrer", "region"), ("category", "brand"), "created")
CONTENT = SideFeatures(categories=SIDE.categories, created=SIDE.created)


def visits_of(count: int, seed: int) -> list[Visit]:
    rng = np.random.default_rng(seed)
    visits = []
    for session in random_sessions(count, N_ITEMS, seed):
        codes = rng.integers(0, np.array(SIZES) + 1)
        changed = [int(rng.integers(0, SIZES[0] + 1)), int(codes[1])]  # a column may change within a visit
        visits.append([(click, changed if rng.random() < 0.2 else codes.tolist()) for click in session])
    return visits


def codes_of(visits: list[Visit]) -> np.ndarray:
    return np.array([codes for visit in visits for _, codes in visit], np.uint16).reshape(-1, len(SIZES))


def tables_of(visits: list[Visit], threads: int = 1) -> TrendTables:
    items, times = packed([[click for click, _ in visit] for visit in visits])
    sessions = replace(items, context=codes_of(visits))
    return TrendTables.build(sessions, times, N_ITEMS, SETTINGS, threads=threads, context_sizes=SIZES)


def content(seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    """Return columns that end before the last items, some entries missing."""
    rng = np.random.default_rng(seed)
    categories = [rng.integers(-1, n, CAPACITY - 4).astype(np.int32) for n in (3, 8)]
    created = START - rng.integers(0, DAY, CAPACITY - 4)
    created[rng.random(len(created)) < 0.2] = reference.NO_TIME
    return categories, created


class Both:
    """The native object and the plain one, with the same visits."""

    def __init__(self, visits: list[Visit], isa: str | None = None) -> None:
        tables = tables_of(visits)
        assert tables.context is not None
        self.native: Trends = tables.live(CAPACITY, isa=isa)
        self.plain = OnlineContext(dict(tables.context), tables.clock, SETTINGS)

    def click(self, handle: int, item: int, time: int, codes: list[int]) -> None:
        self.native.click(
            np.array([handle]), np.array([item], np.int32), np.array([time]), context=np.array([codes], np.uint16)
        )
        self.plain.visits.setdefault(handle, []).append(((time, item), codes))

    def forget(self, handle: int) -> None:
        assert self.native.forget(handle)
        del self.plain.visits[handle]

    def feed(self, count: int, seed: int, begin: int) -> int:
        rng, now, alive = np.random.default_rng(seed), begin, list[tuple[int, list[int]]]()
        for _ in range(count):
            now += int(rng.integers(2 * MINUTE))
            if alive and rng.random() < 0.05:
                self.forget(alive.pop(int(rng.integers(len(alive))))[0])
                continue
            place = int(rng.integers(len(alive) + 1)) if rng.random() < 0.7 else len(alive)
            if place == len(alive):
                alive.append((int(rng.integers(1 << 40)), rng.integers(0, np.array(SIZES) + 1).tolist()))
            handle, codes = alive[place]
            late = int(rng.integers(3 * HOUR)) if rng.random() < 0.1 else 0
            self.click(handle, int(N_ITEMS * rng.random() ** 2), now - late, codes)
        return now

    def assert_sums_agree(self, now: int) -> None:
        sums, _ = self.plain.sums(now)
        for item in range(CAPACITY):
            expected = [sums.get((item, value), 0.0) for value in range(sum(SIZES))]
            np.testing.assert_allclose(self.native.context(item, now), expected, rtol=3e-6, atol=1e-6)

    def assert_features_agree(self, now: int, seed: int) -> None:
        items, times, begins, ends = prefixes(seed)
        rng, (categories, created) = np.random.default_rng(seed), content()
        codes = rng.integers(0, np.array(SIZES) + 1, (len(begins), 2)).astype(np.uint16)
        candidates = np.tile(np.arange(CAPACITY, dtype=np.int32), (len(begins), 1))
        moments = np.full(len(begins), now)
        values = self.native.features(
            items, begins, ends, moments, candidates, times, context=codes, content=ItemContent(categories, created)
        )
        assert values.shape[2] == len(trend_names()) + len(SIDE.names)
        counts = self.native.counts(candidates[0], now)
        popularity = np.exp(values[0, :, trend_names().index("t_all_4")].astype(np.float64))
        for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
            own = own_items(items[begin:end].tolist())
            expected = np.concatenate(
                [
                    reference.context_features(
                        self.plain, now, codes[row].tolist(), candidates[row].tolist(), popularity
                    ),
                    reference.content_features(categories, created, now, own, candidates[row].tolist(), counts[:, 14]),
                ],
                axis=1,
            )
            for k, name in enumerate(SIDE.names):
                got = values[row, :, len(trend_names()) + k]
                np.testing.assert_allclose(got, expected[:, k], rtol=1e-5, atol=2e-5, err_msg=name)


def test_tables_equal_the_plain_ones_to_the_bit() -> None:
    visits = visits_of(150, 1)
    expected = reference.build(visits, N_ITEMS, SETTINGS, SIZES)
    assert 60 < len(expected["context_sums"]) < N_ITEMS * sum(SIZES)
    for threads in (1, 3):
        context = tables_of(visits, threads).context
        assert context is not None
        for name, array in expected.items():
            assert context[name].dtype == array.dtype, name
            np.testing.assert_array_equal(context[name], array, err_msg=name)


def test_what_is_long_past_is_left_out_of_the_tables() -> None:
    old: Visit = [((START, 3), [1, 1])]
    new: Visit = [((START + 40 * HOUR, 4), [1, 1])]
    context = tables_of([old, new]).context
    assert context is not None
    assert context["context_offsets"][[3, 4, 5]].tolist() == [0, 0, 2]


@pytest.mark.parametrize("isa", ISAS)
def test_sums_and_features_of_tables_and_later_clicks(isa: str) -> None:
    both = Both(visits_of(100, 2), isa)
    now = both.feed(300, 3, START + 3 * DAY)
    for later in (0, HOUR, 3 * DAY):
        both.assert_sums_agree(now + later)
        both.assert_features_agree(now + later, seed=4)


def test_a_clock_that_leaves_its_start_far_behind() -> None:
    both = Both(visits_of(20, 5))
    both.click(1, 2, START + 100 * DAY, [1, 2])
    both.feed(100, 6, START + 100 * DAY)
    assert both.native.counters.moves > 0
    both.assert_sums_agree(START + 101 * DAY)


def test_forgetting_all_leaves_the_tables() -> None:
    both, visits = Both(visits_of(30, 7)), visits_of(30, 7)
    before = [both.native.context(item, START + 4 * DAY) for item in range(CAPACITY)]
    for handle in range(5):
        both.click(handle, handle, START + 4 * DAY, [1 + handle % 3, 0])
    for handle in range(5):
        both.forget(handle)
    for item in range(CAPACITY):
        np.testing.assert_array_equal(both.native.context(item, START + 4 * DAY), before[item])
    # A visit of the tables.
    visit = next(visit for visit in visits if len(visit) > 2)
    items = np.array([item for (_, item), _ in visit], np.int32)
    times = np.array([time for (time, _), _ in visit])
    others = [other for other in visits if other is not visit]
    sessions, stamps = packed([[click for click, _ in other] for other in others])
    remaining = build_trends(
        sessions.items.copy(), sessions.offsets, stamps, N_ITEMS, **SETTINGS.native, newest=int(both.plain.clock[-1]),
        context=codes_of(others), context_sizes=SIZES,
    )  # fmt: skip
    both.native.forget_in_tables(items, times, remaining, np.arange(N_ITEMS, dtype=np.int32), codes_of([visit]))
    # The tables leave out small sums, so they are compared with tables that never had the visit.
    fresh = TrendTables.build(
        replace(sessions, context=codes_of(others)), stamps, N_ITEMS, SETTINGS, context_sizes=SIZES
    )
    rebuilt = fresh.live(CAPACITY)
    for item in range(CAPACITY):
        context = both.native.context(item, START + 4 * DAY)
        np.testing.assert_allclose(context, rebuilt.context(item, START + 4 * DAY), rtol=1e-5, atol=1e-6)


def test_a_long_row_keeps_the_values_with_the_most_clicks() -> None:
    sizes = (1001, 1001)
    sessions = Sessions(np.empty(0, np.int32), np.zeros(1, np.int64), context=np.empty((0, 2), np.uint16))
    tables = TrendTables.build(sessions, np.empty(0, np.int64), N_ITEMS, SETTINGS, context_sizes=sizes)
    trends = tables.live(CAPACITY)
    codes = np.stack([np.tile(np.arange(1, 1002), 2), np.ones(2002, int)], axis=1).astype(np.uint16)
    trends.click(np.arange(2002), np.zeros(2002, np.int32), np.full(2002, START), context=codes)
    context = trends.context(0, START)
    assert context[1001] > 1000  # the value that every visit has
    assert np.count_nonzero(context) <= 1024


def test_a_visit_without_context_and_an_item_without_content_are_neutral() -> None:
    both = Both(visits_of(100, 8))
    items, times, begins, ends = prefixes(9)
    candidates = np.tile(np.arange(CAPACITY - 4, CAPACITY, dtype=np.int32), (len(begins), 1))
    moments, content_of_items = np.full(len(begins), START + 4 * DAY), ItemContent(*content())
    values = both.native.features(items, begins, ends, moments, candidates, times, content=content_of_items)
    side = dict(zip(SIDE.names, np.moveaxis(values[:, :, len(trend_names()) :], 2, 0), strict=True))
    popularity = values[:, :, trend_names().index("t_all_4")]
    for name in SIDE.context:
        np.testing.assert_allclose(side[f"c_share_{name}"], popularity, rtol=1e-5)
        np.testing.assert_allclose(side[f"c_lift_{name}"], 0, atol=1e-5)
    for name in ("i_same_category", "i_part_category", "i_same_brand", "i_part_brand"):
        assert not side[name].any()
    first = values[:, :, trend_names().index("t_first")]
    np.testing.assert_array_equal(side["i_age_created"], first)


def test_files_keep_the_context(tmp_path: Path) -> None:
    path = tmp_path / "trends.safetensors"
    tables = tables_of(visits_of(40, 1))
    tables.save(path)
    loaded = TrendTables.load(path)
    assert loaded.context_sizes == SIZES
    for name, array in tables.arrays().items():
        np.testing.assert_array_equal(loaded.arrays()[name], array, err_msg=name)
    assert tables.context is not None
    for name, wrong in (
        ("context_values", np.full_like(tables.context["context_values"], 8)),
        ("context_sums", -tables.context["context_sums"]),
        ("context_offsets", tables.context["context_offsets"][::-1].copy()),
    ):
        with pytest.raises(DataError, match=name):
            replace(tables, context={**tables.context, name: wrong})


def test_names_of_side_features() -> None:
    assert len(SIDE.names) == len(set(SIDE.names)) == 9
    for side in (SIDE, CONTENT, SideFeatures(), SideFeatures(("a_b",))):
        assert SideFeatures.of(side.names) == side
    for names in (SIDE.names[::-1], SIDE.names[1:], ("odd",), ("i_age_a", "i_age_b")):
        with pytest.raises(DataError, match="not this release's"):
            SideFeatures.of(tuple(names))


@pytest.mark.parametrize("side", [SIDE, CONTENT, SideFeatures(("referrer", "region"))])
def test_the_ranker_reads_them(side: SideFeatures) -> None:
    """The native ranking equals the ranker's formula over the native features, candidate by candidate."""
    rng, visits = np.random.default_rng(0), visits_of(200, 11)
    items, times = packed([[click for click, _ in visit] for visit in visits])
    tables = MemoryTables.build(items, N_ITEMS, MemorySettings(max_neighbors=20, max_postings=20))
    memory = tables.queries(CAPACITY, QuerySettings(own=10, others=10, dense=6, trends=9))
    trends = (tables_of(visits) if side.context else TrendTables.build(items, times, N_ITEMS, SETTINGS)).live(CAPACITY)
    plain = ranker_with_trends(1)
    net = widened(plain, side.names, 0, mean=0.3, linear=0.3, w1=0.3)
    assert net.side == side
    clicks, click_times, begins, ends = prefixes(12)
    codes = rng.integers(0, np.array(SIZES) + 1, (len(begins), 2)).astype(np.uint16)
    moment = Moment(
        trends, np.full(len(begins), START + 4 * DAY), click_times, codes if side.context else None,
        ItemContent(*content()) if side.has_content else None,
    )  # fmt: skip
    dense = random_dense(len(begins), CAPACITY, 6, 4)
    ids, values = memory.features(clicks, begins, ends, dense, moment=moment)
    assert values.shape[2] == len(net.features)
    ranking = memory.rank(net.native(), clicks, begins, ends, 10, dense, moment=moment)
    assert_ranked_by(net, (ids, values), ranking)
    with pytest.raises(ValueError, match="features of context and content"):
        memory.rank(plain.native(), clicks, begins, ends, 10, dense, moment=moment)


def test_wrong_arguments() -> None:
    both = Both(visits_of(20, 1))
    click = np.zeros(1, np.int64), np.zeros(1, np.int32), np.full(1, START)
    with pytest.raises(ValueError, match="context must be"):
        both.native.click(*click, context=np.zeros((1, 3), np.uint16))
    with pytest.raises(ValueError, match="uint16"):
        both.native.click(*click, context=np.zeros((1, 2), np.int64))
    with pytest.raises(ValueError, match="one length"):
        ItemContent([np.zeros(3, np.int32), np.zeros(4, np.int32)])
    with pytest.raises(ValueError, match="at most 4"):
        ItemContent([np.zeros(3, np.int32)] * 5)
    sessions = Sessions(np.zeros(1, np.int32), np.array([0, 1]), context=np.array([[4, 1]], np.uint16))
    with pytest.raises(DataError, match="context"):
        TrendTables.build(sessions, np.full(1, START), N_ITEMS, SETTINGS, context_sizes=SIZES)
