"""What grows with the catalog: the training step, the exact scan, a ranking, and building the indexes."""

from __future__ import annotations

import numpy as np

from bench.retrieval.clustered import clustered_vectors
from bench.scaling.inputs import pipeline_of, plain_model, sessions_of
from bench.scaling.point import Setting, Work
from bench.scaling.steps import step_work
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.ranking.options import options_of
from mtaw_fast.ranking.retrieval import NativeIndex

K = 20
STEP_SAMPLES = 256
_QUERIES = 512
_CLICKS = 10
_CALLS_BYTES = 4e8  # bytes of codes that a timed call reads, about: short searches are timed many at a time


def train_step(setting: Setting) -> Work:
    """The trainer's own step: loss over the whole catalog, clipping, Adam."""
    return step_work(setting.size, STEP_SAMPLES, setting.d, setting.threads)


def scan(setting: Setting) -> Work:
    """One query at a time through the exact index."""
    catalog, queries = clustered_vectors(setting.size, setting.d, _QUERIES)
    index = NativeIndex(catalog, quantize(catalog))
    per = _per(setting)

    def call(number: int) -> None:
        for k in range(per):
            one = (number * per + k) % _QUERIES
            index.search(queries[one : one + 1], K)

    return Work(call, per)


def recommend(setting: Setting) -> Work:
    """One session of external ids at a time, through the path that serves."""
    pipeline = pipeline_of(plain_model(setting.size, setting.d))
    sessions = [(one + 1).tolist() for one in sessions_of(setting.size, _CLICKS, _QUERIES)]
    options, per = options_of(pipeline.catalog, K), _per(setting)

    def call(number: int) -> None:
        for k in range(per):
            pipeline.recommend(sessions[(number * per + k) % _QUERIES], options)

    return Work(call, per)


def exact_index(setting: Setting) -> Work:
    """From unit vectors to an index that answers."""
    catalog, _ = clustered_vectors(setting.size, setting.d, 1)
    return Work(lambda _: NativeIndex(catalog, quantize(catalog)))


def ladder(setting: Setting) -> Work:
    """The lists and codes of the approximate index, on FAISS's threads."""
    from mtaw_fast.export.faiss_build import build

    catalog, _ = clustered_vectors(setting.size, setting.d, 1)
    return Work(lambda _: build("ivfpq", catalog, 0, lambda _: None))


def _per(setting: Setting) -> int:
    return max(1, min(200, int(_CALLS_BYTES / (setting.size * np.float32(setting.d)))))
