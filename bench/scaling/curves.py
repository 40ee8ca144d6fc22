"""All curves: their axis, what they time, and their sizes.

Logs are those of `mtaw_fast.data.synthetic_log`, with an item for every 100 clicks. Log, data set and tables are made
once for each size and kept in the folder for the later curves.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from bench.retrieval.vectors import clustered_vectors
from bench.scaling.inputs import (
    memory_model,
    pipeline_of,
    plain_model,
    sessions_of,
    shop_model,
    step_work,
)
from bench.scaling.point import Effort, Make, Setting, Work
from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.clicks import ClickOptions
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.memory import MemoryTables
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import options_of
from mtaw_fast.ranking.retrieval import NativeIndex

K = 20
D = 100
STEP_SAMPLES, STEP_ITEMS = 256, 40_000
ITEMS, SHOP_SESSIONS = 20_000, 180_000
LOG_CLICKS = 1_000_000
BLOCK_ROWS = 4096  # of `score`
_QUERIES = 512
_CLICKS = 10  # of a session
_CALLS = 20  # short sessions in a timed call
_CALLS_BYTES = 4e8  # of codes that a timed call reads, about: short searches share a call
_MEAN_LENGTH = 5.6  # clicks of a session of a log, a bit more than the law gives
_ITEM = 100  # clicks for each item of a log
_SAMPLES = 2048


def _train_step(axis: str, setting: Setting) -> Work:
    sizes = {"catalog": STEP_ITEMS, "batch": STEP_SAMPLES, axis: setting.size}
    return step_work(sizes["catalog"], sizes["batch"], D, setting.threads)


def _catalog_scan(setting: Setting) -> Work:
    catalog, queries = clustered_vectors(setting.size, D, _QUERIES)
    index, per = NativeIndex(catalog, quantize(catalog)), _per(setting)

    def call(number: int) -> None:
        for k in range(per):
            row = (number * per + k) % _QUERIES
            index.search(queries[row : row + 1], K)

    return Work(call, per)


def _catalog_recommend(setting: Setting) -> Work:
    pipeline = pipeline_of(plain_model(setting.size, D))
    sessions = [(clicks + 1).tolist() for clicks in sessions_of(setting.size, _CLICKS, _QUERIES)]
    options, per = options_of(pipeline.catalog, K), _per(setting)

    def call(number: int) -> None:
        for k in range(per):
            pipeline.recommend(sessions[(number * per + k) % _QUERIES], options)

    return Work(call, per)


def _per(setting: Setting) -> int:
    return max(1, min(200, int(_CALLS_BYTES / (setting.size * D))))


def _catalog_index(setting: Setting) -> Work:
    catalog, _ = clustered_vectors(setting.size, D, 1)
    return Work(lambda _: NativeIndex(catalog, quantize(catalog)))


def _catalog_ann(setting: Setting) -> Work:
    from mtaw_fast.export.index_build import build

    catalog, _ = clustered_vectors(setting.size, D, 1)
    return Work(lambda _: build("ivfpq", catalog, 0, lambda _: None))


def _log_prepare(ending: str, setting: Setting) -> Work:
    log, folder = setting.folder / f"log-{setting.size}.{ending}", _dataset(setting)
    if not log.exists():
        write_click_log(log, max(setting.size // _ITEM, 1000), int(setting.size / _MEAN_LENGTH), seed=0)

    def call(_: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        prepare_in_partitions(log, folder, ClickOptions(test_days=1.0))

    return Work(call, facts={"log_mb": round(log.stat().st_size / 1e6)})


def _log_tables(setting: Setting) -> Work:
    from mtaw_fast.training.memory_tables import TableMemory, build_tables, training_table_memory
    from mtaw_fast.training.threads import Threads, training_threads

    folder, path = _prepared(setting), _tables(setting)
    built: list[MemoryTables] = []
    facts: dict[str, object] = {}

    def call(_: int) -> None:
        built.clear()
        data, limit = Dataset.load(folder), TableMemory(setting.table_memory, setting.folder)
        with training_threads(Threads(setting.threads)), training_table_memory(limit):
            built.append(build_tables(Config(), data.train, data.n_items))
        facts.update(items=data.n_items, pairs=len(built[0].neighbors), tables_mb=round(built[0].n_bytes / 1e6))

    return Work(call, after=lambda: built[0].save(path), facts=facts)


def _log_evaluate(setting: Setting) -> Work:
    from mtaw_fast.training.trained_model import served_ranks

    if not _tables(setting).exists():
        work = _log_tables(setting)
        work.call(0)
        assert work.after is not None
        work.after()
    memory, dataset = MemoryTables.load(_tables(setting)), Dataset.load(_prepared(setting))
    test = dataset.test
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[:_SAMPLES])
    samples = Samples(test.prefixes.select(rows).without_times(), test.targets[rows], test.session[rows])
    model = memory_model(memory, dataset.n_items, 32)  # the encoder depends on the catalog alone
    return Work(lambda _: served_ranks(model, samples), per=len(samples))


def _dataset(setting: Setting) -> Path:
    return setting.folder / f"log-{setting.size}.dataset"


def _tables(setting: Setting) -> Path:
    return setting.folder / f"log-{setting.size}.tables"


def _prepared(setting: Setting) -> Path:
    if not (_dataset(setting) / "manifest.json").exists():
        _log_prepare("parquet", setting).call(0)
    return _dataset(setting)


def _session_encode(setting: Setting) -> Work:
    model = plain_model(ITEMS, D)
    encoder = NativeEncoder(model.config, model.weights)
    sessions = [Sessions.from_lists([clicks]) for clicks in sessions_of(ITEMS, setting.size, _CALLS)]
    return Work(lambda _: [encoder.encode(session) for session in sessions], _CALLS)


def _session_recommend(setting: Setting) -> Work:
    pipeline = pipeline_of(shop_model(ITEMS, SHOP_SESSIONS, D))
    sessions = [(clicks + 1).tolist() for clicks in sessions_of(ITEMS, setting.size, _CALLS)]
    options = options_of(pipeline.catalog, K)
    return Work(lambda _: [pipeline.recommend(session, options) for session in sessions], _CALLS)


def _batch_recommend(setting: Setting) -> Work:
    pipeline = pipeline_of(shop_model(ITEMS, SHOP_SESSIONS, D))
    sessions = sessions_of(ITEMS, _CLICKS, setting.size)
    options = options_of(pipeline.catalog, K)
    unknown: list[list[Any]] = [[] for _ in range(setting.size)]
    return Work(lambda _: pipeline.recommend_batch(sessions, unknown, options))


def _threads_score(setting: Setting) -> Work:
    import pyarrow as pa
    from pyarrow import parquet

    from mtaw_fast.scoring.plan import Plan, ScoringOptions, sources_of
    from mtaw_fast.scoring.scorer import Scorer

    bundle, source = setting.folder / "shop.bundle", setting.folder / "sessions.parquet"
    if not bundle.exists():
        Bundle.save(bundle, shop_model(ITEMS, SHOP_SESSIONS, D), metrics={}, dataset={"name": "generated"})
        sessions = [(clicks + 1).tolist() for clicks in sessions_of(ITEMS, _CLICKS, BLOCK_ROWS)]
        names = [f"session-{row}" for row in range(len(sessions))]
        parquet.write_table(pa.table({"session_id": names, "items": sessions}), source)
    options = ScoringOptions(k=K)
    scorer = Scorer(bundle, options, setting.threads)
    (block,) = Plan(scorer.version, scorer.isa, options, sources_of([source]), BLOCK_ROWS).blocks()
    return Work(lambda _: scorer.write(block, setting.folder), BLOCK_ROWS)


def _of_clicks(make: Make, setting: Setting) -> Work:
    return make(replace(setting, size=LOG_CLICKS))


_parquet = partial(_log_prepare, "parquet")
_CATALOGS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
_LOGS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 100_000_000)
_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
_ONCE, _FEW, _MANY = Effort(1, 0.0, 0), Effort(3, 3.0), Effort(9, 2.0)


@dataclass(frozen=True, slots=True)
class Curve:
    """A cost along an axis.

    name: the case, for --only and the rows. axis: the growing param. make: returns the work at a size. sizes: the
    measured ones, of which --quick takes two. unit: us, ms or s, of one unit of work. what: that unit in words. effort:
    how long to time each point. fixed: the other params. bytes_each: memory for each unit of the size, about.
    """

    name: str
    axis: str
    make: Make
    sizes: Sequence[int]
    unit: str
    what: str
    effort: Effort = _MANY
    fixed: dict[str, Any] = field(default_factory=dict)
    bytes_each: float = 0


_ONE = {"threads": 1, "d": D}
_SHOP = {**_ONE, "items": 20_000}
CURVES = (
    Curve("catalog-train-step", "catalog", partial(_train_step, "catalog"), _CATALOGS, "ms",
          "a training step on 256 samples, whole softmax, Adam", _FEW, {**_ONE, "batch": 256}, 2120),
    Curve("catalog-scan", "catalog", _catalog_scan, _CATALOGS, "us", "the exact 20 nearest of one query",
          fixed={**_ONE, "batch": 1}, bytes_each=580),
    Curve("catalog-recommend", "catalog", _catalog_recommend, _CATALOGS, "us",
          "a ranking for a session of 10 clicks, without a memory", fixed={**_ONE, "batch": 1}, bytes_each=1360),
    Curve("catalog-index-exact", "catalog", _catalog_index, _CATALOGS, "ms", "building the exact index",
          Effort(3, 0.0, 0), _ONE, 880),
    Curve("catalog-index-ladder", "catalog", _catalog_ann, _CATALOGS[:5], "s",
          "building the approximate index (IVF-PQ), its plan not included", _ONCE, _ONE),
    Curve("log-prepare", "log", _parquet, _LOGS, "s", "preparing a log (Parquet) in partitions",
          _ONCE, {"threads": 2}, 40),
    Curve("log-prepare-csv", "log", partial(_log_prepare, "csv"), _LOGS, "s", "the same from CSV",
          _ONCE, {"threads": 2}, 40),
    Curve("log-tables", "log", _log_tables, _LOGS, "s", "the data set loaded and the memory's tables built",
          _ONCE, {"threads": 2}, 40),
    Curve("log-evaluate", "log", _log_evaluate, _LOGS, "us", "a test sample ranked with the memory",
          Effort(2, 0.0), {"threads": 1}, 65),  # data set and tables are mapped
    Curve("session-encode", "clicks", _session_encode, _LENGTHS, "us", "a session's vector", fixed=_SHOP),
    Curve("session-recommend", "clicks", _session_recommend, _LENGTHS, "us", "a ranking with the memory", fixed=_SHOP),
    Curve("batch-recommend", "batch", _batch_recommend, _BATCHES, "us",
          "a batch of sessions of 10 clicks ranked with the memory", fixed=_SHOP),
    Curve("batch-train-step", "batch", partial(_train_step, "batch"), _BATCHES, "ms", "a training step, 40,000 items",
          _FEW, {**_ONE, "items": 40_000}),
    Curve("threads-train-step", "threads", partial(_train_step, "threads"), (1, 2), "ms",
          "a training step on 256 samples, 40,000 items", _FEW, {"batch": 256, "d": D, "items": 40_000}),
    Curve("threads-score", "threads", _threads_score, (1, 2), "us",
          "a session of a block that `score` ranks and writes", _FEW, {"d": D, "items": 20_000}),
    Curve("threads-prepare", "threads", partial(_of_clicks, _parquet), (1, 2), "s",
          "preparing 1,000,000 clicks (Parquet)", _FEW, {"clicks": 1_000_000}),
    Curve("threads-tables", "threads", partial(_of_clicks, _log_tables), (1, 2), "s", "the tables of 1,000,000 clicks",
          _FEW, {"clicks": 1_000_000}),
)  # fmt: skip
