"""The entry of an approximate index in the manifest: its search plans and its recall."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.errors import BundleError
from mtaw_fast.ranking.retrieval import AnnFile, for_items, make_index
from mtaw_fast.ranking.retrieval.ann_plan import SearchPlans, index_entry, read_entry
from tests.support.ranking.ann_catalog import BOTH, PLANS, RECALL, ann_file, catalog

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.ranking.retrieval.ann_index import AnnIndex  # noqa: E402


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: entry.clear(),
        lambda entry: entry.update(kind="faiss-flat"),
        lambda entry: entry.update(kind="hnsw"),
        lambda entry: entry.update(search=None),
        lambda entry: entry["search"].update(nprobe="8"),
        lambda entry: entry["search"].update(nprobe=True),
        lambda entry: entry["search"].update(k_factor=0),
        lambda entry: entry["search"].update(k_factor=2.5),
        lambda entry: entry.update(search_items=None),
        lambda entry: entry.update(search_items=[48, 18]),
        lambda entry: entry.update(search_items={"efSearch": 96, "k_factor": 2}),
        lambda entry: entry["search_items"].update(nprobe=0),
        lambda entry: entry["search_items"].pop("k_factor"),
        lambda entry: entry["recall"].pop("items"),
        lambda entry: entry["recall"].update(more=1),
    ],
)
def test_a_damaged_entry_is_refused(change: Callable[[dict[str, Any]], Any]) -> None:
    entry = index_entry(BOTH["ivfpq"], RECALL, {"factory": "IVF"})
    assert read_entry("here", entry) == (BOTH["ivfpq"], RECALL)
    change(entry)
    message = r"here: .*index.*; export the index again with 'mtaw-fast export --index'"
    with pytest.raises(BundleError, match=message) as caught:
        read_entry("here", entry)
    assert "\n" not in str(caught.value)


def test_an_entry_of_one_plan_has_it_for_both(tmp_path: Path) -> None:
    """The first release of the format wrote entries with one plan."""
    file = ann_file(tmp_path, "hnsw")
    entry = {name: value for name, value in file.entry.items() if name != "search_items"}
    assert read_entry("here", entry) == (SearchPlans(PLANS["hnsw"], PLANS["hnsw"]), RECALL)
    index = make_index("ann", catalog(), None, AnnFile(file.path, entry))
    assert isinstance(index, AnnIndex)
    assert (index.plan, index.recall) == (PLANS["hnsw"], RECALL)
    assert for_items(index) is index
