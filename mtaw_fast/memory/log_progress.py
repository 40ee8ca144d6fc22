"""How far a model has learned from a log of events, and what of that its tables do not hold.

Axes: L sessions that came from the log, E event ids, N items.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.storage.sealed_file import SealedFile
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

LAYOUT = 1
_ABOUT = "about"  # in a file: UTF-8 JSON of the layout and of what is no array
_TYPES = {
    "keys": np.uint64, "sessions": np.int32, "last": np.int64, "seen": np.uint64,
    "untrained": np.int32, "removed": np.int32,
    "hidden": np.int32, "seed_items": np.int32, "seed_neighbors": np.int32, "carried": np.uint8,
}  # fmt: skip


def _nothing(dtype: type) -> Callable[[], np.ndarray]:
    return lambda: np.empty(0, dtype=dtype)


@dataclass(frozen=True, slots=True, eq=False)
class LogProgress:
    """What a model knows of a log.

    Attributes
    ----------
    log : str
        The log's identity.
    position : str
        Every event up to here is either in the tables or carried.
    clock : int
        Unix milliseconds of the newest event.
    keys : uint64[L]
        Ascending: which session ids (`online.state.session_tracker.key_of`) are in the tables.
    sessions : int32[L]
        Their places there.
    last : int64[L]
        Unix milliseconds of their last clicks.
    seen : uint64[E]
        Ids of the latest events, oldest first: one that comes again is not counted.
    untrained : int32[..]
        Items that no training of the encoder has seen: their vectors follow what they are clicked with.
    removed, hidden : int32[..]
        Items that are never recommended again, and those with too few clicks so far.
    seed_items, seed_neighbors : int32[K]
        Pairs of an item that was added by hand and a neighbor that was named with it.
    carried : uint8[..]
        Clicks of sessions that were not over: UTF-8 lines of JSON in the log's order.
    open : mapping of str to (int, bool)
        Of sessions that were not over, by their ids, what `carried` does not tell: Unix milliseconds of the last click,
        learned or not, and whether it is a bot, of which nothing is learned.
    since : int | None
        Unix milliseconds up to which a training knew the log's clicks by their times: they are not learned. None where
        that is not known.

    Raises
    ------
    DataError
        On arrays that do not fit together.
    """

    log: str
    position: str
    clock: int
    keys: np.ndarray = field(default_factory=_nothing(np.uint64))
    sessions: np.ndarray = field(default_factory=_nothing(np.int32))
    last: np.ndarray = field(default_factory=_nothing(np.int64))
    seen: np.ndarray = field(default_factory=_nothing(np.uint64))
    untrained: np.ndarray = field(default_factory=_nothing(np.int32))
    removed: np.ndarray = field(default_factory=_nothing(np.int32))
    hidden: np.ndarray = field(default_factory=_nothing(np.int32))
    seed_items: np.ndarray = field(default_factory=_nothing(np.int32))
    seed_neighbors: np.ndarray = field(default_factory=_nothing(np.int32))
    carried: np.ndarray = field(default_factory=_nothing(np.uint8))
    open: Mapping[str, tuple[int, bool]] = field(default_factory=dict)
    since: int | None = None

    def __post_init__(self) -> None:
        for name, dtype in _TYPES.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != 1:
                raise DataError(f"what was learned: {name} must be a vector of {np.dtype(dtype)}; learn again")
        if not len(self.keys) == len(self.sessions) == len(self.last) or len(self.seed_items) != len(
            self.seed_neighbors
        ):
            raise DataError("what was learned: its arrays differ in length; learn again")
        if (self.keys[1:] < self.keys[:-1]).any():
            raise DataError("what was learned: the session keys do not ascend; learn again")

    def check(self, n_items: int, n_sessions: int) -> None:
        """Raise DataError where an item or a session lies outside a model of N items and S sessions."""
        for name in ("untrained", "removed", "hidden", "seed_items", "seed_neighbors", "sessions"):
            array, most = getattr(self, name), n_sessions if name == "sessions" else n_items
            if len(array) and (array.min() < 0 or array.max() >= most):
                raise DataError(f"what was learned: {name} points outside 0..{most - 1}; learn again")

    def sessions_of(self, key: int) -> np.ndarray:
        """int32[..]: the places of a session id's sessions in the tables."""
        wanted = np.uint64(key)
        return self.sessions[np.searchsorted(self.keys, wanted, "left") : np.searchsorted(self.keys, wanted, "right")]

    def save(self, path: Path) -> None:
        """Write it to `path` as one safetensors file, atomically."""
        about = {"layout": LAYOUT, "log": self.log, "position": self.position, "clock": self.clock,
                 "open": dict(self.open), "since": self.since}  # fmt: skip
        text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        write_tensors(path, {_ABOUT: text, **{name: getattr(self, name) for name in _TYPES}})

    @classmethod
    def load(cls, path: Path | SealedFile) -> LogProgress:
        """Map what `save` wrote. Raises DataError where the file is missing, damaged or of another layout."""
        arrays = map_tensors(path, former={"seed_neighbours": "seed_neighbors"})
        try:
            about = json.loads(arrays.pop(_ABOUT).tobytes())
            if about["layout"] != LAYOUT:
                raise DataError(f"{path}: its layout is {about['layout']}, not {LAYOUT}; upgrade mtaw-fast")
            if set(arrays) != set(_TYPES):
                raise KeyError(next(iter(set(arrays) ^ set(_TYPES))))
            # Older ones lack the next two.
            ongoing = {str(name): (int(last), bool(bot)) for name, (last, bot) in about.get("open", {}).items()}
            since = None if about.get("since") is None else int(about["since"])
            return cls(
                str(about["log"]), str(about["position"]), int(about["clock"]), open=ongoing, since=since, **arrays
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(f"{path}: what was learned is damaged ({type(error).__name__}: {error})") from None
        except DataError as error:
            raise DataError(f"{path}: {error}") from None
