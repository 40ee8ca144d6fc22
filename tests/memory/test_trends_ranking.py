"""Trends in the session memory: more candidates and features, and no change without a moment."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError
from mtaw_fast.kernels.native import memory_query
from mtaw_fast.kernels.native.memory_query import Dense, Moment, QuerySettings, feature_names
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.kernels.native.trends import feature_names as trend_names
from mtaw_fast.memory import MemorySettings, MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from tests.memory.reference.candidates import Evidence, query, ranked_first
from tests.memory.reference.features import quick_score
from tests.native.builds import instruction_sets
from tests.support.memory.queries import assert_ranked_by, delta_of, random_dense, random_ranker, widened
from tests.support.memory.trend_logs import DAY, HOUR, START

N_ITEMS, CATALOG, CAPACITY, N_TRENDS = 120, 130, 140, 12
ISAS = [isa for isa in instruction_sets() if isa in ("portable", "avx2", "avx512")]
N_MEMORY = len(feature_names())
POPULAR = 0.02  # what the popularity of an item may add to its pre-score between two listings


def log(count: int, seed: int) -> tuple[Sessions, np.ndarray]:
    rng = np.random.default_rng(seed)
    lists = [(N_ITEMS * rng.random(rng.integers(1, 12)) ** 3).astype(int) for _ in range(count)]
    times = [START + int(rng.integers(DAY)) + np.cumsum(rng.integers(0, 60_000, len(clicks))) for clicks in lists]
    return Sessions.from_lists(lists), np.concatenate(times)


def dense_of(dense: Dense, row: int) -> tuple[np.ndarray, np.ndarray]:
    return dense.ids[row], dense.logits[row]


def ranker_with_trends(seed: int) -> RankerNet:
    """Return random weights for all features, with realistic scales."""
    return widened(random_ranker(seed), trend_names(), seed)


class Setup:
    """Return tables, trends with later clicks, and prefixes."""

    def __init__(self, isa: str | None = None, trends: int = N_TRENDS, ranked: int = 0) -> None:
        sessions, times = log(200, 1)
        self.tables = tables = MemoryTables.build(sessions, N_ITEMS, MemorySettings(max_neighbors=20, max_postings=20))
        self.settings = QuerySettings(own=10, others=10, dense=6, trends=trends, ranked=ranked)
        self.memory = tables.queries(CATALOG, self.settings, isa)
        self.trends = TrendTables.build(sessions, times, N_ITEMS).live(CAPACITY, isa=isa)
        rng = np.random.default_rng(2)
        click_times = START + DAY + np.sort(rng.integers(0, HOUR, 300))
        fresh = (rng.random(300) * CATALOG).astype(np.int32)
        self.trends.click(rng.integers(0, 90, 300), fresh, click_times)
        self.sessions = queries = log(15, 3)[0]
        self.items, self.begins, self.ends = queries.items, queries.offsets[:-1].copy(), queries.offsets[1:].copy()
        self.times = START + DAY + np.arange(len(self.items)) * 1000
        self.now = np.full(len(self.begins), START + DAY + HOUR) + np.arange(len(self.begins)) * 60_000
        self.dense = random_dense(len(self.begins), CATALOG, 6, 4)

    @property
    def ranges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.items, self.begins, self.ends

    @property
    def moment(self) -> Moment:
        return Moment(self.trends, self.now, self.times)


@pytest.fixture(scope="module")
def setup() -> Setup:
    return Setup()


def test_names() -> None:
    assert feature_names(trends=True) == feature_names() + trend_names()
    assert len(set(feature_names(trends=True))) == len(feature_names(trends=True))


@pytest.mark.parametrize("isa", ISAS)
def test_features_of_trends_stand_behind_the_others(isa: str) -> None:
    """Equal to the bit to Trends itself, and to the memory without a moment."""
    case = Setup(isa, trends=0)
    ids, plain = case.memory.features(*case.ranges, case.dense)
    same, values = case.memory.features(*case.ranges, case.dense, moment=case.moment)
    np.testing.assert_array_equal(same, ids)
    np.testing.assert_array_equal(values[..., :N_MEMORY], plain)
    expected = case.trends.features(*case.ranges, case.now, ids, case.times)
    np.testing.assert_array_equal(values[..., N_MEMORY:], expected)


def test_trends_bring_candidates(setup: Setup) -> None:
    without, _ = setup.memory.features(*setup.ranges, setup.dense)
    ids, values = setup.memory.features(*setup.ranges, setup.dense, moment=setup.moment)
    trending = setup.trends.candidates(*setup.ranges, setup.now, N_TRENDS)
    gained = 0
    for before, after, fresh in zip(without, ids, trending, strict=True):
        kept = after[after >= 0].tolist()
        assert len(set(kept)) == len(kept)
        assert set(before[before >= 0].tolist()) | {i for i in fresh.tolist() if i >= 0} == set(kept)
        gained += len(kept) - int((before >= 0).sum())
    assert gained > 100
    assert setup.memory.native.max_candidates == ids.shape[1] == 10 + 10 + 6 + N_TRENDS + 50
    assert not values[ids < 0].any()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("neural", [False, True])
def test_rankings_follow_the_ranker(isa: str, neural: bool) -> None:
    case, net = Setup(isa), ranker_with_trends(5)
    dense = case.dense if neural else None
    features = case.memory.features(*case.ranges, dense, moment=case.moment)
    assert_ranked_by(net, features, case.memory.rank(net.native(), *case.ranges, 20, dense, moment=case.moment))


@pytest.mark.parametrize("isa", ISAS)
def test_ages_far_from_the_fitted_ones_are_bounded(isa: str) -> None:
    """Also those of the items that the trends do not know, whose age is 0."""
    case, net = Setup(isa), ranker_with_trends(5)
    places = [net.features.index(name) for name in ("t_first", "t_last_age")]
    mean, scale = net.mean.copy(), net.scale.copy()
    mean[places], scale[places] = 10.4, 6.0  # as after a month in which every item was clicked on the first day
    net = replace(net, mean=mean, scale=scale)
    ids, values = case.memory.features(*case.ranges, case.dense, moment=case.moment)
    assert (values[ids >= N_ITEMS][:, places[0]] == 0).any()
    bounded = values.astype(np.float64)
    bounded[..., places] = np.clip(bounded[..., places], *(np.float32(10.4) + np.array([-0.5, 0.5], np.float32)))
    expected = np.where(ids < 0, -np.inf, net.scores(values))
    np.testing.assert_allclose(expected, np.where(ids < 0, -np.inf, net.scores(bounded)), rtol=1e-6)
    ranking = case.memory.rank(net.native(), *case.ranges, 20, case.dense, moment=case.moment)
    assert_ranked_by(net, (ids, values), ranking)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("neural", [False, True])
def test_the_best_by_quick_score_are_ranked(isa: str, neural: bool) -> None:
    """They and the own items come first, by the ranker's score; then the others by quick score, whatever k is."""
    case, net, ranked = Setup(isa, ranked=8), ranker_with_trends(5), 8
    dense = case.dense if neural else None
    ids, values = case.memory.features(*case.ranges, dense, moment=case.moment)
    expected = net.scores(values)
    trending = case.trends.candidates(*case.ranges, case.now, N_TRENDS)
    places = [feature_names(trends=True).index(name) for name in ("own", "t_pre")]
    short = case.memory.rank(net.native(), *case.ranges, 12, dense, moment=case.moment)
    got, scores = case.memory.rank(net.native(), *case.ranges, CATALOG, dense, moment=case.moment)
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    for is_own, whole in zip(short, (got, scores), strict=True):
        np.testing.assert_array_equal(is_own, whole[:, :12])
    for row, count in enumerate((ids >= 0).sum(axis=1).tolist()):
        listed = ids[row, :count].tolist()
        own_items = values[row, :count, places[0]] > 0
        rule = query(case.tables, case.sessions[row], case.settings, None if dense is None else dense_of(dense, row))
        quick = {}
        for item, is_own, log_pre in zip(listed, own_items, values[row, :count, places[1]].tolist(), strict=True):
            if not is_own:
                score = math.exp(log_pre) - 1e-5 if item in trending[row] else 0.0
                rule.items.setdefault(item, Evidence())  # the trends alone may have brought it
                quick[item] = quick_score(rule, item, score)
        n_ranked = int(own_items.sum()) + min(ranked, len(quick))
        first, rest = got[row, :n_ranked].tolist(), got[row, n_ranked:count].tolist()
        assert set(first) | set(rest) == set(listed)
        all_ranked = got[row][got[row] >= 0].tolist()
        assert len(set(all_ranked)) == len(all_ranked)
        assert {item for item, is_own in zip(listed, own_items, strict=True) if is_own} <= set(first)
        by_id = dict(zip(listed, expected[row, :count], strict=True))
        np.testing.assert_allclose(scores[row, :n_ranked], [by_id[item] for item in first], rtol=1e-4, atol=1e-4)
        kept = min((quick[item] for item in first if item in quick), default=0.0)
        for before, item in zip([kept, *(quick[item] for item in rest)], rest, strict=False):
            assert before >= quick[item] - POPULAR


