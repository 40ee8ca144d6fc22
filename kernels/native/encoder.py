"""MTAW's encoder in C++: clicks of a session in, the unit query vector of its last prefix out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mtaw_fast.kernels.native import _native

__all__ = ["SessionEncoder", "SessionState"]


class SessionEncoder:
    """The model of `kernels/prefix_interest/README.md`, for the last click only, in float32.

    weights: float32, C-contiguous, by name: item_embedding [N, d] (kept by reference, all else is copied),
    position_embedding [P, d], and [d, d] / [d] of itl_query_weight / _bias, ffn_in_*, ffn_out_*, norm_*, iel_query_*
    (norm_weight is [d]; a layer is weight[out, in]). An added_embedding [M, d], kept by reference too, has the rows of
    the ids N..N+M-1. max_len: of longer sessions the last max_len clicks count. isa: the instruction set; None takes
    the best of this CPU (or MTAW_ISA's). recent, recent_decay: the query is o_m + recent * r_m, where r_m mixes the
    directions of the last 16 clicks' items, of length sqrt(d) at most: sqrt(d) sum_k recent_decay^k u_(m-k) / sum_k
    recent_decay^k, u = e / |e|.

    A vector depends only on its session and the instruction set, to the bit. Thread-safe; releases the GIL.
    Raises ValueError on a missing or misshapen array, or an instruction set that this CPU lacks.
    """

    def __init__(
        self,
        weights: Mapping[str, np.ndarray],
        max_len: int,
        isa: str | None = None,
        *,
        recent: float = 0.0,
        recent_decay: float = 0.0,
    ) -> None:
        self.native = _native.Encoder(dict(weights), max_len, isa, recent, recent_decay)

    def encode(self, items: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """Return the queries of B packed sessions at length 1: float32[B, d], zeros for a zero vector.

        items: int32[T]; offsets: int64[B + 1]. Raises ValueError on a session without clicks or offsets
        that do not fit, IndexError on an item outside 0..N-1.
        """
        return self.native.encode(items, offsets)

    def extended(self, added: np.ndarray) -> SessionEncoder:
        """Return the same encoder with other added items: ids N..N+M-1 have the rows of `added` float32[M, d].

        It shares the packed weights and keeps `added` by reference, so it costs microseconds. Raises ValueError on a
        wrong type or shape.
        """
        encoder = object.__new__(SessionEncoder)
        encoder.native = self.native.extended(added)
        return encoder

    def session(self) -> SessionState:
        """Return a session without clicks, to append to."""
        return SessionState(self.native)


class SessionState:
    """The encoder's state of one session: appending a click costs one row of each layer, not a whole encoding.

    Every query equals `SessionEncoder.encode` of the clicks so far, to the bit. Past max_len clicks the window
    slides, and every append encodes it again. Thread-safe; calls on one session wait for each other, without
    the GIL.
    """

    def __init__(self, encoder: _native.Encoder) -> None:
        self.native = encoder.session()

    def append(self, item: int) -> np.ndarray:
        """Append one click; return the new query float32[d]. Raises IndexError on an item outside 0..N-1."""
        return self.native.append_one(item)

    def extend(self, items: np.ndarray) -> np.ndarray:
        """Append int32[n] clicks; return the query after the last one, float32[d].

        Raises ValueError if n is 0, IndexError on an item outside 0..N-1; the session then stays as it was.
        """
        return self.native.append(items)

    def query(self) -> np.ndarray:
        """Return the query after the last click: float32[d]. Raises ValueError without clicks."""
        return self.native.query()

    @property
    def clicks(self) -> np.ndarray:
        """The clicks that count: the last max_len at most, int32[m]."""
        return self.native.clicks

    @property
    def n_bytes(self) -> int:
        """Heap memory in bytes: 4 an id and 4 a float of l_t (d rounded up to 16), with 1/10 spare capacity."""
        return self.native.n_bytes
