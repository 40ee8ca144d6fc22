"""All curves: their axis, what they time, and their sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.scaling import catalog_curves, log_curves, request_curves
from bench.scaling.point import Effort, Make

_ONCE = Effort(1, 0.0, 0)
_FEW = Effort(3, 3.0)
_MANY = Effort(9, 2.0)
_CATALOGS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
_LOGS = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000, 100_000_000)
_LENGTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
_BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
_THREADS = (1, 2)
UNITS = {"us": 1e6, "ms": 1e3, "s": 1.0}


def _little(_: int) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Curve:
    """A cost along an axis.

    name: the case, for --only and the rows. axis: the growing param. make: returns the work at a size. sizes, quick:
    the measured sizes, and those of --quick. unit: us, ms or s, of one unit of work. what: that unit in words. effort:
    how long to time each point. fixed: the other params; `threads` and `d` are settings. needs: bytes that a size
    takes, about; 0 for little.
    """

    name: str
    axis: str
    make: Make
    sizes: Sequence[int]
    quick: Sequence[int]
    unit: str
    what: str
    effort: Effort = _MANY
    fixed: dict[str, Any] = field(default_factory=dict)
    needs: Callable[[int], int] = _little

    @property
    def metric(self) -> str:
        """The name of its time in the rows."""
        return f"latency_{self.unit}"


def _times_d(arrays: float, d: int, more: int) -> Callable[[int], int]:
    """Return the bytes of float32 arrays [N, d], plus `more` an item."""
    return lambda n_items: int((arrays * 4 * d + more) * n_items)


def _log_bytes(clicks: int) -> int:
    return 40 * clicks


def _with_tables_bytes(clicks: int) -> int:
    return 65 * clicks  # data set and tables, mapped


@dataclass(frozen=True, slots=True)
class _OverCatalogs:
    """A case at several dimensions. arrays: float32[N, d] in memory at once, about; more: further bytes an item."""

    name: str
    make: Make
    unit: str
    what: str
    effort: Effort
    arrays: float
    batch: dict[str, Any]
    more: int = 0

    def at(self, d: int) -> Curve:
        """Return the curve at `d` dimensions."""
        fixed = {"threads": 1, "d": d, **self.batch}
        return Curve(
            self.name, "catalog", self.make, _CATALOGS, _CATALOGS[:2], self.unit, self.what, self.effort, fixed,
            _times_d(self.arrays, d, self.more),
        )  # fmt: skip


_OVER_CATALOGS = (
    _OverCatalogs(
        "catalog-train-step", catalog_curves.train_step, "ms", "a training step on 256 samples, whole softmax, Adam",
        _FEW, 4.1, {"batch": 256}, 480,
    ),
    _OverCatalogs(
        "catalog-scan", catalog_curves.scan, "us", "the exact 20 nearest of one query", _MANY, 1.45, {"batch": 1}
    ),
    _OverCatalogs(
        "catalog-recommend", catalog_curves.recommend, "us", "a ranking for a session of 10 clicks, without a memory",
        _MANY, 3.4, {"batch": 1},
    ),
    _OverCatalogs(
        "catalog-index-exact", catalog_curves.exact_index, "ms", "building the exact index", Effort(3, 0.0, 0), 2.2, {}
    ),
)  # fmt: skip

CURVES = (
    # Narrow vectors reach catalogs whose wide vectors do not fit into memory.
    *(curve.at(d) for curve in _OVER_CATALOGS for d in (100, 32)),
    Curve(
        "catalog-index-ladder", "catalog", catalog_curves.ann_index, _CATALOGS[:5], _CATALOGS[:2], "s",
        "building the approximate index (IVF-PQ), its plan not included", _ONCE, {"threads": 1, "d": 100},
    ),
    Curve("log-prepare", "log", log_curves.prepare, _LOGS, _LOGS[:2], "s", "preparing a log (Parquet) in partitions",
          _ONCE, {"threads": 2}, _log_bytes),
    Curve("log-prepare-csv", "log", log_curves.prepare_csv, _LOGS, _LOGS[:2], "s", "the same from CSV",
          _ONCE, {"threads": 2}, _log_bytes),
    Curve("log-tables", "log", log_curves.tables, _LOGS, _LOGS[:2], "s",
          "the data set loaded and the memory's tables built", _ONCE, {"threads": 2}, _log_bytes),
    Curve("log-ranker", "log", log_curves.ranker, _LOGS, _LOGS[:2], "us",
          "a query of the ranker's fit: candidates, features, step", Effort(2, 0.0, 0), {"threads": 1},
          _with_tables_bytes),
    Curve("log-evaluate", "log", log_curves.evaluate, _LOGS, _LOGS[:2], "us",
          "a test sample ranked with the memory", Effort(2, 0.0, 1), {"threads": 1}, _with_tables_bytes),
    Curve("session-encode", "clicks", request_curves.encode, _LENGTHS, _LENGTHS[:2], "us", "a session's vector",
          fixed={"threads": 1, "d": 100, "items": 20_000}),
    Curve("session-recommend", "clicks", request_curves.recommend, _LENGTHS, _LENGTHS[:2], "us",
          "a ranking with the memory", fixed={"threads": 1, "d": 100, "items": 20_000}),
    Curve("session-features", "clicks", request_curves.features, _LENGTHS, _LENGTHS[:2], "us",
          "a session's candidates and their features", fixed={"threads": 1, "items": 20_000}),
    Curve("batch-recommend", "batch", request_curves.recommend_batch, _BATCHES, _BATCHES[:2], "us",
          "a batch of sessions of 10 clicks ranked with the memory", fixed={"threads": 1, "d": 100, "items": 20_000}),
    Curve("batch-train-step", "batch", request_curves.train_step, _BATCHES, _BATCHES[:2], "ms",
          "a training step, 40,000 items", _FEW, {"threads": 1, "d": 100, "items": 40_000}),
    Curve("threads-train-step", "threads", request_curves.train_step_on_threads, _THREADS, _THREADS, "ms",
          "a training step on 256 samples, 40,000 items", _FEW, {"batch": 256, "d": 100, "items": 40_000}),
    Curve("threads-score", "threads", request_curves.score_on_threads, _THREADS, _THREADS, "us",
          "a session of a block that `score` ranks and writes", _FEW, {"d": 100, "items": 20_000}),
    Curve("threads-prepare", "threads", request_curves.prepare_on_threads, _THREADS, _THREADS, "s",
          "preparing 1,000,000 clicks (Parquet)", _FEW, {"clicks": 1_000_000}),
    Curve("threads-tables", "threads", request_curves.tables_on_threads, _THREADS, _THREADS, "s",
          "the tables of 1,000,000 clicks", _FEW, {"clicks": 1_000_000}),
)  # fmt: skip
