"""How far a model has learned from a log of events, and the learned data that is not in its tables.

The core checks that all of it lies within the model when a bundle is opened (`kernels/native/bundle/learned.cpp`).

Axes: L sessions that came from the log, E event ids, N items.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError
from mtaw_fast.storage.tensor_file import Tensors, map_tensors, write_tensors

LAYOUT = 3
AGELESS = np.iinfo(np.int64).max  # instead of the time of a session's last click, if that is unknown
_ABOUT = "about"  # in a file: UTF-8 JSON of the layout and of the fields that are not arrays
_TYPES = {
    "keys": np.uint64, "sessions": np.int32, "last": np.int64, "seen": np.uint64,
    "untrained": np.int32, "removed": np.int32,
    "hidden": np.int32, "seed_items": np.int32, "seed_neighbors": np.int32, "seed_times": np.int64, "carried": np.uint8,
    "given_items": np.int32, "given_vectors": np.float32,
}  # fmt: skip
_ADDED = ("given_items", "given_vectors", "seed_times")  # not in a file where they are empty
_CARRIED_BYTES = 1 << 16  # of clicks of open sessions that are read at a time
_GUARDS = {
    "traffic": np.int64, "flood_sessions": np.uint64, "flood_items": np.uint32,
    "crowd": np.int64, "visits": np.uint32, "pair_cells": np.uint32, "pair_counts": np.uint8,
}  # fmt: skip
_GUARD = "guard_"  # before their names in a file
_REMEDY = "rebuild it from the log"


def _empty(dtype: type) -> Callable[[], np.ndarray]:
    return lambda: np.empty(0, dtype=dtype)


@dataclass(frozen=True, slots=True, eq=False)
class FormerProgress:
    """What the compacted bundle of a former training knew about a log, which is read again for another training.

    The log up to there is redacted: an event that comes again could not be recognized by it. All as of `LogProgress`.
    """

    log: str
    position: str
    seen: np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class LogProgress:
    """How far a model has learned from a log. Times are Unix milliseconds.

        log               the log's identity
        position          every event up to here is in the tables or in `carried`
        clock_state       of `online.state.log_clock.LogClock`
        keys              uint64[L], of the session ids in the tables (`online.state.session_tracker.key_of`), ascending
        sessions          int32[L], their indices in the tables
        last              int64[L], times of their last clicks; `AGELESS` of those in a log file without times, which
                          never expire
        seen              uint64[E], keys of the latest event ids (`event_key` there), oldest first: an event that comes
                          again is not counted
        untrained         int32[..], items that no training of the encoder has seen: their vectors follow the items
                          clicked together with them
        removed, hidden   int32[..], items that are never recommended again, and items with too few clicks so far
        seed_items, seed_neighbors  int32[K], pairs of an item added by hand and one of its given neighbors
        seed_times        int64[K], times (0: unknown) of the newest click then
        given_items, given_vectors  int32[G], float32[G * d], items added by hand with a vector
        carried           uint8[..], clicks of open sessions, and parts of changes of the item table that are not
                          complete: UTF-8 lines of JSON in the log's order
        open              the open sessions by id, as `online.state.session_tracker.OpenSession`
        content_priors    a new item, a neighbor that its attributes suggest, the time (0: unknown) of the newest click
                          then
        entered, added    items that entered by clicks, or were added by hand, since the training
        left              items that entered by clicks, and that no session holds any more
        candidates        by id, keys of the sessions that clicked unknown items which have not entered, the latest item
                          last
        since             earlier clicks of the log were in the training and are not learned; None if unknown
        guards            the state of `online.state.guards.Guards`
        removed_ids       items that were removed by hand and are not in the catalog
        displays          a new item, and how often it was shown
        refused_tables    the last changes of the item table that did not fit: who made one may still wait to hear of it
        former            that of a former training, if the log is to be read from its beginning again; it is not stored

    Raises DataError on arrays that do not fit together.
    """

    log: str
    position: str
    clock_state: Mapping[str, int] = field(default_factory=dict)
    keys: np.ndarray = field(default_factory=_empty(np.uint64))
    sessions: np.ndarray = field(default_factory=_empty(np.int32))
    last: np.ndarray = field(default_factory=_empty(np.int64))
    seen: np.ndarray = field(default_factory=_empty(np.uint64))
    untrained: np.ndarray = field(default_factory=_empty(np.int32))
    removed: np.ndarray = field(default_factory=_empty(np.int32))
    hidden: np.ndarray = field(default_factory=_empty(np.int32))
    seed_items: np.ndarray = field(default_factory=_empty(np.int32))
    seed_neighbors: np.ndarray = field(default_factory=_empty(np.int32))
    seed_times: np.ndarray = field(default_factory=_empty(np.int64))
    carried: np.ndarray = field(default_factory=_empty(np.uint8))
    given_items: np.ndarray = field(default_factory=_empty(np.int32))
    given_vectors: np.ndarray = field(default_factory=_empty(np.float32))
    open: Mapping[str, tuple[int, int, int, bool, Sequence[int]]] = field(default_factory=dict)
    since: int | None = None
    content_priors: Sequence[tuple[int, int, int]] = ()
    entered: int = 0
    added: Sequence[int] = ()
    left: Sequence[int] = ()
    candidates: Mapping[int | str, Sequence[int]] = field(default_factory=dict)
    guards: Mapping[str, np.ndarray] = field(default_factory=dict)
    removed_ids: Sequence[int | str] = ()
    displays: Sequence[Sequence[int]] = ()
    refused_tables: Sequence[str] = ()
    former: FormerProgress | None = None

    def __post_init__(self) -> None:
        for name, dtype in _TYPES.items():
            array = getattr(self, name)
            if array.dtype != dtype or array.ndim != 1:
                raise DataError(f"learned state: {name} must be a vector of {np.dtype(dtype)}; {_REMEDY}")
        if (
            not len(self.keys) == len(self.sessions) == len(self.last)
            or not len(self.seed_items) == len(self.seed_neighbors) == len(self.seed_times)
            or len(self.given_vectors) % max(len(self.given_items), 1)
        ):
            raise DataError(f"learned state: its arrays differ in length; {_REMEDY}")
        if self.guards and {name: array.dtype for name, array in self.guards.items()} != _GUARDS:
            raise DataError(f"learned state: the state of its guards is damaged; {_REMEDY}")
        if (self.keys[1:] < self.keys[:-1]).any():
            raise DataError(f"learned state: the session keys do not ascend; {_REMEDY}")

    def sessions_of(self, key: int) -> list[tuple[int, int]]:
        """Return the indices, in the tables, of the sessions with this key, and the times of their last clicks."""
        wanted = np.uint64(key)
        found = slice(np.searchsorted(self.keys, wanted, "left"), np.searchsorted(self.keys, wanted, "right"))
        return list(zip(self.sessions[found].tolist(), self.last[found].tolist(), strict=True))

    def carried_lines(self) -> Iterator[list[bytes]]:
        """Yield the lines of `carried`, some at a time."""
        rest = b""
        for begin in range(0, len(self.carried), _CARRIED_BYTES):
            *lines, rest = (rest + self.carried[begin : begin + _CARRIED_BYTES].tobytes()).split(b"\n")
            yield lines
        if rest:
            yield [rest]

    @property
    def clock(self) -> int:
        """Time of the newest event."""
        return self.clock_state.get("now", 0)

    @property
    def unavailable(self) -> np.ndarray:
        """int32[..]: items that are not recommended, ascending: `removed` and `hidden`."""
        return np.union1d(self.removed, self.hidden)

    def save(self, path: Path) -> None:
        """Write the progress to `path` as one safetensors file, atomically."""
        about = {"layout": LAYOUT, "log": self.log, "position": self.position, "clock_state": dict(self.clock_state),
                 "open": dict(self.open), "since": self.since, "entered": self.entered, "added": [*self.added],
                 "left": [*self.left],
                 "content_priors": [*self.content_priors], "refused_tables": [*self.refused_tables],
                 "removed_ids": [*self.removed_ids], "displays": [*self.displays],
                 "candidates": [[item, list(keys)] for item, keys in self.candidates.items()]}  # fmt: skip
        text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
        guards = {_GUARD + name: array for name, array in self.guards.items()}
        arrays = {name: array for name in _TYPES if len(array := getattr(self, name)) or name not in _ADDED}
        write_tensors(path, {_ABOUT: text, **arrays, **guards})

    @classmethod
    def load(cls, path: Path | Tensors) -> LogProgress:
        """Map what `save` wrote. Raises DataError if the file is missing, or its arrays do not fit together."""
        arrays: dict[str, Any] = {**map_tensors(path)}
        about = json.loads(arrays.pop(_ABOUT).tobytes())
        del about["layout"]
        guards = {name.removeprefix(_GUARD): arrays.pop(name) for name in list(arrays) if name.startswith(_GUARD)}
        about["candidates"] = dict(about["candidates"])
        about["open"] = {name: tuple(session) for name, session in about["open"].items()}
        about["content_priors"] = [tuple(prior) for prior in about["content_priors"]]
        arrays.setdefault("seed_times", np.zeros(len(arrays["seed_items"]), np.int64))  # written before 2026-12-03
        return cls(**about, guards=guards, **arrays)
