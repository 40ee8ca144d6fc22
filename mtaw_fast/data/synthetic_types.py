"""Synthetic sessions whose clicks have types: view, cart and purchase.

A visitor views items as `synthetic.ClickLaw` says, puts some of those viewed into the cart, and buys some of those. The
types steer what comes next: a carted item is likely to be clicked again, a purchased one never is, and after a purchase
the visitor looks at the complements of the item.

Axes: B sessions, L clicks of the longest one, N items, D complements of an item.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.sessions import Sessions, offsets_of
from mtaw_fast.data.synthetic import ClickLaw, World, make_world, session_lengths

TYPES = ("view", "cart", "purchase")
VIEW, CART, PURCHASE = range(3)
_LAW = ClickLaw(min_length=3, length_exponent=1.2, max_length=40)


_CARTS = 0.35  # chance that another click on a viewed item puts it into the cart
_BUYS = 0.5  # that one on a carted item buys it
_AT_ONCE = 0.08  # that the first click on an item already is a cart; a tenth of those are purchases
_RETURNS = 6.0  # how much more often a carted item is clicked again than a viewed one
_COMPLEMENTS = 4  # D
_COMPLEMENT = 0.6  # chance that the click after a purchase is on one of them


def draw_typed_sessions(n_items: int, n_sessions: int, seed: int) -> Sessions:
    """Draw sessions with the types of their clicks, codes of `TYPES`; equal arguments give equal clicks."""
    world = make_world(n_items, seed, _LAW)
    random = np.random.default_rng([seed, 6])
    # Complements are popular items of other clusters, so that transitions lead there only after purchases.
    partners = world.draw(np.random.default_rng([seed, 5]).random(n_items * _COMPLEMENTS))
    partners = partners.reshape(n_items, _COMPLEMENTS)
    lengths = session_lengths(_LAW, n_sessions, random)
    shape = (n_sessions, int(lengths.max()))
    # status: the strongest type that each click's item has had so far; -1 behind a session's end.
    items, kinds, status = np.zeros(shape, np.int64), np.zeros(shape, np.uint8), np.full(shape, -1, np.int8)
    items[:, 0] = world.draw(random.random(n_sessions))
    _take(items, kinds, status, np.arange(n_sessions), 0, random)
    for step in range(1, shape[1]):
        rows = np.flatnonzero(lengths > step)
        items[rows, step] = _next(world, partners, items[rows, :step], status[rows, :step], random)
        _take(items, kinds, status, rows, step, random)
    inside = np.arange(shape[1]) < lengths[:, None]
    return Sessions(items[inside].astype(np.int32), offsets_of(lengths), None, kinds[inside])


def _next(
    world: World, partners: np.ndarray, items: np.ndarray, status: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Return int64[b], the next items after the clicks items int64[b, m] whose items have the status int8[b, m]."""
    law, (count, length) = world.law, items.shape
    last_items = items[:, -1]
    kind, uniform, quantile = random.random((3, count))
    weights = law.recency ** np.arange(length - 1, -1, -1.0) * np.ones((count, 1))
    weights *= np.array([1.0, _RETURNS, 0.0])[status]
    edges = np.cumsum(weights, axis=1)
    repeat_positions = (edges < (uniform * edges[:, -1])[:, None]).sum(axis=1).clip(max=length - 1)
    # Who has bought everything has nothing to return to.
    repeats = np.where(edges[:, -1] > 0, law.repeat, 0.0)
    ranks = np.searchsorted(np.cumsum(world.weights), quantile, side="right").clip(max=law.successors - 1)
    next_items = np.select(
        [kind < repeats, kind < law.repeat + law.transition, kind < law.repeat + law.transition + law.cluster],
        [
            items[np.arange(count), repeat_positions],
            world.successors[last_items, ranks],
            world.draw_within(world.cluster[last_items], uniform),
        ],
        world.draw(uniform),
    )
    bought = (status[:, -1] == PURCHASE) & (random.random(count) < _COMPLEMENT)
    next_items[bought] = partners[last_items[bought], (quantile[bought] * _COMPLEMENTS).astype(np.int64)]
    return next_items


def _take(
    items: np.ndarray, kinds: np.ndarray, status: np.ndarray, rows: np.ndarray, step: int, random: np.random.Generator
) -> None:
    """Draw the types of the clicks at `step`, and bring the status of their items up to date."""
    same_item = items[rows, : step + 1] == items[rows, step][:, None]
    old_status = np.where(same_item, status[rows, : step + 1], -1).max(axis=1)
    chance, part = random.random((2, len(rows)))
    drawn = np.select(
        [(old_status < VIEW) & (chance < _AT_ONCE), (old_status == VIEW) & (chance < _CARTS),
         (old_status == CART) & (chance < _BUYS)],
        [np.where(part < 0.1, PURCHASE, CART), CART, PURCHASE],
        VIEW,
    )  # fmt: skip
    kinds[rows, step] = drawn
    new_status = np.maximum(old_status, drawn).astype(np.int8)
    status[rows, : step + 1] = np.where(same_item, new_status[:, None], status[rows, : step + 1])
