"""External ids: the graph looks them up in its inputs and returns them in its outputs.

Axes: B sessions, L clicks of the longest, N items.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import UsageError, shown
from mtaw_fast.export.whole.nodes import INT32, INT64, TEXT, Graph, Value

ML_OPSET = 2
_ML = "ai.onnx.ml"


class Ids:
    """The external ids of a catalog. dtype: of an id, text or int64.

    Raises UsageError on an id that ONNX cannot hold.
    """

    def __init__(self, ids: ItemIds) -> None:
        self._external = ids.external(np.arange(len(ids), dtype=np.int32))
        self.dtype = TEXT if ids.kind == "str" else INT64
        if self.dtype == TEXT:
            for name in self._external:
                try:
                    name.encode()
                except UnicodeEncodeError:
                    raise UsageError(
                        f"the graph of the whole recommender cannot hold the item id {shown(name)}, which has half a "
                        "surrogate pair: export the encoder alone (--part encoder), or prepare the log without it"
                    ) from None

    def known(self, g: Graph, external: Value) -> Value:
        """Return internal ids int64[..] of external ones; -1 for unknown ones."""
        keys = "keys_strings" if self.dtype == TEXT else "keys_int64s"
        table: dict[str, Any] = {keys: self._external, "values_int64s": list(range(len(self._external)))}
        return g.op("LabelEncoder", external, domain=_ML, dtype=INT64, default_int64=-1, **table)

    def external(self, g: Graph, internal: Value) -> Value:
        """Return external ids of internal ones; "" or -1 for negative ones."""
        filling, dtype = ("", TEXT) if self.dtype == TEXT else (-1, INT64)
        names = g.table("external_ids", np.array([*self._external, filling], dtype), dtype)
        return names.gather(g.where(internal < 0, len(self._external), internal))


def compacted(g: Graph, clicks: Value, lengths: Value) -> tuple[Value, Value]:
    """Return the known clicks of every session, moved to the left: (ids int32[B, L + 1], lengths int32[B]).

    ids are padded with -1. clicks: int64[B, L], -1 if unknown. lengths: int32[B], limited to 0 .. L.
    """
    width = g.op("Shape", clicks, start=1, end=2)
    steps = g.arange(width)
    is_known = (steps < lengths.cast(INT64).unsqueeze(1)) & (clicks >= 0)
    ones = is_known.cast(INT64)
    n_known = ones.reduce("Sum", 1)
    total = g.op("CumSum", ones, g.constant(np.array(1)))
    # Everything else goes to an extra last column.
    targets = g.where(is_known, total - 1, g.op("Expand", width, g.op("Shape", clicks)))
    shape = g.concat(g.op("Shape", clicks, start=0, end=1), width + 1)
    moved = g.full(shape, -1, INT64)
    moved = g.op("ScatterElements", moved, targets, clicks, axis=1)
    columns = g.arange(width + 1)
    return g.where(columns < n_known.unsqueeze(1), moved, -1).cast(INT32), n_known.cast(INT32)
