"""Write a bundle that a web page downloads: small, and never larger than a limit.

The small form of a bundle (`mtaw_fast.bundle.compact`) derives what it can. Where that is too large still, the page
ranks by the strongest trends and the latest sessions alone.
"""

from __future__ import annotations

import bisect
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.data.context import ClickContext
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.system.cpus import usable_cpus

MEGABYTES = 20.0
MAX_NEIGHBORS = 128  # of an item: more take a page's time and memory, and change nothing (docs/browser.md)
_TREND_NEIGHBORS = (8, 4, 2, 1)  # where not all fit: 16 to 32 cost more, and rank worse (docs/browser.md)
_TREND_SHARE = 0.5  # at most, of what is left for trends and sessions
_HEADERS = 100_000  # bytes of the manifest but its records, and of the files' headers but the item table's, at most
_ARRAY_HEADER = 256  # bytes of an array in its file's header, at most


@dataclass(frozen=True, slots=True)
class PageBundle:
    """The bundle that `export_page` wrote.

    n_bytes: size of all its files. n_sessions: how many it has of the n_before sessions of the whole bundle.
    """

    folder: Path
    n_bytes: int
    n_sessions: int
    n_before: int
    trend_neighbors: int | None

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {"folder": str(self.folder)}

    def line(self) -> str:
        """Return what was kept, in one line."""
        trends = "" if self.trend_neighbors is None else f", trends of at most {self.trend_neighbors} neighbors"
        trends = trends if self.trend_neighbors != 0 else ", all trends"
        sessions = f"{self.n_sessions:,} of {self.n_before:,} sessions" if self.n_before else "no session memory"
        return f"page: {self.folder}, {self.n_bytes / 1e6:.1f} MB, with {sessions}{trends}"


def export_page(
    source: Bundle | Path,
    folder: Path,
    *,
    megabytes: float = MEGABYTES,
    trend_neighbors: int | None = None,
    overwrite: bool = False,
) -> PageBundle:
    """Write the bundle for a page into `folder`.

    source: stays as it is. megabytes: how large its files may be together, in 10^6 bytes. trend_neighbors: how many
    pairs of an item the trends have; by default all if the whole bundle fits, else 8. overwrite: whether `folder` may
    contain a bundle.

    Raises UsageError if even a single session would make it larger than `megabytes`, or `folder` cannot take it;
    BundleError if the bundle cannot be read or written.
    """
    bundle = source if isinstance(source, Bundle) else Bundle.load(source)
    folder = Path(folder)
    if folder.resolve() == bundle.folder.resolve():
        raise UsageError(f"{folder} is the bundle itself; choose another folder for the page's")
    if not (0 < megabytes < math.inf and (trend_neighbors is None or trend_neighbors > 0)):
        raise UsageError(
            f"a page's bundle of {megabytes} MB and {trend_neighbors} pairs of trends: give positive numbers"
        )
    free_bytes = int(megabytes * 1e6) - _record_bytes(bundle)
    model, n_trends = _with_trends_within(bundle.model, free_bytes, trend_neighbors)
    n_before = 0 if model.memory is None else model.memory.n_sessions
    free_bytes -= _fixed_bytes(model)
    first = _first_that_fits(model, free_bytes - _bytes(model.trends))
    if first is None:
        subject, hint = "this catalog", "allow more with --megabytes"
        if trend_neighbors is not None and _first_that_fits(model, free_bytes) is not None:
            subject, hint = f"trends of {trend_neighbors} neighbors", f"give a smaller --trend-neighbors, or {hint}"
        raise UsageError(f"{folder}: {megabytes:g} MB are too few for {subject}; {hint}")
    saved = Bundle.save(
        folder, _latest(model, first), metrics=bundle.metrics, dataset=bundle.dataset,
        overwrite=overwrite, compact=True, about={"page": {"sessions": n_before - first, "of": n_before}},
    )  # fmt: skip
    size = sum(entry["bytes"] for entry in saved.manifest["files"].values()) + (folder / MANIFEST).stat().st_size
    return PageBundle(folder, size, n_before - first, n_before, n_trends)


