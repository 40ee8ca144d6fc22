"""Item vectors of length 1, and the recent clicks: their mean, and the start and range of their two numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtaw_fast.config import Config
from mtaw_fast.errors import BundleError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.mtaw import recent_clicks
from mtaw_fast.model.parameters import Recent, recent_of, starting_weights
from tests.support.random_bundle import bundle_parts, save_parts


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


@pytest.mark.parametrize("decay", [0.01, 0.4, 0.99])
def test_recent_clicks_are_a_mean_of_the_last_directions(decay: float) -> None:
    lengths = (1, 15, 16, 17, 40)
    vectors = torch.randn(sum(lengths), 6, dtype=torch.float64)
    vectors[3] = 0  # an item without a direction
    place = torch.cat([torch.arange(length) for length in lengths])
    got = recent_clicks(vectors, place, torch.tensor(decay, dtype=torch.float64))
    for t, m in enumerate(place.tolist()):
        late = [vectors[t - k] for k in range(min(m + 1, 16))]
        shares = [decay**k for k in range(len(late))]
        mixed = sum(share * v / max(float(v.norm()), 1e-12) for share, v in zip(shares, late, strict=True))
        torch.testing.assert_close(got[t], 6**0.5 * mixed / sum(shares), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("gain", "decay"), [(0.01, 0.01), (1.0, 0.5), (100.0, 0.99)])
def test_a_training_starts_from_the_settings(gain: float, decay: float) -> None:
    start = starting_weights(Config.of(recent_weight=gain, recent_decay=decay))
    assert recent_of({"recent": np.array(start, dtype=np.float32)}) == pytest.approx(Recent(gain, decay), rel=1e-5)
    assert recent_of({"item_embedding": np.zeros((3, 2), np.float32)}) == (0, 0)


@pytest.mark.parametrize("values", [(0.7, 0.0), (0.0, -0.7), (np.inf, 0.0), (0.0, np.nan)])
def test_numbers_out_of_range_make_no_bundle(tmp_path: Path, values: tuple[float, float]) -> None:
    parts = bundle_parts(recent_weight=1.0)
    parts["weights"]["recent"] = np.array(values, dtype=np.float32)
    with pytest.raises(BundleError, match="the array 'recent' is out of range"):
        save_parts(tmp_path / "bundle", **parts)
