"""The options of a call: which items may be recommended, how many, and what the answer contains; all checked here."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias, TypedDict

import numpy as np

from mtaw_fast.data.click_types import checked_types
from mtaw_fast.data.context import checked_context
from mtaw_fast.data.filters import Filter
from mtaw_fast.data.moments import milliseconds_of
from mtaw_fast.errors import UsageError, nearest, other_unit, shown
from mtaw_fast.items import ItemTable
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.rules import RuleSet, rule_set_of

_NONE: tuple[Any, ...] = ()  # the default of `exclude`: Python has a single empty tuple
LATEST_MOMENT = 4_102_444_800_000  # the year 2100
Rules: TypeAlias = Mapping[str, Any] | RuleSet | None  # written out, or checked before
EXPLORE_BELOW = 100  # displays and clicks from which on a new item is not explored, by default
_LONG_LIST = 1000  # a longer exclude list becomes a mask, which costs O(N)


class Conditions(NamedTuple):  # a frozen dataclass takes three times as long to make
    """Which items may be found (all conditions hold together), and the moment of the request.

    allowed: only these. excluded: none of these, int32[..] internal ids, ascending and distinct: a short list.
    exclude_seen: none of the session's own. at: Unix milliseconds, if the model was trained with times; None: right
    after the session's last click if that has a time, else after the newest click that the model knows. context:
    uint16[C], codes of the visit's context in the model's columns; None: that of the session's last click, if known.
    """

    allowed: Filter | None = None
    excluded: np.ndarray | None = None
    exclude_seen: bool = False
    at: int | None = None
    context: np.ndarray | None = None

    @property
    def bits(self) -> np.ndarray | None:
        """`allowed` as packed bits, for the native kernels."""
        return None if self.allowed is None else self.allowed.packed

    def within(self, other: Filter | None) -> Conditions:
        """Return the conditions together with another filter, if there is one."""
        if other is None:
            return self
        return self._replace(allowed=other if self.allowed is None else self.allowed & other)


EVERYTHING = Conditions()


def conditions_of(
    catalog: Catalog,
    exclude: Iterable[Any] = (),
    allow: Iterable[Any] | None = None,
    prepared: Filter | None = None,
    exclude_seen: bool = False,
    at: int | datetime.datetime | None = None,
    context: Mapping[str, Any] | None = None,
) -> Conditions:
    """Return the conditions of a call from external ids; unknown ids are ignored. Raises UsageError on wrong values.

    at: now by default, if the model was trained with times.
    """
    timed = catalog.model.trends is not None
    moment = _moment(at) if timed or at is not None else None  # every bundle refuses an invalid moment
    at_ms = moment if timed else None
    codes = None if context is None else _codes_of(catalog, context)
    if exclude is _NONE and allow is None and prepared is None:
        if codes is not None:
            return Conditions(None, None, exclude_seen, at_ms, codes)
        return Conditions(None, None, exclude_seen, at_ms) if exclude_seen or at_ms is not None else EVERYTHING
    ids, base = catalog.ids, catalog.model.n_items
    excluded = ids.known(listed("exclude", exclude))
    if prepared is not None:
        if not isinstance(prepared, Filter):
            raise UsageError(f"filter must be made with filter(), not {type(prepared).__name__}; or pass allow=")
        model = catalog.model
        prepared = prepared.extended(catalog.size, base, model.trained_items, catalog.renewed, model.trained_ids_digest)
    if allow is None and len(excluded) <= _LONG_LIST:
        return Conditions(prepared, excluded if len(excluded) else None, exclude_seen, at_ms, codes)
    own_filter = Filter.of(catalog.size, excluded, None if allow is None else ids.known(listed("allow", allow)))
    return Conditions(own_filter if prepared is None else prepared & own_filter, None, exclude_seen, at_ms, codes)


def _codes_of(catalog: Catalog, context: Mapping[str, Any]) -> np.ndarray | None:
    """Return uint16[C], the codes of a visit's context; None if the model has none."""
    model_context = catalog.model.context
    values = checked_context(context, () if model_context is None else model_context.columns.names)
    return None if model_context is None else model_context.columns.codes(values)


