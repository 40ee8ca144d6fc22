"""A recommender that has learned clicks warns that they may be those of the samples."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender, compare, evaluate
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataWarning
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts

_LEARNED = "this recommender has learned 3 clicks that its bundle does not have"


def test_learned_clicks_are_a_warning(tmp_path: Path) -> None:
    bundle = save_parts(tmp_path / "bundle", **bundle_parts() | memory_parts())
    sessions = Sessions.from_lists([[1, 2, 3]] * 4)
    data = Dataset("shop", sessions, Samples.from_sessions(sessions, 1), bundle.ids)
    learning = Recommender.load(bundle.folder, learn=tmp_path / "log")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        evaluate(learning, data)  # nothing is learned yet
    learning.observe("visit", bundle.ids.external(np.array([1, 2, 3])))
    learning.catch_up()
    with pytest.warns(DataWarning, match=_LEARNED):
        evaluate(learning, data)
    with pytest.warns(DataWarning, match=f"bundle [(]B[)]: {_LEARNED}"):
        compare(bundle, learning, data)
    learning.close()
