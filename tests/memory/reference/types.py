"""The features of clicks' types in plain Python; `kernels/native/memory/own_items.hpp` has the formulas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.memory.reference.candidates import Query


def type_features(query: Query, types: Sequence[int] | None, n_types: int, candidates: list[int]) -> np.ndarray:
    """Return float64[C, 3 n_types]: e_last, e_near and e_own of each type, for some of the query's items.

    types: of the query's clicks, codes from n_types on where unknown; None: all are.
    """
    clicks = query.clicks.tolist()
    codes = [n_types] * len(clicks) if types is None else list(types)[-len(clicks) :]

    def one_hot(code: int) -> list[float]:
        return [float(code == k) for k in range(n_types)]

    rows = []
    for item in candidates:
        evidence = query.items[item]
        near = one_hot(codes[-round(1 / evidence.near)]) if evidence.near else [0.0] * n_types
        own = [0.0] * n_types
        if evidence.own is not None:
            latest = codes[-1 - evidence.own.back]
            of_item = {code for click, code in zip(clicks, codes, strict=True) if click == item}
            own = [1.0 if k == latest else 0.5 if k in of_item else 0.0 for k in range(n_types)]
        rows.append(one_hot(codes[-1]) + near + own)
    return np.array(rows).reshape(len(candidates), 3 * n_types)
