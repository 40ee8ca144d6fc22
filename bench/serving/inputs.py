"""What the serving bench serves and asks for: generated bundles, kept from run to run, and distinct sessions."""

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

_HELD_OUT = 400_000  # sessions of which the ladder's recall is measured on the last, as export takes them


def catalog_bundle(n_items: int, cache: Path, say: Callable[[str], None], seed: int = 0) -> Path:
    """A generated bundle of `n_items` items (external ids 1..N), see `workload.generated`; made once."""
    folder = cache / f"catalog-{n_items}-{seed}-format-{FORMAT_VERSION}"
    if not (folder / MANIFEST).exists():
        say(f"making a bundle of {n_items:,} items")
        generated(n_items, folder, seed)
    return folder


def with_ladder(plain: Path, recall: float, say: Callable[[str], None]) -> Path:
    """The bundle with an approximate index beside the exact one; made once.

    Its recall is chosen and stated on held-out sessions of the very law that the load follows.
    """
    from mtaw_fast.export.index import export_index

    folder = plain.with_name(f"{plain.name}-ladder-{recall:g}")
    if (folder / MANIFEST).exists():
        return folder
    say(f"building the ladder of {plain.name}")
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
    """`count` sessions of ETUDE's law, no two alike: power-law lengths of 1 to 50 clicks, power-law items.

    Repeated draws are dropped, so that the shortest sessions, which repeat the most, are fewer than the law has them.
    Raises UsageError where the catalog does not have as many.
    """
    drawn = 2 * count
    while drawn <= 64 * count:
        sessions = workload(n_items, drawn, seed)
        first = {clicks.tobytes(): place for place, clicks in reversed(list(enumerate(sessions)))}
        if len(first) >= count:
            return sessions.select(np.sort(list(first.values()))[:count])
        drawn *= 2
    raise UsageError(f"{n_items} items give no {count} distinct sessions; lower the rate or the time")


def recommend_requests(sessions: Sessions, external: Callable[[np.ndarray], Sequence[Any]], k: int) -> list[bytes]:
    """A whole HTTP request for each session; external: internal ids to external ones."""
    requests = []
    for clicks in sessions:
        body = json.dumps({"session": list(external(clicks)), "k": k}, separators=(",", ":")).encode()
        head = (
            f"POST /v1/recommend HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        requests.append(head.encode() + body)
    return requests


def publish(source: Path, served: Path) -> None:
    """Put the bundle `source` in the place of the one in `served` as a save does: new files, manifest, then the broom.

    Files are linked, not copied: what is measured is the readers' part.
    """
    named = {entry["file"] for entry in read_json(source / MANIFEST, UsageError)["files"].values()}
    served.mkdir(exist_ok=True)
    for name in named:
        if not (served / name).exists():
            os.link(source / name, served / name)
    write_bytes(served / MANIFEST, (source / MANIFEST).read_bytes())
    for path in list(served.iterdir()):
        if path.name not in named and path.name != MANIFEST:
            path.unlink()
