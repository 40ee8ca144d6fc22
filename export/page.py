"""Write a bundle that a web page downloads: small, never larger than a limit, and with nothing but what may be public.

The small form of a bundle (`mtaw_fast.bundle.compact`) derives what it can; `export.published` says what is left out or
rounded. Where all pairs of items are too large still, the page ranks by the strongest.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST
from mtaw_fast.errors import UsageError
from mtaw_fast.export.published import Withheld, published, sessions_of, strongest_pairs, trend_pairs_of
from mtaw_fast.kernels.native.memory_tables import PAIR_KINDS
from mtaw_fast.kernels.native.trend_tables import PAIR_LANES
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.storage.tensor_file import map_tensors

MEGABYTES = 20.0
_TREND_NEIGHBORS = (8, 4, 2, 1)  # where not all fit: 16 to 32 cost more, and rank worse (docs/browser.md)
_TREND_SHARE = 0.5  # at most, of what is left for trends and pairs
_HEADERS = 100_000  # bytes of the manifest, and of the files' headers but the item table's, at most
_ARRAY_HEADER = 256  # bytes of an array in its file's header, at most
_PAIR_BYTES = 4 + 4 + 2 * len(PAIR_KINDS)  # neighbor, latest session, values
_TREND_PAIR_BYTES = 4 + 2 * 2 * PAIR_LANES


@dataclass(frozen=True, slots=True)
class PagePart:
    """A file of a page's bundle. arrays: by name, what it has, as 'float32[36968, 6]'. text: what they are."""

    part: str
    n_bytes: int
    text: str
    arrays: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PageBundle:
    """The bundle that `export_page` wrote.

    n_bytes: size of all its files. n_pairs: how many it has of the n_before pairs of items of the whole bundle.
    trend_neighbors: pairs of an item in its trends, at most; 0 for all, None without trends. parts: everything that it
    publishes, by file. left_out: what it does not, a line each.
    """

    folder: Path
    n_bytes: int
    n_pairs: int
    n_before: int
    trend_neighbors: int | None
    parts: tuple[PagePart, ...]
    left_out: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        parts = [{name: getattr(part, name) for name in PagePart.__dataclass_fields__} for part in self.parts]
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return values | {"folder": str(self.folder), "parts": parts, "left_out": list(self.left_out)}

    def lines(self) -> list[str]:
        """Return what the bundle publishes, and what it leaves out."""
        size = f"page: {self.folder}, {self.n_bytes / 1e6:.1f} MB. Whoever opens the page can read all of it:"
        width = max(len(part.part) for part in self.parts)
        parts = [f"  {part.part:{width}}  {part.n_bytes / 1e6:6.2f} MB  {part.text}" for part in self.parts]
        return [size, *parts, "It does not have:", *(f"  {line}" for line in self.left_out)]


