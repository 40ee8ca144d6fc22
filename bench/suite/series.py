"""A chart as figures: series of points in panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one line or one kind of bar. places: numbers along the axis, or the names of the bars."""

    name: str
    places: Sequence[float | str]
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """Axes with their series; bars where the places are names."""

    title: str
    along: str
    up: str
    series: Sequence[Series]
    logs: str = ""
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture. slug: its file's name. reads: a sentence on how to read it. made_by: the command of its rows."""

    slug: str
    title: str
    reads: str
    made_by: str
    panels: Sequence[Panel] = field(default_factory=tuple)
