"""Click logs for the tests of the session memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemorySettings, MemoryTables

N_ITEMS = 7

SESSIONS = st.lists(st.lists(st.integers(0, N_ITEMS - 1), max_size=12), max_size=12).map(Sessions.from_lists)
SETTINGS = st.builds(
    MemorySettings,
    once_from=st.none() | st.integers(0, 4),
    window=st.integers(1, 6),
    span=st.integers(1, 8),
    recency=st.one_of(st.none(), st.floats(0.5, 20)),
    max_neighbors=st.integers(0, 5),
    max_postings=st.integers(0, 4),
)


def random_log(n_sessions: int, n_items: int, seed: int, longest: int = 30) -> Sessions:
    """Return sessions of 0..longest clicks, items by a power law, so that some repeat and some never occur."""
    rng = np.random.default_rng(seed)
    return Sessions.from_lists(
        [(n_items * rng.random(rng.integers(0, longest + 1)) ** 3).astype(int) for _ in range(n_sessions)]
    )


def assert_same_tables(ours: MemoryTables, expected: MemoryTables) -> None:
    """Assert that tables are equal to the bit, including types and settings."""
    assert ours.settings == expected.settings
    assert_same_arrays(ours.arrays(), expected.arrays())


def assert_same_arrays(ours: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray]) -> None:
    """Assert that named arrays are equal to the bit, including types."""
    assert ours.keys() == expected.keys()
    for name, array in expected.items():
        assert (ours[name].dtype, ours[name].shape) == (array.dtype, array.shape), name
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
