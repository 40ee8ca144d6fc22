"""The packing of sessions into tiles against plain Python, and what every plan must hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.kernels.native.pack import TilePlan, pack_tiles

LENGTHS = st.lists(st.one_of(st.integers(0, 9), st.integers(0, 70)), max_size=40)


def offsets_of(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def pack_in_python(lengths: list[int], capacity: int) -> TilePlan:
    """The rule of `pack_tiles`, step by step: tiles are lists of (session, click in it)."""
    tiles: list[list[tuple[int, int]]] = []
    spans: list[tuple[int, int]] = []
    for b in sorted(range(len(lengths)), key=lambda b: -lengths[b]):
        clicks = [(b, t) for t in range(lengths[b])]
        fitting = [k for k, tile in enumerate(tiles) if len(tile) + len(clicks) <= capacity]
        if not clicks:
            continue
        if fitting:
            tiles[max(fitting, key=lambda k: (len(tiles[k]), -k))] += clicks
            continue
        first = len(tiles)
        tiles += [clicks[begin : begin + capacity] for begin in range(0, len(clicks), capacity)]
        spans += [(first, len(tiles) - 1)] * (len(tiles) - first)
    offsets = offsets_of(lengths)
    slot_click = np.full(len(tiles) * capacity, -1, dtype=np.int32)
    slot_begin = np.arange(len(tiles) * capacity, dtype=np.int32)
    begins: dict[int, int] = {}
    for k, tile in enumerate(tiles):
        for place, (b, t) in enumerate(tile):
            slot = k * capacity + place
            slot_click[slot] = offsets[b] + t
            slot_begin[slot] = begins.setdefault(b, slot)
    return TilePlan(slot_click, slot_begin, np.array(spans, dtype=np.int32).reshape(-1, 2))


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, capacity=st.sampled_from([1, 2, 5, 16, 32, 64]))
def test_equals_plain_python(lengths: list[int], capacity: int) -> None:
    got = pack_tiles(offsets_of(lengths), capacity)
    for ours, expected in zip(got, pack_in_python(lengths, capacity), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


@settings(max_examples=150, deadline=None)
@given(lengths=LENGTHS, capacity=st.integers(1, 64))
def test_every_click_is_placed_once_and_short_sessions_stay_whole(lengths: list[int], capacity: int) -> None:
    plan = pack_tiles(offsets_of(lengths), capacity)
    slots = len(plan.slot_click)
    assert slots == len(plan.slot_begin) == len(plan.tile_range) * capacity
    filled = np.flatnonzero(plan.slot_click >= 0)
    np.testing.assert_array_equal(np.sort(plan.slot_click[filled]), np.arange(sum(lengths)))
    empty = np.flatnonzero(plan.slot_click < 0)
    np.testing.assert_array_equal(plan.slot_begin[empty], empty)

    slot_of = np.empty(sum(lengths), dtype=np.int64)
    slot_of[plan.slot_click[filled]] = filled
    for begin, length in zip(offsets_of(lengths).tolist(), lengths, strict=False):
        if length == 0:
            continue
        places = slot_of[begin : begin + length]
        np.testing.assert_array_equal(places, places[0] + np.arange(length))
        assert set(plan.slot_begin[places].tolist()) == {places[0]}
        tiles = np.unique(places // capacity)
        if length <= capacity:
            assert len(tiles) == 1
        else:
            assert places[0] % capacity == 0
            assert (plan.tile_range[tiles] == [tiles[0], tiles[-1]]).all()
    # Best fit opens a tile for a short session only if no other has enough free slots: of the tiles without a long
    # session, two are never both half empty.
    short = plan.tile_range[:, 0] == plan.tile_range[:, 1]
    fill = (plan.slot_click.reshape(-1, capacity) >= 0).sum(axis=1)
    assert (2 * fill[short] <= capacity).sum() <= 1


def test_no_sessions_and_tiles_on_demand() -> None:
    assert [array.shape for array in pack_tiles(np.zeros(1, dtype=np.int64), 16)] == [(0,), (0,), (0, 2)]
    plan = pack_tiles(offsets_of([3]), 4, min_tiles=3)
    assert plan.slot_click.tolist() == [0, 1, 2, *[-1] * 9]
    assert plan.slot_begin.tolist() == [0, 0, 0, *range(3, 12)]
    assert plan.tile_range.tolist() == [[0, 0], [1, 1], [2, 2]]
    assert len(pack_tiles(offsets_of([3, 4, 4]), 4, min_tiles=2).tile_range) == 3


@pytest.mark.parametrize(
    ("offsets", "capacity", "message"),
    [
        (np.array([], dtype=np.int64), 16, "offsets must have at least one entry, 0"),
        (np.array([0, 3], dtype=np.int32), 16, "offsets must be a C-contiguous int64 vector, not int32"),
        (np.array([[0, 3]]), 16, "not one of 2 dimensions"),
        (np.array([1, 3]), 16, "offsets must begin with 0, not 1"),
        (np.array([0, 3, 2]), 16, r"offsets must not descend, but session 1 has 3 \.\. 2"),
        (np.array([0, 3]), 0, r"capacity must be in 1\.\.65536, not 0"),
        (np.array([0, 2**31]), 16, "2147483648 clicks are more than int32 can number"),
        (np.array([0, 2**31 - 1]), 16, "134217728 tiles of 16 slots are more than int32 can number"),
    ],
)
def test_malformed_arguments_are_refused(offsets: np.ndarray, capacity: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pack_tiles(offsets, capacity)
    with pytest.raises(ValueError, match="tiles of 65536 slots are more than int32 can number"):
        pack_tiles(offsets_of([3]), 65536, min_tiles=2**48)
