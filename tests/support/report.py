"""A data set with types and an id that is code, and a page as it is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.sessions import Samples
from tests.support.html_page import Page
from tests.support.training.ring import N_ITEMS, TYPE_NAMES, ring_dataset, ring_sessions, typed

EVIL = "<script>alert('&')</script>"


def typed_dataset() -> Dataset:
    """The ring with types, a report on its log, and an item whose id is code."""
    ring = ring_dataset()
    names = [f"sku-{number}" for number in range(N_ITEMS - 1)] + [EVIL]
    log = LogReport(
        rows=2000, bad_rows=3, near_repeats=1, sessions=340, short_sessions=2, longest=8, items=N_ITEMS,
        test_clicks=200, unseen_clicks=20, days={"2024-05-01": 900, "2024-05-03": 300},
        warnings=[f"looks wrong: {EVIL}"],
    )  # fmt: skip
    return replace(
        ring,
        name="ring",
        train=typed(ring.train),
        test=Samples.from_sessions(typed(ring_sessions(40, seed=2)), 1),
        ids=ItemIds.from_list(names),
        type_names=TYPE_NAMES,
        preparation={"log": log.as_dict()},
    )


def read(path: Path) -> tuple[str, Page]:
    html = path.read_text(encoding="utf-8")
    return html, Page(html)
