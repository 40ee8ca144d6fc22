"""The rows of a bundle that a shard holds: another bundle, or none, is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.integrations.sharded_index import ShardedIndex, ShardError
from mtaw_fast.integrations.shards import BundleRows, bundle_rows
from tests.support.random_bundle import save_random


def test_another_bundle_on_a_machine_is_refused(ray_here: Any, tmp_path: Path) -> None:
    save_random(tmp_path / "bundle", n_items=50)
    rows = [BundleRows(str(tmp_path / "bundle"), 0, 50, "0" * 16)]
    with pytest.raises(ShardError, match=r"is bundle [0-9a-f]{16}, but the other shards have 0{16}") as caught:
        ShardedIndex.start(rows, cpus=0.01)
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="does not exist"):
        bundle_rows(tmp_path / "none", 2)
    with pytest.raises(UsageError, match="n_shards"):
        bundle_rows(tmp_path / "bundle", 0)
