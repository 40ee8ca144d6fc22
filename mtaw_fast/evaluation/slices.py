"""Slices of the samples of an evaluation: by session, target, moment, type, item attribute and context.

Axes: S samples, N items, V values of a slice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mtaw_fast.data.context import NO_VALUE, OTHER, ContextColumns
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import UsageError, shown
from mtaw_fast.evaluation.item_facts import Attribute, ItemFacts, is_short
from mtaw_fast.evaluation.measuring import BOUNDS, COLUMNS
from mtaw_fast.evaluation.resampling import SessionBootstrap

LENGTH, POPULARITY, AGE, SINCE = "session length", "target popularity", "target age", "time since training"
REPEAT, FIRST, TYPE, HOUR = "target in session", "first click", "type", "hour (UTC)"
_LENGTHS = ((1, "1 click"), (2, "2 clicks"), (3, "3 clicks"), (5, "4 to 5"), (10, "6 to 10"), (20, "11 to 20"))
_SHARES = ((0.01, "top 1%"), (0.1, "1% to 10%"), (0.5, "10% to 50%"), (1.0, "50% to 100%"))
_HOUR_MS = 3_600_000
_AGES = ((1, "under 1 hour"), (24, "1 to 24 hours"), (168, "1 to 7 days"), (720, "7 to 30 days"))
_DELAYS = ((0, "before its end"), (1, "under 1 hour"), (6, "1 to 6 hours"), (24, "6 to 24 hours"), (168, "1 to 7 days"))
_MAX_SHOWN = 12  # values of an attribute or a context column; the rarer ones are one value
_REST, _NONE = "all others", "no value"
ALL = "all"  # what `to_frame` calls all samples


@dataclass(frozen=True, slots=True, eq=False)
class Slicing:
    """One way to slice the samples. labels: the V values, in order. codes: int64[S], indices of them, -1 for none."""

    name: str
    labels: tuple[str, ...]
    codes: np.ndarray


def slicings_of(
    samples: Samples,
    facts: ItemFacts,
    type_names: Sequence[str] = (),
    context: ContextColumns | None = None,
    attributes: Sequence[Attribute] = (),
    names: Sequence[str] | None = None,
) -> list[Slicing]:
    """Return every way to slice the samples that has at least two values; values without a sample are left out.

    Names are unique: an attribute that is called like another slice, such as 'type', becomes 'type (item)', and a
    context column 'type (context)'.

    samples: S samples, in the ids of `facts`.
    facts: of the N items.
    type_names: names of the types of the targets.
    context: the columns of the prefixes' context; the value at the last click before the target counts.
    attributes: the attributes of the items; a sample is in the slice of its target's value.
    names: the attributes and context columns to slice by; by default all context columns and the attributes with few
        values.

    Raises UsageError if there is no attribute or context column of one of these names.
    """
    slicings = [
        _lengths(samples),
        Slicing(FIRST, ("one click", "more clicks"), np.where(samples.prefixes.lengths == 1, 0, 1)),
        Slicing(REPEAT, ("new", "repeat"), samples.repeats().astype(np.int64)),
        _popularity(samples, facts),
    ]
    if samples.target_times is not None:
        if facts.first_click is not None:
            slicings.append(_ages(samples.target_times, facts.first_click[samples.targets]))
        if facts.last_click is not None:
            bounds = np.array([hours * _HOUR_MS for hours, _ in _DELAYS])
            codes = np.searchsorted(bounds, samples.target_times - facts.last_click, side="right")
            slicings.append(Slicing(SINCE, (*(label for _, label in _DELAYS), "7 days or more"), codes))
        hours = samples.target_times // _HOUR_MS % 24
        slicings.append(Slicing(HOUR, tuple(f"{hour:02}" for hour in range(24)), hours))
    if samples.target_types is not None and type_names:
        slicings.append(Slicing(TYPE, tuple(type_names), samples.target_types.astype(np.int64)))
    slicings += _chosen(samples, context, attributes, names, {ALL, *(slicing.name for slicing in slicings)})
    return [slicing for slicing in map(_without_empty, slicings) if len(slicing.labels) > 1]


def sliced(
    columns: np.ndarray, slicings: Sequence[Slicing], bootstrap: SessionBootstrap
) -> dict[str, dict[str, dict[str, object]]]:
    """Return the metrics by slice and value, as plain values: `samples`, `sessions`, every metric of `COLUMNS`, and
    `intervals` by metric, empty for few sessions. columns: float64[S, C]."""
    metrics: dict[str, dict[str, dict[str, object]]] = {}
    if not slicings:
        return metrics
    by_slicing = bootstrap.estimates_by(columns, [(way.codes, len(way.labels)) for way in slicings], bounds=BOUNDS)
    for slicing, estimates in zip(slicings, by_slicing, strict=True):
        metrics[slicing.name] = {}
        for value, label in enumerate(slicing.labels):
            bounds = {name: estimates.interval(value, column) for column, name in enumerate(COLUMNS)}
            metrics[slicing.name][label] = {
                "samples": int(estimates.samples[value]),
                "sessions": int(estimates.sessions[value]),
                **dict(zip(COLUMNS, estimates.means[value].tolist(), strict=True)),
                "intervals": {name: list(bound) for name, bound in bounds.items() if bound is not None},
            }
    return metrics


def _lengths(samples: Samples) -> Slicing:
    bounds = np.array([bound for bound, _ in _LENGTHS])
    labels = (*(label for _, label in _LENGTHS), f"over {_LENGTHS[-1][0]}")
    return Slicing(LENGTH, labels, np.searchsorted(bounds, samples.prefixes.lengths))


def _popularity(samples: Samples, facts: ItemFacts) -> Slicing:
    """Return the slicing by the target's popularity: its rank among all items by clicks in training."""
    ranks = np.empty(facts.n_items, dtype=np.int64)
    ranks[np.argsort(-facts.clicks, kind="stable")] = np.arange(facts.n_items)
    bounds = np.array([max(1, round(share * facts.n_items)) for share, _ in _SHARES])
    codes = np.searchsorted(bounds, ranks[samples.targets], side="right")
    codes[facts.clicks[samples.targets] == 0] = len(_SHARES)
    return Slicing(POPULARITY, (*(label for _, label in _SHARES), "never clicked in training"), codes)


