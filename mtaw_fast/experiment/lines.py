"""The lines of a feedback log. No field is ever null or left out, so that Polars infers every type.

Only the list of a ranking without items is empty, and those of draws and clicks where nothing was drawn.
"""

from __future__ import annotations

from msgspec import Struct

SHOWN, CLICKED, CARTED, BOUGHT, EXPLORED = KINDS = ("shown", "clicked", "carted", "bought", "explored")
MOST_CLICKS = 50


class DrawLine(Struct, kw_only=True):
    """An item that exploration placed, by a draw.

    position: from 1. candidates: what it was drawn from, best first, with itself. chance: with which it was drawn.
    """

    position: int
    candidates: list[int | str]
    chance: float


class RankingLine(Struct, kw_only=True):
    """A ranking that was answered.

    time: Unix milliseconds. session: its id, "" if it came without. bundle: the arm's name, "" if one bundle is
    served. share: of the sessions that the arm gets. placement: "" without. rules: the name of the placement's rule
    set, a hash of others, "" without. rules_share: of the sessions that the set gets. route: recommend, batch, click or
    similar. items: best first; positions count from 1. draws: of the items that exploration placed; older lines have
    none. clicks: if there are draws, the last MOST_CLICKS of the session that was ranked.
    """

    time: int
    recommendation: str
    session: str
    version: str
    bundle: str
    share: float
    placement: str
    rules: str
    rules_share: float
    route: str
    fallback: bool
    items: list[int | str]
    draws: list[DrawLine] = []
    clicks: list[int | str] = []


class ReportLine(Struct, kw_only=True):
    """What a client reported of a ranking, one kind of report a line.

    what: shown, clicked, carted, bought or explored. positions: where the client showed each item, 0 if it did not say.
    values: of each item, 0 if it did not say. session: if the client named it.
    """

    time: int
    recommendation: str
    version: str
    session: str
    what: str
    items: list[int | str]
    positions: list[int]
    values: list[float]