@pytest.mark.parametrize("isa", ISAS)
def test_what_is_always_ranked_gets_the_rankers_score(isa: str) -> None:
    """As much as own items; the others stay as they were."""
    case, net, ranked = Setup(isa, ranked=8), ranker_with_trends(5), 8
    rng = np.random.default_rng(9)
    always = rng.random(CATALOG) < 0.2
    ids, values = case.memory.features(*case.ranges, case.dense, moment=case.moment)
    expected = net.scores(values)
    own_items = values[..., feature_names(trends=True).index("own")] > 0
    plain, _ = case.memory.rank(net.native(), *case.ranges, CATALOG, case.dense, moment=case.moment)
    bits = np.packbits(always, bitorder="little")
    answers = [
        case.memory.rank(net.native(), *case.ranges, k, case.dense, moment=case.moment, always_ranked=bits)
        for k in (3, 12, 25, CATALOG)
    ]
    got, scores = answers[-1]
    assert (scores[:, 1:] <= scores[:, :-1]).all()
    for answer_ids, scored in answers:
        np.testing.assert_array_equal(answer_ids, got[:, : answer_ids.shape[1]])
        np.testing.assert_array_equal(scored, scores[:, : answer_ids.shape[1]])
    gained = 0
    for row, count in enumerate((ids >= 0).sum(axis=1).tolist()):
        by_id = dict(zip(ids[row, :count].tolist(), expected[row, :count], strict=True))
        row_own = set(ids[row][own_items[row]].tolist())
        place = {item: -float(number) for number, item in enumerate(plain[row, :count].tolist()) if item not in row_own}
        first, rest = ranked_first(row_own, place, ranked, set(np.flatnonzero(always).tolist()))
        gained += len(first) - len(row_own) - min(ranked, len(place))
        in_front = got[row, : len(first)].tolist()
        assert set(in_front) == first
        np.testing.assert_allclose(scores[row, : len(first)], [by_id[item] for item in in_front], rtol=1e-4, atol=1e-4)
        assert got[row, len(first) : count].tolist() == rest
        assert got[row, count:].tolist() == plain[row, count:].tolist()
    assert gained > 20


