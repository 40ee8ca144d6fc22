"""Inputs of the serving bench: generated bundles, kept from run to run, and distinct sessions."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.workload import generated
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import FORMAT_VERSION, MANIFEST
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.data.synthetic import workload
from mtaw_fast.errors import UsageError
from mtaw_fast.storage.files import read_json, write_bytes

_HELD_OUT = 400_000  # sessions; the export measures the recall of the index on the last ones


def catalog_bundle(n_items: int, cache: Path, say: Callable[[str], None], seed: int = 0) -> Path:
    """Return the folder of a generated bundle of `n_items` items (external ids 1..N), see `workload.generated`."""
    folder = cache / f"catalog-{n_items}-{seed}-format-{FORMAT_VERSION}"
    if not (folder / MANIFEST).exists():
        say(f"making a bundle of {n_items:,} items")
        generated(n_items, folder, seed)
    return folder


def with_ann_index(plain: Path, recall: float, say: Callable[[str], None]) -> Path:
    """Return the folder of a copy of the bundle with an approximate index; built once.

    The index is tuned to a recall on held-out sessions of the same distribution as the load.
    """
    from mtaw_fast.export.index import export_index

    folder = plain.with_name(f"{plain.name}-ann-{recall:g}")
    if (folder / MANIFEST).exists():
        return folder
    say(f"building the approximate index of {plain.name}")
    draft = plain.with_name(f".{folder.name}.draft")
    shutil.rmtree(draft, ignore_errors=True)
    shutil.copytree(plain, draft, copy_function=os.link)
    n_items = Bundle.load(plain, verify=False).n_items
    sessions = workload(n_items, _HELD_OUT, seed=1)
    ids = ItemIds.from_list(range(1, n_items + 1))
    longer = sessions.select(np.flatnonzero(sessions.lengths > 1))
    held_out = Dataset("etude", longer, Samples.from_sessions(longer.slice(0, 1), 1), ids, 1, {})
    export_index(draft, "ivfpq", dataset=held_out, recall=recall, say=say)
    draft.rename(folder)
    return folder


def distinct_sessions(n_items: int, count: int, seed: int) -> Sessions:
    """Return `count` distinct sessions of ETUDE's distribution: power-law lengths of 1 to 50 clicks, power-law items.

    Repeated draws are dropped, so that there are fewer short sessions, which repeat most, than in the distribution.
    Raises UsageError if the catalog does not allow that many.
    """
    n_drawn = 2 * count
    while n_drawn <= 64 * count:
        sessions = workload(n_items, n_drawn, seed)
        first = {clicks.tobytes(): session for session, clicks in reversed(list(enumerate(sessions)))}
        if len(first) >= count:
            return sessions.select(np.sort(list(first.values()))[:count])
        n_drawn *= 2
    raise UsageError(f"{n_items} items give no {count} distinct sessions; lower the rate or the time")


def recommend_requests(sessions: Sessions, external: Callable[[np.ndarray], Sequence[Any]], k: int) -> list[bytes]:
    """Return a whole HTTP request for each session. external: maps internal ids to external ones."""
    requests = []
    for clicks in sessions:
        body = json.dumps({"session": list(external(clicks)), "k": k}, separators=(",", ":")).encode()
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def publish(source: Path, served: Path) -> None:
    """Replace the bundle in `served` by `source` as a save does: new files, then the manifest, then remove old files.

    Files are linked, not copied, because only the reader's side is measured.
    """
    names = {entry["file"] for entry in read_json(source / MANIFEST, UsageError)["files"].values()}
    served.mkdir(exist_ok=True)
    for name in names:
        if not (served / name).exists():
            os.link(source / name, served / name)
    write_bytes(served / MANIFEST, (source / MANIFEST).read_bytes())
    for path in list(served.iterdir()):
        if path.name not in names and path.name != MANIFEST:
            path.unlink()