def _with_trends_within(model: Model, limit: int, trend_neighbors: int | None) -> tuple[Model, int | None]:
    """Return the model with trends that leave room for sessions, and their neighbors of an item."""
    if model.trends is None:
        return model, None
    all_trends, free_bytes = model.trends, limit - _fixed_bytes(model)
    cap = all_trends.settings.max_neighbors
    if trend_neighbors is None and _bytes(all_trends) + _session_bytes(model, 0) <= free_bytes:
        return model, cap
    for choice in _TREND_NEIGHBORS if trend_neighbors is None else (trend_neighbors,):
        n_trends = min(choice, cap) if cap else choice  # 0: all
        trends = all_trends.strongest(n_trends)
        if _bytes(trends) <= _TREND_SHARE * free_bytes:
            break
    return replace(model, trends=trends), n_trends


def _record_bytes(bundle: Bundle) -> int:
    """Return the bytes of the training's records in the manifest."""
    return len(json.dumps([dict(bundle.metrics), dict(bundle.dataset)], indent=2, ensure_ascii=False).encode())


def _fixed_bytes(model: Model) -> int:
    """Return the bytes of all but sessions, trends and the training's records, at most."""
    arrays = [*model.ids.arrays.values(), *(() if model.content is None else model.content.arrays().values())]
    table = {} if model.items is None else model.items.arrays()
    arrays += table.values()
    if model.context is not None:
        arrays.append(model.context.arrays()["columns"])
    size = sum(array.nbytes for array in (*arrays, *model.weights.values(), model.popularity, model.most_clicked))
    progress = model.log_progress
    size += 0 if progress is None else progress.removed.nbytes + progress.hidden.nbytes
    net = 0 if model.ranker_net is None else sum(array.nbytes for array in model.ranker_net.arrays().values())
    return size - model.weights["item_embedding"].nbytes // 2 + net + _HEADERS + len(table) * _ARRAY_HEADER


def _session_bytes(model: Model, first: int) -> int:
    """Return the bytes of the sessions from `first` on, with what is kept about their clicks."""
    if model.memory is None:
        return 0
    offsets = model.memory.session_offsets
    click_bytes = model.memory.session_items.itemsize
    click_bytes += 0 if model.context is None else model.context.codes[:1].nbytes
    return int(offsets[-1] - offsets[first]) * click_bytes + (len(offsets) - first) * offsets.itemsize


def _first_that_fits(model: Model, free_bytes: int) -> int | None:
    """Return the first of the latest sessions that `free_bytes` hold; None if these are too few for one."""
    n_sessions = 0 if model.memory is None else model.memory.n_sessions
    if free_bytes < 0 or (n_sessions and _session_bytes(model, n_sessions - 1) > free_bytes):
        return None
    return bisect.bisect_left(range(n_sessions), True, key=lambda first: _session_bytes(model, first) <= free_bytes)


def _latest(model: Model, first: int) -> Model:
    """Return the model for a page: with the sessions from `first` on, and nothing that only learning reads."""
    progress = model.log_progress
    if progress is not None:
        withheld = LogProgress("", "", removed=progress.removed, hidden=progress.hidden)
        progress = withheld if len(withheld.unavailable) else None
    model = replace(model, clicked_at=None, types=None, log_progress=progress)
    if model.memory is None:
        return model
    context, memory = model.context, model.memory
    if context is not None:
        context = ClickContext(context.columns, context.codes[memory.session_offsets[first] :])
    cap = memory.settings.max_neighbors
    settings = replace(memory.settings, max_neighbors=min(cap, MAX_NEIGHBORS) if cap else MAX_NEIGHBORS)
    if settings.once_from is not None:
        settings = replace(settings, once_from=max(settings.once_from - first, 0))
    tables = MemoryTables.build(
        memory.sessions.slice(first, memory.n_sessions), model.n_items, settings, threads=usable_cpus()
    )
    return replace(model, memory=tables, context=context)


def _bytes(trends: TrendTables | None) -> int:
    return 0 if trends is None else trends.n_bytes
