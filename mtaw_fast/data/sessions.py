"""Packed sessions, the container that all parts of the package exchange, and the samples made of them.

Axes: T clicks in all, B sessions, S samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mtaw_fast.errors import DataError


@dataclass(frozen=True, slots=True, eq=False)
class Sessions:
    """B sessions, packed end to end and never padded.

    items: int32[T] internal item ids; session b is `items[offsets[b]:offsets[b + 1]]`, oldest first.
    offsets: int64[B + 1], non-decreasing, `offsets[0] == 0`, `offsets[-1] == T`.
    times: int64[T] milliseconds since 1970 (UTC) of every click, or None.
    types: uint8[T] type of every click, a code into a list of names that the owner keeps, or None.
    context: uint16[T, C] context of every click's visit, codes of `data.context` columns that the owner keeps, or None.

    Raises DataError if the arrays do not fit together.
    """

    items: np.ndarray
    offsets: np.ndarray
    times: np.ndarray | None = None
    types: np.ndarray | None = None
    context: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.items.dtype != np.int32 or self.items.ndim != 1:
            raise DataError(f"sessions: items must be int32[T], not {self.items.dtype}{list(self.items.shape)}")
        if self.offsets.dtype != np.int64 or self.offsets.ndim != 1 or len(self.offsets) == 0:
            raise DataError(
                f"sessions: offsets must be int64[B + 1], not {self.offsets.dtype}{list(self.offsets.shape)}"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != len(self.items):
            raise DataError(
                f"sessions: offsets must run from 0 to {len(self.items)} (the number of clicks), "
                f"not from {self.offsets[0]} to {self.offsets[-1]}"
            )
        if np.any(self.offsets[1:] < self.offsets[:-1]):
            raise DataError("sessions: offsets must not decrease")
        for name, array, dtype in (("times", self.times, np.int64), ("types", self.types, np.uint8)):
            if array is not None and (array.dtype != dtype or array.shape != self.items.shape):
                raise DataError(f"sessions: {name} must be {np.dtype(dtype)}[T], one per click")
        codes = self.context
        if codes is not None and (codes.dtype != np.uint16 or codes.ndim != 2 or len(codes) != len(self.items)):
            raise DataError("sessions: context must be uint16[T, C], one row per click")

    @classmethod
    def from_lists(cls, sessions: Iterable[Sequence[int] | np.ndarray]) -> Sessions:
        """Pack an iterable of sequences of internal item ids."""
        arrays = [np.asarray(session, dtype=np.int32).reshape(-1) for session in sessions]
        lengths = np.array([len(array) for array in arrays], dtype=np.int64)
        items = np.concatenate(arrays) if arrays else np.empty(0, np.int32)
        return cls(items, offsets_of(lengths))

    @classmethod
    def concatenate(cls, parts: Sequence[Sessions]) -> Sessions:
        """Join the sessions of `parts`, in order. Times, types and context are kept only if every part has them."""
        if not parts:
            return cls.from_lists([])
        known = ([getattr(part, name) for part in parts] for name in ("times", "types", "context"))
        return cls(
            np.concatenate([part.items for part in parts]),
            offsets_of(np.concatenate([part.lengths for part in parts])),
            *(None if any(array is None for array in arrays) else np.concatenate(arrays) for arrays in known),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def n_clicks(self) -> int:
        """T, the number of clicks of all sessions."""
        return len(self.items)

    @property
    def lengths(self) -> np.ndarray:
        """int64[B]: clicks of each session."""
        return np.diff(self.offsets)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the clicks of one session: int32[m], a view."""
        if not -len(self) <= index < len(self):
            raise IndexError(f"session {index} of {len(self)}")
        index %= len(self)
        return self.items[self.offsets[index] : self.offsets[index + 1]]

    def __iter__(self) -> Iterator[np.ndarray]:
        for begin, end in zip(self.offsets[:-1], self.offsets[1:], strict=True):
            yield self.items[begin:end]

    def slice(self, begin: int, end: int) -> Sessions:
        """Return sessions begin..end-1 as a view, with Python's rules for negative and too large bounds."""
        begin, end, _ = slice(begin, end).indices(len(self))
        end = max(begin, end)
        clicks = slice(self.offsets[begin], self.offsets[end])
        return self.selected(clicks, self.offsets[begin : end + 1] - self.offsets[begin])

    def select(self, indices: np.ndarray) -> Sessions:
        """Return a copy of the sessions `indices` (int[B']), in that order."""
        indices = np.asarray(indices, dtype=np.int64)
        lengths = self.lengths[indices]
        return self.selected(ranges(self.offsets[indices], lengths), offsets_of(lengths))

    def up_to(self, clicks: np.ndarray) -> Sessions:
        """Return a copy of the part of a session that ends with each of these clicks (indices int64[S] of all T)."""
        begins = self.offsets[np.searchsorted(self.offsets, clicks, side="right") - 1]
        lengths = clicks + 1 - begins
        return self.selected(ranges(begins, lengths), offsets_of(lengths))

    def of_clicks(self, clicks: np.ndarray) -> Sessions:
        """Return a copy with these clicks alone (int64[n], ascending indices); a session may become empty."""
        return self.selected(clicks, np.searchsorted(clicks, self.offsets).astype(np.int64))

    def keep_last(self, max_clicks: int) -> Sessions:
        """Cut every session to its last `max_clicks` clicks; return itself if none is longer."""
        lengths = self.lengths
        if len(lengths) == 0 or lengths.max() <= max_clicks:
            return self
        kept_lengths = np.minimum(lengths, max_clicks)
        return self.selected(ranges(self.offsets[1:] - kept_lengths, kept_lengths), offsets_of(kept_lengths))

    def without_times(self) -> Sessions:
        """Return the sessions without times, types and context; return itself if it has none."""
        plain = self.times is None and self.types is None and self.context is None
        return self if plain else Sessions(self.items, self.offsets)

    def selected(self, clicks: Any, offsets: np.ndarray) -> Sessions:
        """Return the clicks at these positions (a slice, numbers or a mask), cut at `offsets`."""
        known = (self.times, self.types, self.context)
        return Sessions(self.items[clicks], offsets, *(None if array is None else array[clicks] for array in known))

    def split_last(self, fraction: float) -> tuple[Sessions, Sessions]:
        """Split by whole session, in order: (all but the last `fraction`, the last `fraction`).

        The second part has round(fraction * B) sessions. Both have at least one. Raises DataError on fewer than two
        sessions.
        """
        if len(self) < 2:
            raise DataError(
                f"cannot hold sessions out, for validation or a ranker, of only {len(self)}; add more, or lower "
                "validation_fraction"
            )
        held_out = min(max(round(fraction * len(self)), 1), len(self) - 1)
        boundary = len(self) - held_out
        return self.slice(0, boundary), self.slice(boundary, len(self))

    def first_clicks(self) -> np.ndarray:
        """Return bool[T]: whether a click is the first on its item in its session."""
        owner = np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)
        keys = (owner << 32) | self.items
        order = np.argsort(keys, kind="stable")
        is_first = np.ones(len(keys), dtype=bool)
        is_first[order[1:]] = keys[order[1:]] != keys[order[:-1]]
        return is_first

    def check_ids(self, n_items: int, where: str) -> None:
        """Raise DataError, naming `where`, if an item id lies outside 0..n_items-1."""
        if len(self.items) and (self.items.min() < 0 or self.items.max() >= n_items):
            click = int(np.flatnonzero((self.items < 0) | (self.items >= n_items))[0])
            raise DataError(
                f"{where}: click {click} has internal item id {self.items[click]}, outside 0..{n_items - 1}; "
                "prepare the data set again"
            )


