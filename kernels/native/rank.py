"""Rank sessions in one native call: sessions in, ranked items out.

The GIL is held only to read and make Python's objects. Make an engine with `engine_of`. It keeps references only, so a
new one for every state of a catalog costs microseconds. Conditions of every call: excluded int32[..] ascending internal
ids, or None; allowed uint8[ceil((N + M) / 8)], bit i % 8 of byte i // 8, or None; exclude_seen: the session's own items
too. With trends also now, the moment of the request in ms since 1970, and context uint16[C], the visit's codes, or
None. types: uint8, a code for each click of the session, known or not, or None; a ranker that reads no types ignores
them.

    engine.recommend(session, k, excluded, allowed, exclude_seen, repeats, now, context, types, other, rules, state,
                     n_new)
        session: a list or tuple of external ids, or int32[m] internal ones. Returns (items: list of external ids,
        scores: float32[len(items)], unknown: list of the external ids that are not in the table, repeats:
        bool[len(items)] or None if not requested, times: (lookup, encode, retrieve, memory) in microseconds, memory
        None without one, effects: None); without a known click all but unknown are None.
        state: an encoder's session, to which the last n_new >= 0 of all m >= 1 clicks are new; they are appended.
        Another engine of the same weights may continue it, and encodes earlier clicks again if it has other vectors
        for them.
        rules: None, or (AppliedRules, n_shown, approximate), see kernels.native.rules: the first k items after the
        rules, of n_shown that can be recommended. approximate: above 0, an index is approximate up to so many items;
        these are read at once, and none behind them. `effects` is then (boosts float64[..], pinned bool[..], whether
        an approximate index found too few candidates). No state is used.
    engine.rank(items, offsets, k, excluded, allowed, exclude_seen, now, context, times, contexts, types,
                always_ranked, other, popular)
        packed sessions of internal ids. times: int64[T] of their clicks; a session is ranked right after its last one
        instead of at `now`. contexts: uint16[T, C], codes of the clicks' visits. always_ranked: as
        `SessionMemory.rank`; under rules these are the items that boosts raise. popular: what `engine.popular` takes,
        for sessions without clicks, which get its list; None: every session has clicks. Returns (ids int32[B, k],
        scores float32[B, k], times as above), padded with -1 / -inf.
    engine.rank_ruled(items, offsets, k, rules, ..)
        the same under rules, without always_ranked: a list of (ids int32[m], scores float32[m], effects), m <= k.

    engine.trace(session, k, excluded, allowed, exclude_seen, now, context, types, other, rules)
        one session int32[m] of internal ids, m >= 1, by the same call: (ids int32[n], scores float32[n], effects), and
        what the ranking went through: a dict of `list` and `dense`, (ids, scores) of the ranking before rules and of
        the encoder's; with a memory the pool, n_own and by its items reached, together, second, trending, dense_rank,
        quick, is_allowed, is_candidate (`memory/query_trace.hpp`); and of the candidates that the ranker scored
        ranked int32[R], scores float32[R], features float32[R * F].

    engine.popular(k, (order, clicks), excluded, allowed, now, rules)
        the most clicked items; with trends those that rise at `now`, then the others, each with a score 1 lower than
        the item before it. order int32[N + M]: all items, most clicks first. clicks: int64[N + M].
    engine.similar(item, k, by_sessions, excluded, allowed, other, rules)
        the items most similar to one, by their vectors or, with a memory, by the past sessions with both.
    Both return (ids int32[k], scores float32[k], None), padded with -1 / -inf; under rules as `rank_ruled`.
    engine.reasons(clicks int32[m], items int32[n], effects)
        for each item of an answer ('session' | 'together' | 'encoder', the external ids of the clicks that were in past
        sessions together with it, the closest first, at most three, 'boosted' | 'buried' | 'pinned' | None).
    engine.sessions_together(item, clicks int32[m])
        float64[m]: how many past sessions have the item together with each click, as the tables have it: rounded to 8
        bits above 256, without what was learned since; empty without a memory.

other: the stages of an encoder or an index that is not native, or None: (encode or None, search or None).
    encode(items int32[T], offsets int64[B + 1])
        Returns the query vectors float32[B, d].
    search(queries float32[B, d], k, excluded int32[..] or None, offsets int64[B + 1] or None)
        Returns (ids int32[B, k], logits float32[B, k]), best first, padded with -1 / -inf: of the allowed items,
        without each query's excluded ones (ascending, bounded by offsets). It knows the allowed and the present items
        itself.

Rankings equal, to the bit, those of the encoder followed by the scanner and, with a memory, by `SessionMemory.rank`.
Thread-safe; working memory is kept per thread. Raises ValueError on arguments that do not fit, IndexError on an
internal id outside the catalog.
"""

from __future__ import annotations

import numpy as np

from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.encoder import SessionEncoder
from mtaw_fast.kernels.native.memory_query import NativeRankerNet, SessionMemory
from mtaw_fast.kernels.native.scan import Scanner
from mtaw_fast.kernels.native.trends import ItemContent, Trends

__all__ = ["Engine", "engine_of"]

Engine = _native.Engine


def engine_of(
    ids: _native.IdTable,
    encoder: SessionEncoder | None,
    scanner: Scanner | None,
    scale: float,
    memory: SessionMemory | None = None,
    ranker_net: NativeRankerNet | None = None,
    *,
    side: Scanner | None = None,
    present: np.ndarray | None = None,
    trends: Trends | None = None,
    content: ItemContent | None = None,
    rows: np.ndarray | None = None,
    added_rows: np.ndarray | None = None,
) -> Engine:
    """Make an engine of parts over one catalog of N items; it keeps references to them.

    Parameters
    ----------
    ids : IdTable
    encoder, scanner : optional
        None if every call has another in `other`.
    scale : float
        Factor on the cosine, above 0.
    memory, ranker_net : optional
        Both or neither.
    side : Scanner, optional
        M added items with the ids N..N+M-1, which `ids` and `encoder` must know and `memory` must have capacity for.
    present : uint8[ceil((N + M) / 8)], optional
        A bit for each item: whether it has not been removed.
    trends : Trends, optional
        If the ranker reads them: with capacity for all items that `memory` has capacity for.
    content : ItemContent, optional
        If the ranker reads it.
    rows, added_rows : float32[N, d], float32[M, d]
        The items' rows, read if there is no scanner.
    """
    return Engine(
        ids, None if encoder is None else encoder.native, None if scanner is None else scanner.native, scale,
        None if memory is None else memory.native, None if ranker_net is None else ranker_net.native,
        None if side is None else side.native, present, None if trends is None else trends.native,
        None if content is None else content.native, rows, added_rows,
    )  # fmt: skip
