"""The one native call: sessions in, ranked items out, without the GIL but for reading and making Python's objects.

    Engine(ids, encoder, scanner, scale, memory, ranker, side, here)
        an ids.IdTable, and the native objects of encoder.py and scan.py over one catalog of N items; scale > 0, the
        factor on the cosine; memory, ranker: the native objects of memory_query.py, or None. Of a catalog that was
        updated, side: the scanner of M added items, ids N..N+M-1, which `ids` and `encoder` know too and `memory` has
        room for; here: uint8[ceil((N + M) / 8)], a bit an item that was not taken out. It holds references alone: an
        engine for every state of a catalog costs microseconds

Conditions of every call: excluded int32[..] ascending internal ids, or None; allowed uint8[ceil((N + M) / 8)], bit
i % 8 of byte i // 8, or None; exclude_seen: nor the session's own items.

    engine.recommend(session, k, excluded, allowed, exclude_seen, repeats)
        session: a list or tuple of external ids. Returns (items: list of external ids, scores: float32[len(items)],
        unknown: list of the clicks that the table does not know, repeats: bool[len(items)] or None where not asked
        for, (lookup, encode, retrieve, memory) in microseconds, None for a memory that there is not);
        (None, None, unknown, None, None) where no click is known.
    engine.recommend_live(state, clicks, fresh, k, excluded, allowed, exclude_seen, repeats)
        state: an encoder's session; clicks int32[m]: all its internal ids, m >= 1, of which the last `fresh` are not
        in it yet and are appended. Another engine of the same weights may go on with it: where it sees the earlier
        clicks differently, it encodes them again. Returns as `recommend`, unknown = None.
    engine.rank(items, offsets, k, excluded, allowed, exclude_seen)
        packed sessions of internal ids, none empty. Returns (ids int32[B, k], scores float32[B, k], times as above),
        padded with -1 / -inf.

Rankings are those of the encoder followed by the scanner, and by `SessionMemory.rank` of what these give where there
is a memory, to the bit. Thread-safe; memory is kept once a thread.
ValueError on arguments that do not fit, IndexError on an internal id outside the catalog.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.encoder import SessionEncoder
from mtaw_fast.kernels.native.memory_query import NativeRankerNet, SessionMemory
from mtaw_fast.kernels.native.scan import Scanner

__all__ = ["Engine", "engine_of"]

Engine = _native.Engine


def engine_of(
    ids: _native.IdTable,
    encoder: SessionEncoder,
    scanner: Scanner,
    scale: float,
    memory: SessionMemory | None = None,
    ranker_net: NativeRankerNet | None = None,
    *,
    side: Scanner | None = None,
    here: np.ndarray | None = None,
) -> Engine:
    """The engine of parts in their Python forms; they are kept alive."""
    return Engine(
        ids, encoder.native, scanner.native, scale,
        None if memory is None else memory.native, None if ranker_net is None else ranker_net.native,
        None if side is None else side.native, here,
    )  # fmt: skip
