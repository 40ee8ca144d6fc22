"""Shards in real actors: to the bit one index, with ties, filters and empty shards; and what one that is away does."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtaw_fast.data.filters import Filter
from mtaw_fast.errors import BundleError, MissingPackageError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.integrations.sharded_index import ShardedIndex, ShardError
from mtaw_fast.integrations.shards import BundleRows, bundle_rows
from mtaw_fast.ranking.encoders import make_encoder
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.recommender import Recommender
from tests.support.integrations.nodes import kill_node, second_node
from tests.support.integrations.shard_sources import N_ITEMS, CatalogRows, D, catalog, sources
from tests.support.random_bundle import save_random
from tests.support.service.running import eventually

CUTS = [1700, 1700, 1703, 3001]  # an empty shard, one of three items, and two whose filters' bits begin within a byte
PATIENT = 30.0


@pytest.fixture(scope="module")
def one() -> NativeIndex:
    """What the shards must equal."""
    return NativeIndex(catalog())


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, the second shard that has items does not load."""
    return tmp_path_factory.mktemp("shards") / "gate"


@pytest.fixture(scope="module")
def sharded(ray_here: Any, gate: Path) -> Iterator[ShardedIndex]:
    """Five shards."""
    with ShardedIndex.start(sources(CUTS, gate, at=3), timeout=PATIENT, cpus=0.01) as index:
        yield index


def queries(n: int, seed: int = 0) -> np.ndarray:
    """float32[n, d]"""
    return np.random.default_rng(seed).normal(size=(n, D)).astype(np.float32)


def shard_processes() -> list[psutil.Process]:
    """The actors that hold shards, below this process."""
    children = psutil.Process().children(recursive=True)
    return [actor for actor in children if actor.name() == "ray::Shard" or "ray::Shard" in " ".join(actor.cmdline())]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(0, 5),
    k=st.sampled_from([1, 2, 20, 700, N_ITEMS, N_ITEMS + 9]),
    share=st.sampled_from([None, 0.0, 0.001, 0.3, 1.0]),
    scale=st.sampled_from([1.0, 16.0]),
)
def test_it_is_one_index(
    sharded: ShardedIndex, one: NativeIndex, seed: int, n: int, k: int, share: float | None, scale: float
) -> None:
    allowed = None if share is None else Filter(np.random.default_rng(seed).random(N_ITEMS) < share)
    batch = queries(n, seed)
    for _ in range(2):  # the second time, the shards know the filter
        answer = sharded.find(batch, k, allowed, scale=scale)
        assert not answer.partial
        for ours, expected in zip((answer.ids, answer.scores), one.search(batch, k, allowed, scale=scale), strict=True):
            assert (ours.dtype, ours.shape, ours.tobytes()) == (expected.dtype, expected.shape, expected.tobytes())


def test_many_queries_and_filters(sharded: ShardedIndex, one: NativeIndex) -> None:
    batch = queries(1500)  # more bytes than are sent shard by shard
    assert sharded.search(batch, 20)[0].tobytes() == one.search(batch, 20)[0].tobytes()
    filters = [Filter(np.arange(N_ITEMS) % 20 == remainder) for remainder in range(20)]  # more than a shard keeps
    for allowed in (*filters, *filters):
        assert sharded.search(batch[:2], 9, allowed)[0].tobytes() == one.search(batch[:2], 9, allowed)[0].tobytes()


def test_a_recommender_over_it(ray_here: Any, tmp_path: Path) -> None:
    save_random(tmp_path / "bundle", n_items=500)
    whole = Recommender.load(tmp_path / "bundle")
    with ShardedIndex.start(bundle_rows(tmp_path / "bundle", 3), timeout=PATIENT, cpus=0.01) as index:
        assert [len(part) for part in index.ranges] == [166, 167, 167]
        split = Recommender(whole.bundle, make_encoder("auto", whole.bundle), index)
        for session in (["sku-3"], ["sku-400", "sku-3", "nobody"], []):
            for conditions in ({}, {"exclude_seen": True}, {"allow": [f"sku-{i}" for i in range(50)]}):
                ours, expected = split.recommend(session, 20, **conditions), whole.recommend(session, 20, **conditions)
                assert (ours.items, ours.scores.tobytes()) == (expected.items, expected.scores.tobytes())


def test_a_shard_that_is_killed_is_missing_until_it_is_back(
    sharded: ShardedIndex, one: NativeIndex, gate: Path
) -> None:
    batch, mask = queries(3, 5), np.ones(N_ITEMS, dtype=bool)
    gate.touch()  # keeps the shard from loading, as long vectors would
    victims = [process for process in shard_processes() if process.pid == _pid_of(sharded, 3)]
    assert len(victims) == 1
    victims[0].kill()
    eventually(lambda: sharded.find(batch, 20, timeout=0.3, late="partial").partial)
    begun = time.monotonic()
    answer = sharded.find(batch, 20, timeout=0.3, late="partial")
    assert time.monotonic() - begun < 5
    assert answer.missing == (range(1703, 3001),)
    mask[1703:3001] = False
    expected = one.search(batch, 20, Filter(mask))
    assert (answer.ids.tobytes(), answer.scores.tobytes()) == (expected[0].tobytes(), expected[1].tobytes())
    with pytest.raises(ShardError, match=r"shard 3 \(items 1703 to 3000\) .*ask for partial answers"):
        sharded.find(batch, 20, timeout=0.3, late="error")
    gate.unlink()
    eventually(lambda: not sharded.find(batch, 20, timeout=0.3, late="partial").partial)
    assert sharded.search(batch, 20)[0].tobytes() == one.search(batch, 20)[0].tobytes()


