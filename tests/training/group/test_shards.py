"""The rows of each process, and its share of a batch."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.training.group.shards import Shards, Share
from mtaw_fast.training.steps.batch import Batch
from tests.support.training.group_threads import CPU

N_ITEMS = 11


def batch_of(sessions: list[list[int]], **options: object) -> Batch:
    return Batch.of(Sessions.from_lists(sessions), 1, CPU, **options)  # type: ignore[arg-type]


def test_shares_by_hand() -> None:
    batch = batch_of([[0, 3, 0, 9], [9, 1, 2], [3, 9]])  # clicks 0 3 0 | 9 1 | 3
    first, second = (Share.of(batch, Shards(10, 2), rank, CPU) for rank in range(2))
    assert first.item_rows.tolist() == [0, 1, 0]  # of the items 0 and 3
    assert (first.needed, first.requested_by, first.requested.tolist()) == ([2, 0], [2, 2], [0, 3, 1, 3])
    assert (first.offsets.tolist(), first.rows.tolist(), first.first_click) == ([0, 3], [0, 1, 2], 0)
    assert second.item_rows.tolist() == [2, 0, 1]  # of 1, 3 and 9
    assert (second.needed, second.requested_by, second.requested.tolist()) == ([2, 1], [0, 1], [4])
    assert (second.offsets.tolist(), second.rows.tolist(), second.first_click) == ([0, 2, 3], [0, 1, 2], 3)
    for share in (first, second):
        assert (share.clicks, share.samples, share.mass) == (6, [3, 3], 6)
        assert share.targets.tolist() == [3, 0, 9, 1, 2, 9]


@settings(max_examples=60, deadline=None)
@given(
    sessions=st.lists(st.lists(st.integers(0, N_ITEMS - 1), min_size=2, max_size=7), min_size=1, max_size=9),
    world=st.integers(1, 5),
    counted=st.sampled_from(["all", "new"]),
)
def test_shares_are_the_batch_and_agree_with_one_another(sessions: list[list[int]], world: int, counted: str) -> None:
    batch, shards = batch_of(sessions, counted=counted), Shards(N_ITEMS, world)
    shares = [Share.of(batch, shards, rank, CPU) for rank in range(world)]
    table = torch.arange(N_ITEMS)
    clicks, rows = [], []
    for rank, share in enumerate(shares):
        assert share.needed == [other.requested_by[rank] for other in shares]
        received = torch.cat(
            [table[shards.rows(o)][other.requested.split(other.requested_by)[rank]] for o, other in enumerate(shares)]
        )
        assert received.tolist() == sorted(set(received.tolist()))
        clicks.append(received[share.item_rows])
        rows.append(share.rows + share.first_click)
        assert len(share.rows) == share.samples[rank]
        assert share.offsets[-1] == len(share.item_rows)
    assert torch.equal(torch.cat(clicks), batch.clicks)
    assert torch.equal(torch.cat(rows), batch.rows)