# Prefixes are stored whole: 4 bytes per click, and 8 more while they are made.
MAX_PREFIX_CLICKS = 200_000_000


def check_prefixes(lengths: np.ndarray, label: str, remedy: str = "") -> None:
    """Raise DataError if the prefixes of sessions of these lengths have too many clicks to store.

    label: names the prefixes in the message. remedy: another remedy than leaving out long sessions, as the end of the
    message.
    """
    lengths = np.sort(lengths)
    clicks = np.cumsum(lengths * (lengths - 1) // 2)
    n_kept = int(np.searchsorted(clicks, MAX_PREFIX_CLICKS, "right"))
    if n_kept < len(lengths):
        raise DataError(
            f"{label} hold {clicks[-1]:,} clicks in all, since sessions have up to {lengths[-1]:,} (bots?); prepare "
            f"the data set without long ones, such as --max-session {min(lengths[n_kept] - 1, 500)}{remedy}"
        )


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """S next-click samples: the prefix, the item clicked next, and the session it came from.

    prefixes: Sessions of S prefixes, with the times and types of their clicks if these are known. Their types may be
    codes of other names than those of the targets.
    targets: int32[S]. session: int32[S], groups the samples of one session.
    target_times: int64[S], times of the targets (milliseconds since 1970), if `prefixes` has times, else None.
    target_types: uint8[S], types of the targets, if `prefixes` has types, else None.
    """

    prefixes: Sessions
    targets: np.ndarray
    session: np.ndarray
    target_times: np.ndarray | None = None
    target_types: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, array, dtype in (
            ("targets", self.targets, np.int32),
            ("session", self.session, np.int32),
            ("target_times", self.target_times, np.int64),
            ("target_types", self.target_types, np.uint8),
        ):
            if array is not None and (array.dtype != dtype or array.shape != (len(self.prefixes),)):
                expected = f"{np.dtype(dtype)}[{len(self.prefixes)}]"
                raise DataError(f"samples: {name} must be {expected}, not {array.dtype}{list(array.shape)}")
        for field, of_targets, of_prefixes in (
            ("times", self.target_times, self.prefixes.times),
            ("types", self.target_types, self.prefixes.types),
        ):
            if (of_targets is None) != (of_prefixes is None):
                raise DataError(f"samples: {field} of prefixes and of targets go together; give both or neither")

    def __len__(self) -> int:
        return len(self.prefixes)

    @classmethod
    def from_sessions(cls, sessions: Sessions, min_prefix: int) -> Samples:
        """Make a sample of every prefix of at least `min_prefix` clicks that has a next click, session by session.

        Raises DataError if the prefixes would have more clicks than `MAX_PREFIX_CLICKS`; their number grows with the
        square of a session's length.
        """
        check_prefixes(sessions.lengths, "the prefixes")
        counts = np.maximum(sessions.lengths - min_prefix, 0)
        return cls.at(sessions, ranges(sessions.offsets[:-1] + min_prefix, counts))

    @classmethod
    def at(cls, sessions: Sessions, targets: np.ndarray) -> Samples:
        """Make a sample of each of some clicks and those before it in its session. targets: int64[S], their positions
        in `sessions.items`."""
        owner = np.searchsorted(sessions.offsets, targets, side="right") - 1
        begins = sessions.offsets[owner]
        lengths = targets - begins
        return cls(
            sessions.selected(ranges(begins, lengths), offsets_of(lengths)),
            sessions.items[targets],
            owner.astype(np.int32),
            None if sessions.times is None else sessions.times[targets],
            None if sessions.types is None else sessions.types[targets],
        )

    def select(self, indices: np.ndarray) -> Samples:
        """Return the samples at int64[..] indices, in that order."""
        return Samples(
            self.prefixes.select(indices),
            self.targets[indices],
            self.session[indices],
            None if self.target_times is None else self.target_times[indices],
            None if self.target_types is None else self.target_types[indices],
        )

    def with_prefix_types(self, types: np.ndarray | None) -> Samples:
        """Return the samples with other codes uint8[T] of the prefixes' types; itself for None."""
        return self if types is None else replace(self, prefixes=replace(self.prefixes, types=types))

    def repeats(self) -> np.ndarray:
        """Return bool[S]: whether the target is already in the prefix."""
        row = np.repeat(np.arange(len(self)), self.prefixes.lengths)
        is_repeat = np.zeros(len(self), dtype=bool)
        is_repeat[row[self.prefixes.items == self.targets[row]]] = True
        return is_repeat


def offsets_of(lengths: np.ndarray | Sequence[int]) -> np.ndarray:
    """Return the int64[B + 1] offsets of B packed runs with these lengths."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def ranges(begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return int64[sum(lengths)]: begins[0], begins[0]+1, .., for each run of that length, end to end."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1], dtype=np.int64) + np.repeat(begins - offsets[:-1], lengths)
