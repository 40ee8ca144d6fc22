"""Damage that hashes do not show is found at load: every file here has the hash of its manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError
from tests.support.random_bundle import bundle_parts, memory_parts, replace_part, save_parts, save_random


def refused(folder: Path) -> str:
    """Return the message; without `verify` the bundle loads, or its tables are refused."""
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def ids_with(folder: Path, texts: list[bytes]) -> None:
    """Replace the ids of the bundle of 4 items by these bytes, with a hash table."""
    blob = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.cumsum([0, *map(len, texts)])
    slots = ItemIds.from_list(["a", "b", "c", "d"]).arrays["slots"]
    replace_part(folder, "items", {"blob": blob, "offsets": offsets, "slots": slots})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([b"sku-1", b"\xff\xfe", b"c", b"d"], "is not UTF-8"),
        ([b"a\xc3", b"\xbc", b"c", b"d"], "is not UTF-8"),  # one character in two ids: the bytes as a whole are UTF-8
        ([b"a", b"b", b"b", b"d"], "an id occurs twice"),
        ([b"a", b"b", b"c", b"e"], "the hash table does not belong to the item ids"),
    ],
)
def test_texts_that_are_no_ids(tmp_path: Path, texts: list[bytes], message: str) -> None:
    save_random(tmp_path, n_items=4, max_session_length=6)
    ids_with(tmp_path, texts)
    assert message in refused(tmp_path)
    assert Bundle.load(tmp_path, verify=False).n_items == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"values": [7, 9, 9, 1], "sorted": [1, 7, 9, 9], "order": [3, 0, 1, 2]},
        {"values": [7, 9, 8, 1], "sorted": [1, 7, 8, 9], "order": [3, 1, 2, 0]},
        {"values": [7, 9, 8, 1], "sorted": [9, 8, 7, 1], "order": [1, 2, 0, 3]},
    ],
)
def test_numbers_that_are_no_ids(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_random(tmp_path, n_items=4, max_session_length=6, text=False)
    arrays = {name: np.array(values, np.int64) for name, values in changes.items()}
    replace_part(tmp_path, "items", {**arrays, "order": arrays["order"].astype(np.int32)})
    assert "occurs twice or is not where it should be" in refused(tmp_path)


@pytest.mark.parametrize("name", ["w1", "b2", "mean", "scale", "bias"])
def test_ranker_numbers_that_are_not_finite(tmp_path: Path, name: str) -> None:
    saved = save_parts(tmp_path, **bundle_parts(n_items=20, max_session_length=6), **memory_parts(20))
    assert saved.model.ranker_net is not None
    arrays = {key: array.copy() for key, array in saved.model.ranker_net.arrays().items()}
    arrays[name].flat[-1] = np.inf
    names = np.frombuffer("\n".join(saved.model.ranker_net.features).encode(), np.uint8)
    replace_part(tmp_path, "ranker", {**arrays, "features": names})
    assert f"ranker: {name} has a value that is not finite" in refused(tmp_path)


@pytest.mark.parametrize(("part", "message"), [("catalog", "another model than"), ("scan", "other vectors")])
@pytest.mark.parametrize("n_items", [60, 5000])
def test_parts_of_another_bundle(tmp_path: Path, part: str, message: str, n_items: int) -> None:
    save_random(tmp_path / "one", n_items=n_items, max_session_length=6)
    other = save_random(tmp_path / "other", n_items=n_items, max_session_length=6, seed=5)
    arrays = {"catalog": {"catalog": other.item_vectors}, "scan": dict(other.model.scan or {})}[part]
    replace_part(tmp_path / "one", part, arrays)
    assert message in refused(tmp_path / "one")
