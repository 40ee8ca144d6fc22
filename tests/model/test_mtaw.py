"""The model in PyTorch against plain arithmetic."""

from __future__ import annotations

import pytest
import torch

from mtaw_fast.model.mtaw import recent_clicks


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
