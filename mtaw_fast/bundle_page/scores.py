"""The metrics of the page: measured on a data set next to the baselines, or those of the training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from mtaw_fast.bundle import Bundle
from mtaw_fast.config.type_weights import TypeWeights
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import DataWarning
from mtaw_fast.evaluation.measuring import NDCG, OF_LISTS, RECALL
from mtaw_fast.evaluation.metrics import METRICS
from mtaw_fast.recommender import Recommender
from mtaw_fast.workflow import Progress, evaluate

Intervals = Mapping[str, Any]
_DRAWN = "P@20"  # by slice


def evaluated(
    recommender: Recommender,
    dataset: Dataset,
    split: Literal["test", "validation"],
    weights: TypeWeights | None,
    slices: Sequence[str] | None,
    progress: Progress | None,
) -> dict[str, Any]:
    """Return charts by slice, tables of the bundle and the baselines on a data set's samples, notes and warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # the page shows them
        result = evaluate(
            recommender, dataset, split=split, weights=weights, baselines=True, slices=slices, progress=progress
        )
    reports = {"this bundle": result.report, **result.baselines}
    more = {name: (report.more, report.more_intervals) for name, report in reports.items()}
    tables = [
        _table("all targets", {name: (report.metrics, report.intervals) for name, report in reports.items()}),
        _table("order, and all targets to come", more, (*NDCG, *RECALL)),
        _table("what the lists are like", more, OF_LISTS),
    ]
    if result.report.weighted:
        text = ", ".join(f"{name}={weight:g}" for name, weight in result.weights.items())
        weighted = {name: (report.weighted, report.weighted_intervals) for name, report in reports.items()}
        tables.append(_table(f"targets weighted by type ({text})", weighted))
    parts = {
        f"repeats ({result.report.repeat_samples:,})": result.report.repeat,
        f"others ({result.report.samples - result.report.repeat_samples:,})": result.report.non_repeat,
    }
    if len(result.report.by_type) > 1:
        parts |= {f"{kind} ({int(metrics['samples']):,})": metrics for kind, metrics in result.report.by_type.items()}
        parts |= {
            f"{kind}, new to the session ({int(metrics['samples']):,})": metrics
            for kind, metrics in result.report.first_by_type.items()
        }
    tables.append(_table("this bundle, by the target", {name: (metrics, {}) for name, metrics in parts.items()}))
    notes = [f"{result.report.samples:,} {split} samples of {result.report.sessions:,} sessions of {result.name}."]
    if result.unseen_targets:
        notes.append(
            f"{result.unseen_targets:,} more targets are items that training never saw; they are left out here."
        )
    return {
        "measured": True,
        "charts": _charts(result.report.slices),
        "drawn": _DRAWN,
        "tables": tables,
        "notes": notes,
        "diversity_by": result.diversity_by,
        "warnings": result.warnings,
    }


def _charts(slices: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a chart a slice: bars of a metric with their intervals, on one scale for all charts."""
    bounds = [
        metrics["intervals"].get(_DRAWN, (0.0, metrics[_DRAWN]))[1]
        for values in slices.values()
        for metrics in values.values()
    ]
    largest = max(bounds, default=0.0) or 1.0
    return [
        {
            "name": name,
            "rows": [
                {
                    "label": label,
                    "samples": f"{metrics['samples']:,}",
                    **_cell(metrics, metrics["intervals"], _DRAWN, largest),
                }
                for label, metrics in values.items()
            ],
        }
        for name, values in slices.items()
    ]


def validated(bundle: Bundle) -> dict[str, Any]:
    """Return the validation metrics of the training."""
    metrics = bundle.metrics.get("validation")
    notes = [f"Measured while training ({bundle.metrics['protocol']})."] if bundle.metrics.get("protocol") else []
    tables = []
    if metrics:
        intervals = bundle.metrics.get("validation_intervals") or {}
        tables.append(_table("validation", {"this bundle": (metrics, intervals)}))
    return {
        "measured": False, "charts": [], "drawn": _DRAWN, "tables": tables, "notes": notes, "diversity_by": [],
        "warnings": [],
    }  # fmt: skip


def _table(
    title: str, rows: Mapping[str, tuple[Mapping[str, float], Intervals]], head: Sequence[str] = METRICS
) -> dict[str, Any]:
    """Return the cells of each row: the metric, its interval, and their positions on a scale from 0 to the maximum."""
    largest = {
        name: max((_high(metrics, intervals, name) for metrics, intervals in rows.values()), default=0.0) or 1.0
        for name in head
    }
    return {
        "title": title,
        "head": list(head),
        "rows": [
            {"name": name, "cells": [_cell(metrics, intervals, metric, largest[metric]) for metric in head]}
            for name, (metrics, intervals) in rows.items()
        ],
    }


def _high(metrics: Mapping[str, float], intervals: Intervals, name: str) -> float:
    value = intervals[name][1] if name in intervals else metrics[name]
    return 0.0 if math.isnan(value) else float(value)


def _cell(metrics: Mapping[str, Any], intervals: Intervals, name: str, largest: float) -> dict[str, Any]:
    value = metrics[name]
    if math.isnan(value):
        return {"value": "none", "interval": "", "width": 0.0, "from": None}
    cell: dict[str, Any] = {"value": f"{value:.2f}", "interval": "", "width": 100 * value / largest, "from": None}
    if name in intervals:
        low, high = intervals[name]
        cell |= {
            "interval": f"{low:.2f} to {high:.2f}",
            "from": 100 * low / largest,
            "span": 100 * (high - low) / largest,
        }
    return cell
