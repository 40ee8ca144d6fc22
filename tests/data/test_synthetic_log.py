"""The synthetic log, written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtaw_fast.data import readers
from mtaw_fast.data.readers import ClickOptions
from mtaw_fast.data.synthetic import generate
from mtaw_fast.data.synthetic_log import write_click_log


def test_what_is_read_back_is_what_was_generated(tmp_path: Path) -> None:
    path = tmp_path / "clicks.csv"
    clicks = write_click_log(path, n_items=200, n_sessions=500, seed=4)
    expected = generate(200, 500, seed=4)
    options = ClickOptions(min_support=1, test_days=0)
    got = readers.read("clicks", path, options=options)
    assert got.train.n_clicks == clicks
    assert len(got.train) == 500
    item = {f"item-{i + 1}": i for i in range(200)}
    names = got.ids.external(got.train.items)
    n = expected.train.n_clicks
    assert np.array_equal([item[name] for name in names[:n]], expected.train.items)
    longest = {s: k for k, s in enumerate(expected.test.session.tolist())}
    tail = [np.append(expected.test.prefixes[k], expected.test.targets[k]) for k in longest.values()]
    assert np.array_equal([item[name] for name in names[n:]], np.concatenate(tail))
