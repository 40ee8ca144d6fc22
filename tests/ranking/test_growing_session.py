"""A session that grows click by click ranks as a call with all of its clicks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.ranking.ranker import Ranker
from mtaw_fast.recommender import Recommender
from tests.support.random_bundle import bundle_parts, save_parts
from tests.support.ranking.native_bundles import N, named, same


class TestGrowingSession:
    """`session()` equals `recommend` of the clicks so far, on every prefix and with all backends."""

    @pytest.fixture(params=[("native", "native"), ("native", "numpy"), ("numpy", "native"), ("numpy", "numpy")])
    def rec(self, request: pytest.FixtureRequest, folder: Path) -> Recommender:
        return Recommender.load(folder, *request.param)

    def test_every_prefix_past_max_len(self, rec: Recommender) -> None:
        rng = np.random.default_rng(5)
        clicks: list[Any] = named(rec, rng.integers(0, N, 40))
        clicks[4], clicks[9] = "nobody", None
        visit = rec.session()
        assert same(visit.recommend(15), rec.recommend([], 15))
        for m, click in enumerate(clicks, 1):
            assert visit.click(click) is visit
            for options in ({}, {"exclude_seen": True, "repeats": True}, {"exclude": clicks[:3]}):
                assert same(visit.recommend(15, **options), rec.recommend(clicks[:m], 15, **options))
        known = [item for item in clicks if item not in ("nobody", None)]
        assert visit.clicks == known
        assert len(visit) == len(known)

    def test_first_clicks_timings_and_misuse(self, rec: Recommender) -> None:
        clicks = named(rec, [4, 8, 15])
        visit = rec.session(iter(clicks))
        out = visit.recommend(5, timings=True)
        assert out.timings is not None
        memory = [] if rec.bundle.memory is None else ["memory"]
        assert list(out.timings) == ["lookup", "encode", "retrieve", *memory, "assemble", "total"]
        assert min(out.timings.values()) >= 0
        assert same(out, rec.recommend(clicks, 5))
        for value in (clicks, tuple(clicks), np.array([1])):
            with pytest.raises(UsageError, match=r"click takes ids, not a .*; write click\(\*ids\)"):
                visit.click(value)
        assert same(visit.recommend(5), rec.recommend(clicks, 5))

    def test_many_threads_on_one_session(self, rec: Recommender) -> None:
        """Equal clicks, so that the order of the threads does not matter."""
        click = named(rec, [33])[0]
        visit = rec.session([click])
        by_length = {m: rec.recommend([click] * m, 5) for m in range(1, 34)}

        def use(_: int) -> bool:
            for _ in range(8):
                visit.click(click)
                out = visit.recommend(5)
                if not any(same(out, answer) for answer in by_length.values()):
                    return False
            return True

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(use, range(4)))
        assert same(visit.recommend(5), by_length[33])


def test_a_growing_session_recovers_from_a_failed_call(native: Recommender) -> None:
    """A call that fails midway must not leave clicks half appended."""
    clicks = named(native, [3, 1, 4, 1, 5])
    visit = native.session(clicks[:2])
    visit.recommend()
    visit.click(*clicks[2:])

    class Failing:
        def recommend(self, *arguments: Any) -> Any:
            native._pipeline.ranker.engine.recommend(*arguments)
            raise MemoryError

    broken: Any = object.__new__(Ranker)
    broken.engine, broken._encoder, broken._encode, broken._search = Failing(), native.encoder, None, None
    good = visit._pipeline
    visit._pipeline = lambda: replace(good(), ranker=broken)
    with pytest.raises(MemoryError):
        visit.recommend()
    visit._pipeline = good
    assert same(visit.recommend(), native.recommend(clicks))


def test_memory_of_a_growing_session(tmp_path: Path) -> None:
    save_parts(tmp_path, **bundle_parts(n_items=50, embedding_dim=100, max_session_length=512))
    rec = Recommender.load(tmp_path)
    visit = rec.session()
    assert rec.session(["sku-1"] * 9).n_bytes == 9 * (4 + 8)  # ids and types
    for click in range(400):
        visit.click(f"sku-{click % 50}").recommend(1)
        assert visit.n_bytes <= 512 * len(visit)
