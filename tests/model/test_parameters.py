"""The two learned numbers of the recent clicks: their start, and the allowed range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.config import Config
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.model.parameters import Recent, recent_of, starting_weights
from tests.support.random_bundle import bundle_parts, save_parts


@pytest.mark.parametrize(("gain", "decay"), [(0.01, 0.01), (1.0, 0.5), (2.0, 0.5), (100.0, 0.99)])
def test_a_training_starts_from_the_settings(gain: float, decay: float) -> None:
    weights = {
        "recent": np.array(starting_weights(Config.of(recent_weight=gain, recent_decay=decay)), dtype=np.float32)
    }
    assert recent_of(weights) == pytest.approx(Recent(gain, decay), rel=1e-5)


def test_a_model_without_them_has_none() -> None:
    assert recent_of({"item_embedding": np.zeros((3, 2), np.float32)}) == (0, 0)


@pytest.mark.parametrize("values", [(0.7, 0.0), (0.0, -0.7), (np.inf, 0.0), (0.0, np.nan)])
def test_numbers_out_of_range_make_no_bundle(tmp_path: Path, values: tuple[float, float]) -> None:
    parts = bundle_parts(recent_weight=1.0)
    parts["weights"]["recent"] = np.array(values, dtype=np.float32)
    with pytest.raises(BundleError, match="the array 'recent' is out of range"):
        save_parts(tmp_path / "bundle", **parts)


@pytest.mark.parametrize(
    "change", [{"recent_weight": -1.0}, {"recent_weight": 0.001}, {"recent_weight": 101.0}, {"recent_decay": 1.0}]
)
def test_settings_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=rf"setting {next(iter(change))}=\S+ is out of range"):
        Config.of(**change)
