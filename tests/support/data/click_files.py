"""Clicks as files, and how they are read."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from mtaw_fast.data.readers import ClickOptions, read
from mtaw_fast.errors import DataError, MtawError
from tests.support.data.raw_logs import LOOSE

DAY = 86_400


def refused(source: Path, options: ClickOptions = LOOSE, kind: type[MtawError] = DataError) -> str:
    """The one-line message that reading `source` must raise."""
    with pytest.raises(kind) as caught:
        read("clicks", source, options=options)
    message = str(caught.value)
    assert "\n" not in message
    return message


FRAME = pl.DataFrame({"session_id": [1, 1, 2, 2], "item_id": ["a", "b", "b", "a"], "timestamp": [1, 2, 3, 4]})
