"""The pipeline that a recommender serves, and how updates replace it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.errors import BundleError
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import Encoder, make_encoder
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import Index, ann_file_of, make_index
from mtaw_fast.system.fork_lock import ForkLock

Parts: TypeAlias = tuple[Bundle, Encoder, Index]
_LOG = logging.getLogger("mtaw_fast")
_LOADS = 5  # at most, while the bundle is replaced faster than it is loaded


def parts_of(bundle: Bundle, encoder: str, index: str) -> Parts:
    """Return a bundle with its encoder and its index, by their names."""
    built_index = make_index(index, bundle.item_vectors, bundle.scan, ann_file_of(bundle))
    return bundle, make_encoder(encoder, bundle), built_index


def load_parts(folder: str | os.PathLike[str], verify: bool, encoder: str, index: str) -> Parts:
    """Load a bundle with its encoder and its index; see `Recommender.load`.

    An export replaces the index and the graphs that the bundle had when it was loaded: then all is loaded again.
    """
    for attempt in range(_LOADS):
        bundle = Bundle.load(folder, verify=verify)
        try:
            return parts_of(bundle, encoder, index)
        except BundleError:
            if attempt == _LOADS - 1 or read_manifest(Path(folder)) == bundle.manifest:
                raise
    raise AssertionError("the last load returns or raises")


class ServedPipeline:
    """The pipeline that is served. Any thread may replace it: updates wait for each other, rankings never wait.

    bundle, encoder, index: what is served now; the index is that of the bundle's own items. pipeline: the current
    state, which a ranking reads once.
    """

    def __init__(self, bundle: Bundle, encoder: Encoder, index: Index) -> None:
        self.bundle, self.encoder, self.index = bundle, encoder, index
        self.pipeline = Pipeline.of(Catalog.of(bundle.model), encoder, index)
        self._updating = ForkLock()

    def update(self, change: Callable[[Catalog], Catalog]) -> None:
        """Serve the catalog that `change` makes of the current one."""
        with self._updating:
            current = self.pipeline
            catalog = change(current.catalog)
            if catalog is not current.catalog:
                self.pipeline = Pipeline.of(catalog, self.encoder, self.index, current)

    def take_displays(self) -> tuple[list[int | str], list[int]]:
        """Return the ids of the new items that were shown since the last call, and how often."""
        items, counts = self.pipeline.impressions.take()
        return self.pipeline.catalog.ids.external(items), counts.tolist()

    def switch_to(self, parts: Parts, catalog: Catalog) -> None:
        """Serve another catalog, perhaps of another bundle."""
        bundle, encoder, index = parts
        with self._updating:
            impressions = self.pipeline.impressions if bundle is self.bundle else None
            pipeline = Pipeline.of(catalog, encoder, index, impressions=impressions)  # may raise: all changes, or none
            self.bundle, self.encoder, self.index = parts
            self.pipeline = pipeline

    def prepare(self, bundle: Bundle, encoder: str, index: str) -> Callable[[Catalog], None]:
        """Return a function that switches to a catalog of `bundle`, the served one or another; see `OnlineLearner`."""
        parts = (bundle, self.encoder, self.index) if bundle is self.bundle else parts_of(bundle, encoder, index)
        index_name, served_name = parts[2].name, self.index.name
        if index_name != served_name:
            _LOG.warning("serving index %s instead of %s: a compacted bundle has no other", index_name, served_name)
        return lambda catalog: self.switch_to(parts, catalog)
