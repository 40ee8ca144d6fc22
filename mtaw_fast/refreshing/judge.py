"""Judge a candidate against the served bundle on clicks that neither has seen, frozen and learning, by slice."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.assessment import compare
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import DataWarning
from mtaw_fast.evaluation.item_facts import ItemFacts
from mtaw_fast.evaluation.measuring import COVERAGE, GINI
from mtaw_fast.evaluation.metrics import gains_of
from mtaw_fast.evaluation.paired import HITS, Difference, SliceDifference, differences_by
from mtaw_fast.evaluation.slices import Slicing, slicings_of
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogFile, log_limits
from mtaw_fast.online.replay import ReplayResult, ReplaySettings, replay
from mtaw_fast.refreshing.day_files import as_logged
from mtaw_fast.workflow import log_of, min_prefix_of

STATES = ("frozen", "learning")
_STEP = 60_000  # ms: clicks of a minute are ranked before any of them is learned
_Slices = Mapping[str, Mapping[str, SliceDifference]]


def replayed(bundle: Bundle, rows: Any, begin: int | None, until: int | None = None) -> tuple[ReplayResult, LogFile]:
    """Replay rows of periods' files, and score the clicks from `begin` on and before `until`, Unix milliseconds."""
    limits = log_limits()
    settings = ReplaySettings(begin=begin, until=until, min_prefix=min_prefix_of(bundle), every=_STEP, baselines=False)
    log = log_of(bundle, as_logged(rows, bundle.dataset["reader"]), limits)
    return replay(log, settings, limits), log


def judged(
    incumbent: Bundle, candidate: Bundle, dataset: Path, rows: Any, begin: int, must_hold: Mapping[str, float]
) -> dict[str, Any]:
    """Compare a candidate with the served bundle; return plain JSON values.

    dataset: its test split is what neither bundle has seen. rows, begin: as in `replayed`; rows None: not learning.
    must_hold: how many percentage points of each metric the candidate may lose.

    Returns `worse`, what does not hold; `verdict` and `samples`; and for `frozen` and `learning` the differences by
    metric, and of P@20 by slice, with 95% intervals.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # such as of the age, which both bundles have
        frozen = compare(incumbent, candidate, dataset, examples=0)
    metrics, slices = _learning(incumbent, candidate, rows, begin)
    return {
        "worse": [
            *lost(frozen.metrics, frozen.slices, must_hold),
            *(f"learning {text}" for text in lost(metrics, slices, must_hold)),
        ],
        "verdict": frozen.verdict,
        "samples": frozen.samples,
        "from": begin,
        "frozen": _plain(frozen.metrics, frozen.slices),
        "learning": _plain(metrics, slices),
    }  # fmt: skip


def _learning(incumbent: Bundle, candidate: Bundle, rows: Any, begin: int) -> tuple[Mapping[str, Difference], _Slices]:
    if rows is None or not (incumbent.memory and candidate.memory):
        return {}, {}
    (first, log), (second, _) = replayed(incumbent, rows, begin), replayed(candidate, rows, begin)
    clicks, mine, others = np.intersect1d(first.clicks, second.clicks, return_indices=True)
    slicings = _slicings(log, incumbent.model, clicks)
    before, after = gains_of(first.ranks["learning"][mine]), gains_of(second.ranks["learning"][others])
    return differences_by(before, after, log.stream.sessions[clicks], slicings)


def _slicings(log: LogFile, model: Model, clicks: np.ndarray) -> list[Slicing]:
    """Return the slices of scored clicks, int64[S] positions in the log, whose sessions begin in it."""
    stream = log.stream
    internal = model.ids.lookup(stream.item_ids)
    # The log's own codes vary from run to run, so that ties would fall into other slices.
    items = np.where(internal >= 0, internal, model.n_items + np.arange(len(internal))).astype(np.int32)
    order = np.argsort(stream.sessions, kind="stable")
    sessions = Sessions(
        items[stream.items[order]], offsets_of(np.bincount(stream.sessions, minlength=len(stream.session_ids))),
        log.times[order], None if stream.types is None else stream.types[order],
        None if stream.context is None else stream.context[order],
    )  # fmt: skip
    at = np.empty(len(order), dtype=np.int64)
    at[order] = np.arange(len(order))
    samples = Samples.at(sessions, at[clicks])
    facts = ItemFacts.of(model.sessions, model.n_items + len(internal))
    return slicings_of(samples, facts, stream.type_names, stream.context_columns)


def lost(metrics: Mapping[str, Difference], slices: _Slices, must_hold: Mapping[str, float]) -> Iterator[str]:
    """Yield the metrics, and slices of P@20, that are shown to be worse by more than they may."""
    for name, margin in must_hold.items():
        difference = metrics.get(name)
        if difference is None or difference.difference >= -margin:
            continue
        # Metrics of the whole catalog have no interval; another one without is of too few sessions to show anything.
        if difference.interval[1] < 0 if difference.interval is not None else name in (COVERAGE, GINI):
            yield f"{name} {difference.difference:+.2f}, at most {-margin:.2f}"
    margin = must_hold.get(HITS, 0.0)
    for name, values in slices.items():
        for value, part in values.items():
            difference = part.metrics[HITS]
            if part.holds and difference.difference < -margin:
                yield f"{HITS} {difference.difference:+.2f} where {name} is {value}"


def _plain(metrics: Mapping[str, Difference], slices: _Slices) -> dict[str, Any]:
    return {
        "metrics": {name: difference.as_dict() for name, difference in metrics.items()},
        "slices": {
            name: {
                value: {"samples": part.samples, "holds": part.holds, **part.metrics[HITS].as_dict()}
                for value, part in values.items()
            }
            for name, values in slices.items()
        },
    }  # fmt: skip
