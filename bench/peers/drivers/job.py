"""The job of a driver, and the samples in it. Knows numpy and torch alone, as `driver.py` does.

Axes: S samples, B samples of a batch, L clicks. Item ids are 0..N-1 in files; a model gets id + 1, and 0 pads.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass
class Job:
    """The job of a driver: `job.json`, and the arrays of `data.npz` by name."""

    folder: Path
    settings: dict[str, Any]
    data: dict[str, np.ndarray]

    @classmethod
    def load(cls, folder: Path) -> Job:
        with np.load(folder / "data.npz") as arrays:
            return cls(folder, json.loads((folder / "job.json").read_text()), dict(arrays))

    @property
    def n_items(self) -> int:
        return int(self.settings["n_items"])

    @property
    def max_len(self) -> int:
        return int(self.settings["max_len"])

    def train_samples(self) -> Samples:
        """Return every prefix of the training sessions that has a next click."""
        items, offsets = self.data["train_items"], self.data["train_offsets"]
        counts = np.maximum(np.diff(offsets) - self.settings["min_prefix"], 0)
        owner = np.repeat(np.arange(len(counts)), counts)
        position = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        ends = offsets[owner] + self.settings["min_prefix"] + position
        begins = np.maximum(offsets[owner], ends - self.max_len)
        return Samples(items, begins, ends, items[ends])

    def prefixes(self, split: str) -> Samples:
        """Return the samples of 'valid', or of 'test', whose targets the driver does not get (all 0)."""
        items, offsets = self.data[f"{split}_items"], self.data[f"{split}_offsets"]
        ends = offsets[1:]
        targets = self.data.get(f"{split}_targets", np.zeros(len(ends), np.int32))
        return Samples(items, np.maximum(offsets[:-1], ends - self.max_len), ends, targets)


@dataclass
class Samples:
    """S samples: clicks `items[begins[s]:ends[s]]`, then targets[s]."""

    items: np.ndarray
    begins: np.ndarray
    ends: np.ndarray
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.begins)

    @property
    def lengths(self) -> np.ndarray:
        return self.ends - self.begins

    def padded(self, rows: np.ndarray, width: int | None = None) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return (ids + 1 int64[B, L] padded behind with 0, lengths int64[B], targets + 1 int64[B]) of some rows.

        L is `width`, or the longest length.
        """
        lengths = self.lengths[rows]
        columns = np.arange(width or int(lengths.max()))
        filled = columns < lengths[:, None]
        ids = np.zeros(filled.shape, np.int64)
        ids[filled] = self.items[(self.begins[rows][:, None] + columns)[filled]] + 1
        return (
            torch.from_numpy(ids),
            torch.from_numpy(lengths),
            torch.from_numpy(self.targets[rows].astype(np.int64) + 1),
        )

    def lists(self, rows: np.ndarray) -> list[list[int]]:
        """Return the clicks of some rows as lists of ids + 1."""
        return [(self.items[self.begins[row] : self.ends[row]] + 1).tolist() for row in rows]