def _moment(at: int | datetime.datetime | None) -> int:
    """Return the Unix milliseconds of a request. Raises UsageError unless `at` is such a number, or has a zone."""
    if at is None:
        return time.time_ns() // 1_000_000
    if type(at) is int and LATEST_MOMENT // 1000 < at < LATEST_MOMENT:
        return at  # isinstance of numpy's types takes half a microsecond
    if isinstance(at, datetime.datetime):
        at = milliseconds_of("at", at)
    is_whole = isinstance(at, (int, np.integer)) and not isinstance(at, bool)
    if is_whole and (wrong := other_unit(int(at))):
        raise UsageError(f"at {at}{wrong}")
    if not is_whole or not 0 <= at < LATEST_MOMENT:
        raise UsageError(f"at must be Unix milliseconds or a datetime with a zone, not {shown(at, 60)}")
    return int(at)


def checked_k(k: int, n_items: int) -> int:
    """Return k, limited to 1..n_items. Raises UsageError unless it is a whole number >= 1."""
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise UsageError(f"k must be a whole number of at least 1, not {k!r}")
    return max(1, min(int(k), n_items))


def listed(name: str, ids: Any) -> Sequence[Any]:
    """Return `ids` as a list. Raises UsageError on a single str or number, a common mistake."""
    if isinstance(ids, (list, tuple)):
        return ids
    try:
        if isinstance(ids, (str, bytes)):
            raise TypeError
        return list(ids)
    except TypeError:
        raise UsageError(f"{name} must be a list of item ids, not {ids!r}; write [{ids!r}] for a single one") from None


class OptionKeywords(TypedDict, total=False):
    """The keywords of `Recommender.recommend`, `recommend_batch` and `GrowingSession.recommend`."""

    exclude: Iterable[Any]
    allow: Iterable[Any] | None
    exclude_seen: bool
    filter: Filter | None
    at: int | datetime.datetime | None
    context: Mapping[str, Any] | None
    repeats: bool
    reasons: bool
    fields: Iterable[str]
    rules: Rules
    placement: str | None
    session_id: str | None
    explore: float
    explore_below: int
    explore_seed: int | None


class Explore(NamedTuple):
    """The share of a list that goes to new items with fewer than `below` displays and clicks together.

    seed: of the draws; None: drawn."""

    share: float
    below: int
    seed: int | None = None


class Options(NamedTuple):
    """Checked options. k: items wanted, 1 to N. repeats, reasons: whether the answer has them (`Recommendations`).
    fields: columns of the item table whose values it has. explore: None for no exploration. types: uint8, of all clicks
    of the session, as `with_types` gives them; None: unknown. unknown_values: see `Recommendations`."""

    k: int
    conditions: Conditions
    repeats: bool = False
    reasons: bool = False
    fields: tuple[str, ...] = ()
    rules: RuleSet | None = None
    explore: Explore | None = None
    types: np.ndarray | None = None
    unknown_values: tuple[str, ...] = ()

    def of_known(self, catalog: Catalog, session: Sequence[Any]) -> tuple[np.ndarray, list[Any], Options]:
        """Return a session's known clicks int32[m], its unknown ones, and the options with the types of the known."""
        clicks, unknown = catalog.clicks_of(session)
        if self.types is None or not unknown:
            return clicks, unknown, self
        return clicks, unknown, self._replace(types=self.types[catalog.ids.lookup(session) >= 0])


def with_types(
    options: Options, catalog: Catalog, types: Sequence[str | None], of_unknown: Sequence[str | None] = ()
) -> Options:
    """Return the options with the types of a session's clicks, one for each.

    of_unknown: types of clicks that are left out, as the catalog does not know them.
    """
    click_types = catalog.model.click_types
    unknown = click_types.unknown([*types, *of_unknown])
    if not (click_types or unknown):
        return options
    codes, values = click_types.codes(types) if click_types else None, (*options.unknown_values, *_named(unknown))
    return Options(*options[:-2], codes, values)  # `_replace` takes microseconds


def _named(types: Iterable[str]) -> Iterable[str]:
    return (f"type={text}" for text in types)


def batch_type_codes(
    catalog: Catalog, sessions: Sequence[Sequence[Any]], types: Iterable[Iterable[str | None] | None]
) -> tuple[np.ndarray | None, list[tuple[str, ...]]]:
    """Return the types of the known clicks of sessions of external ids, and the `unknown_values` of each.

    The types are uint8[T]; None if the ranker reads none.

    Raises UsageError unless there are types, or None, for each session, and one for each of its clicks.
    """
    if not isinstance(types, Iterable):
        raise UsageError(f"types must be a list, not {shown(types, 60)}; give a list of types for each session")
    type_lists = list(types)
    if len(type_lists) != len(sessions):
        raise UsageError(f"types: there are {len(type_lists)} lists for {len(sessions)} sessions; give one for each")
    lists = [
        [None] * len(clicks) if texts is None else checked_types(f"types of session {number}", texts, len(clicks))
        for number, (clicks, texts) in enumerate(zip(sessions, type_lists, strict=True))
    ]
    click_types = catalog.model.click_types
    unknown = [tuple(_named(click_types.unknown(texts))) for texts in lists]
    if not click_types:
        return None, unknown
    codes = [
        click_types.codes(texts)[catalog.ids.lookup(clicks) >= 0] for clicks, texts in zip(sessions, lists, strict=True)
    ]
    return np.concatenate([np.empty(0, np.uint8), *codes]), unknown


