"""A small data set of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError


def make(ids: Any = ("a", "ü", "c"), timed: bool = True, tests: bool = True, **changes: Any) -> Dataset:
    train = Sessions.from_lists([[0, 1, 2], [2, 2], [1, 0]])
    test = Sessions.from_lists([[2, 1, 0], [0, 0]] if tests else [])
    parts: dict[str, Any] = {
        "name": "tiny",
        "train": stamped(train) if timed else train,
        "test": Samples.from_sessions(stamped(test) if timed else test, 1),
        "type_names": ("view", "kauf ü") if timed else (),
        "reader": {"format": "clicks", "gap": 1800.0} if timed else {},
        "ids": ItemIds.from_list(list(ids)),
        "preparation": {"reader": "by hand", "options": {"gap": 1800.0, "name": "ü"}},
    }
    return Dataset(**(parts | changes))


def stamped(sessions: Sessions) -> Sessions:
    places = np.arange(sessions.n_clicks)
    return Sessions(sessions.items, sessions.offsets, 2**41 + places, (places % 2).astype(np.uint8))


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        Dataset.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)
