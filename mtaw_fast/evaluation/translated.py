"""Samples in the internal ids of another catalog."""

from __future__ import annotations

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of


def translated(samples: Samples, source: ItemIds, target: ItemIds) -> Samples:
    """Samples of the catalog `source` in the internal ids of `target`.

    Unknown clicks are dropped, an unknown target can only be missed.
    """
    internal = target.lookup(source.external(np.arange(len(source), dtype=np.int64)))
    if np.array_equal(internal, np.arange(len(target))):
        return samples
    items = internal[samples.prefixes.items]
    row = np.repeat(np.arange(len(samples)), samples.prefixes.lengths)
    kept = np.bincount(row[items >= 0], minlength=len(samples))
    times, types = samples.prefixes.times, samples.prefixes.types
    prefixes = Sessions(
        items[items >= 0],
        offsets_of(kept),
        None if times is None else times[items >= 0],
        None if types is None else types[items >= 0],
    )
    # Out of the catalog's range: no list holds it.
    targets = np.where(internal[samples.targets] >= 0, internal[samples.targets], len(target)).astype(np.int32)
    return Samples(prefixes, targets, samples.session, samples.target_times, samples.target_types)
