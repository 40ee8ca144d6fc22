"""A small CSV log whose sessions overlap in time, and a bundle that was trained on its first part."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.readers import read_stream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.memory import MemoryTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogFile
from tests.support.online.recommenders import model_fields
from tests.support.random_bundle import memory_parts

N, D = 30, 8
MIDNIGHT = 1_764_115_200_000  # 2025-11-26 00:00 UTC
MINUTE = 60_000
READER = {"format": "clicks", "session": "s", "item": "i", "time": "t", "time_unit": "ms", "item_ids": "str"}

Row = tuple[str, str, int]


def drawn_rows(seed: int = 0, sessions: int = 60, new_items: int = 6) -> list[Row]:
    """Return clicks by time, from two hours before midnight to two hours after; items new-* come only after it."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for session in range(sessions):
        time = MIDNIGHT + (session * 4 - 120) * MINUTE + int(rng.integers(1, 50_000))
        for _ in range(rng.integers(1, 7)):
            most = N + new_items if time > MIDNIGHT else N
            item = int(rng.integers(0, most)) if rng.random() < 0.5 else most - 1 - int(rng.integers(0, 4))
            rows.append((f"s{session}", f"sku-{item}" if item < N else f"new-{item - N}", time))
            time += int(rng.integers(5_000, 150_000))
    return sorted(rows, key=lambda row: row[2])


def written(path: Path, rows: list[Row]) -> Path:
    path.write_text("s,i,t\n" + "".join(f"{s},{i},{t}\n" for s, i, t in rows))
    return path


def trained_before(rows: list[Row], moment: int = MIDNIGHT) -> Model:
    """Return a model whose memory holds the sessions that end before `moment`, as after a training."""
    by_session: dict[str, list[Row]] = {}
    for row in rows:
        by_session.setdefault(row[0], []).append(row)
    ended = sorted(
        (session for session in by_session.values() if session[-1][2] < moment), key=lambda session: session[-1][2]
    )
    lists = [[int(item.removeprefix("sku-")) for _, item, _ in session] for session in ended]
    sessions = Sessions.from_lists(lists)
    times = np.array([time for session in ended for _, _, time in session], dtype=np.int64)
    parts = model_fields(N, D, seed=3)
    memory = memory_parts(N, 3)
    parts["popularity"] = np.bincount(sessions.items, minlength=N).astype(np.int64)
    memory["memory"] = MemoryTables.build(sessions, N, memory["memory"].settings)
    return Model.of(**parts, **memory, clicked_at=times)


def saved(folder: Path, model: Model) -> Bundle:
    dataset = {"name": "x", "fingerprint": "y", "reader": READER, "min_prefix": 1}
    return Bundle.save(folder, model, metrics={}, dataset=dataset)


def log_file(path: Path, rows: list[Row], model: Model) -> LogFile:
    return LogFile.of(read_stream(written(path, rows), READER), model)
