"""The sets of 64-bit keys against Python's own dicts, with evictions and keys that collide."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import pytest

from mtaw_fast.kernels.native.keys import RecentKeys, SessionHandles

KEYS = [0, 1, 2**64 - 1, *(n << 40 for n in range(1, 60))]


@pytest.mark.parametrize("most", [1, 2, 50, 61, 1000])
def test_recent_keys_are_those_of_an_ordered_dict(most: int) -> None:
    rng = np.random.default_rng(most)
    keys, wanted = RecentKeys(most), OrderedDict[int, None]()
    for draw in rng.integers(0, len(KEYS), 3000).tolist():
        key = KEYS[draw] ^ draw % 3
        assert keys.add(key) == (key not in wanted)
        wanted.setdefault(key)
        if len(wanted) > most:
            wanted.popitem(last=False)
        assert len(keys) == len(wanted)
        assert (KEYS[-1] in keys) == (KEYS[-1] in wanted)
    assert keys.latest(10**9).tolist() == list(wanted)
    assert keys.latest(3).tolist() == list(wanted)[-3:]
    assert keys.latest(0).tolist() == []


def test_session_handles_are_those_of_a_dict_of_lists() -> None:
    rng = np.random.default_rng(2)
    handles, wanted, count = SessionHandles(), dict[int, list[int]](), 0
    keys = []
    for draw in rng.integers(0, len(KEYS), 4000).tolist():
        if draw % 7 == 0:
            assert handles.take(KEYS[draw]) == wanted.pop(KEYS[draw], [])
        else:
            assert handles.add(KEYS[draw]) == count
            wanted.setdefault(KEYS[draw], []).append(count)
            keys.append(KEYS[draw])
            count += 1
    assert len(handles) == count
    assert handles.keys.tolist() == keys
    for key in KEYS:
        assert handles.take(key) == wanted.get(key, [])
        assert handles.take(key) == []


def test_a_key_takes_few_bytes() -> None:
    keys, handles = RecentKeys(1_000_000), SessionHandles()
    for key in np.random.default_rng(3).integers(0, 2**63, 300_000).tolist():
        keys.add(key)
        handles.add(key)
    assert keys.n_bytes <= 25 * 300_000
    assert handles.n_bytes <= 30 * 300_000


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="most must be at least 1"):
        RecentKeys(0)
    with pytest.raises(TypeError):
        RecentKeys(5).add(-1)
    with pytest.raises(TypeError):
        SessionHandles().add(2**64)
