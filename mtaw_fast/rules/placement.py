"""The rule sets of a placement: which of them a request gets, and how they go together with rules of its own."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from mtaw_fast.data.moments import moment_of
from mtaw_fast.data.session_point import point_of
from mtaw_fast.errors import UsageError, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.items.placements import Placements
from mtaw_fast.rules.rule_set import RuleSet, rule_set_of_text

MAX_PLACEMENTS = 64
MAX_SETS = 16  # of a placement
MAX_BYTES = 16_384  # of a placement as JSON
DEFAULT = "default"  # the placement whose rules an unknown one gets
NAME = "[A-Za-z0-9_.-]{1,64}"
_ROUNDING = 1e-9  # of a sum of shares


class Placed(NamedTuple):
    """What a placement gives a request.

    placement: as the request names it. known: whether it is kept; else these are the rules of `DEFAULT`. name: of the
    rule set, "" without one. share: of the sessions that get this set. rules: None without. together: whether they hold
    together with rules of the request; else those alone do.
    """

    placement: str
    known: bool
    name: str
    share: float
    rules: RuleSet | None
    together: bool

    def with_own(self, own: RuleSet | None, table: ItemTable | None) -> RuleSet | None:
        """Return the rules of a request that brings some of its own, or None. Raises UsageError if they do not fit."""
        if own is None or self.rules is None or not self.together:
            return self.rules if own is None else own
        own.check(table)  # alone, as they may name public columns only
        source, placed = dict(own.source), self.rules.source
        for key in ("filter", "boost", "limit", "diversify"):
            if key in placed:
                source[key] = [*_listed(placed[key]), *_listed(own.source.get(key, []))]
        if pins := placed.get("pin"):
            own_pins = source.get("pin", {})
            positions = {*own_pins.values()}
            source["pin"] = {item: at for item, at in pins.items() if at not in positions} | own_pins
        return rule_set_of_text(json.dumps(source, ensure_ascii=False), where=f"{self.rules.where} and the request")


def _listed(values: Any) -> list[Any]:
    return values if isinstance(values, list) else [values]


@dataclass(frozen=True, slots=True)
class _Set:
    """A rule set with its window in Unix milliseconds, and its share of the sessions; None: those that are left."""

    name: str
    rules: RuleSet
    begin: int | None
    end: int | None
    share: float | None

    def is_open(self, at: int) -> bool:
        return (self.begin is None or self.begin <= at) and (self.end is None or at < self.end)


class Placement:
    """Rule sets, as `content` says: {"sets": [{"name", "rules", "from", "until", "share"}, ..], "together": false}.

    Of the sets whose window contains the moment, each with a `share` gets this share of the sessions, and the first
    without one gets the rest. Raises UsageError, one line, on a wrong one.
    """

    def __init__(self, name: str, content: Any) -> None:
        where = f"placement {name!r}"
        sets, self.together = _entries(where, content)
        self._name = name
        self._sets = [_set_of(where, number, entry) for number, entry in enumerate(sets, start=1)]
        names = [one.name for one in self._sets]
        if len({*names}) < len(names):
            raise UsageError(f"{where}: two sets have one name; give each a `name` of its own")
        self._timed = any(one.begin is not None or one.end is not None for one in self._sets)
        self._shared = any(one.share is not None for one in self._sets)
        for one in self._sets:
            at = one.begin or 0
            total = sum(other.share or 0.0 for other in self._sets if other.is_open(at))
            if total > 1 + _ROUNDING:
                raise UsageError(
                    f"{where}: the shares at the begin of set {one.name!r} sum to {total:g}, the most is 1; lower some"
                )

    def check(self, table: ItemTable | None) -> None:
        """Raise UsageError, one line, unless all sets fit the columns of a table."""
        for one in self._sets:
            one.rules.check(table)

    def notes(self, table: ItemTable | None) -> list[str]:
        """Return what is odd in sets that fit the table, a line each."""
        return [note for one in self._sets for note in one.rules.notes(table or ItemTable(0))]

    @property
    def rule_sets(self) -> list[RuleSet]:
        """The rules of its sets."""
        return [one.rules for one in self._sets]

    def placed(self, asked: str, at: int | None, session: str | None) -> Placed:
        """Return what a request gets. asked: the placement that it names. at: None: now. session: its id, if known."""
        moment = 0
        if self._timed:
            moment = time.time_ns() // 1_000_000 if at is None else at
        point = point_of(f"{self._name}\n{session}") if self._shared and session is not None else 1.0
        rest, begin = None, 0.0
        for one in self._sets:
            if self._timed and not one.is_open(moment):
                continue
            if one.share is None:
                rest = rest or one
                continue
            if begin <= point < begin + one.share:
                return Placed(asked, asked == self._name, one.name, one.share, one.rules, self.together)
            begin += one.share
        name, rules = ("", None) if rest is None else (rest.name, rest.rules)
        return Placed(asked, asked == self._name, name, max(0.0, 1 - begin), rules, self.together)


def _entries(where: str, content: Any) -> tuple[list[Any], bool]:
    _refuse_unknown(where, content, ("sets", "together"))
    sets, together = content.get("sets"), content.get("together", False)
    if not isinstance(sets, list) or len(sets) > MAX_SETS:
        raise UsageError(f"{where}: `sets` is a list of at most {MAX_SETS} rule sets, not {shown(sets, 60)}")
    if not isinstance(together, bool):
        raise UsageError(f"{where}: `together` is true or false, not {shown(together, 60)}")
    return sets, together


def _set_of(where: str, number: int, entry: Any) -> _Set:
    _refuse_unknown(f"{where}, set {number}", entry, ("name", "rules", "from", "until", "share"))
    name = entry.get("name", f"set-{number}")
    check_name(f"{where}, set {number}", name)
    where = f"{where}, set {name!r}"
    begin, end = (moment_of(f"{where}: {key}", entry.get(key)) for key in ("from", "until"))
    if begin is not None and end is not None and end <= begin:
        raise UsageError(f"{where}: `until` is not after `from`; give a later time")
    share = entry.get("share")
    if share is not None and (type(share) not in (int, float) or not 0 < share <= 1):
        raise UsageError(
            f"{where}: `share` must be a number above 0 and at most 1, not {shown(share, 60)}; write 0.5 for half of "
            "the sessions"
        )
    return _Set(name, RuleSet.of(entry.get("rules"), where), begin, end, share)


def _refuse_unknown(where: str, value: Any, keys: tuple[str, ...]) -> None:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: it is an object with {keys[0]!r}, not {shown(value, 60)}")
    for key in value:
        if key not in keys:
            raise UsageError(f"{where}: there is no {shown(key, 60)}; the keys are {', '.join(keys)}")


def check_name(where: str, name: Any) -> None:
    """Raise UsageError unless a placement or a set can have a name."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise UsageError(f"{where}: a name has 1 to 64 letters, digits, and . _ -, not {shown(name, 60)}")


