"""The answer of a Recommender: ranked items, and why each was recommended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Any, Literal, NamedTuple, TypeAlias, overload

import numpy as np

from mtaw_fast.errors import UsageError, shown
from mtaw_fast.system.frames import Library, frame_of

# Microseconds: (look-up of the clicks, encode, retrieve, session memory or None without one).
Times: TypeAlias = tuple[float, float, float, float | None]
_SHOWN = 5  # items in a repr


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one item was recommended.

    Attributes
    ----------
    kind : {'session', 'together', 'encoder'}
        'session': the item is in the session. 'together': past sessions contain it together with `items` of the
        session. 'encoder': neither; it is close to the session's vector.
    items : tuple of ids
        External ids, the closest first, at most three.
    rule : {'boosted', 'buried', 'pinned', 'explored'} or None
        What the rules of the call did to the item: added to its score, lowered it, or put it at its position; or that
        exploration placed it.
    """

    kind: Literal["session", "together", "encoder"]
    items: tuple[Any, ...] = ()
    rule: Literal["boosted", "buried", "pinned", "explored"] | None = None


class Draw(NamedTuple):
    """How exploration came to place an item.

    Attributes
    ----------
    position : int
        Its position in the list, from 0.
    candidates : list of ids
        The external ids that it was drawn from, best first: it is one of them.
    chance : float
        The probability with which it was drawn.
    """

    position: int
    candidates: list[Any]
    chance: float


@dataclass(slots=True, eq=False, repr=False)  # a frozen one takes a microsecond of every call more to make
class Recommendations:
    """The ranking for one session, best first.

    Its length is that of `items`; iteration and indexing give (item, score). Two are equal if all fields but `timings`
    and `log_position` are equal, scores to the bit.

    Attributes
    ----------
    items : list of ids
        External ids.
    scores : float32[len(items)]
        The model's logits or its ranker's scores; cosines from `similar_items`. If `fallback`: click counts, or how
        fast the items rise if the model was trained with times.
    unknown : list
        The session's clicks that the catalog does not know, in order.
    fallback : bool, default False
        True if no click was known, so the popularity ranking was returned.
    timings : mapping of str to float, or None
        If requested: microseconds by stage: lookup, encode, retrieve, memory (if there is one), assemble, total.
    repeats : bool[len(items)] or None
        If requested: whether each item is in the session.
    reasons : list of Reason, or None
        If requested and not `fallback`: why each item was recommended.
    log_position : str or None
        If the recommender learns, or has a `state`: the ranking includes every event up to this position in the log.
    fields : list of dict, or None
        If requested: for each item its values by column name; missing ones are left out.
    short : {'rules', 'candidates'} or None
        Why a call with rules has fewer items than it asked for: no more items meet the rules and the other conditions,
        or the approximate index found too few candidates.
    explored : bool[len(items)] or None
        If the call explores: which items it placed.
    draws : list of Draw, default none
        How each of these was drawn, in the order of their positions.
    unknown_values : tuple of str, default none
        Types of clicks and values of the context that the bundle does not know, such as "type=wish" and
        "referrer=radio". Such a type has no effect; such a value counts as one of all others.
    """

    items: list[Any]
    scores: np.ndarray
    unknown: list[Any]
    fallback: bool = False
    timings: Mapping[str, float] | None = None
    repeats: np.ndarray | None = None
    reasons: list[Reason] | None = None
    log_position: str | None = None
    fields: list[dict[str, Any]] | None = None
    short: Literal["rules", "candidates"] | None = None
    explored: np.ndarray | None = None
    unknown_values: tuple[str, ...] = ()
    draws: Sequence[Draw] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        return zip(self.items, self.scores.tolist(), strict=True)

    @overload
    def __getitem__(self, position: int) -> tuple[Any, float]: ...
    @overload
    def __getitem__(self, position: slice) -> list[tuple[Any, float]]: ...
    def __getitem__(self, position: int | slice) -> Any:
        if isinstance(position, slice):
            return list(zip(self.items[position], self.scores[position].tolist(), strict=True))
        return self.items[position], float(self.scores[position])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recommendations):
            return NotImplemented
        return (
            (
                self.items,
                self.unknown,
                self.fallback,
                self.reasons,
                self.fields,
                self.short,
                self.unknown_values,
                [*self.draws],
            )
            == (
                other.items,
                other.unknown,
                other.fallback,
                other.reasons,
                other.fields,
                other.short,
                other.unknown_values,
                [*other.draws],
            )
            and self.scores.tobytes() == other.scores.tobytes()
            and _bytes(self.repeats) == _bytes(other.repeats)
            and _bytes(self.explored) == _bytes(other.explored)
        )

    @property
    def _all_unknown(self) -> list[Any]:
        return [*self.unknown, *self.unknown_values]

    def __repr__(self) -> str:
        ranked = ", ".join(f"{item!r}: {score:.4g}" for item, score in self[:_SHOWN])
        more = f", .. {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        unknown = f"; unknown: {shown(self._all_unknown)}" if self._all_unknown else ""
        return f"<Recommendations {{{ranked}{more}}}{unknown}{'; by popularity' if self.fallback else ''}>"

    def __str__(self) -> str:
        width = max((len(str(item)) for item in self.items), default=0)
        lines = [f"{rank:>3}  {item!s:{width}}  {score:.4f}" for rank, (item, score) in enumerate(self, start=1)]
        if self._all_unknown:
            lines.append(f"unknown: {shown(self._all_unknown)}")
        if self.fallback:
            lines.append("by popularity: no click of the session was known")
        return "\n".join(lines)

    def to_frame(self, library: Library = "polars") -> Any:
        """Return the ranking as a table of the library `library`.

        Its columns are item, score (float32), and if requested repeat (bool), reason (text), explored (bool) and the
        fields. Raises MissingPackageError if the library is not installed, UsageError on another library, or on a field
        that has the name of one of the other columns.
        """
        columns: dict[str, Any] = {"item": self.items, "score": self.scores}
        if self.repeats is not None:
            columns["repeat"] = self.repeats
        if self.reasons is not None:
            columns["reason"] = [reason.kind for reason in self.reasons]
        if self.explored is not None:
            columns["explored"] = self.explored
        names = dict.fromkeys(name for row in self.fields or () for name in row)
        for name in names:
            if name in columns:
                raise UsageError(f"to_frame: the ranking has a column {name!r} of its own; read this one from `fields`")
        columns |= {name: [row.get(name) for row in self.fields or ()] for name in names}
        return frame_of(columns, library)


def timed(answer: Recommendations, times: Times | None, start: int, ready: int) -> Recommendations:
    """Set the timings of a new answer, in microseconds, and return it.

    times: of the ranker's stages; None if nothing was ranked. start, ready: when the call began and when its arguments
    were read (perf_counter_ns). The part of the total outside all stages is called assemble.
    """
    lookup, encode, retrieve, memory = times or (0.0, 0.0, 0.0, None)
    lookup += (ready - start) / 1000
    stages = {"lookup": lookup, "encode": encode, "retrieve": retrieve}
    if memory is not None:
        stages["memory"] = memory
    total = (perf_counter_ns() - start) / 1000
    stages["assemble"] = total - lookup - encode - retrieve - (memory or 0.0)
    stages["total"] = total
    answer.timings = stages  # it is new and nobody else's
    return answer


def _bytes(flags: np.ndarray | None) -> bytes | None:
    return None if flags is None else flags.tobytes()
