"""All that runs on Ray, once and small, in a process of its own: `python -m tests.support.integrations.smoke
FOLDER`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.readers import ClickOptions, clicks
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.integrations.cluster import cluster
from mtaw_fast.integrations.ray_prepare import prepare_on_ray
from mtaw_fast.integrations.ray_scoring import score_on_ray
from mtaw_fast.integrations.ray_serve import health, undeploy
from mtaw_fast.integrations.sharded_index import ShardedIndex
from mtaw_fast.ranking.retrieval import NativeIndex
from mtaw_fast.scoring.plan import Plan, ScoringOptions, output_folder, sources_of
from mtaw_fast.scoring.scorer import Scorer
from tests.support.integrations.replicas import Replicas, free_port
from tests.support.integrations.shard_sources import D, catalog, sources
from tests.support.random_bundle import contents, save_random
from tests.support.redis_server import Redis
from tests.support.scoring import random_sessions, write_sessions

CPUS = 4


def scoring(folder: Path) -> None:
    """`score --ray` writes what the local path writes."""
    bundle = folder / "bundle"
    path = write_sessions(folder / "few.parquet", random_sessions(900, n_items=200), group=250)
    scorer = Scorer(bundle, ScoringOptions(k=5))
    plan = Plan(scorer.version, scorer.isa, scorer.options, sources_of([path]), 300)
    for name in ("local", "ray"):
        with output_folder(folder / name, plan) as blocks:
            if name == "ray":
                score_on_ray(bundle, plan, blocks, folder / name, actors=1)
            else:
                for block in blocks:
                    scorer.write(block, folder / name)
    assert contents(folder / "local") == contents(folder / "ray")


def preparing(folder: Path) -> None:
    """`prepare --ray` makes the set of one process."""
    write_click_log(folder / "clicks.csv", n_items=300, n_sessions=2000, seed=0)
    options = ClickOptions(test_days=3)
    clicks.read(folder / "clicks.csv", options).save(folder / "one")
    prepare_on_ray(folder / "clicks.csv", folder / "parts", options, partitions=2)
    assert Dataset.load(folder / "one").fingerprint == Dataset.load(folder / "parts").fingerprint


def shards() -> None:
    """Shards find what one index finds."""
    queries = np.random.default_rng(0).normal(size=(3, D)).astype(np.float32)
    allowed = Filter(np.arange(len(catalog())) % 3 > 0)
    with ShardedIndex.start(sources([1700]), timeout=60.0, cpus=0.01) as index:
        ours, expected = index.search(queries, 20, allowed), NativeIndex(catalog()).search(queries, 20, allowed)
    assert [array.tobytes() for array in ours] == [array.tobytes() for array in expected]


def replicas(folder: Path) -> None:
    """A replica answers, and keeps a session in Redis."""
    redis = Redis(folder / "redis")
    try:
        service = Replicas(folder / "bundle", free_port(), "smoke", replicas=1, sessions=redis.url)
        assert service.ask("GET", "/v1/bundle").json["version"] == service.version
        for count in (1, 2):
            reply = service.ask("POST", "/v1/sessions/visit/click", {"items": ["sku-11"]})
            assert (reply.status, reply.json["clicks"]) == (200, count)
        service.assert_no_error()
        assert len(health("smoke").replicas) == 1
        undeploy("smoke")
    finally:
        redis.stop()


def main() -> None:
    """Run all, and tell what each took."""
    folder = Path(sys.argv[1])
    save_random(folder / "bundle", embedding_dim=24)
    (folder / "redis").mkdir()
    began = time.perf_counter()

    def report(what: str) -> None:
        print(f"{time.perf_counter() - began:5.1f} s  {what}", flush=True)

    with cluster(cpus=CPUS):
        report("Ray is there")
        preparing(folder)
        report("prepared")
        shards()
        report("shards")
        scoring(folder)
        report("scored")
        replicas(folder)
        report("replicas")
        from ray import serve

        serve.shutdown()
    report("ended")


if __name__ == "__main__":
    main()
