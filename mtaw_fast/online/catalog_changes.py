"""Changes of a served catalog: added and removed items, the item table, and the rule sets of placements."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.items import ItemsReport, ItemTable, TableChange
from mtaw_fast.online.item_state import ItemState
from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.online.log.events import (
    MAX_TEXT_LENGTH,
    AddItems,
    Event,
    HideItems,
    RemoveItems,
    SetPlacement,
    ShowItems,
    is_id,
    now_ms,
)
from mtaw_fast.online.log.table_parts import table_parts
from mtaw_fast.online.state.cold_start import with_new_rows, with_priors
from mtaw_fast.online.state.item_changes import live_after
from mtaw_fast.ranking.catalog import Catalog, is_id_of, plain_id
from mtaw_fast.ranking.options import listed
from mtaw_fast.ranking.served_pipeline import ServedPipeline
from mtaw_fast.ranking.why.exclusions import pin_notes
from mtaw_fast.rules import MAX_PLACEMENTS, Placement, broken_placements, checked_placement, earlier_content

_TABLE_TRIES = 3  # of a change of the item table that another process overtakes


class CatalogChanges:
    """Changes the catalog that is served, and stores the changes. The methods are those of `Recommender`.

    keeper: the log of learning keeps every change, a state folder those of the item table. Others, and without a keeper
    all of them, exist until the process ends.
    """

    def __init__(self, served: ServedPipeline) -> None:
        self._served = served
        self.keeper: OnlineLearner | ItemState | None = None

    @property
    def _catalog(self) -> Catalog:
        return self._served.pipeline.catalog

    def catch_up(self) -> None:
        """Apply what other processes have stored until now."""
        if self.keeper is not None:
            self.keeper.catch_up()

    def add_items(
        self, items: Sequence[Any], vectors: np.ndarray | None, neighbors: Sequence[Sequence[Any]] | None
    ) -> None:
        """Add items to the catalog."""
        learner = self.keeper
        if not isinstance(learner, OnlineLearner):
            self._served.update(lambda catalog: with_priors(catalog, items, vectors, neighbors))
            return
        learner.catch_up()  # another process may have added or removed items
        check_new(learner, self._catalog, items, vectors, neighbors)
        plain_vectors = None if vectors is None else tuple(map(tuple, np.asarray(vectors, dtype=np.float64).tolist()))
        plain_neighbors = None if neighbors is None else tuple(tuple(map(plain_id, row)) for row in neighbors)
        added = tuple(map(plain_id, items))
        learner.append([AddItems(added, plain_neighbors, plain_vectors, now_ms())], wait=True)
        check_added(learner, added)

    def remove_items(self, items: Sequence[Any]) -> None:
        """Stop recommending items."""
        learner = self.keeper
        if not isinstance(learner, OnlineLearner):
            self._served.update(lambda catalog: catalog.without_items(items))
            return
        learner.catch_up()  # as in `add_items`
        self._catalog.without_items(items)
        learner.append([RemoveItems(tuple(map(plain_id, items)), now_ms())], wait=True)

    def set_items(self, make: Callable[[ItemTable | None], TableChange]) -> ItemsReport:
        """Change the item table by what `make` returns for the table so far."""
        self.catch_up()
        for _ in range(_TABLE_TRIES):
            before = self._catalog.items
            change = make(before)
            change.frame.check_ids(self._catalog.ids.kind, "set_items")
            min_time = 0 if before is None else before.made + 1
            was_known = self._catalog.ids.lookup(change.frame.ids) >= 0
            parts = table_parts(change, max(now_ms(), min_time))
            self.store(parts)
            if parts[0].table not in self._refused_tables:
                break
        else:
            raise DataError("another process changed the item table first, and this change does not fit it; try again")
        catalog = self._catalog
        assert catalog.items is not None
        is_known = catalog.ids.lookup(change.frame.ids) >= 0
        report = ItemsReport.of(change.frame, is_known, catalog.items, before)
        entered = int(np.count_nonzero(is_known & ~was_known))
        notes = [f"{entered:,} new items entered the catalog, with a start from their attributes"] if entered else []
        return replace(report, notes=(*report.notes, *notes, *broken_placements(catalog.items).values()))

    def hide(self, items: Iterable[Any]) -> None:
        """Stop recommending items until they are shown."""
        self.store([HideItems(self._ids_of("hide", items), now_ms())])

    def show(self, items: Iterable[Any]) -> None:
        """Recommend hidden items again."""
        self.store([ShowItems(self._ids_of("show", items), now_ms())])

    def set_placement(self, name: str, content: Mapping[str, Any] | None) -> list[str]:
        """Set the rule sets of a placement, or remove it; return what is odd in them."""
        self.catch_up()
        items = self._catalog.items
        kept = {} if items is None else items.placements
        if content is not None:
            content = checked_placement(name, content, items)
            if name not in kept and len(kept) >= MAX_PLACEMENTS:
                raise UsageError(f"placement {name!r}: there are {MAX_PLACEMENTS} already, the most; remove one first")
        elif name not in kept:
            raise UsageError(f"there is no placement {shown(name, 60)}; there are: {', '.join(sorted(kept)) or 'none'}")
        newest = kept[name][-1].time if name in kept else 0
        self.store([SetPlacement(name, content, max(now_ms(), newest + 1))])
        if content is None:
            return []
        placement, catalog = Placement(name, content), self._catalog
        return placement.notes(items) + [note for one in placement.rule_sets for note in pin_notes(catalog, one)]

    def undo_placement(self, name: str, number: int | None) -> list[str]:
        """Set a placement to what it was in an earlier revision."""
        self.catch_up()
        items = self._catalog.items
        return self.set_placement(name, earlier_content({} if items is None else items.placements, name, number))

    def store(self, events: Sequence[Event]) -> None:
        """Store events that change the item table, and return when they are served."""
        if self.keeper is None:
            self._served.update(lambda catalog: with_new_rows(catalog.with_table(live_after(events, catalog.items))))
        elif isinstance(self.keeper, OnlineLearner):
            self.keeper.append(events, wait=True)
        else:
            self.keeper.append(events)

    @property
    def _refused_tables(self) -> Collection[str]:
        """Changes of the item table that did not fit when their turn in the log came."""
        return () if self.keeper is None else self.keeper.table_parts.refused

    def _ids_of(self, action: str, items: Iterable[Any]) -> tuple[int | str, ...]:
        """Return plain ids. Raises DataError on a value that is not an id of the catalog's type."""
        kind = self._catalog.ids.kind
        ids = listed(action, items)
        for item in ids:
            if not is_id_of(kind, item) or not is_id(plain_id(item)):
                raise DataError(f"{action}: {shown(item, 60)} is not an id; this catalog's item ids are {kind}")
        return tuple(map(plain_id, ids))


