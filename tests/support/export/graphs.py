"""The settings of a bundle whose graphs are exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import GRAPH_PARTS

N, D, MAX_LEN = 400, 20, 24
SETTINGS: dict[str, Any] = {"n_items": N, "embedding_dim": D, "max_positions": 9, "max_session_length": MAX_LEN}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def graph(bundle: Bundle, name: str, variant: str = "float32") -> Path:
    path = bundle.file(GRAPH_PARTS[name, variant])
    assert path is not None
    return path
