"""Measure a bundle on a data set's samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from mtaw_fast.assessment.inputs import (
    WEIGHTS,
    Folder,
    Progress,
    dataset_of,
    facts_for,
    facts_of,
    named,
    named_progress,
    rankable_by,
    recommender_of,
    sample_weights,
    seen_in_training,
    split_of,
    warn,
    warnings_for,
)
from mtaw_fast.bundle import Bundle
from mtaw_fast.config.type_weights import TypeWeights, parsed
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import Report, protocol
from mtaw_fast.evaluation import baselines as all_baselines
from mtaw_fast.evaluation.evaluation_result import Evaluation, Validation
from mtaw_fast.evaluation.seen import same_training_part
from mtaw_fast.evaluation.served_later import served_later
from mtaw_fast.evaluation.slices import slicings_of
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender

_REPEATING = 50.0  # percent of a type's hits; from more on, its metrics say little


def evaluate(
    bundle: Recommender | Bundle | Folder,
    dataset: Dataset | Folder,
    *,
    split: Literal["test", "validation"] = "test",
    unseen: Literal["leave-out", "misses"] = "leave-out",
    weights: TypeWeights | None = None,
    baselines: bool = False,
    slices: Sequence[str] | None = None,
    encoder: EncoderName | str = "auto",
    index: IndexName | str = "auto",
    progress: Progress | None = None,
) -> Evaluation:
    """Measure a bundle on a data set's samples, through the path that serves.

    Parameters
    ----------
    bundle : Recommender, Bundle or path
        What to measure.
    dataset : Dataset or path
        The data set.
    split : {'test', 'validation'}, default 'test'
        Which samples; 'validation' is the bundle's share of the last training sessions.
    unseen : {'leave-out', 'misses'}, default 'leave-out'
        Test targets on items that training never saw: leave them out, as the papers do, or count them as misses.
    weights : mapping of str to float, or str, optional
        Weights of samples by the type of their target, such as {'view': 1, 'purchase': 8} or 'view=1,purchase=8', for
        weighted metrics in addition to the plain ones; types without one have 1.
    baselines : bool, default False
        Whether to fit and measure the baselines too.
    slices : sequence of str, optional
        Item attributes and context columns to slice the metrics by, by name; by default all context columns and the
        attributes with at most 50 values. The other slices, such as by length of the session, are always there.
    encoder, index : str, default 'auto'
        As in `Recommender.load`; for a bundle or path.
    progress : callable, optional
        Called as progress(what, done, total) with ranked samples.

    Returns
    -------
    Evaluation
        Its `metrics` are in percent; `str()` of it is a table, and `to_frame()` has every metric by slice.

    Raises
    ------
    UsageError
        If the split has no sample, `unseen` or the weights do not fit the split or the data set's types, or there is no
        slice of a name.

    Warns
    -----
    DataWarning
        If the bundle was trained on another training part, has learned from logs since (with the share of the samples
        that it has seen), or has seen the validation sessions; if the recommender has learned clicks; or if most hits
        of a type of target repeat the last click.
    """
    recommender = recommender_of(bundle, encoder, index)
    data, model = dataset_of(dataset), recommender.bundle
    name = named(dataset, data)
    _check_options(split, unseen, weights)
    part = split_of(data, name, split, model.config.optimizer.validation_fraction, baselines)
    samples = part.samples
    unseen_sessions = data.unseen if data.unseen is not None else np.empty(0, np.int32)
    log = data.preparation.get("log") if split == "test" else None
    if unseen == "misses" and log is None:
        raise UsageError(
            f"{name} has no list of targets that training never saw: prepare it again from a log (the formats npz and "
            "pickle have none), or leave --unseen out"
        )
    misses = unseen_sessions if unseen == "misses" else None

    lines = warnings_for(recommender, data, samples, split)
    counts = None if weights is None else sample_weights(weights, data, samples)
    facts, attributes = facts_of(data, part.fitted, recommender)
    common: dict[str, Any] = {
        "unseen": misses, "type_names": data.type_names, "weights": counts, "whole": samples
    }  # fmt: skip
    report = protocol.evaluate(
        recommender,
        rankable_by(recommender, samples, data),
        progress=named_progress(progress, "model"),
        facts=facts_for(facts, data, recommender),
        slicings=slicings_of(samples, facts, data.type_names, data.context, attributes, slices),
        **common,
    )
    served_late = {
        f"served {name} later": protocol.evaluate(
            recommender, later, progress=named_progress(progress, f"{name} later"), unseen=misses
        )
        for name, later in _later(recommender, rankable_by(recommender, samples, data)).items()
    }
    baseline_reports: dict[str, Report] = {}
    if baselines:
        assert part.known is not None
        assert part.held_out is not None
        rankers = all_baselines.fit_baselines(part.fitted, part.known, part.held_out, data.min_prefix, data.n_items)
        baseline_reports = {
            baseline: protocol.evaluate(
                ranker, samples, progress=named_progress(progress, baseline), facts=facts, **common
            )
            for baseline, ranker in rankers.items()
        }
    lines += _repeating(report)
    warn(lines)
    return Evaluation(
        report=report,
        served_late=served_late,
        baselines=baseline_reports,
        name=data.name,
        split=split,
        encoder=recommender.encoder.name,
        index=recommender.index.name,
        seen_in_training=seen_in_training(model, split),
        same_training_part=same_training_part(model, data),
        unseen_share=log["unseen_clicks"] / log["test_clicks"] if log and log["test_clicks"] else None,
        unseen_targets=len(unseen_sessions) if log is not None else 0,
        warnings=lines,
        weights={} if weights is None else parsed(weights, WEIGHTS),
        diversity_by=[attribute.name for attribute in facts.attributes],
        validation=_validation_of(model, data) if split == "test" else None,
    )


def _validation_of(bundle: Bundle, data: Dataset) -> Validation | None:
    """Return what the training measured on its own data set; None without times, or where it weighted the types."""
    measured, config = bundle.metrics.get("validation") or {}, bundle.config
    if (
        "P@20" not in measured
        or config.loss.type_weights
        or not same_training_part(bundle, data)
        or len(data.train) < 2
    ):
        return None
    known, held_out = data.train.split_last(config.optimizer.validation_fraction)
    ends = [known.times, held_out.times, data.train.times, data.test.target_times]
    if bundle.model.has_learned or not all(times is not None and len(times) for times in ends):
        return None
    known_until, measured_until, trained_until, until = (int(times.max()) for times in ends if times is not None)
    hour = 3_600_000
    return Validation(measured["P@20"], (measured_until - known_until) / hour, (until - trained_until) / hour)


def _check_options(split: str, unseen: str, weights: TypeWeights | None) -> None:
    """Raise UsageError on options that do not fit together."""
    if unseen not in ("leave-out", "misses"):
        raise UsageError(f"evaluate: unseen must be 'leave-out' or 'misses', not {unseen!r}")
    if unseen == "misses" and split == "validation":
        raise UsageError("evaluate: training has seen all items of the validation sessions; leave --unseen out")
    if weights is not None and unseen == "misses":
        raise UsageError(
            "evaluate: weights do not work with unseen='misses', whose targets have no known types; leave one out"
        )


def _later(recommender: Recommender, samples: Samples) -> dict[str, Samples]:
    """Return the samples as if they came later, while the bundle learns nothing; none if time changes no ranking."""
    return {} if recommender.bundle.model.trends is None else served_later(samples)


def _repeating(report: Report) -> list[str]:
    """Return a warning for each type of target whose hits are mostly repeats of the last click."""
    if len(report.by_type) < 2:
        return []
    return [
        f"{share:.0f}% of the hits of type {name} repeat the last click, so its metrics, and weights on it, say "
        "little: read its first targets, or prepare with --merge-types"
        for name, share in report.on_last_click.items()
        if not math.isnan(share) and share > _REPEATING
    ]
