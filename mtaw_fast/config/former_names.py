"""The flat names that settings had in bundles of format 1 and 2, in order, and in the records of bench.quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_RENAMED = {
    "d": "embedding_dim",
    "positions": "max_positions",
    "max_len": "max_session_length",
    "negatives": "negative_term",
    "catalog_samples": "negative_samples",
    "catalog_neighbours": "cooccurrence_negatives",  # prose: ignore
    "step": "train_step",
    "validation": "validation_fraction",
    "recent": "recent_weight",
    "memory": "enabled",
    "max_neighbours": "max_neighbors",  # prose: ignore
    "near_candidates": "cooccurrence_candidates",
    "ranker_slice": "ranker_fraction",
    "lesson_clicks": "prequential_chunk",
    "lesson_seconds": "prequential_seconds",
    "leave_out": "excluded_features",
}
_ORDER = (
    "d", "positions", "max_len", "scale", "dropout", "init", "gamma", "negatives", "loss_backend", "softmax",
    "catalog_samples", "catalog_neighbours", "compute_dtype", "step", "lr", "weight_decay", "schedule",  # prose: ignore
    "warmup_epochs", "batch_prefixes", "clip_norm", "epochs", "patience", "validation", "seed", "targets",
    "type_weights", "spectral_share", "itl_gain", "iel_gain", "recent", "recent_decay", "memory", "window",
    "span", "recency", "max_neighbours", "max_postings", "near_candidates", "dense_candidates",  # prose: ignore
    "ranker_slice",
    "ranker_epochs", "ranker_lr", "trends", "half_lives", "trend_candidates", "prequential", "lesson_clicks",
    "lesson_seconds", "ranker_samples", "leave_out",
)  # fmt: skip
FORMER_NAMES: Mapping[str, str] = {name: _RENAMED.get(name, name) for name in _ORDER}


def from_former(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their present names; other names stay."""
    settings = {FORMER_NAMES.get(name, name): value for name, value in values.items()}
    if settings.get("train_step") == "graph":
        settings["train_step"] = "cuda-graph"
    return settings


def to_former(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their former names and order; newer settings keep their names, at the end."""
    settings = {former: values[name] for former, name in FORMER_NAMES.items() if name in values}
    if settings.get("step") == "cuda-graph":
        settings["step"] = "graph"
    known = set(FORMER_NAMES.values())
    return settings | {name: value for name, value in values.items() if name not in known}
