"""Small logs with odd rows, and how they are read."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from mtaw_fast.data.readers import ClickOptions

LOOSE = ClickOptions(min_support=1, test_days=0, max_session=None)
SKIP = dataclasses.replace(LOOSE, bad_rows="skip")
NAMES = ("session_id", "item_id", "timestamp")


def csv(path: Path, texts: list[Any]) -> Path:
    """One session, an item a row, at these times."""
    path.write_text(",".join(NAMES) + "\n" + "".join(f"s,i{k},{text}\n" for k, text in enumerate(texts)))
    return path
