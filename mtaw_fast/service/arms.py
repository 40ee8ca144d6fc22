"""What a service does for all bundles that it serves: changes of the catalog, and compactions.

A change is one event in the log that they share. Their catalogs may differ: a bundle that was trained later knows more
items. So each takes from a change what is news to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError, UsageError, shown
from mtaw_fast.items import ItemsReport, TableChange
from mtaw_fast.items.changes import Mode
from mtaw_fast.online.catalog_changes import check_added, check_new
from mtaw_fast.online.learner import OnlineLearner
from mtaw_fast.online.log.events import AddItems, Event, RemoveItems, now_ms
from mtaw_fast.ranking.catalog import Catalog, plain_id
from mtaw_fast.rules import checked_placement, earlier_content
from mtaw_fast.service.snapshot import Snapshot


def add_items(
    arms: Sequence[Snapshot],
    items: Sequence[Any],
    vectors: np.ndarray | None,
    neighbors: Sequence[Sequence[Any]] | None,
) -> None:
    """Add items to the catalog of each bundle that lacks them; parameters and errors as `Recommender.add_items`.

    With several bundles, by neighbors only: each uses those that it knows, and has vectors of its own. An item must be
    new to one of them, and each bundle that lacks it must know one of its neighbors. Each neighbor must be known to one
    of them.
    """
    if len(arms) == 1:
        arms[0].recommender.add_items(items, vectors=vectors, neighbors=neighbors)
        return
    if vectors is not None or neighbors is None:
        raise DataError("the bundles' vectors differ: add items to several bundles with neighbors alone")
    if len(neighbors) != len(items):
        raise DataError(f"there are neighbors for {len(neighbors)} items, not for {len(items)}; give one list for each")
    catalogs = [_current(arm) for arm in arms]
    known_neighbors = _known(catalogs, items, neighbors)
    lacking = [_lacking(catalog, items) for catalog in catalogs]
    for arm, rows, arm_neighbors in zip(arms, lacking, known_neighbors, strict=True):
        for row in rows:
            if neighbors[row] and not arm_neighbors[row]:
                raise DataError(
                    f"bundle {arm.name} knows none of the neighbors of item {shown(items[row])}, which it lacks; add "
                    "one that it knows"
                )
    known = set(range(len(items))).difference(*lacking)
    if known:
        raise DataError(f"item {shown(items[min(known)])} is already in the catalog of every bundle; leave it out")
    for arm, catalog, rows, arm_neighbors in zip(arms, catalogs, lacking, known_neighbors, strict=True):
        if rows:
            try:
                check_new(
                    _learner(arm), catalog, [items[row] for row in rows], None, [arm_neighbors[row] for row in rows]
                )
            except DataError as error:
                raise DataError(f"bundle {arm.name}: {error}") from None
    added = tuple(map(plain_id, items))
    _append(arms, AddItems(added, tuple(tuple(map(plain_id, row)) for row in neighbors), None, now_ms()))
    for arm in arms:
        check_added(_learner(arm), added)


def remove_items(arms: Sequence[Snapshot], items: Sequence[Any]) -> None:
    """Remove items from the catalog of each bundle that has them; errors as `Recommender.remove_items`.

    With several bundles, an item must be in the catalog of one of them.
    """
    if len(arms) == 1:
        arms[0].recommender.remove_items(items)
        return
    lacking = [_lacking(_current(arm), items) for arm in arms]
    unknown = set(lacking[0]).intersection(*lacking)
    if unknown:
        raise DataError(
            f"item {shown(items[min(unknown)])} is not in the catalog of any bundle, so it cannot be removed; "
            "leave it out"
        )
    _append(arms, RemoveItems(tuple(map(plain_id, items)), now_ms()))


def set_items(arms: Sequence[Snapshot], data: Any, mode: Mode, **options: Any) -> ItemsReport:
    """Change the item table of each bundle; parameters and errors as `Recommender.set_items`.

    With several bundles, the change must fit the columns of each: one that it did not fit would skip it.
    """
    first, *others = arms
    if not others:
        return first.recommender.set_items(data, mode, **options)
    catch_up(arms)
    change = TableChange.of(data, mode, before=first.recommender.items, where="set_items", **options)
    for arm in others:
        try:
            change.schema_after(arm.recommender.items)
        except DataError as error:
            raise DataError(f"bundle {arm.name}: {error}") from None
    return first.recommender.set_items(change.frame, mode, public=change.public, availability=change.availability)


def set_placement(arms: Sequence[Snapshot], name: str, content: Mapping[str, Any] | None) -> list[str]:
    """Set the rules of a placement for each bundle, or remove it; result and errors as `Recommender.set_placement`.

    They must fit the columns of each bundle.
    """
    first, *others = arms
    if others and content is not None:
        catch_up(others)
        for arm in others:
            try:
                checked_placement(name, content, arm.recommender.items)
            except UsageError as error:
                raise UsageError(f"bundle {arm.name}: {error}") from None
    return first.recommender.set_placement(name, content)


def undo_placement(arms: Sequence[Snapshot], name: str, number: int | None) -> list[str]:
    """Set a placement to what it was in an earlier revision, as `set_placement` does."""
    catch_up(arms[:1])
    return set_placement(arms, name, earlier_content(arms[0].recommender.placements, name, number))


def broken_placements(arms: Sequence[Snapshot]) -> dict[str, str]:
    """Return why a bundle refuses the rules of placements, by name."""
    return {
        name: reason if arm.name is None else f"bundle {arm.name}: {reason}"
        for arm in reversed(arms)
        for name, reason in arm.recommender.broken_placements.items()
    }


def catch_up(arms: Sequence[Snapshot]) -> None:
    """Apply in every bundle what is stored now."""
    for arm in arms:
        arm.recommender.catch_up()


def request_compactions(learners: Sequence[OnlineLearner]) -> str | None:
    """Start a compaction in every bundle, or in none; return the log's end before them.

    None, and nothing starts, if one that was asked for is waiting or running. Raises LearnError as
    `OnlineLearner.request_compaction`.
    """
    if any(learner.compactions.is_requested for learner in learners):
        return None
    for learner in learners:  # before the first starts
        learner.check_training()
    positions = [learner.request_compaction() for learner in learners]
    return None if None in positions else min(filter(None, positions), default="")


def _append(arms: Sequence[Snapshot], event: Event) -> None:
    _learner(arms[0]).append([event])
    catch_up(arms)


def _learner(arm: Snapshot) -> OnlineLearner:
    learner = arm.recommender.learner
    assert learner is not None
    return learner


def _current(arm: Snapshot) -> Catalog:
    arm.recommender.catch_up()
    return arm.recommender.catalog


def _lacking(catalog: Catalog, items: Sequence[Any]) -> list[int]:
    """Return the indices of the `items` that are not in the catalog."""
    ids = catalog.ids.lookup(items)
    return np.flatnonzero((ids < 0) | catalog.removed[ids]).tolist()


def _known(
    catalogs: Sequence[Catalog], items: Sequence[Any], neighbors: Sequence[Sequence[Any]]
) -> list[list[Sequence[Any]]]:
    """Return the neighbors of each item that each catalog knows.

    Raises DataError on a neighbor that no catalog knows.
    """
    known_neighbors: list[list[Sequence[Any]]] = [[] for _ in catalogs]
    for item, row in zip(items, neighbors, strict=True):
        by_catalog = np.array([catalog.ids.lookup(row) >= 0 for catalog in catalogs], dtype=bool)
        unknown = np.flatnonzero(~by_catalog.any(axis=0)).tolist()
        if unknown:
            raise DataError(
                f"no bundle's catalog knows {shown(row[unknown[0]])}, a neighbor of item {shown(item)}; leave it out"
            )
        for catalog_neighbors, is_known in zip(known_neighbors, by_catalog, strict=True):
            catalog_neighbors.append([row[column] for column in np.flatnonzero(is_known).tolist()])
    return known_neighbors
