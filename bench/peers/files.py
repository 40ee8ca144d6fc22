"""The files shared with a driver, which runs without mtaw_fast (`drivers/driver.py`).

    job.json    the system's settings, with n_items, min_prefix, max_len, epochs, patience and seed
    data.npz    train_items, train_offsets: whole sessions; valid_items, valid_offsets, valid_targets: prefixes and next
                clicks; test_items, test_offsets: prefixes. Ids are internal ones. Test targets stay with us.
    state.json  the state of the driver's training, after each epoch

and the stream of scores: a line of JSON, {"rows": S, "items": N}, then S rows of N float32.

Axes: S samples, N items.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.evaluation.metrics import KS, pessimistic_rank
from mtaw_fast.storage.files import atomic_path, read_json, write_json

JOB, DATA, STATE = "job.json", "data.npz", "state.json"
_BLOCK = 512


def validation_of(dataset: Dataset, fraction: float) -> tuple[Sessions, Samples]:
    """Return (sessions to train on, samples of those held out), split as our own training does."""
    known, held_out = dataset.train.split_last(fraction)
    return known, Samples.from_sessions(held_out, dataset.min_prefix)


def write_job(folder: Path, settings: Mapping[str, Any], dataset: Dataset, fraction: float) -> None:
    """Make or check the files of a job; UsageError if the folder has a job of other settings or data.

    settings: those of the system, with epochs, patience, seed and max_len. fraction: share of the sessions that are
    held out for validation.
    """
    job = {
        **settings,
        "n_items": dataset.n_items,
        "min_prefix": dataset.min_prefix,
        "fingerprint": dataset.fingerprint,
        "validation": fraction,
    }
    path = folder / JOB
    if path.exists():
        existing = read_json(path, DataError)
        # A continued training may have more epochs, and a checkout may have moved.
        free = ("epochs", "patience", "source")
        if {name: value for name, value in existing.items() if name not in free} != {
            name: value for name, value in json.loads(json.dumps(job)).items() if name not in free
        }:
            raise UsageError(f"{folder} holds a training with other settings or data; move it away to retrain")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        known, valid = validation_of(dataset, fraction)
        with atomic_path(folder / DATA) as part, part.open("wb") as stream:
            np.savez(
                stream,
                train_items=known.items, train_offsets=known.offsets,
                valid_items=valid.prefixes.items, valid_offsets=valid.prefixes.offsets, valid_targets=valid.targets,
                test_items=dataset.test.prefixes.items, test_offsets=dataset.test.prefixes.offsets,
            )  # fmt: skip
    write_json(path, job)


def read_state(folder: Path) -> dict[str, Any] | None:
    """Return what the driver reported last, or None before its first checkpoint."""
    return read_json(folder / STATE, DataError) if (folder / STATE).exists() else None


def score_blocks(stream: IO[bytes], samples: int, n_items: int, who: str) -> Iterator[np.ndarray]:
    """Yield the rows of a stream of scores, float32[.., N] at a time; DataError if its size is wrong."""
    head = stream.readline()
    try:
        size = json.loads(head)
        rows, items = size["rows"], size["items"]
    except (ValueError, KeyError, TypeError):
        raise DataError(f"{who}: its scores do not begin with their size; see its messages above") from None
    if (rows, items) != (samples, n_items):
        raise DataError(f"{who}: it scored {rows} x {items}, and {samples} samples x {n_items} items were asked for")
    for begin in range(0, samples, _BLOCK):
        count = min(_BLOCK, samples - begin)
        n_bytes = 4 * count * n_items
        block = stream.read(n_bytes)
        if len(block) != n_bytes:
            raise DataError(f"{who}: its scores end at sample {begin} of {samples}; see its messages above")
        yield np.frombuffer(block, np.float32).reshape(count, n_items)


def ranks_of_scores(blocks: Iterator[np.ndarray], targets: np.ndarray) -> np.ndarray:
    """Return int32[S] ranks as `evaluation.ranks_of` does: ties rank before the target, 0 beyond the largest K."""
    ranks = np.zeros(len(targets), np.int32)
    begin = 0
    for block in blocks:
        end = begin + len(block)
        block_ranks = pessimistic_rank(block, targets[begin:end])
        ranks[begin:end] = np.where(block_ranks <= max(KS), block_ranks, 0)
        begin = end
    return ranks
