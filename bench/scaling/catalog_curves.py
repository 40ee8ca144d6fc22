"""Costs that grow with the catalog: training step, exact search, ranking, building the indexes."""

from __future__ import annotations

import numpy as np

from bench.retrieval.vectors import clustered_vectors
from bench.scaling.inputs import pipeline_of, plain_model, sessions_of, step_work
from bench.scaling.point import Setting, Work
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.ranking.options import options_of
from mtaw_fast.ranking.retrieval import NativeIndex

K = 20
STEP_SAMPLES = 256
_QUERIES = 512
_CLICKS = 10
_CALLS_BYTES = 4e8  # bytes of codes that a timed call reads, about: short searches share a call


def train_step(setting: Setting) -> Work:
    """Time the trainer's own step: loss over the whole catalog, clipping, Adam."""
    return step_work(setting.size, STEP_SAMPLES, setting.d, setting.threads)


def scan(setting: Setting) -> Work:
    """Time one query at a time through the exact index."""
    catalog, queries = clustered_vectors(setting.size, setting.d, _QUERIES)
    index = NativeIndex(catalog, quantize(catalog))
    per = _per(setting)

    def call(number: int) -> None:
        for k in range(per):
            row = (number * per + k) % _QUERIES
            index.search(queries[row : row + 1], K)

    return Work(call, per)


def recommend(setting: Setting) -> Work:
    """Time one session of external ids at a time, through the path that serves."""
    pipeline = pipeline_of(plain_model(setting.size, setting.d))
    sessions = [(clicks + 1).tolist() for clicks in sessions_of(setting.size, _CLICKS, _QUERIES)]
    options, per = options_of(pipeline.catalog, K), _per(setting)

    def call(number: int) -> None:
        for k in range(per):
            pipeline.recommend(sessions[(number * per + k) % _QUERIES], options)

    return Work(call, per)


def exact_index(setting: Setting) -> Work:
    """Time building an index from unit vectors."""
    catalog, _ = clustered_vectors(setting.size, setting.d, 1)
    return Work(lambda _: NativeIndex(catalog, quantize(catalog)))


def ann_index(setting: Setting) -> Work:
    """Time building the lists and codes of the approximate index, on FAISS's threads."""
    from mtaw_fast.export.faiss_build import build

    catalog, _ = clustered_vectors(setting.size, setting.d, 1)
    return Work(lambda _: build("ivfpq", catalog, 0, lambda _: None))


def _per(setting: Setting) -> int:
    return max(1, min(200, int(_CALLS_BYTES / (setting.size * np.float32(setting.d)))))
