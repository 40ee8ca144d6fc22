"""Item vectors of length 1."""

from __future__ import annotations

import numpy as np

from mtaw_fast.model.item_vectors import normalized


def test_normalized_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((70_000, 3)).astype(np.float32)
    rows[5] = 0
    rows[6] = [1e-40, 0, 0]
    rows[7] = [3e38, 3e38, 3e38]
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(1))
    expected = np.divide(wide, lengths[:, None], where=lengths[:, None] > 0, out=np.zeros_like(wide))
    out = normalized(rows)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=0)
    assert out[5].tolist() == [0, 0, 0]
