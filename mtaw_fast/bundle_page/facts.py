"""Facts about the bundle, its data and its training, as rows of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import model_hash
from mtaw_fast.bundle_page.feature_words import words_of
from mtaw_fast.bundle_page.log_facts import day_rows, log_rows
from mtaw_fast.config import PRESETS
from mtaw_fast.data.dataset import Dataset

_DAYS = 40  # bars, at most
_TOP = (0.01, 0.1)  # of the items
_FEATURES = 20  # shown at once


def model_facts(bundle: Bundle) -> dict[str, str]:
    """Return what the bundle is and how it was made."""
    manifest, metrics = bundle.manifest, bundle.metrics
    preset, changed = _preset_of(bundle)
    facts = {
        "items": f"{bundle.n_items:,}",
        "parameters": f"{manifest['parameters']:,}",
        "settings": preset + (f" with {', '.join(changed)}" if changed else ""),
        "session memory": "none" if bundle.memory is None else f"{bundle.memory.n_sessions:,} sessions",
    }
    if metrics.get("seconds") is not None:
        facts["training"] = f"{metrics['seconds']:,.0f} s" + (
            ", refit on the validation sessions" if metrics.get("refit") else ", without the validation sessions"
        )
    if bundle.model.log_progress is not None:
        facts["learned since"] = f"{len(bundle.model.log_progress.keys):,} sessions from logs"
    return facts | {
        "made": f"{manifest['created']} by mtaw-fast {manifest['versions'].get('mtaw_fast')}",
        "model hash": model_hash(manifest)[:16],
    }


def _preset_of(bundle: Bundle) -> tuple[str, list[str]]:
    """Return the preset that is most similar to the settings, and the differences."""
    values = bundle.config.settings()
    differences = {}
    for name, config in PRESETS.items():
        base = config.settings()
        differences[name] = [f"{key}={value}" for key, value in values.items() if value != base[key]]
    name = min(differences, key=lambda preset: len(differences[preset]))
    return name, differences[name]


def data_facts(bundle: Bundle, dataset: Dataset | None) -> dict[str, Any]:
    """Return the data summary: rows, the report on the log if any, clicks a day, and how clicks are distributed.

    It is the summary in the bundle, else that of the given data set.
    """
    record = bundle.dataset
    summary = record.get("summary") or (None if dataset is None else dataset.summary())
    rows = {
        "data set": str(record.get("name") or "unknown"),
        "fingerprint": str(record.get("fingerprint") or "unknown"),
    }
    log = counts = None
    if summary is not None:
        log = summary["log"]
        counts = None if log is None else log_rows(log, summary["items"])
        rows |= {
            "training sessions": f"{summary['train_sessions']:,}",
            "training clicks": f"{summary['train_clicks']:,}",
            "training samples": f"{summary['train_samples']:,}",
            "clicks a session": f"{summary['train_clicks'] / summary['train_sessions']:.1f}",
            "test samples": f"{summary['test_samples']:,}",
            "items": f"{summary['items']:,}",
        }
        if summary["times"]:
            first, last = (f"{np.datetime64(moment, 'ms').astype('datetime64[m]')}Z" for moment in summary["times"])
            rows["from, to"] = f"{first}, {last}"
        if summary["types"]:
            rows["types"] = ", ".join(f"{name} {count:,}" for name, count in summary["types"].items())
    rows |= _concentration(bundle)
    return {
        "rows": rows,
        "log": counts,
        "days": [] if log is None else day_bars(log["days"]),
        "warnings": [] if log is None else log["warnings"],
    }


def _concentration(bundle: Bundle) -> dict[str, str]:
    """Return the share of the clicks on the most clicked items."""
    counts = np.sort(np.asarray(bundle.popularity))[::-1]
    if not counts.sum():
        return {}
    shares = [counts[: max(1, round(top * len(counts)))].sum() / counts.sum() for top in _TOP]
    text = ", ".join(f"{share:.0%} to the top {top:.0%}" for top, share in zip(_TOP, shares, strict=True))
    return {"clicks go": f"{text} of the items"}


def day_bars(days: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return bars of one day, or of several for a long log: `name`, `count` (mean of a day), `share` of the largest."""
    rows = day_rows(days, _DAYS)
    largest = max((row.mean for row in rows), default=0.0)
    bars = []
    for row in rows:
        if row.gap:
            bars.append({"name": f"{row.gap:,} days without a click", "count": "0", "share": 0.0})
        bars.append({"name": row.first, "count": f"{row.mean:,.0f}", "share": 100 * row.mean / largest})
    return bars


def phase_rows(bundle: Bundle) -> list[dict[str, str]]:
    """Return a row for each phase with epochs: their number, the first and the last loss, seconds."""
    history = bundle.metrics.get("history") or []
    rows = []
    for phase in dict.fromkeys(record["phase"] for record in history):
        records = [record for record in history if record["phase"] == phase]
        rows.append(
            {
                "phase": phase,
                "epochs": str(len(records)),
                "first": f"{(records[0].get('losses') or [records[0]['loss']])[0]:.4f}",
                "last": f"{records[-1]['loss']:.4f}",
                "seconds": f"{sum(record['seconds'] for record in records):,.1f}",
            }
        )
    return rows


def feature_rows(bundle: Bundle) -> dict[str, Any] | None:
    """Return the importance of the ranker's features; None if the training did not measure it.

    A bar points right, or left if the metric was better without the feature.
    """
    importance = bundle.metrics.get("feature_importance")
    if not importance:
        return None
    largest = max((abs(metrics["MRR@20"]) for metrics in importance["features"].values()), default=0.0) or 1.0
    half_lives = bundle.config.memory.half_lives.split(",")
    rows = [
        {
            "name": name,
            "words": words_of(name, half_lives),
            "mrr": f"{metrics['MRR@20']:+.2f}",
            "p": f"{metrics['P@20']:+.2f}",
            "width": round(100 * abs(metrics["MRR@20"]) / largest, 2),
            "harms": metrics["MRR@20"] < 0,
        }
        for name, metrics in importance["features"].items()
    ]
    return {
        "samples": f"{importance['samples']:,}",
        "metrics": {name: f"{importance['metrics'][name]:.2f}" for name in ("P@20", "MRR@20")},
        "rows": rows[:_FEATURES],
        "rest": rows[_FEATURES:],
    }