def checked_placement(name: str, content: Any, table: ItemTable | None) -> dict[str, Any]:
    """Return a placement's content as it is kept. Raises UsageError, one line, if it is wrong or does not fit."""
    check_name("placement", name)
    try:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"placement {name!r}: not JSON ({str(error).splitlines()[0]})") from None
    if size > MAX_BYTES:
        raise UsageError(
            f"placement {name!r}: it has {size} bytes, the most is {MAX_BYTES}; write fewer or shorter sets"
        )
    _placement(name, text).check(table)
    kept: dict[str, Any] = json.loads(text)
    return kept


def earlier_content(kept: Placements, name: str, number: int | None) -> Mapping[str, Any]:
    """Return what a placement was set to in the revision `number`, by default in the last but one.

    Raises UsageError if that revision is not kept.
    """
    contents = {revision.number: revision.content for revision in kept.get(name, ())}
    if number is None and len(contents) > 1:
        number = [*contents][-2]
    if number not in contents:
        wanted = "earlier revision" if number is None else f"revision {number}"
        listing = ", ".join(map(str, contents)) or "none"
        raise UsageError(f"placement {shown(name, 60)}: it has no {wanted} any more; there are: {listing}")
    return contents[number]


@lru_cache(maxsize=2 * MAX_PLACEMENTS)
def _placement(name: str, text: str) -> Placement:
    """Return the placement of a JSON text: its rule sets stay the same objects while the catalog changes."""
    return Placement(name, json.loads(text))


class PlacementTable:
    """The placements that are kept with an item table."""

    def __init__(self, table: ItemTable | None) -> None:
        self._kept = {} if table is None else table.placements
        self._ready: dict[str, Placement] = {}

    def __getitem__(self, name: str) -> Placement:
        if name not in self._ready:
            self._ready[name] = _placement(name, json.dumps(self._kept[name][-1].content, ensure_ascii=False))
        return self._ready[name]

    def placed(self, name: str, at: int | None = None, session: str | None = None) -> Placed:
        """Return what a request that names a placement gets: of an unknown one, what that of `DEFAULT` gives.

        Raises UsageError on what cannot be a name.
        """
        if name not in self._kept:
            check_name("placement", name)
            if DEFAULT not in self._kept:
                return Placed(name, False, "", 1.0, None, False)
        return self[name if name in self._kept else DEFAULT].placed(name, at, session)


def broken_placements(table: ItemTable | None) -> dict[str, str]:
    """Return why placements do not fit the table any more, in one line each, by name."""
    reasons, placements = {}, PlacementTable(table)
    for name in () if table is None else table.placements:
        try:
            placements[name].check(table)
        except UsageError as error:
            reasons[name] = f"{error}; until then its requests are refused"
    return reasons
