"""A tiny data set, and bench.quality's command on it."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality import __main__ as quality
from bench.quality.records import records_in
from mtaw_fast.data.sessions import Samples
from tests.support.training.ring import N_ITEMS, ring_sessions

TINY = [
    "--set", "embedding_dim=8", "--set", "lr=0.03", "--set", "batch_prefixes=64", "--set", "validation_fraction=0.1",
    "--set", "epochs=2", "--threads", "1", "--dataset", "ring",
]  # fmt: skip


def write_ring(folder: Path) -> Path:
    """DIR/ring in the npz form; returns DIR."""
    (folder / "ring").mkdir(parents=True)
    train, test = ring_sessions(200, seed=1), Samples.from_sessions(ring_sessions(30, seed=2), 1)
    scalars: dict[str, Any] = {"n_items": np.int32(N_ITEMS), "min_prefix": np.int32(1)}
    np.savez(folder / "ring" / "train.npz", items=train.items + np.int32(1), offsets=train.offsets, **scalars)
    np.savez(
        folder / "ring" / "test.npz",
        items=test.prefixes.items + np.int32(1),
        offsets=test.prefixes.offsets,
        labels=test.targets + np.int32(1),
        session=test.session,
    )
    return folder


def bench(folder: Path, *arguments: str) -> int:
    places = ["--data", f"{folder}/data", "--results", f"{folder}/results", "--work", f"{folder}/work"]
    # In the presets the tiny settings are changes; here they are the ground on which `arguments` build.
    return quality.main([*places, *TINY, *arguments])


def records(folder: Path, part: str) -> list[dict[str, Any]]:
    by_name = records_in(folder / "results").every()
    return [record for name, record in by_name.items() if fnmatch(name, f"*{part}*")]