def options_of(
    catalog: Catalog,
    k: int,
    exclude: Iterable[Any] = (),
    allow: Iterable[Any] | None = None,
    exclude_seen: bool = False,
    filter: Filter | None = None,
    at: int | datetime.datetime | None = None,
    repeats: bool = False,
    reasons: bool = False,
    fields: Iterable[str] = (),
    rules: Rules = None,
    context: Mapping[str, Any] | None = None,
    explore: float = 0.0,
    explore_below: int = EXPLORE_BELOW,
    explore_seed: int | None = None,
    placement: str | None = None,
    session_id: str | None = None,
    **unknown: Any,
) -> Options:
    """Return the options of one call on a catalog, checked; parameters and errors as in `Recommender.recommend`."""
    if unknown:
        names, name = ("k", "types", *OptionKeywords.__annotations__), next(iter(unknown))
        hint = nearest(name, names) or f"; its options are {', '.join(names)}"
        raise UsageError(f"recommend has no option {name!r}{hint}")
    conditions = conditions_of(catalog, exclude, allow, filter, exclude_seen, at, context)
    field_names = checked_fields(catalog, fields) if fields else ()
    share = checked_explore(explore, explore_below, explore_seed)
    unnamed: tuple[str, ...] = ()
    if context and conditions.context is not None and catalog.model.context is not None:
        unnamed = catalog.model.context.columns.unnamed(context, conditions.context)
    rule_set = rules_of(catalog, rules, placement, at, session_id)
    return Options(
        checked_k(k, catalog.n_items), conditions, repeats, reasons, field_names, rule_set, share, None, unnamed
    )


def checked_explore(share: float, below: int, seed: int | None = None) -> Explore | None:
    """Return the options of exploration, None for no share. Raises UsageError on values out of range."""
    if type(share) is float and share == 0 and type(below) is int and below == EXPLORE_BELOW:
        return None  # the default of every call: isinstance of numpy's types costs it 0.8 us
    if isinstance(share, bool) or not isinstance(share, (int, float, np.number)) or not 0 <= share <= 1:
        raise UsageError(f"explore must be a share from 0 to 1, not {shown(share, 60)}; write 0.05 for one place in 20")
    if isinstance(below, bool) or not isinstance(below, (int, np.integer)) or below < 1:
        raise UsageError(f"explore_below must be a whole number of at least 1, not {shown(below, 60)}")
    if seed is not None and (isinstance(seed, bool) or not isinstance(seed, (int, np.integer))):
        raise UsageError(f"explore_seed must be a whole number, not {shown(seed, 60)}")
    return Explore(float(share), int(below), None if seed is None else int(seed)) if share else None


def checked_fields(catalog: Catalog, fields: Iterable[str]) -> tuple[str, ...]:
    """Return names of columns. Raises UsageError if the item table does not have one of them."""
    if isinstance(fields, str) or not isinstance(fields, Iterable):
        raise UsageError(f"fields must be a list of columns, not {fields!r}; write [{fields!r}] for a single one")
    names, table = tuple(fields), catalog.items or ItemTable(0)
    for name in names:
        if not isinstance(name, str):
            raise UsageError(f"fields must be names of columns, not {shown(name, 60)}")
        _ = table[name]
    return names


def rules_of(
    catalog: Catalog,
    rules: Rules,
    placement: str | None = None,
    at: int | datetime.datetime | None = None,
    session_id: str | None = None,
) -> RuleSet | None:
    """Return the rules of a call: those given, and those of its placement. Raises UsageError on wrong ones."""
    own = rules if rules is None or isinstance(rules, RuleSet) else rule_set_of(rules)
    if placement is None:
        return own
    moment = None if at is None else _moment(at)
    return catalog.placements.placed(placement, moment, session_id).with_own(own, catalog.items)
