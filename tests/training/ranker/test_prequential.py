"""The ranker's dataset: each click is ranked by what serves, before it is learned, and without later clicks."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.filters import Filter
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import TrainingError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.kernels.native.memory_query import Dense, Moment, feature_names
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import query_settings
from mtaw_fast.model.item_vectors import mean_norm, normalized
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.training.memory_tables import build_tables, build_trends
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.ranker.dataset import RankerDataset
from mtaw_fast.training.ranker.prequential import ReplayOrder, build_dataset, evenly, stale_samples
from mtaw_fast.training.ranker.train_ranker import older_parts
from tests.support.training.queries import BEFORE, CONFIG, WEIGHTS, N, dataset_of, drawn, trends_before


def rows_of(dataset: RankerDataset, count: int) -> list[tuple[list[int], np.ndarray]]:
    ids, values = dataset.batch(np.arange(count))
    return [(row[row >= 0].tolist(), row_values[row >= 0]) for row, row_values in zip(ids, values, strict=True)]


def reference(last: Sessions, chunks: list[np.ndarray]) -> list[tuple[int, list[int], np.ndarray]]:
    """(target, candidates, features) of each query, by new tables and a new catalog for every chunk."""
    samples = []
    tables = build_tables(CONFIG, BEFORE, N)
    begin_of = np.repeat(last.offsets[:-1], last.lengths)
    learned: list[int] = []
    known = np.bincount(BEFORE.items, minlength=N) > 0
    clicks, due, vectors = np.zeros(N, int), np.ones(N, int), {}
    base = np.where(known[:, None], WEIGHTS["item_embedding"], np.float32(0))
    norm = np.float32(mean_norm(base))
    for chunk in chunks:
        catalog, embedding = catalog_of(base, vectors), base.copy()
        for item, vector in vectors.items():
            embedding[item] = vector * norm
        query_clicks = [click for click in chunk.tolist() if click > begin_of[click]]
        so_far = of_clicks(last, learned)
        if query_clicks:
            prefixes = Sessions.from_lists([last.items[begin_of[click] : click] for click in query_clicks])
            queries = NativeEncoder(CONFIG, {**WEIGHTS, "item_embedding": embedding}).encode(prefixes)
            ids, logits = NativeIndex(catalog).search(
                queries, N, Filter(known | (clicks > 0)), scale=CONFIG.model.scale
            )
            begins, ends = prefixes.offsets[:-1], prefixes.offsets[1:]
            for row, click in enumerate(query_clicks):
                others = without(so_far, prefixes[row])
                rebuilt = MemoryTables.build(Sessions.concatenate([BEFORE, others]), N, tables.settings)
                dense = Dense(
                    queries[row : row + 1], ids[row : row + 1], logits[row : row + 1], catalog, CONFIG.model.scale
                )
                chosen, values = rebuilt.queries(N, query_settings(CONFIG)).features(
                    prefixes.items, begins[row : row + 1], ends[row : row + 1], dense
                )
                filled = chosen[0] >= 0
                if last.items[click] in chosen[0]:
                    samples.append((int(last.items[click]), chosen[0][filled].tolist(), values[0][filled]))
        learned += chunk.tolist()
        rows = MemoryTables.build(of_clicks(last, learned), N, replace(tables.settings, max_neighbors=0))
        for item in last.items[chunk].tolist():
            clicks[item] += not known[item]
        for item in np.unique(last.items[chunk]).tolist():
            if not known[item] and clicks[item] >= due[item]:
                due[item] = 2 * clicks[item]
                vectors[item] = evidence(rows, item, catalog_of(base, vectors))
    return samples


def without(sessions: Sessions, asking: np.ndarray) -> Sessions:
    """All but the latest session with the clicks of the current one, if any."""
    held = list(sessions)
    twins = [place for place, clicks in enumerate(held) if np.array_equal(clicks, asking)]
    return Sessions.from_lists([clicks for place, clicks in enumerate(held) if place not in twins[-1:]])


def of_clicks(sessions: Sessions, clicks: list[int]) -> Sessions:
    """The sessions cut to these clicks, which are in order; ordered by their last click."""
    session = np.searchsorted(sessions.offsets, clicks, side="right") - 1
    last = {int(number): place for place, number in enumerate(session)}
    ordered = sorted(last, key=lambda number: last[number])
    return Sessions.from_lists([sessions.items[[c for c, s in zip(clicks, session, strict=True) if s == number]]
                                for number in ordered])  # fmt: skip


def catalog_of(base: np.ndarray, vectors: dict[int, np.ndarray]) -> np.ndarray:
    catalog = normalized(base)
    for item, vector in vectors.items():
        catalog[item] = vector
    return catalog


def evidence(rows: MemoryTables, item: int, catalog: np.ndarray) -> np.ndarray:
    begin, end = rows.row_offsets[item : item + 2]
    values = (rows.values[begin:end].astype(np.uint32) << 16).view(np.float32)
    total = (values[:, 1] + values[:, 2]).astype(np.float64) @ catalog[rows.neighbors[begin:end]].astype(np.float64)
    length = np.sqrt(total @ total)
    return (total / length if length else total).astype(np.float32)


@pytest.mark.parametrize("timed", [False, True])
def test_a_query_is_what_serving_would_rank_at_its_time(tmp_path: Path, timed: bool) -> None:
    last = drawn(2, 30, timed=timed)
    order = ReplayOrder.of(last, CONFIG.ranker.prequential_chunk, 60_000)
    expected = reference(last, np.split(order.clicks, order.bounds[1:-1]))
    dataset = dataset_of(last, tmp_path)
    assert dataset.targets.tolist() == [target for target, _, _ in expected]
    assert len(expected) > 60
    new_items = np.flatnonzero(np.bincount(BEFORE.items, minlength=N) == 0)
    assert np.isin(dataset.targets, new_items).sum() > 5
    for (ids, values), (_, wanted_ids, wanted) in zip(rows_of(dataset, len(expected)), expected, strict=True):
        assert sorted(ids) == sorted(wanted_ids)
        places, wanted_places = np.argsort(ids), np.argsort(wanted_ids)
        # bfloat16 sums of the delta are rounded again as they grow, those of rebuilt tables once.
        close = np.abs(values[places] - wanted[wanted_places]) <= 0.03 * np.abs(wanted[wanted_places]) + 0.03
        assert close.mean() > 0.995


def relabeled(sessions: Sessions) -> Sessions:
    return Sessions(np.random.default_rng(3).permutation(sessions.items), sessions.offsets, sessions.times)


@pytest.mark.parametrize("timed", [False, True])
def test_later_sessions_change_no_earlier_query(tmp_path: Path, timed: bool) -> None:
    last = drawn(5, 60, timed=timed)
    changed = Sessions.concatenate([last.slice(0, 30), relabeled(last.slice(30, 60))])
    ours, theirs = (dataset_of(sessions, tmp_path, trends=timed) for sessions in (last, changed))
    assert ours.features == feature_names(trends=timed)
    # The queries of the chunks before the first that has a changed click.
    order = ReplayOrder.of(last, CONFIG.ranker.prequential_chunk, 60_000)
    chunks = np.split(order.clicks, order.bounds[1:-1])
    early = np.concatenate(list(itertools.takewhile(lambda chunk: (chunk < last.offsets[30]).all(), chunks)))
    same = int(np.isin(early, last.offsets[:-1], invert=True).sum()) - max(ours.left_out, theirs.left_out)
    assert same > 15
    for (ids, values), (other_ids, other_values) in zip(rows_of(ours, same), rows_of(theirs, same), strict=True):
        assert ids == other_ids
        assert np.array_equal(values, other_values)
    assert ours.targets[:same].tolist() == theirs.targets[:same].tolist()


def test_clicks_that_the_tables_may_know_are_learned_and_not_asked(tmp_path: Path) -> None:
    last = drawn(2, 30, timed=True)
    assert last.times is not None
    middle = int(np.median(last.times))
    all_of_them, late = dataset_of(last, tmp_path), dataset_of(last, tmp_path, since=middle)
    count = len(late.targets)
    assert 10 < count < len(all_of_them.targets)
    assert late.targets.tolist() == all_of_them.targets[-count:].tolist()
    ids, values = all_of_them.batch(np.arange(len(all_of_them.targets) - count, len(all_of_them.targets)))
    other_ids, other_values = late.batch(np.arange(count))
    assert np.array_equal(ids, other_ids)
    assert np.array_equal(values, other_values)


def test_sessions_of_joined_visitors_keep_their_order() -> None:
    times = np.array([10, 50, 20, 60, 15, 55], dtype=np.int64)
    sessions = Sessions(np.arange(6, dtype=np.int32), np.array([0, 4, 6]), times)
    order = ReplayOrder.of(sessions, 100, 1)
    assert order.moments is not None
    assert order.moments.tolist() == [10, 50, 50, 60, 15, 55]
    assert order.clicks.tolist() == [0, 4, 1, 2, 5, 3]
    assert order.bounds.tolist() == [0, 1, 2, 4, 5, 6]


def test_no_query_is_an_error_and_nothing_stays_in_the_folder(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the ranker has no sample to learn from"):
        dataset_of(Sessions.from_lists([[1], [2]]), tmp_path)
    dataset_of(drawn(2, 30), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("gap", [1, 10_000])
def test_frozen_samples_are_what_a_bundle_that_does_not_learn_ranks(tmp_path: Path, gap: int) -> None:
    """They come last: known items alone, at the times of their clicks, by the tables of the sessions before.

    gap: by which the times are multiplied. In a log of hours, paused samples take half of the number.
    """
    last = drawn(2, 80, timed=True)
    assert last.times is not None
    last = Sessions(last.items, last.offsets, last.times * gap)
    dataset = dataset_of(last, tmp_path, trends=True)
    tables, trends = build_tables(CONFIG, BEFORE, N), trends_before()
    memory = tables.queries(N, query_settings(CONFIG, True))
    ranked = len(last.items) - len(last)
    known = np.bincount(BEFORE.items, minlength=N) > 0
    rankable = last.of_clicks(np.flatnonzero(known[last.items]))
    ends = np.setdiff1d(np.arange(rankable.n_clicks), rankable.offsets)
    assert last.times is not None
    assert rankable.times is not None
    ends = ends[np.argsort(rankable.times[ends], kind="stable")]
    limit = ranked // 4 if gap == 1 else ranked // 2
    ends = ends[evenly(len(ends), limit)]
    assert len(ends) == limit
    base = np.where(known[:, None], WEIGHTS["item_embedding"], np.float32(0))
    scale = CONFIG.model.scale
    encoder, index = NativeEncoder(CONFIG, {**WEIGHTS, "item_embedding": base}), NativeIndex(normalized(base))
    samples = []
    for end in ends.tolist():
        begin = int(rankable.offsets[np.searchsorted(rankable.offsets, end, side="right") - 1])
        prefix = Sessions.from_lists([rankable.items[begin:end]])
        query = encoder.encode(prefix)
        dense = Dense(query, *index.search(query, N, Filter(known), scale=scale), normalized(base), scale)
        moment = Moment(trends.live(N), rankable.times[end - 1 : end], rankable.times[begin:end].copy())
        ids, values = memory.features(
            prefix.items, prefix.offsets[:-1], prefix.offsets[1:], dense, moment=moment
        )  # fmt: skip
        if rankable.items[end] in ids[0]:
            samples.append((int(rankable.items[end]), ids[0][ids[0] >= 0].tolist(), values[0][ids[0] >= 0]))
    assert len(samples) > 40
    assert dataset.targets[-len(samples) :].tolist() == [target for target, _, _ in samples]
    rows = rows_of(dataset, len(dataset.targets))[-len(samples) :]
    for (chosen, features), (_, wanted_ids, wanted) in zip(rows, samples, strict=True):
        assert chosen == wanted_ids
        np.testing.assert_array_equal(features, np.clip(wanted, -65504, 65504).astype(np.float16))


def test_paused_samples_are_what_a_service_ranks_that_learned_a_part_of_the_clicks(tmp_path: Path) -> None:
    """They come after those that learn: known items alone, by the state after a quarter, a half, three quarters."""
    last = drawn(2, 40, timed=True)
    assert last.times is not None
    tables, trends = build_tables(CONFIG, BEFORE, N), trends_before()
    dataset = build_dataset(CONFIG, tables, last, 1, None, tmp_path, "", Silent(), None, trends)
    order = ReplayOrder.of(last, 10**6, 10**9).clicks
    session_of = np.repeat(np.arange(len(last)), last.lengths)
    limit = stale_samples(len(order) - len(last)) // 2 // 3
    samples = []
    for part in (0.25, 0.5, 0.75):
        learned = order[: int(part * len(order))]
        delta, live = MemoryDelta(tables.arrays(), tables.settings.native, capacity=0), trends.live(N)
        delta.click(session_of[learned], last.items[learned])
        live.click(session_of[learned], last.items[learned], last.times[learned])
        memory = tables.queries(N, query_settings(CONFIG, True), delta=delta)
        known = np.bincount(np.concatenate([BEFORE.items, last.items[learned]]), minlength=N) > 0
        kept = np.flatnonzero(known[last.items])
        rankable = last.of_clicks(kept)
        assert rankable.times is not None
        ends = np.setdiff1d(np.arange(rankable.n_clicks), rankable.offsets)
        begin = int(last.times[learned[-1]])
        ends = ends[rankable.times[ends] > begin]
        ends = ends[np.argsort(rankable.times[ends], kind="stable")]
        for end in ends[evenly(len(ends), limit)].tolist():
            first = int(rankable.offsets[np.searchsorted(rankable.offsets, end, side="right") - 1])
            moment = Moment(live, rankable.times[end - 1 : end], rankable.times[first:end].copy())
            ids, values = memory.features(
                rankable.items[first:end].copy(), np.array([0]), np.array([end - first]), moment=moment
            )
            if rankable.items[end] in ids[0]:
                samples.append((int(rankable.items[end]), ids[0][ids[0] >= 0].tolist(), values[0][ids[0] >= 0]))
    targets = dataset.targets.tolist()
    assert len(samples) > 15
    assert any(np.bincount(BEFORE.items, minlength=N)[target] == 0 for target, _, _ in samples), "new items"
    wanted_targets = [target for target, _, _ in samples]
    begins = [at for at in range(len(targets)) if targets[at : at + len(samples)] == wanted_targets]
    assert len(begins) == 1
    rows = rows_of(dataset, len(targets))[begins[0] : begins[0] + len(samples)]
    for (chosen, features), (_, wanted_ids, wanted) in zip(rows, samples, strict=True):
        assert chosen == wanted_ids
        np.testing.assert_array_equal(features, np.clip(wanted, -65504, 65504).astype(np.float16))


def test_frozen_samples_of_older_tables_are_those_of_a_log_that_ended_earlier(tmp_path: Path) -> None:
    last = drawn(2, 60, timed=True)
    before = Sessions(BEFORE.items, BEFORE.offsets, 10_000 * np.arange(BEFORE.n_clicks))
    part = before.slice(0, 40)

    def dataset(known: Sessions, older: list[Sessions]) -> RankerDataset:
        tables, trends = build_tables(CONFIG, known, N), build_trends(CONFIG, known, N)
        return build_dataset(CONFIG, tables, last, 1, WEIGHTS, tmp_path, "", Silent(), None, trends, older=older)

    both, whole, short = dataset(before, [part]), dataset(before, [before]), dataset(part, [part])
    rows, whole_rows, short_rows = (rows_of(made, len(made.targets)) for made in (both, whole, short))

    def equal(ours: tuple[list[int], np.ndarray], expected: tuple[list[int], np.ndarray]) -> bool:
        return ours[0] == expected[0] and np.array_equal(ours[1], expected[1])

    def n_equal(pairs: Iterable[tuple[Any, Any]]) -> int:
        return sum(1 for _ in itertools.takewhile(lambda pair: equal(*pair), pairs))

    head, tail = n_equal(zip(rows, whole_rows, strict=False)), n_equal(zip(rows[::-1], short_rows[::-1], strict=False))
    assert tail > 15, "the frozen samples of the older tables"
    assert head == len(rows) - tail, "all others"


def test_a_log_of_days_has_older_parts_and_one_of_weeks_none() -> None:
    hour = 3_600_000

    def hourly(begin: int, end: int) -> Sessions:
        times = hour * np.arange(begin, end)
        return Sessions(np.zeros(len(times), np.int32), np.arange(len(times) + 1), times)

    assert [len(part) for part in older_parts(hourly(0, 100), hourly(100, 110))] == [91, 79]
    assert [len(part) for part in older_parts(hourly(0, 30), hourly(30, 33))] == [21]
    assert older_parts(hourly(0, 15), hourly(15, 17)) == []
    assert older_parts(hourly(0, 400), hourly(400, 440)) == []
    assert older_parts(hourly(0, 100).without_times(), hourly(100, 110)) == []
