"""The flat names that settings had in bundles of format 1 and 2, in order, and in the records of bench.quality."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMER_NAMES: Mapping[str, str] = {
    "d": "embedding_dim",
    "positions": "max_positions",
    "max_len": "max_session_length",
    "scale": "scale",
    "dropout": "dropout",
    "init": "init",
    "gamma": "gamma",
    "negatives": "negative_term",
    "loss_backend": "loss_backend",
    "softmax": "softmax",
    "catalog_samples": "negative_samples",
    "catalog_neighbours": "cooccurrence_negatives",
    "compute_dtype": "compute_dtype",
    "step": "train_step",
    "lr": "lr",
    "weight_decay": "weight_decay",
    "schedule": "schedule",
    "warmup_epochs": "warmup_epochs",
    "batch_prefixes": "batch_prefixes",
    "clip_norm": "clip_norm",
    "epochs": "epochs",
    "patience": "patience",
    "validation": "validation_fraction",
    "seed": "seed",
    "targets": "targets",
    "type_weights": "type_weights",
    "spectral_share": "spectral_share",
    "itl_gain": "itl_gain",
    "iel_gain": "iel_gain",
    "recent": "recent_weight",
    "recent_decay": "recent_decay",
    "memory": "enabled",
    "window": "window",
    "span": "span",
    "recency": "recency",
    "max_neighbours": "max_neighbors",
    "max_postings": "max_postings",
    "near_candidates": "cooccurrence_candidates",
    "dense_candidates": "dense_candidates",
    "ranker_slice": "ranker_fraction",
    "ranker_epochs": "ranker_epochs",
    "ranker_lr": "ranker_lr",
    "trends": "trends",
    "half_lives": "half_lives",
    "trend_candidates": "trend_candidates",
    "prequential": "prequential",
    "lesson_clicks": "prequential_chunk",
    "lesson_seconds": "prequential_seconds",
    "ranker_samples": "ranker_samples",
    "leave_out": "excluded_features",
}


def from_former(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their present names; other names stay."""
    found = {FORMER_NAMES.get(name, name): value for name, value in values.items()}
    if found.get("train_step") == "graph":
        found["train_step"] = "cuda-graph"
    return found


def to_former(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings by their former names and order; newer settings keep their names, at the end."""
    found = {former: values[name] for former, name in FORMER_NAMES.items() if name in values}
    if found.get("step") == "cuda-graph":
        found["step"] = "graph"
    known = set(FORMER_NAMES.values())
    return found | {name: value for name, value in values.items() if name not in known}
