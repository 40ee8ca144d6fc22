"""Trends: tables of clicks and pairs that decay with wall-clock time, as one file that can be mapped.

Axes: N items, S sessions, T clicks in them, P kept pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.kernels.native.trend_tables import CONTEXT_ARRAYS, HALF_LIVES, TRENDS, build_trends, check_trends
from mtaw_fast.kernels.native.trends import Trends
from mtaw_fast.memory.files import LAYOUT, SETTINGS, read_arrays, whole
from mtaw_fast.memory.settings import is_count
from mtaw_fast.storage.tensor_file import Tensors, write_joined

_HOUR = 3_600_000
_MAX_HOURS = (1 << 42) / _HOUR
_DEFAULT_HOURS = tuple(ms / _HOUR for ms in HALF_LIVES)


@dataclass(frozen=True, slots=True)
class TrendSettings:
    """How fast clicks decay, and how many pairs are stored.

    half_lives: 7 of them in hours, ascending, whole ms; pairs have the last five. window: largest distance in clicks of
    a pair. max_neighbors: stored neighbors of an item, the strongest; 0 stores all.

    Raises UsageError on a value out of range.
    """

    half_lives: tuple[float, ...] = _DEFAULT_HOURS
    window: int = 10
    max_neighbors: int = 256

    def __post_init__(self) -> None:
        lives = self.half_lives
        checks = {
            "half_lives": len(lives) == len(HALF_LIVES)
            and all(0 < hours <= _MAX_HOURS for hours in lives)
            and all(low < high for low, high in zip((0, *self.half_lives_ms), self.half_lives_ms, strict=False)),
            "window": is_count(self.window, 1),
            "max_neighbors": is_count(self.max_neighbors, 0),
        }
        for name, is_valid in checks.items():
            if not is_valid:
                raise UsageError(f"trends: {name}={getattr(self, name)} is out of range; see TrendSettings")

    @property
    def half_lives_ms(self) -> tuple[int, ...]:
        """The half-lives in ms."""
        return tuple(round(hours * _HOUR) if math.isfinite(hours) else 0 for hours in self.half_lives)

    @property
    def native(self) -> dict[str, Any]:
        """The settings as keywords of the native calls."""
        return {"half_lives": self.half_lives_ms, "window": self.window, "max_neighbors": self.max_neighbors}


@dataclass(frozen=True, slots=True, eq=False)
class TrendTables:
    """Decayed sums of items and pairs. Immutable; `live` returns an object that takes later clicks.

    A click at time t has the weight 2^((t - t0) / h) in the lane of half-life h. For an ordered pair (a, b), a != b:

        fwd  1/distance for every click on b after one on a, at most `window` clicks apart in their session, with the
             weight of the later click; bwd: the same with b before a

    row_offsets: int64[N + 1]; the neighbors of item a are at row_offsets[a] .. row_offsets[a + 1] - 1 of
    neighbors: int32[P], the strongest first: by the sum over the lanes of (fwd + bwd) / (their totals + 1), ties by
    id.
    values: uint16[P, 10], fwd by half-life and then bwd, as bfloat16 (to the nearest, ties to even).
    totals: float32[N, 10], sums over the whole row, including pairs that were cut off.
    counts: float32[N, 14]: clicks by half-life, then clicks that are not the first of their session.
    times: int64[N, 2]: first and last click, ms since 1970, -1 without any.
    sums: float64[14], the counts of all items. clock: int64[8], each lane's t0 in half-lives, and the newest click's
    time.
    context: the arrays of `kernels.native.trend_tables.CONTEXT_ARRAYS`, the clicks of items within the values of the
    visits' context; None without any.

    Raises DataError on arrays with invalid offsets, ids or orders (`kernels.native.trends.check_trends`).
    """

    row_offsets: np.ndarray
    neighbors: np.ndarray
    values: np.ndarray
    totals: np.ndarray
    counts: np.ndarray
    times: np.ndarray
    sums: np.ndarray
    clock: np.ndarray
    settings: TrendSettings = field(default_factory=TrendSettings)
    context: Mapping[str, np.ndarray] | None = None

    def __post_init__(self) -> None:
        try:
            check_trends(self.arrays(), **self.settings.native)
        except ValueError as error:
            raise DataError(f"trends: {error}; rebuild them") from None

    @classmethod
    def build(
        cls,
        sessions: Sessions,
        times: np.ndarray,
        n_items: int,
        settings: TrendSettings | None = None,
        *,
        once_from: int | None = None,
        threads: int = 1,
        context_sizes: Sequence[int] = (),
    ) -> TrendTables:
        """Build tables over N items; the result does not depend on the number of threads or the order of sessions.

        times: int64[T], of the sessions' clicks, ms since 1970. context_sizes: the largest code of each column of
        `sessions.context`, to count clicks within its values. once_from: the index of the first session that counts a
        pair once (`kernels.native.trends.Trends`).

        Raises DataError on an item outside 0..N-1, a time outside 0..2^52 or a code out of range.
        """
        settings = settings or TrendSettings()
        arrays = build_arrays(
            sessions, times, n_items, settings, once_from=once_from, threads=threads, context_sizes=context_sizes
        )
        for array in arrays.values():
            array.setflags(write=False)
        return cls._of_arrays(arrays, settings)

    @classmethod
    def load(cls, path: Path | Tensors) -> TrendTables:
        """Map the tables that `save` wrote, read-only. Raises DataError if the file is missing or damaged."""
        arrays, settings = _read(path)
        try:
            return cls._of_arrays(arrays, settings)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    @classmethod
    def _of_arrays(cls, arrays: Mapping[str, np.ndarray], settings: TrendSettings) -> TrendTables:
        context = {name: array for name, array in arrays.items() if name in CONTEXT_ARRAYS}
        clicks = {name: array for name, array in arrays.items() if name not in CONTEXT_ARRAYS}
        return cls(**clicks, settings=settings, context=context or None)

    def save(self, path: Path) -> None:
        """Write everything to `path` as one safetensors file, atomically."""
        write_trends(path, {name: [array] for name, array in self.arrays().items()}, self.settings)

    def live(self, capacity: int, **options: Any) -> Trends:
        """Return `kernels.native.trends.Trends` over these tables, for item ids below capacity; options are its own."""
        return Trends(self.arrays(), **self.settings.native, capacity=capacity, **options)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays by name."""
        return {**{name: getattr(self, name) for name in TRENDS}, **(self.context or {})}

    def strongest(self, max_neighbors: int) -> TrendTables:
        """Return the tables with at most `max_neighbors` neighbors of an item, the strongest; totals stay."""
        max_neighbors = min(max_neighbors, self.settings.max_neighbors or max_neighbors)  # 0: all
        lengths = np.diff(self.row_offsets)
        kept = np.arange(len(self.neighbors)) - np.repeat(self.row_offsets[:-1], lengths) < max_neighbors
        offsets = np.zeros_like(self.row_offsets)
        np.cumsum(np.minimum(lengths, max_neighbors), out=offsets[1:])
        settings = replace(self.settings, max_neighbors=max_neighbors)
        return replace(
            self, row_offsets=offsets, neighbors=self.neighbors[kept], values=self.values[kept], settings=settings
        )

    @property
    def context_sizes(self) -> tuple[int, ...]:
        """The largest code of each context column; empty without any."""
        return () if self.context is None else tuple(self.context["context_sizes"].tolist())

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.row_offsets) - 1

    @property
    def n_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self.arrays().values())