def test_bits_of_what_is_always_ranked_are_checked(setup: Setup) -> None:
    for wrong in (np.zeros(3, np.uint8), np.zeros((CATALOG + 7) // 8, np.int8)):
        with pytest.raises(ValueError, match="always_ranked"):
            setup.memory.rank(
                ranker_with_trends(5).native(), *setup.ranges, 5, setup.dense, moment=setup.moment, always_ranked=wrong
            )


def test_few_candidates_are_all_ranked(setup: Setup) -> None:
    """Neither a limit that they do not reach nor a request without a moment changes a bit."""
    many, few = Setup(ranked=200), Setup(ranked=3)
    for net, moment, other in ((ranker_with_trends(5), setup.moment, many), (random_ranker(7), None, few)):
        expected = setup.memory.rank(net.native(), *setup.ranges, 60, setup.dense, moment=moment)
        other_moment = None if moment is None else other.moment
        for mine, theirs in zip(
            other.memory.rank(net.native(), *setup.ranges, 60, setup.dense, moment=other_moment), expected, strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize("ranked", [0, 8])
def test_instruction_sets_rank_alike(ranked: int) -> None:
    answers = []
    for isa in ISAS:
        case = Setup(isa, ranked=ranked)
        answers.append(
            case.memory.rank(ranker_with_trends(6).native(), *case.ranges, 30, case.dense, moment=case.moment)
        )
    for ids, scores in answers[1:]:
        np.testing.assert_array_equal(ids, answers[0][0])
        np.testing.assert_array_equal(scores.view(np.uint32), answers[0][1].view(np.uint32))


def test_without_a_moment_nothing_changes(setup: Setup) -> None:
    """Also after a query with trends on the same thread."""
    plain = Setup(trends=0)
    net = random_ranker(7).native()
    expected = plain.memory.rank(net, *plain.ranges, 20, plain.dense)
    setup.memory.features(*setup.ranges, setup.dense, moment=setup.moment)
    for mine, theirs in zip(setup.memory.rank(net, *setup.ranges, 20, setup.dense), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_conditions_hold_for_what_trends_bring(setup: Setup) -> None:
    rng = np.random.default_rng(8)
    fine = rng.random(CATALOG) < 0.4
    allowed = np.packbits(fine, bitorder="little")
    excluded = np.flatnonzero(fine)[:10].astype(np.int32)
    queries = len(setup.begins)
    got, _ = setup.memory.rank(
        ranker_with_trends(9).native(), *setup.ranges, 60, allowed=allowed, excluded=np.tile(excluded, queries),
        excluded_offsets=np.arange(queries + 1) * len(excluded), moment=setup.moment,
    )  # fmt: skip
    listed = set(got[got >= 0].tolist())
    assert listed
    assert listed <= set(np.flatnonzero(fine).tolist()) - set(excluded.tolist())


def test_what_trends_learned_since_the_catalog_is_no_candidate() -> None:
    """`allowed` has a bit for every item of the catalog, and none for newer items that the trends know."""
    sessions, times = log(200, 1)
    tables = MemoryTables.build(sessions, N_ITEMS, MemorySettings(max_neighbors=20, max_postings=20))
    query = QuerySettings(own=10, others=10, dense=6, trends=N_TRENDS)
    memory = tables.queries(N_ITEMS + 100_000, query, delta=delta_of(tables, 100_000))
    trends = TrendTables.build(sessions, times, N_ITEMS).live(N_ITEMS + 100_000)
    far = np.full(500, N_ITEMS + 99_999, np.int32)  # its bit would lie 12,500 bytes behind the array's end
    trends.click(np.arange(500), far, START + DAY + np.arange(500))
    queries, _ = log(15, 3)
    ranges = queries.items, queries.offsets[:-1].copy(), queries.offsets[1:].copy()
    moment = Moment(trends, np.full(len(queries), START + DAY + HOUR))
    allowed = np.packbits(np.ones(N_ITEMS, bool), bitorder="little")
    dense = random_dense(len(queries), N_ITEMS, 6, 4)  # of the catalog as it is asked for
    got, _ = memory.rank(ranker_with_trends(9).native(), *ranges, 60, dense, allowed=allowed, moment=moment)
    assert got.max() < N_ITEMS


def test_rankers_are_for_what_is_asked(setup: Setup) -> None:
    plain, net = random_ranker(1).native(), ranker_with_trends(1)
    assert net.has_trends
    with pytest.raises(ValueError, match="trends, but the request"):
        setup.memory.rank(net.native(), *setup.ranges, 5)
    with pytest.raises(ValueError, match="the request comes with trends, which the ranker does not know"):
        setup.memory.rank(plain, *setup.ranges, 5, moment=setup.moment)
    small: Trends = TrendTables.build(Sessions.from_lists([]), np.zeros(0, np.int64), 3).live(9)
    with pytest.raises(ValueError, match=r"the trends have \w+ for 9 items.*130"):
        setup.memory.features(*setup.ranges, moment=Moment(small, setup.now))
    with pytest.raises(ValueError, match="now must have one entry"):
        setup.memory.features(*setup.ranges, moment=Moment(setup.trends, setup.now[1:]))
    with pytest.raises(DataError, match="the order differs"):
        replace(net, features=net.features[:-2] + net.features[:-3:-1])
    with pytest.raises(ValueError, match=r"for 50 features, this release has 42 and \d+ of trends"):
        memory_query.NativeRankerNet(
            {**net.arrays(), **{n: net.arrays()[n][:50] for n in ("mean", "scale", "linear", "w1")}}
        )


def test_a_ranker_with_trends_survives_a_file(tmp_path) -> None:
    net = ranker_with_trends(3)
    net.save(tmp_path / "ranker")
    read = RankerNet.load(tmp_path / "ranker")
    assert read.features == net.features
    np.testing.assert_array_equal(read.w1, net.w1)
