"""What a Recommender answers."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter_ns
from typing import Any, Literal, overload

import numpy as np

from mtaw_fast.errors import MissingPackageError, UsageError, require, shown
from mtaw_fast.errors.install_command import install_packages
from mtaw_fast.memory.co_clicked import cosine
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.ranker import Times

_MOST_ITEMS = 3


@dataclass(frozen=True, slots=True)
class Reason:
    """Why one item was recommended.

    Attributes
    ----------
    kind : {'session', 'together', 'encoder'}
        'session': the item is in the session already; 'together': past sessions hold it with `items` of the session;
        'encoder': neither, it is near to the session's vector.
    items : tuple of ids
        External ids, the closest first, at most three.
    """

    kind: Literal["session", "together", "encoder"]
    items: tuple[Any, ...] = ()


def reasons_of(catalog: Catalog, clicks: np.ndarray, found: np.ndarray) -> list[Reason]:
    """One for each item found (int32[..]) in answer to the clicks (int32[m]), internal ids both.

    Past sessions are those of the bundle's memory, and closeness is its cosine (`memory.co_clicked`). Without a memory,
    what is not in the session comes from the encoder.
    """
    seen = list(dict.fromkeys(clicks[::-1].tolist()))
    memory = catalog.model.memory
    reasons = []
    for item in found.tolist():
        if item in seen:
            reasons.append(Reason("session"))
            continue
        near = {} if memory is None else {own: cosine(memory, own, item) for own in seen}
        best = sorted((own for own, share in near.items() if share > 0), key=lambda own: -near[own])[:_MOST_ITEMS]
        names = catalog.ids.external(np.array(best, dtype=np.int32))
        reasons.append(Reason("together", tuple(names)) if best else Reason("encoder"))
    return reasons


_SHOWN = 5  # items in a repr


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Recommendations:
    """The ranking for one session, best first; its length is that of `items`.

    It iterates as (item, score), and so do its indices. Two are equal where they rank the same, with the same scores to
    the bit, and say the same of it; when that was (`timings`, `log_position`) does not count.

    Attributes
    ----------
    items : list of ids
        External ids.
    scores : float32[len(items)]
        The model's logits or its ranker's scores; where `fallback`, click counts, or how fast the items rise where the
        model knows of time; cosines from `similar_items`.
    unknown : list
        The session's clicks that the catalog does not know, in order.
    fallback : bool, default False
        True where no click was known and the popularity ranking was given.
    timings : mapping of str to float, or None
        Microseconds by stage, where asked for: lookup, encode, retrieve, memory (where there is one), assemble, total.
    repeats : bool[len(items)] or None
        Whether each item is in the session, where asked for.
    reasons : list of Reason, or None
        Why each item, where asked for and not `fallback`.
    log_position : str or None
        The position in the log up to which the ranking knows every event at least, where a recommender learns.
    """

    items: list[Any]
    scores: np.ndarray
    unknown: list[Any]
    fallback: bool = False
    timings: Mapping[str, float] | None = None
    repeats: np.ndarray | None = None
    reasons: list[Reason] | None = None
    log_position: str | None = None

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        return zip(self.items, self.scores.tolist(), strict=True)

    @overload
    def __getitem__(self, place: int) -> tuple[Any, float]: ...
    @overload
    def __getitem__(self, place: slice) -> list[tuple[Any, float]]: ...
    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return list(zip(self.items[place], self.scores[place].tolist(), strict=True))
        return self.items[place], float(self.scores[place])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recommendations):
            return NotImplemented
        return (
            (self.items, self.unknown, self.fallback, self.reasons)
            == (other.items, other.unknown, other.fallback, other.reasons)
            and self.scores.tobytes() == other.scores.tobytes()
            and _bytes(self.repeats) == _bytes(other.repeats)
        )

    def __repr__(self) -> str:
        ranked = ", ".join(f"{item!r}: {score:.4g}" for item, score in self[:_SHOWN])
        more = f", .. {len(self) - _SHOWN} more" if len(self) > _SHOWN else ""
        unknown = f"; unknown: {shown(self.unknown)}" if self.unknown else ""
        return f"<Recommendations {{{ranked}{more}}}{unknown}{'; by popularity' if self.fallback else ''}>"

    def __str__(self) -> str:
        width = max((len(str(item)) for item in self.items), default=0)
        lines = [f"{place:>3}  {item!s:{width}}  {score:.4f}" for place, (item, score) in enumerate(self, start=1)]
        if self.unknown:
            lines.append(f"unknown: {shown(self.unknown)}")
        if self.fallback:
            lines.append("by popularity: no click of the session was known")
        return "\n".join(lines)

    def to_frame(self, library: Literal["polars", "pandas", "arrow"] = "polars") -> Any:
        """The ranking as a table.

        Parameters
        ----------
        library : {'polars', 'pandas', 'arrow'}, default 'polars'
            Whose.

        Returns
        -------
        DataFrame or Table
            Columns item, score (float32), and where they were asked for repeat (bool) and reason (text).

        Raises
        ------
        MissingPackageError
            Where the library is not installed.
        UsageError
            On another library.
        """
        columns: dict[str, Any] = {"item": self.items, "score": self.scores}
        if self.repeats is not None:
            columns["repeat"] = self.repeats
        if self.reasons is not None:
            columns["reason"] = [reason.kind for reason in self.reasons]
        if library == "polars":
            return require("polars", "train").DataFrame(columns)
        if library == "pandas":
            return _installed("pandas").DataFrame(columns)
        if library == "arrow":
            return _installed("pyarrow").table(columns)
        raise UsageError(f"to_frame: there is no library {library!r}; choose polars, pandas or arrow")


def assembled(
    catalog: Catalog,
    row: tuple[np.ndarray, np.ndarray],
    clicks: np.ndarray,
    unknown: list[Any],
    repeats: bool,
    reasons: bool = False,
) -> Recommendations:
    """One row of a ranking (ids int32[k], scores float32[k]) as an answer, padding cut off.

    clicks: the session's known ones, int32[m]; where there is none the row is the popularity ranking.
    """
    ids, scores = unpadded(*row)
    return Recommendations(
        catalog.ids.external(ids),
        scores.copy(),
        unknown,
        fallback=len(clicks) == 0,
        repeats=np.isin(ids, clicks) if repeats else None,
        reasons=reasons_of(catalog, clicks, ids) if reasons and len(clicks) else None,
    )


def unpadded(ids: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A row of a ranking without its padding: (ids int32[n], scores float32[n])."""
    count = int(np.count_nonzero(ids >= 0))
    return ids[:count], scores[:count]


def timed(answer: Recommendations, times: Times | None, start: int, ready: int) -> Recommendations:
    """The answer with its timings in microseconds.

    times: of the ranker's stages, None where nothing was ranked. start, ready: when the call began and when its
    arguments were read (perf_counter_ns). What no stage accounts for of the total is called assemble.
    """
    lookup, encode, retrieve, memory = times or (0.0, 0.0, 0.0, None)
    stages = {"lookup": (ready - start) / 1000 + lookup, "encode": encode, "retrieve": retrieve}
    if memory is not None:
        stages["memory"] = memory
    total = (perf_counter_ns() - start) / 1000
    return replace(answer, timings={**stages, "assemble": total - sum(stages.values()), "total": total})


def _bytes(repeats: np.ndarray | None) -> bytes | None:
    return None if repeats is None else repeats.tobytes()


def _installed(package: str) -> Any:
    """A package that no extra of ours brings."""
    try:
        return importlib.import_module(package)
    except ImportError:
        raise MissingPackageError(f"the package '{package}' is not installed: {install_packages(package)}") from None