def _pid_of(index: ShardedIndex, shard: int) -> int:
    """The process of a shard."""
    import ray

    remote = index._actors[shard].__ray_call__.remote(lambda _: __import__("os").getpid())
    return ray.get(remote)


def test_nobody_answers(sharded: ShardedIndex) -> None:
    answer = sharded.find(queries(2), 3, timeout=1e-6, late="partial")
    assert len(answer.missing) >= 1
    if len(answer.missing) == 4:
        assert (answer.ids == -1).all()
    with pytest.raises(ShardError, match="did not answer within 1e-06 s"):
        sharded.find(queries(2), 3, timeout=1e-6)


def test_what_makes_no_sense(sharded: ShardedIndex, ray_here: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = queries(1)
    for call in (
        lambda: sharded.search(batch[:, :5], 3), lambda: sharded.search(batch, 0),
        lambda: sharded.search(batch, 3, Filter(np.ones(7, dtype=bool))), lambda: sharded.search(batch * np.nan, 3),
        lambda: sharded.search(batch, 3, scale=0.0), lambda: sharded.find(batch, 3, timeout=0),
        lambda: sharded.find(batch, 3, late="never"), lambda: ShardedIndex.start([]),  # type: ignore[arg-type]
        lambda: ShardedIndex.attach("nothing"), lambda: ShardedIndex.start([CatalogRows(0, 5)], timeout=-1),
    ):  # fmt: skip
        with pytest.raises(UsageError):
            call()
    with pytest.raises(ShardError, match=r"shard 1 failed: rows\.bin is not there"):
        ShardedIndex.start([CatalogRows(0, 5), CatalogRows(5, 9, broken=True)], cpus=0.01)
    with monkeypatch.context() as patch:
        patch.setattr(ray_here, "is_initialized", lambda: False)
        with pytest.raises(UsageError, match=r"call ray\.init first"):
            ShardedIndex.start([CatalogRows(0, 5)])
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(MissingPackageError, match=re.escape(install_command("ray"))):
            ShardedIndex.start([CatalogRows(0, 5)])


@pytest.mark.ray
def test_named_shards_outlive_the_process_that_started_them(ray_here: Any, one: NativeIndex) -> None:
    script = (
        "import os, sys, ray; from mtaw_fast.integrations.sharded_index import ShardedIndex\n"
        "from tests.support.integrations.shard_sources import sources\n"
        "ray.init(sys.argv[1], logging_level='ERROR')\n"
        "ShardedIndex.start(sources([900]), cpus=0.01)\n"
        "ShardedIndex.start(sources([900]), cpus=0.01, name='kept')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    before = {process.pid for process in shard_processes()}
    address = ray_here.get_runtime_context().gcs_address
    assert subprocess.run([sys.executable, "-c", script, address], check=False, timeout=90).returncode == -9
    with ShardedIndex.attach("kept", timeout=PATIENT) as index:
        batch = queries(3)
        assert index.search(batch, 20)[0].tobytes() == one.search(batch, 20)[0].tobytes()
        # Those without a name went with their process.
        eventually(lambda: len({process.pid for process in shard_processes()} - before) == 2, 60)
        with pytest.raises(UsageError, match="name"):
            ShardedIndex.start(sources([900]), cpus=0.01, name="kept")


@pytest.mark.ray
def test_a_shard_whose_node_dies_is_started_on_another(ray_here: Any, one: NativeIndex) -> None:
    batch, mask = queries(3), np.ones(N_ITEMS, dtype=bool)
    mask[2000:] = False
    local = ShardedIndex.start(sources([2000])[:1], timeout=PATIENT, cpus=0.01)
    with second_node(ray_here, "spare") as first, local:
        remote = ShardedIndex.start(
            sources([2000])[1:], timeout=PATIENT, cpus=0.01, options={"resources": {"spare": 1}}
        )
        index = ShardedIndex(ray_here, [*local._actors, *remote._actors], PATIENT, "error")
        assert index.search(batch, 20)[0].tobytes() == one.search(batch, 20)[0].tobytes()
        kill_node(first)
        answer = index.find(batch, 20, timeout=1.0, late="partial")
        assert answer.missing == (range(2000, N_ITEMS),)
        assert answer.ids.tobytes() == one.search(batch, 20, Filter(mask))[0].tobytes()
        with pytest.raises(ShardError, match="shard 1"):
            index.find(batch, 20, timeout=1.0)
        with second_node(ray_here, "spare"), remote:
            eventually(lambda: not index.find(batch, 20, timeout=1.0, late="partial").partial, 180)
            assert index.search(batch, 20)[0].tobytes() == one.search(batch, 20)[0].tobytes()


def test_another_bundle_on_a_machine_is_refused(ray_here: Any, tmp_path: Path) -> None:
    save_random(tmp_path / "bundle", n_items=50)
    rows = [BundleRows(str(tmp_path / "bundle"), 0, 50, "0" * 16)]
    with pytest.raises(ShardError, match=r"is bundle [0-9a-f]{16}, but the other shards have 0{16}") as caught:
        ShardedIndex.start(rows, cpus=0.01)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="does not exist"):
        bundle_rows(tmp_path / "none", 2)
    with pytest.raises(UsageError, match="n_shards"):
        bundle_rows(tmp_path / "bundle", 0)
