"""A small log with times whose clicked items change from hour to hour."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of

HOUR = 3_600_000
START = 1_764_115_200_000
A_SHIFT = 8  # items that are clicked in one hour and in no other


def shifting_sessions(count: int, seed: int, hours: int = 8, first: float = 0.0) -> Sessions:
    """Sessions in order of their ends; each click goes to the next of the hour's items, in a circle."""
    rng = np.random.default_rng(seed)
    begins = np.sort(rng.random(count) * (hours - first) + first) * HOUR
    lists, times = [], []
    for begin in begins:
        shift = int(begin // HOUR)
        length = int(rng.integers(2, 6))
        start = rng.integers(A_SHIFT)
        lists.append(shift * A_SHIFT + (start + np.arange(length)) % A_SHIFT)
        times.append(START + int(begin) + np.cumsum(rng.integers(1_000, 20_000, length)))
    order = np.argsort([stamps[-1] for stamps in times], kind="stable")
    return Sessions(
        np.concatenate([lists[session] for session in order]).astype(np.int32),
        offsets_of(np.array([len(lists[session]) for session in order])),
        np.concatenate([times[session] for session in order]).astype(np.int64),
    )


def shifting_dataset(count: int = 400, hours: int = 8) -> Dataset:
    return Dataset(
        name="shifts",
        train=shifting_sessions(count, 1, hours),
        test=Samples.from_sessions(shifting_sessions(30, 2, hours, hours - 1.0), 1),
        ids=ItemIds.from_list(list(range(hours * A_SHIFT))),
        fingerprint="shifts-1",
        reader={"format": "clicks", "session": "s", "item": "i", "time": "t", "time_unit": "ms", "item_ids": "int"},
    )
