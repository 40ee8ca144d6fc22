"""A trained model: all its parts, independent of any folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.click_types import ClickTypes
from mtaw_fast.data.context import ClickContext
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError
from mtaw_fast.items import ContentVectors, ItemTable
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.checks import RETRAIN, check_array, check_finite, check_memory, check_weights
from mtaw_fast.model.item_vectors import normalized

_FEW_ITEMS = 50


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Model:
    """A trained model over a catalog of N items: a training makes it, a bundle stores it, a recommender uses it.

    `Model.of` computes the derived parts; a bundle maps those too.

    config: the settings that it was trained with.
    weights: the learned arrays, by the names of `model.parameters.parameter_shapes`.
    ids: the external ids of the N items.
    popularity: int64[N], clicks of each item in the training sessions.
    item_vectors: float32[N, d], the rows that a search compares with a query: item embeddings at length 1 (or 0).
    most_clicked: int32[N], internal ids, most clicks first, equal ones in id order.
    scan: the int8 codes of `item_vectors` (`kernels.native.scan.quantize`); None in compact bundles.
    memory: the tables of the session memory.
    ranker_net: the session memory's ranker; set if `memory` is.
    log_progress: how far it has learned from a log of events; None if it never did.
    clicked_at: int64[T] or None, milliseconds since 1970 of the clicks in `memory.session_items`; None if the data set
        had no times.
    trends: the decayed clicks by these times; set if `ranker_net` uses them.
    items: what is known about the items besides their clicks.
    content: gives items without clicks a vector by `items`.
    context: the context of the clicks in `memory.session_items`; set if `ranker_net` has features of it.
    types: uint8[T] or None, the types of these clicks, codes of `click_types`; set if the ranker reads any.
    """

    config: Config
    weights: Mapping[str, np.ndarray]
    ids: ItemIds
    popularity: np.ndarray
    item_vectors: np.ndarray
    most_clicked: np.ndarray
    scan: Mapping[str, np.ndarray] | None
    memory: MemoryTables | None = None
    ranker_net: RankerNet | None = None
    log_progress: LogProgress | None = None
    clicked_at: np.ndarray | None = None
    trends: TrendTables | None = None
    items: ItemTable | None = None
    content: ContentVectors | None = None
    context: ClickContext | None = None
    types: np.ndarray | None = None

    @classmethod
    def of(
        cls,
        *,
        config: Config,
        weights: Mapping[str, np.ndarray],
        ids: ItemIds,
        popularity: np.ndarray,
        memory: MemoryTables | None = None,
        ranker_net: RankerNet | None = None,
        clicked_at: np.ndarray | None = None,
        trends: TrendTables | None = None,
        items: ItemTable | None = None,
        content: ContentVectors | None = None,
        context: ClickContext | None = None,
        types: np.ndarray | None = None,
    ) -> Model:
        """Return the model of these parts (see the attributes), with the derived ones.

        Raises BundleError where the parts do not fit together or a weight is not finite.
        """
        check_weights("model", weights, config, len(ids))
        check_finite("model", weights)
        check_array("model", "popularity", popularity, np.int64, (len(ids),))
        item_vectors = normalized(weights["item_embedding"])
        order = np.argsort(-popularity, kind="stable").astype(np.int32)
        scan = quantize(item_vectors)
        model = cls(
            config, weights, ids, popularity, item_vectors, order, scan, memory, ranker_net, None, clicked_at, trends,
            items, content, context, types,
        )  # fmt: skip
        model.check("model")
        return model

    def with_weights(self, weights: Mapping[str, np.ndarray]) -> Model:
        """Return the model with other weights of its encoder, and what is derived from them; all else stays.

        Raises BundleError where they do not fit or are not finite.
        """
        check_weights("model", weights, self.config, self.n_items)
        check_finite("model", weights)
        item_vectors = normalized(weights["item_embedding"])
        return replace(self, weights=weights, item_vectors=item_vectors, scan=quantize(item_vectors))

    def check(self, where: str) -> None:
        """Raise BundleError, naming `where`, unless the parts fit together; values are not checked."""
        check_memory(where, self.memory, self.ranker_net, self.n_items)
        check_weights(where, self.weights, self.config, self.n_items)
        check_array(where, "popularity", self.popularity, np.int64, (self.n_items,))
        check_array(where, "catalog", self.item_vectors, np.float32, (self.n_items, self.config.model.embedding_dim))
        check_array(where, "most_clicked", self.most_clicked, np.int32, (self.n_items,))
        clicks = 0 if self.memory is None else len(self.memory.session_items)
        if self.clicked_at is not None:
            check_array(where, "times", self.clicked_at, np.int64, (clicks,))
        if self.types is not None:
            check_array(where, "types", self.types, np.uint8, (clicks,))
        has_trends = self.ranker_net is not None and self.ranker_net.has_trends
        if has_trends != (self.trends is not None):
            raise BundleError(f"{where}: its ranker and its trends do not belong together; {RETRAIN}")
        if self.trends is not None and self.trends.n_items != self.n_items:
            raise BundleError(f"{where}: its trends are of {self.trends.n_items} items, not {self.n_items}")
        if self.items is not None and self.items.n_rows != self.n_items:
            raise BundleError(f"{where}: its item table has {self.items.n_rows} rows for {self.n_items} items")
        if self.content is not None and self.content.d != self.config.model.embedding_dim:
            raise BundleError(f"{where}: its content vectors have another length than its item vectors; {RETRAIN}")
        self._check_context(where)

    def _check_context(self, where: str) -> None:
        context, trends, net = self.context, self.trends, self.ranker_net
        names, sizes = ((), ()) if context is None else (context.columns.names, context.columns.sizes)
        expected = net.side.context if net is not None and net.has_trends else ()
        if names != expected or sizes != (() if trends is None else trends.context_sizes):
            raise BundleError(f"{where}: its ranker, its trends and its context do not belong together; {RETRAIN}")
        if context is not None and (self.memory is None or len(context.codes) != len(self.memory.session_items)):
            raise BundleError(f"{where}: its context is not that of the clicks in its memory; {RETRAIN}")

    @property
    def sessions(self) -> Sessions:
        """The sessions of its memory, with times, types and context if it has them; empty without a memory."""
        if self.memory is None:
            return Sessions.from_lists([])
        codes = None if self.context is None else self.context.codes
        return Sessions(self.memory.session_items, self.memory.session_offsets, self.clicked_at, self.types, codes)

    @property
    def click_types(self) -> ClickTypes:
        """The types of clicks that its ranker reads; empty if it reads none."""
        return ClickTypes() if self.ranker_net is None else self.ranker_net.types

    @property
    def learned_until(self) -> int | None:
        """Milliseconds since 1970 of the last click in its memory; None without times."""
        return None if self.clicked_at is None or not len(self.clicked_at) else int(self.clicked_at.max())

    @property
    def few_items(self) -> int:
        """How many items' clicks do not tell whether it is old: someone who tries an old bundle clicks some today."""
        return min(_FEW_ITEMS, self.n_items // 100)

    @property
    def known_until(self) -> int | None:
        """Milliseconds since 1970 at which its clicks end, but for those on `few_items`; None without times."""
        if self.trends is None:
            return self.learned_until
        last = np.partition(self.trends.times[:, 1], -1 - self.few_items)[-1 - self.few_items]
        return self.learned_until if last < 0 else int(last)

    @property
    def has_learned(self) -> bool:
        """Whether it knows sessions of a log that was read after the training."""
        return self.log_progress is not None and len(self.log_progress.keys) > 0

    @property
    def n_items(self) -> int:
        """N, the size of the catalog."""
        return len(self.ids)

    @property
    def trained_ids_digest(self) -> bytes:
        """`ItemIds.digest` of the ids that the training knew."""
        return self.ids.digest(self.trained_items)

    @property
    def trained_items(self) -> int:
        """How many items the training knew; later ids were added while serving."""
        added = 0 if self.log_progress is None else len(self.log_progress.untrained)
        return self.n_items - added
