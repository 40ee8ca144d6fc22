"""A log that is prepared in partitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickOptions, clicks
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions

DAY = 86_400_000
PLAIN = ClickOptions(min_support=2, test_days=3)


def log_frame(seed: int, rows: int = 900, text: bool = True) -> pl.DataFrame:
    """Many equal times, repeats and types; sessions of one to dozens of clicks, interleaved."""
    rng = np.random.default_rng(seed)
    owner = rng.zipf(1.3, rows).clip(max=rows // 6)
    item = rng.zipf(1.4, rows).clip(max=60)
    times = (
        1_700_000_000_000 + rng.integers(0, 20 * DAY // 7_200_000, rows) * 7_200_000 + rng.integers(0, 3, rows) * 900
    )
    frame = pl.DataFrame({"session_id": owner, "item_id": item, "timestamp": times})
    kinds = pl.Series("kind", rng.choice(["view", "cart", "buy"], rows, p=[0.7, 0.2, 0.1]))
    frame = frame.with_columns(kinds)
    if text:
        prefixes = {"session_id": "ü-", "item_id": "sku-"}
        frame = frame.with_columns(
            (pl.lit(start) + pl.col(name).cast(pl.String)).alias(name) for name, start in prefixes.items()
        )
    return frame


def compare(source: Any, folder: Path, options: ClickOptions, partitions: int = 4) -> Dataset:
    """Fail unless both ways make the same set."""
    dataset = clicks.read(source, options)
    dataset.save(folder / "one")
    prepare_in_partitions(source, folder / "parts", options, partitions=partitions)
    whole, parts = (json.loads((folder / name / "manifest.json").read_text()) for name in ("one", "parts"))
    files, parted = whole.pop("files"), parts.pop("files")
    assert (whole.pop("format_version"), parts.pop("format_version")) == (3, 4)
    assert whole == parts
    assert (files["test"], files["ids"]) == (parted["test"], parted["ids"])
    assert (files["train"]["sha256"], files["train"]["bytes"]) == (parted["train"]["sha256"], parted["train"]["bytes"])
    expected = {
        "manifest.json",
        parted["test"]["file"],
        parted["ids"]["file"],
        *(part["file"] for part in parted["train"]["parts"]),
    }
    assert {path.name for path in (folder / "parts").iterdir()} == expected
    ours, theirs = Dataset.load(folder / "parts"), Dataset.load(folder / "one")
    assert ours.fingerprint == theirs.fingerprint
    ours.save(folder / "again")  # in one piece: the very file
    assert json.loads((folder / "again" / "manifest.json").read_text())["files"] == files
    return ours