def check_new(
    learner: OnlineLearner,
    catalog: Catalog,
    items: Sequence[Any],
    vectors: np.ndarray | None,
    neighbors: Sequence[Sequence[Any]] | None,
) -> None:
    """Raise DataError if items cannot be added to the catalog of a learner, which has just caught up."""
    catalog.with_items(items, vectors, neighbors)
    added = tuple(map(plain_id, items))
    for item in added:
        if not is_id(item):
            raise DataError(
                f"item {shown(item)} cannot be added: an id is a string of 1 to {MAX_TEXT_LENGTH} characters or a "
                "64-bit integer; give it another id"
            )
    new_items, limit = learner.state.event_processor.items.new_items, learner.settings.limits.new_items
    unknown = np.flatnonzero(catalog.ids.lookup(added) < 0).tolist()
    count = sum(new_items.internal_id_of(added[index]) is None for index in unknown)
    if len(new_items) + count > limit:
        raise DataError(
            f"{count} more items would make {len(new_items) + count:,} new items since the bundle, and the limit "
            f"new_items is {limit:,}; compact first, or raise the limit"
        )


def check_added(learner: OnlineLearner, items: Sequence[int | str]) -> None:
    """Raise DataError if items did not enter the catalog of a learner: others may have come first in the log."""
    missing = [
        items[index]
        for index in np.flatnonzero(learner.state.event_processor.items.internal_ids_of(items) < 0).tolist()
    ]
    if missing:
        raise DataError(
            f"{len(missing)} of {len(items)} items did not enter the catalog, {shown(missing[0])} among them: "
            f"others came first, up to the limit new_items of {learner.settings.limits.new_items:,}; compact, or "
            "raise the limit"
        )
