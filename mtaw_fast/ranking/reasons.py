"""Why an item was recommended, for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mtaw_fast.memory.co_clicked import cosine
from mtaw_fast.ranking.catalog import Catalog

_MOST_ITEMS = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one item was recommended.

    Attributes
    ----------
    kind : {'session', 'together', 'encoder'}
        'session': the item is in the session already; 'together': past sessions hold it with `items` of the session;
        'encoder': neither, it is near to the session's vector.
    items : tuple of ids
        External ids, the closest first, at most three.
    """

    kind: Literal["session", "together", "encoder"]
    items: tuple[Any, ...] = ()


def reasons_of(catalog: Catalog, clicks: np.ndarray, found: np.ndarray) -> list[Reason]:
    """One for each item found (int32[..]) in answer to the clicks (int32[m]), internal ids both.

    Past sessions are those of the bundle's memory, and closeness is its cosine (`memory.co_clicked`). Without a memory,
    what is not in the session comes from the encoder.
    """
    seen = list(dict.fromkeys(clicks[::-1].tolist()))
    memory = catalog.model.memory
    reasons = []
    for item in found.tolist():
        if item in seen:
            reasons.append(Reason("session"))
            continue
        near = {} if memory is None else {own: cosine(memory, own, item) for own in seen}
        best = sorted((own for own, share in near.items() if share > 0), key=lambda own: -near[own])[:_MOST_ITEMS]
        names = catalog.ids.external(np.array(best, dtype=np.int32))
        reasons.append(Reason("together", tuple(names)) if best else Reason("encoder"))
    return reasons
