"""The whole graph against the Recommender: every kind of bundle, session and condition."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.recommender import Recommender
from tests.support.export.bundles import END, HOUR, KINDS, save_kind

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

from mtaw_fast.export.graph_ranker import Feeds, Run, open_graph  # noqa: E402
from mtaw_fast.export.onnx_build import Builder  # noqa: E402
from mtaw_fast.export.triton_repository import spread  # noqa: E402

N = 260
LENGTHS = (1, 2, 3, 5, 9, 31, 80, 530)


class Graph:
    """The graph of a bundle, and the Recommender over it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.bundle = save_kind(kind, folder / "bundle", N)
        builder = Builder(self.bundle, folder, 2_000_000_000)
        self.run = open_graph(builder.build("recommender", "float32").model)
        self.alone = open_graph(builder.build_per_session().model)
        self.rec = Recommender.load(self.bundle.folder, encoder="native", index="native")
        self.feeds = Feeds(self.bundle)
        self.ids = self.bundle.ids.external(np.arange(N, dtype=np.int32))
        self.unknown = "nobody" if self.bundle.ids.kind == "str" else -12345
        self.timed = kind == "timed"

    def check(self, sessions: list[list[Any]], k: int, run: Run | None = None, **options: Any) -> None:
        """One run of all sessions gives the Recommender's answer for each."""
        now = options.pop("now", None)
        items, scores = (run or self.run)(self.feeds.of(sessions, k, now=now, **options))
        assert items.shape == scores.shape == (len(sessions), k)
        for session, row_items, values in zip(sessions, items.tolist(), scores, strict=True):
            expected = self.rec.recommend(session, min(k, 10**6), at=now if self.timed else None, **options)
            count = len(expected)
            filling = "" if isinstance(self.unknown, str) else -1
            assert row_items[count:] == [filling] * (k - count)
            assert np.isneginf(values[count:]).all()
            np.testing.assert_allclose(values[:count], expected.scores, rtol=1e-5, atol=1e-4)
            differing = [place for place in range(count) if row_items[place] != expected.items[place]]
            # Adjacent scores that are equal up to rounding may swap places.
            assert len(differing) <= max(2, count // 50)
            assert set(row_items[: min(count, 10)]) <= set(expected.items[: min(count, 10) + 2])


@pytest.fixture(scope="module", params=KINDS)
def graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Graph:
    return Graph(request.param, tmp_path_factory.mktemp(request.param))


def drawn(graph: Graph, rng: np.random.Generator) -> list[Any]:
    """A session with repeats and unknown ids."""
    length = int(rng.choice(LENGTHS, p=[0.2, 0.2, 0.2, 0.15, 0.1, 0.06, 0.06, 0.03]))
    distinct = rng.integers(0, N, max(1, length // 2 + 1))
    clicks = [graph.ids[place] for place in rng.choice(distinct, length)]
    if rng.random() < 0.3:
        clicks.insert(int(rng.integers(0, length + 1)), graph.unknown)
    return clicks


def test_hidden_items_are_an_input(graph: Graph) -> None:
    rng = np.random.default_rng(11)
    sessions = [drawn(graph, rng) for _ in range(6)] + [[], [graph.unknown]]
    try:
        for share in (0.1, 0.6, 0.98):
            available = rng.random(N) >= share
            graph.rec.hide([graph.ids[place] for place in np.flatnonzero(~available)])
            run = lambda feed, mask=available: graph.run(feed | {"available": mask})  # noqa: E731
            graph.check(sessions, 30, run=run, now=END + HOUR)
            graph.rec.show(graph.ids)
        graph.check(sessions, 30, now=END + HOUR)  # without the input everything is available
    finally:
        graph.rec.show(graph.ids)


def test_random_sessions_under_random_conditions(graph: Graph) -> None:
    rng = np.random.default_rng(3)
    for _ in range(60):
        options: dict[str, Any] = {"exclude_seen": bool(rng.random() < 0.3)}
        if rng.random() < 0.4:
            options["exclude"] = [graph.ids[place] for place in rng.integers(0, N, 7)] + [graph.unknown]
        if rng.random() < 0.4:
            options["allow"] = [graph.ids[place] for place in rng.integers(0, N, rng.integers(0, N))] + [graph.unknown]
        if graph.timed:
            options["now"] = END + int(rng.choice([0, -HOUR, 1000, HOUR, 70 * HOUR, 7000 * HOUR]))
        sessions = [drawn(graph, rng) for _ in range(int(rng.integers(1, 4)))]
        sessions += [[], [graph.unknown] * 3][: int(rng.integers(0, 3))]
        graph.check(sessions, int(rng.choice([1, 5, 20, 70, N])), **options)


def test_no_session_and_no_place(graph: Graph) -> None:
    for sessions, k, shape in (([], 5, (0, 5)), ([[graph.ids[0]]], 0, (1, 0)), ([[graph.ids[0]]], -3, (1, 0))):
        items, scores = graph.run(graph.feeds.of(sessions, k))
        assert items.shape == scores.shape == shape


def test_more_places_than_anybody_needs_are_cut(graph: Graph) -> None:
    items, scores = graph.run(graph.feeds.of([[graph.ids[0]]], 2**62))
    assert items.shape == scores.shape == (1, 10_000)


def test_nothing_allowed_is_nothing_shown(graph: Graph) -> None:
    for options in ({"allow": []}, {"allow": [graph.unknown]}, {"allow": graph.ids[:2], "exclude": graph.ids[:2]}):
        for session in ([graph.ids[0]], []):
            _, scores = graph.run(graph.feeds.of([session], 4, **options))
            assert np.isneginf(scores).all()


def test_a_session_ranks_alike_alone_and_in_a_batch(graph: Graph) -> None:
    rng = np.random.default_rng(8)
    sessions = [drawn(graph, rng)[:40] for _ in range(12)] + [[]]
    now = END if graph.timed else None
    items, scores = graph.run(graph.feeds.of(sessions, 20, now=now))
    for row, session in enumerate(sessions):
        single, values = graph.run(graph.feeds.of([session], 20, now=now))
        np.testing.assert_allclose(values[0], scores[row], rtol=1e-5, atol=1e-5)
        assert (single[0] == items[row]).mean() > 0.9


def test_conditions_of_each_session(graph: Graph) -> None:
    """The graph for Triton: k, lists and flags by row; an answer is as wide as the largest k."""
    now: dict[str, Any] = {"now": END + HOUR} if graph.timed else {}
    graph.check([[graph.ids[3], graph.ids[9]], [], [graph.ids[5]]], 20, run=spread(graph.alone), **now)
    feed = graph.feeds.of([[graph.ids[3], graph.ids[9]]] * 3, 1, now=END)
    exclude = np.array([[graph.ids[7]], [graph.unknown], [graph.ids[9]]], feed["exclude"].dtype)
    tiled = {name: np.tile(value, (3, 1)) for name, value in feed.items()}
    tiled |= {"session": feed["session"], "lengths": feed["lengths"][:, None], "exclude": exclude}
    tiled |= {"k": np.array([[4], [9], [0]]), "exclude_seen": np.array([[True], [False], [False]])}
    items, scores = graph.alone(tiled)
    assert items.shape == (3, 9)
    assert [int(np.isfinite(row).sum()) for row in scores] == [4, 9, 0]
    options: dict[str, Any] = {"at": END} if graph.timed else {}
    clicks = [graph.ids[3], graph.ids[9]]
    assert (
        items[0, :4].tolist()
        == graph.rec.recommend(clicks, 4, exclude=[graph.ids[7]], exclude_seen=True, **options).items
    )
    assert items[1].tolist() == graph.rec.recommend(clicks, 9, **options).items


def test_an_empty_batch_of_the_form_for_triton(graph: Graph) -> None:
    feed = graph.feeds.of([[graph.ids[0]]], 5)
    alone = {"session": feed["session"], "lengths": feed["lengths"][:, None]}
    shared = {name: value[None] for name, value in feed.items() if name not in alone}
    empty = {name: value[:0] for name, value in {**alone, **shared}.items()}
    items, scores = graph.alone(empty)
    assert items.shape == scores.shape == (0, 0)
