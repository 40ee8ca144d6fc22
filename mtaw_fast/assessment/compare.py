"""Compare two bundles on a data set's samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mtaw_fast.assessment.inputs import (
    Folder,
    Progress,
    Split,
    dataset_of,
    facts_for,
    facts_of,
    named,
    named_progress,
    rankable_by,
    recommender_of,
    split_of,
    warn,
    warnings_for,
)
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import measure
from mtaw_fast.evaluation.measuring import Measured
from mtaw_fast.evaluation.paired import Comparison, compared, list_differences, parting
from mtaw_fast.evaluation.slices import slicings_of
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender

_CLICKS, _ITEMS = 10, 5  # of an example


def compare(
    first: Recommender | Bundle | Folder,
    second: Recommender | Bundle | Folder,
    dataset: Dataset | Folder,
    *,
    split: Split = "test",
    slices: Sequence[str] | None = None,
    examples: int = 6,
    encoder: EncoderName | str = "auto",
    index: IndexName | str = "auto",
    progress: Progress | None = None,
) -> Comparison:
    """Compare two bundles on the same samples: paired differences with intervals, by metric and slice.

    Parameters
    ----------
    first, second : Recommender, Bundle or path
        The bundles; a difference is the second's metric minus the first's.
    dataset : Dataset or path
        The data set.
    split : {'test', 'validation'}, default 'test'
        Which samples; 'validation' is the smaller share of the last training sessions that one of the two held out.
    slices : sequence of str, optional
        As in `evaluate`.
    examples : int, default 6
        Most sessions to show for which only one of the two finds the target.
    encoder, index : str, default 'auto'
        As in `Recommender.load`; for a bundle or path.
    progress : callable, optional
        Called as progress(what, done, total) with ranked samples.

    Returns
    -------
    Comparison
        `verdict` is one sentence; `str()` of it is a report.

    Raises
    ------
    UsageError
        If the split has no sample, or there is no slice of a name.

    Warns
    -----
    DataWarning
        If a bundle may have seen the samples; see `evaluate`.
    """
    if examples < 0:
        raise UsageError(f"compare: examples must be at least 0, not {examples}")
    pair = [recommender_of(bundle, encoder, index) for bundle in (first, second)]
    data = dataset_of(dataset)
    models = [recommender.bundle for recommender in pair]
    # Of a larger share, the bundle that held out less has learned the rest.
    fraction = min(model.config.optimizer.validation_fraction for model in models)
    part = split_of(data, named(dataset, data), split, fraction)
    samples = part.samples
    names = _names(models)
    lines = []
    for name, recommender in zip(names, pair, strict=True):
        lines += [f"{name}: {text}" for text in warnings_for(recommender, data, samples, split)]
    # Both lists are measured with one set of facts, so a difference is one of the lists.
    facts, attributes = facts_of(data, part.fitted, pair[0])
    slicings = slicings_of(samples, facts, data.type_names, data.context, attributes, slices)
    measured = [
        measure(
            recommender, rankable_by(recommender, samples, data), facts_for(facts, data, recommender),
            progress=named_progress(progress, name), keep=True,
        )
        for recommender, name in zip(pair, names, strict=True)
    ]  # fmt: skip
    metrics, by_slice = compared(measured[0], measured[1], samples, slicings)
    warn(lines)
    return Comparison(
        first=names[0],
        second=names[1],
        name=data.name,
        split=split,
        samples=len(samples),
        sessions=len(np.unique(samples.session)),
        metrics=metrics,
        slices=by_slice,
        lists=list_differences(measured[0].lists, _in_ids_of(pair[0], pair[1], measured[1].lists)),
        examples=_examples(pair, measured, samples, data, examples),
        warnings=lines,
    )


def _names(models: list[Bundle]) -> tuple[str, str]:
    """Return the names of the bundles' folders, with more of the paths where they are equal."""
    paths = [model.folder.resolve() for model in models]
    if paths[0].name != paths[1].name:
        return paths[0].name, paths[1].name
    if paths[0] != paths[1]:
        return str(paths[0]), str(paths[1])
    return f"{paths[0].name} (A)", f"{paths[1].name} (B)"


def _in_ids_of(first: Recommender, second: Recommender, lists: np.ndarray) -> np.ndarray:
    """Return the second's lists in internal ids of the first; items that it lacks get numbers after them."""
    second_ids = np.arange(len(second.ids))
    internal = np.asarray(first.ids.lookup(second.ids.external(second_ids)), dtype=np.int64)
    internal = np.where(internal >= 0, internal, len(first.ids) + second_ids)
    return np.where(lists >= 0, internal[np.where(lists >= 0, lists, 0)], -1)


def _examples(
    pair: list[Recommender], measured: list[Measured], samples: Samples, data: Dataset, count: int
) -> list[dict[str, Any]]:
    """Return samples where only one finds the target, in external ids."""
    examples = []
    for sample in parting(measured[0].ranks, measured[1].ranks, samples.session, count):
        example: dict[str, Any] = {
            "clicks": list(data.ids.external(samples.prefixes[sample][-_CLICKS:])),
            "target": data.ids.external(samples.targets[sample : sample + 1])[0],
        }
        for name, recommender, result in zip(("first", "second"), pair, measured, strict=True):
            top = result.lists[sample][:_ITEMS]
            example[name] = {
                "rank": int(result.ranks[sample]) or None,
                "items": list(recommender.ids.external(top[top >= 0])),
            }
        examples.append(example)
    return examples
