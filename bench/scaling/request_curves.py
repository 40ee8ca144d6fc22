"""Costs that grow with a session's clicks or the batch, and those that fall with the threads."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bench.scaling import log_curves
from bench.scaling.catalog_curves import STEP_SAMPLES, K
from bench.scaling.inputs import pipeline_of, plain_model, sessions_of, shop_model, step_work
from bench.scaling.point import Setting, Work
from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import options_of

ITEMS, SHOP_SESSIONS = 20_000, 180_000
STEP_ITEMS = 40_000
LOG_CLICKS = 1_000_000
_CLICKS = 10
_SESSIONS = 64
_CALLS = 20  # in a timed call
_BLOCK_ROWS = 4096


def encode(setting: Setting) -> Work:
    """Time encoding sessions of `size` clicks, one at a time."""
    model = plain_model(ITEMS, setting.d)
    encoder = NativeEncoder(model.config, model.weights)
    sessions = _alone(setting.size)
    return Work(lambda _: [encoder.encode(session) for session in sessions[:_CALLS]], _CALLS)


def recommend(setting: Setting) -> Work:
    """Time ranking sessions of `size` clicks with the memory through the path that serves, one at a time."""
    pipeline = pipeline_of(shop_model(ITEMS, SHOP_SESSIONS, setting.d))
    sessions = [(session.items + 1).tolist() for session in _alone(setting.size)]
    options = options_of(pipeline.catalog, K)
    return Work(lambda _: [pipeline.recommend(session, options) for session in sessions[:_CALLS]], _CALLS)


def features(setting: Setting) -> Work:
    """Time the memory's candidates and features of sessions of `size` clicks, one at a time."""
    memory = shop_model(ITEMS, SHOP_SESSIONS, 8).memory
    assert memory is not None
    queries = memory.queries(ITEMS)
    begin, end, sessions = np.zeros(1, np.int64), np.array([setting.size], np.int64), _alone(setting.size)
    return Work(lambda _: [queries.features(session.items, begin, end) for session in sessions[:_CALLS]], _CALLS)


def recommend_batch(setting: Setting) -> Work:
    """Time ranking a batch of `size` sessions at once."""
    pipeline = pipeline_of(shop_model(ITEMS, SHOP_SESSIONS, setting.d))
    sessions = sessions_of(ITEMS, _CLICKS, setting.size)
    options = options_of(pipeline.catalog, K)
    unknown: list[list[Any]] = [[] for _ in range(setting.size)]
    return Work(lambda _: pipeline.recommend_batch(sessions, unknown, options))


def train_step(setting: Setting) -> Work:
    """Time a step on `size` samples."""
    return step_work(STEP_ITEMS, setting.size, setting.d, setting.threads)


def train_step_on_threads(setting: Setting) -> Work:
    """Time a step with `size` threads for the loss."""
    return step_work(STEP_ITEMS, STEP_SAMPLES, setting.d, setting.threads)


def score_on_threads(setting: Setting) -> Work:
    """Time a block as `mtaw-fast score` ranks and writes it, with `size` threads."""
    import pyarrow as pa
    from pyarrow import parquet

    from mtaw_fast.bundle import Bundle
    from mtaw_fast.scoring.plan import Plan, ScoringOptions, sources_of
    from mtaw_fast.scoring.scorer import Scorer

    bundle, source = setting.folder / "shop.bundle", setting.folder / "sessions.parquet"
    if not bundle.exists():
        dataset = {"name": "generated", "fingerprint": ""}
        Bundle.save(bundle, shop_model(ITEMS, SHOP_SESSIONS, setting.d), metrics={}, dataset=dataset)
        sessions = [(clicks + 1).tolist() for clicks in sessions_of(ITEMS, _CLICKS, _BLOCK_ROWS)]
        names = [f"session-{row}" for row in range(len(sessions))]
        parquet.write_table(pa.table({"session_id": names, "items": sessions}), source)
    options = ScoringOptions(k=K)
    scorer = Scorer(bundle, options, setting.threads)
    (block,) = Plan(scorer.version, scorer.isa, options, sources_of([source]), _BLOCK_ROWS).blocks()
    return Work(lambda _: scorer.write(block, setting.folder), _BLOCK_ROWS)


def prepare_on_threads(setting: Setting) -> Work:
    """Time preparing a log with `size` threads of Polars."""
    return log_curves.prepare(replace(setting, size=LOG_CLICKS))


def tables_on_threads(setting: Setting) -> Work:
    """Time building the tables with `size` threads."""
    return log_curves.tables(replace(setting, size=LOG_CLICKS))


def _alone(length: int) -> list[Sessions]:
    sessions = sessions_of(ITEMS, length, _SESSIONS)
    return [Sessions(clicks.copy(), offsets_of(np.array([length]))) for clicks in sessions]
