"""A synthetic log in OTTO's own form, written in pieces.

OTTO's training part has 216,716,096 events of 12,899,779 sessions over 1,855,603 items; a session has 16.8 events on
average and 6 in the middle, 39 at the 90th percentile and 500 at most. Lengths here follow a log-normal law with about
these values, clicks `synthetic.ClickLaw`. A line is {"session": 1, "events": [{"aid": 5, "ts": 1659304800025, "type":
"clicks"}, ..]}.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import ClickLaw, World, draw_clicks, make_world
from mtaw_fast.errors import require
from mtaw_fast.storage.files import atomic_path

EVENTS = 200_000_000
MEAN_LENGTH = 16.6
ITEMS_AN_EVENT = 1_860_000 / EVENTS
PIECE = 120_000  # sessions of a file: 2 million events
_TYPES = ("clicks", "carts", "orders")
_CART, _ORDER = 0.25, 0.08  # chances of an event on an item that the session has
_SEED = 0
_MIDDLE, _SPREAD, _LONGEST = 6.0, 1.43, 500
_BEGIN, _DAYS = 1_659_304_800_000, 28.0
_DAY = 86_400_000


@dataclass(frozen=True, slots=True)
class LogSize:
    """The size of a log of about `events` events."""

    events: int

    @property
    def sessions(self) -> int:
        """Sessions of the log."""
        return int(self.events / MEAN_LENGTH)

    @property
    def items(self) -> int:
        """Items of the catalog, some of which nobody clicks."""
        return max(int(self.events * ITEMS_AN_EVENT), 1000)

    @property
    def pieces(self) -> int:
        """Files of the log."""
        return -(-self.sessions // PIECE)


def write_log(folder: Path, size: LogSize) -> int:
    """Write the pieces that are missing in `folder`; return how many."""
    folder.mkdir(exist_ok=True)
    paths = {piece: folder / f"part-{piece:04}.jsonl" for piece in range(size.pieces)}
    missing = {piece: path for piece, path in paths.items() if not path.exists()}
    if missing:
        world = make_world(size.items, _SEED, ClickLaw())
        for piece, path in missing.items():
            with atomic_path(path) as draft:
                _write(draft, world, piece, size)
    return len(missing)


def lengths_of(count: int, generator: np.random.Generator) -> np.ndarray:
    """Draw lengths of sessions: int64[count]."""
    lengths = np.exp(np.log(_MIDDLE) + _SPREAD * generator.standard_normal(count))
    return np.clip(np.rint(lengths), 2, _LONGEST).astype(np.int64)


def _write(path: Path, world: World, piece: int, size: LogSize) -> None:
    pl, pa = require("polars", "train"), require("pyarrow", "score")
    generator = np.random.default_rng([_SEED, 7, piece])
    first = piece * PIECE
    count = min(PIECE, size.sessions - first)
    sessions = draw_clicks(world, lengths_of(count, generator), generator)
    begins = _BEGIN + ((first + np.arange(count)) * (_DAYS * _DAY / size.sessions)).astype(np.int64)
    gaps = generator.integers(2_000, 90_000, sessions.n_clicks)
    gaps[sessions.offsets[:-1]] = 0
    elapsed = np.cumsum(gaps)
    times = np.repeat(begins - elapsed[sessions.offsets[:-1]], sessions.lengths) + elapsed
    chance = generator.random(sessions.n_clicks)
    kinds = np.where(_seen_before(sessions), np.select([chance < _ORDER, chance < _ORDER + _CART], [2, 1], 0), 0)
    events = pa.StructArray.from_arrays(
        [pa.array(sessions.items), pa.array(times), pa.array(_TYPES).take(pa.array(kinds))], ["aid", "ts", "type"]
    )
    rows = pa.table([first + np.arange(count), pa.LargeListArray.from_arrays(sessions.offsets, events)],
                    names=["session", "events"])  # fmt: skip
    pl.from_arrow(rows).write_ndjson(path)


def _seen_before(sessions: Sessions) -> np.ndarray:
    """Return bool[T]: whether the session has an earlier event on the item."""
    session = np.repeat(np.arange(len(sessions), dtype=np.int64), sessions.lengths)
    key = (session << 32) | sessions.items
    repeated = np.ones(len(key), dtype=bool)
    repeated[np.unique(key, return_index=True)[1]] = False
    return repeated