def export_page(
    source: Bundle | Path,
    folder: Path,
    *,
    megabytes: float = MEGABYTES,
    trend_neighbors: int | None = None,
    min_sessions: int = 1,
    overwrite: bool = False,
) -> PageBundle:
    """Write the bundle for a page into `folder`.

    source: stays as it is. megabytes: how large its files may be together, in 10^6 bytes. trend_neighbors: how many
    pairs of an item the trends have; by default all if the whole bundle fits, else 8. min_sessions: of pairs of items,
    those of at least this many sessions are published. overwrite: whether `folder` may contain a bundle.

    Raises UsageError if even a single pair would make it larger than `megabytes`, or `folder` cannot take it;
    BundleError if the bundle cannot be read or written.
    """
    bundle = source if isinstance(source, Bundle) else Bundle.load(source)
    folder = Path(folder)
    if folder.resolve() == bundle.folder.resolve():
        raise UsageError(f"{folder} is the bundle itself; choose another folder for the page's")
    given = (megabytes, trend_neighbors, min_sessions)
    if not all(value is None or 0 < value < math.inf for value in given):
        raise UsageError(
            f"a page's bundle of {megabytes} MB, {trend_neighbors} pairs of trends and {min_sessions} sessions: give "
            "positive numbers"
        )
    model = bundle.model
    free_bytes = int(megabytes * 1e6) - _bytes_without_pairs(model)
    memory = model.memory
    wanted = np.empty(0, dtype=np.int64) if memory is None else strongest_pairs(memory, min_sessions)
    wanted_bytes = len(wanted) * _PAIR_BYTES
    trends, trend_pairs, n_trends = _trends_within(model, free_bytes, wanted_bytes, trend_neighbors, min_sessions)
    rest = free_bytes - len(trend_pairs) * _TREND_PAIR_BYTES
    pairs = np.sort(wanted[: max(rest // _PAIR_BYTES, 0)])
    if rest < 0 or len(pairs) < min(len(wanted), 1):
        subject, hint = "this catalog", "allow more with --megabytes"
        if trend_neighbors is not None and free_bytes >= _PAIR_BYTES:
            subject, hint = f"trends of {trend_neighbors} neighbors", f"give a smaller --trend-neighbors, or {hint}"
        raise UsageError(f"{folder}: {megabytes:g} MB are too few for {subject}; {hint}")
    page, withheld = published(replace(model, trends=trends), pairs, trend_pairs)
    saved = Bundle.save(folder, page, metrics={}, dataset={}, overwrite=overwrite, compact=True)
    n_bytes = sum(entry["bytes"] for entry in saved.manifest["files"].values()) + (folder / MANIFEST).stat().st_size
    n_before = 0 if memory is None else len(memory.neighbors)
    texts = _texts(saved.model, n_before, n_trends)
    return PageBundle(
        folder, n_bytes, len(pairs), n_before, n_trends,
        (*_parts(saved, texts), PagePart("manifest", (folder / MANIFEST).stat().st_size, texts["manifest"], {})),
        tuple(_left_out(model, withheld)),
    )  # fmt: skip


def _trends_within(
    model: Model, free_bytes: int, wanted_bytes: int, trend_neighbors: int | None, min_sessions: int
) -> tuple[TrendTables | None, np.ndarray, int | None]:
    """Return trends that leave room for pairs of the memory, which of their pairs to keep, and how many of an item.

    free_bytes: for all pairs. wanted_bytes: of all pairs of the memory.
    """
    if model.trends is None or model.memory is None:
        return None, np.empty(0, dtype=np.int64), None
    trends, n_trends = model.trends, model.trends.settings.max_neighbors  # 0: all
    pairs = trend_pairs_of(model.memory, trends, min_sessions)
    if trend_neighbors is None and len(pairs) * _TREND_PAIR_BYTES + wanted_bytes <= free_bytes:
        return trends, pairs, n_trends
    for choice in _TREND_NEIGHBORS if trend_neighbors is None else (trend_neighbors,):
        n_trends = min(choice, model.trends.settings.max_neighbors or choice)
        trends = model.trends.strongest(n_trends)
        pairs = trend_pairs_of(model.memory, trends, min_sessions)
        if len(pairs) * _TREND_PAIR_BYTES <= _TREND_SHARE * free_bytes:
            break
    return trends, pairs, n_trends


def _bytes_without_pairs(model: Model) -> int:
    """Return the bytes of a page's bundle without pairs of items, at most."""
    page, _ = published(model, *[np.empty(0, dtype=np.int64)] * 2)
    table = {} if page.items is None else page.items.arrays()
    groups: tuple[Mapping[str, np.ndarray], ...] = (
        page.weights,
        page.ids.arrays,
        {"popularity": page.popularity, "most_clicked": page.most_clicked},
        {} if page.memory is None else page.memory.arrays(),
        {} if page.ranker_net is None else page.ranker_net.arrays(),
        {} if page.trends is None else page.trends.arrays(),
        {} if page.context is None else page.context.arrays(),
        {} if page.log_progress is None else {"removed": page.log_progress.removed},
        table,
    )
    size = sum(array.nbytes for arrays in groups for array in arrays.values())
    return size - page.weights["item_embedding"].nbytes // 2 + _HEADERS + len(table) * _ARRAY_HEADER


def _parts(saved: Bundle, texts: Mapping[str, str]) -> Iterator[PagePart]:
    for part, entry in saved.manifest["files"].items():
        tensors = map_tensors(saved.folder / entry["file"])
        arrays = {name: f"{array.dtype}{list(array.shape)}" for name, array in tensors.items()}
        yield PagePart(part, entry["bytes"], texts[part], arrays)


def _texts(page: Model, n_before: int, n_trends: int | None) -> dict[str, str]:
    """Return in words what each file of a page's bundle publishes."""
    withheld = 0 if page.log_progress is None else len(page.log_progress.removed)
    never = f", of the {withheld:,} too that it never ranks" if withheld else ""
    texts = {
        "weights": "the encoder and the item vectors",
        "items": f"ids of {page.n_items:,} items, in the order of their first clicks{never}",
        "popularity": "clicks of each item, rounded",
        "manifest": "settings of the model and its memory, versions, hashes of the files",
    }
    if page.memory is not None and page.ranker_net is not None:
        single = int((sessions_of(page.memory) <= 1).sum())
        texts["memory"] = (
            f"{len(page.memory.neighbors):,} of {n_before:,} pairs of items, {single:,} of a single session; counts of "
            "items; all rounded; no sessions"
        )
        types = f", types: {', '.join(page.click_types.names)}" if page.click_types.names else ""
        texts["ranker"] = f"weights of {len(page.ranker_net.features)} features{types}"
    if page.trends is not None:
        most = f"at most {n_trends} of an item" if n_trends else "all"
        texts["trends"] = (
            f"{len(page.trends.neighbors):,} pairs, {most}, and clicks, both decayed and rounded; first and last click "
            "of each item to the hour"
        )
    if page.items is not None:
        texts["item_table"] = f"the public columns {', '.join(page.items.columns)}"
    if page.context is not None:
        columns = zip(page.context.columns.names, page.context.columns.values, strict=True)
        texts["context"] = "; ".join(f"{len(values):,} values of {name} that visits had" for name, values in columns)
    if withheld:
        texts["learned"] = f"which {withheld:,} items it never ranks"
    return texts


def _left_out(model: Model, withheld: Withheld) -> Iterator[str]:
    if model.memory is not None:
        yield f"{model.memory.n_sessions:,} sessions"
    yield "metrics and data set of the training"
    if withheld.columns:
        yield f"private columns of the item table: {', '.join(withheld.columns)}"
    if withheld.read:
        yield f"what the ranker reads in private columns: {', '.join(withheld.read)}; public ones it has"
    if withheld.placements:
        yield f"{withheld.placements:,} placements"
    if withheld.waiting:
        yield f"{withheld.waiting:,} rows of items that are not in the catalog"
    if model.content is not None:
        yield "vectors by attributes, for new items"
