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
        found = evaluate(
            recommender, dataset, split=split, weights=weights, baselines=True, slices=slices, progress=progress
        )
    reports = {"this bundle": found.report, **found.baselines}
    more = {name: (one.more, one.more_intervals) for name, one in reports.items()}
    tables = [
        _table("all targets", {name: (one.metrics, one.intervals) for name, one in reports.items()}),
        _table("order, and all targets to come", more, (*NDCG, *RECALL)),
        _table("what the lists are like", more, OF_LISTS),
    ]
    if found.report.weighted:
        text = ", ".join(f"{name}={weight:g}" for name, weight in found.weights.items())
        weighted = {name: (one.weighted, one.weighted_intervals) for name, one in reports.items()}
        tables.append(_table(f"targets weighted by type ({text})", weighted))
    parts = {
        f"repeats ({found.report.repeat_samples:,})": found.report.repeat,
        f"others ({found.report.samples - found.report.repeat_samples:,})": found.report.non_repeat,
    }
    if len(found.report.by_type) > 1:
        parts |= {f"{kind} ({int(one['samples']):,})": one for kind, one in found.report.by_type.items()}
        parts |= {
            f"{kind}, new to the session ({int(one['samples']):,})": one
            for kind, one in found.report.first_by_type.items()
        }
    tables.append(_table("this bundle, by the target", {name: (one, {}) for name, one in parts.items()}))
    notes = [f"{found.report.samples:,} {split} samples of {found.report.sessions:,} sessions of {found.name}."]
    if found.unseen_targets:
        notes.append(
            f"{found.unseen_targets:,} more targets are items that training never saw; they are left out here."
        )
    return {
        "measured": True,
        "charts": _charts(found.report.slices),
        "drawn": _DRAWN,
        "tables": tables,
        "notes": notes,
        "diversity_by": found.diversity_by,
        "warnings": found.warnings,
    }


def _charts(slices: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a chart a slice: bars of a metric with their intervals, on one scale for all charts."""
    bounds = [
        one["intervals"].get(_DRAWN, (0.0, one[_DRAWN]))[1] for values in slices.values() for one in values.values()
    ]
    most = max(bounds, default=0.0) or 1.0
    return [
        {
            "name": name,
            "rows": [
                {"label": label, "samples": f"{one['samples']:,}", **_cell(one, one["intervals"], _DRAWN, most)}
                for label, one in values.items()
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
    most = {
        name: max((_high(metrics, intervals, name) for metrics, intervals in rows.values()), default=0.0) or 1.0
        for name in head
    }
    return {
        "title": title,
        "head": list(head),
        "rows": [
            {"name": name, "cells": [_cell(metrics, intervals, metric, most[metric]) for metric in head]}
            for name, (metrics, intervals) in rows.items()
        ],
    }


def _high(metrics: Mapping[str, float], intervals: Intervals, name: str) -> float:
    value = intervals[name][1] if name in intervals else metrics[name]
    return 0.0 if math.isnan(value) else float(value)


def _cell(metrics: Mapping[str, Any], intervals: Intervals, name: str, most: float) -> dict[str, Any]:
    value = metrics[name]
    if math.isnan(value):
        return {"value": "none", "interval": "", "width": 0.0, "from": None}
    cell: dict[str, Any] = {"value": f"{value:.2f}", "interval": "", "width": 100 * value / most, "from": None}
    if name in intervals:
        low, high = intervals[name]
        cell |= {"interval": f"{low:.2f} to {high:.2f}", "from": 100 * low / most, "span": 100 * (high - low) / most}
    return cell
