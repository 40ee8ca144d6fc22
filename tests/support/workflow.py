"""A data set and a bundle made from Python, and warnings that every small set has."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast import Dataset
from mtaw_fast.bundle import Bundle
from mtaw_fast.config import preset
from mtaw_fast.errors import DataWarning
from tests.support.cli import TINY

CONFIG = preset("full").override([text for text in TINY if "=" in text]).override(["epochs=1"])
FEW = pytest.warns(DataWarning, match="too few: a useful model")  # every set here


@dataclasses.dataclass(frozen=True)
class Made:
    folder: Path
    dataset: Dataset
    bundle: Bundle
    reported: list[tuple[str, int, int]]


def recorded_in(reported: list[tuple[str, int, int]]) -> Any:
    return lambda what, done, total: reported.append((what, done, total))