def _ages(now: np.ndarray, first: np.ndarray) -> Slicing:
    """Slice by the time since the target's first click in training: Unix ms, the largest int64 without one."""
    unclicked = first == np.iinfo(np.int64).max
    bounds = np.array([hours * _HOUR_MS for hours, _ in _AGES])
    codes = np.searchsorted(bounds, now - np.where(unclicked, now, first), side="right")
    codes[unclicked] = len(_AGES) + 1
    labels = (*(label for _, label in _AGES), "30 days or more", "never clicked in training")
    return Slicing(AGE, labels, codes)


def _chosen(
    samples: Samples,
    context: ContextColumns | None,
    attributes: Sequence[Attribute],
    names: Sequence[str] | None,
    taken: set[str],
) -> list[Slicing]:
    """Return the slices by context columns and by attributes of the target. taken: names of other slices."""

    def free(name: str, kind: str) -> str:
        while name in taken:
            name = f"{name} ({kind})"
        taken.add(name)
        return name

    prefixes = samples.prefixes
    columns = () if context is None or prefixes.context is None else context.names
    known = {*columns, *(attribute.name for attribute in attributes)}
    if isinstance(names, str):
        raise UsageError(
            f"evaluate: slices must be a list of names, not {shown(names, 60)}; write [{shown(names, 60)}]"
        )
    for name in names or ():
        if name not in known:
            has = ", ".join(sorted(known)) or "none"
            raise UsageError(
                f"evaluate: there is no slice {shown(name, 60)}; the item attributes and context columns are {has:.300}"
            )
    slicings = []
    for column, name in enumerate(columns):
        if names is None or name in names:
            assert context is not None
            assert prefixes.context is not None
            ends = prefixes.offsets[1:] - 1
            codes = prefixes.context[np.maximum(ends, 0), column].astype(np.int64)
            codes[prefixes.lengths == 0] = NO_VALUE
            labels = {NO_VALUE: _NONE, OTHER: _REST} | dict(enumerate(context.values[column], start=OTHER + 1))
            slicings.append(_frequent(free(name, "context"), codes, labels))
    for attribute in attributes:
        if is_short(attribute) if names is None else attribute.name in names:
            codes, name = attribute.codes[samples.targets].astype(np.int64), free(attribute.name, "item")
            if attribute.ordered:
                filled_codes = np.where(codes >= 0, codes, len(attribute.labels))
                slicings.append(Slicing(name, (*attribute.labels, _NONE), filled_codes))
                continue
            slicings.append(_frequent(name, codes, {-1: _NONE} | dict(enumerate(attribute.labels))))
    return slicings


def _frequent(name: str, codes: np.ndarray, labels: Mapping[int, str]) -> Slicing:
    """Slice by the most frequent codes, then all others. A label may come twice, as 'all others'."""
    values, inverse, counts = np.unique(codes, return_inverse=True, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    new_codes: dict[str, int] = {}
    value_codes = np.empty(len(values), dtype=np.int64)
    for index in order.tolist():
        label = labels[int(values[index])]
        label = label if label in new_codes or len(new_codes) < _MAX_SHOWN else _REST
        value_codes[index] = new_codes.setdefault(label, len(new_codes))
    return Slicing(name, tuple(new_codes), value_codes[inverse.reshape(-1)])


def _without_empty(slicing: Slicing) -> Slicing:
    """Leave out the values that no sample has."""
    has_sample = np.bincount(slicing.codes[slicing.codes >= 0], minlength=len(slicing.labels)) > 0
    if has_sample.all():
        return slicing
    new_codes = np.cumsum(has_sample) - 1
    codes = np.where(slicing.codes >= 0, new_codes[np.maximum(slicing.codes, 0)], -1)
    return Slicing(slicing.name, tuple(np.array(slicing.labels, dtype=object)[has_sample]), codes)
