"""The order of the items in a model."""

from __future__ import annotations

import numpy as np

from mtaw_fast.model.model import most_clicked_first


def test_the_most_clicked_come_first() -> None:
    clicks = np.array([3, 9, 0, 9, 3, 10**12])
    assert most_clicked_first(clicks).tolist() == [5, 1, 3, 0, 4, 2]