def build_arrays(
    sessions: Sessions, times: np.ndarray, n_items: int, settings: TrendSettings, **options: Any
) -> dict[str, np.ndarray]:
    """Return what `kernels.native.trend_tables.build_trends` makes with these options; DataError as `build`."""
    codes = None if sessions.context is None or not options["context_sizes"] else sessions.context
    try:
        return build_trends(
            np.ascontiguousarray(sessions.items),
            np.ascontiguousarray(sessions.offsets),
            np.ascontiguousarray(times),
            n_items,
            **settings.native,
            context=None if codes is None else np.ascontiguousarray(codes),
            **options,
        )
    except (ValueError, IndexError) as error:
        raise DataError(f"trends: {error}") from None


def write_trends(path: Path, pieces: Mapping[str, Sequence[np.ndarray]], settings: TrendSettings) -> None:
    """Write arrays in pieces, cut along their first axis, to `path` as one safetensors file, atomically."""
    numbers = [LAYOUT, *settings.half_lives, settings.window, settings.max_neighbors]
    write_joined(path, {**pieces, SETTINGS: [np.array(numbers, dtype=np.float64)]})


def _read(path: Path | Tensors) -> tuple[Mapping[str, np.ndarray], TrendSettings]:
    arrays, (*half_lives, window, max_neighbors) = read_arrays(path)
    return arrays, TrendSettings(tuple(half_lives), whole(window), whole(max_neighbors))


def trend_settings(config: Config) -> TrendSettings:
    """Return the trends' settings from those of a training. Raises UsageError unless the half-lives ascend."""
    hours = {"s": 1 / 3600, "m": 1 / 60, "h": 1.0, "d": 24.0}
    try:
        lives = tuple(float(text[:-1]) * hours[text[-1]] for text in config.memory.half_lives.split(","))
    except (ValueError, KeyError, IndexError):
        raise UsageError(f"setting half_lives={config.memory.half_lives}: write 7 times such as 15m or 4h") from None
    return TrendSettings(lives, window=config.memory.window)
