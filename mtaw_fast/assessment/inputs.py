"""What an evaluation reads: the samples of a split in a bundle's ids, the facts about the items, the slices."""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.config.type_weights import TypeWeights, by_code
from mtaw_fast.data.context import translated_codes
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions, check_prefixes
from mtaw_fast.errors import DataWarning, UsageError, shown
from mtaw_fast.evaluation.item_facts import Attribute, ItemFacts, attributes_of
from mtaw_fast.evaluation.protocol import translated
from mtaw_fast.evaluation.seen import warnings_of
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender

Folder = str | os.PathLike[str]
Split = Literal["test", "validation"]
Progress = Callable[[str, int, int], object]
WEIGHTS = "evaluate: weights"


@dataclass(frozen=True, slots=True, eq=False)
class SplitSamples:
    """A split of a data set. fitted: the sessions that a baseline may learn from. known, held_out: these sessions
    without the validation ones, and the validation ones; None if they were not asked for."""

    samples: Samples
    fitted: Sessions
    known: Sessions | None = None
    held_out: Sessions | None = None


def dataset_of(dataset: Dataset | Folder) -> Dataset:
    """Return a data set that may be given as its folder."""
    return dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)


def named(source: Dataset | Folder, dataset: Dataset) -> str:
    """Return how a message calls a data set: as it was given."""
    return dataset.name if isinstance(source, Dataset) else str(source)


def recommender_of(
    bundle: Recommender | Bundle | Folder, encoder: EncoderName | str, index: IndexName | str
) -> Recommender:
    """Return a recommender that may be given as its bundle or folder."""
    if isinstance(bundle, Recommender):
        return bundle
    return Recommender.load(bundle.folder if isinstance(bundle, Bundle) else bundle, encoder=encoder, index=index)


def split_of(data: Dataset, name: str, split: str, fraction: float, baselines: bool = False) -> SplitSamples:
    """Return the samples of a split.

    split: {'test', 'validation'}, which samples. fraction: share of the training sessions that are the validation ones.
    baselines: whether the baselines need the validation sessions.
    Raises UsageError if there is no such split or sample; DataError if the prefixes of the validation sessions are too
    many to store.
    """
    if split not in ("test", "validation"):
        raise UsageError(f"evaluate: split must be 'test' or 'validation', not {split!r}")
    split_samples = SplitSamples(data.test, data.train)
    if split == "validation" or baselines:  # only these need at least two training sessions
        known, held_out = data.train.split_last(fraction)
        remedy = ", or leave the baselines out" if split == "test" else ""
        check_prefixes(held_out.lengths, f"data set {name}: the validation prefixes", remedy)
        split_samples = SplitSamples(data.test, data.train, known, held_out)
        if split == "validation":
            split_samples = SplitSamples(Samples.from_sessions(held_out, data.min_prefix), known, known, held_out)
    if len(split_samples.samples) == 0:
        raise UsageError(f"{name} has no {split} samples; prepare it with a test part")
    return split_samples


def rankable_by(recommender: Recommender, samples: Samples, data: Dataset) -> Samples:
    """Return samples of a data set in the internal ids, the context codes and the type codes of a recommender.

    Raises UsageError if the recommender knows no item of the data set.
    """
    if (internal_of(data, recommender) < 0).all():
        mine, others = recommender.ids.external(np.arange(1))[0], data.ids.external(np.arange(1))[0]
        raise UsageError(
            f"{recommender.bundle.folder.name} knows none of the {data.n_items:,} items of {data.name}: its ids are "
            f"like {shown(mine, 40)}, those of the data set like {shown(others, 40)}; prepare it from the same ids"
        )
    model = recommender.bundle.model
    samples = samples.with_prefix_types(model.click_types.translated(samples.prefixes.types, data.type_names))
    return translated(_with_context_of(samples, data, model), data.ids, recommender.ids)  # with added items


def facts_of(data: Dataset, fitted: Sessions, recommender: Recommender) -> tuple[ItemFacts, tuple[Attribute, ...]]:
    """Return the facts about the items of a data set, in its ids, and their attributes.

    The attributes are those of the data set's item table, else of the recommender's. Without any, the diversity goes by
    the bundle's vectors.
    """
    n_items, table = data.n_items, data.items
    internal = internal_of(data, recommender)
    if table is None:
        attributes = attributes_of(recommender.items, internal)
    else:
        attributes = attributes_of(table, np.arange(n_items))
    vectors, added = recommender.bundle.model.item_vectors, recommender.catalog.vectors
    vectors = np.concatenate([vectors, added]) if len(added) else vectors
    if len(vectors) != n_items or not np.array_equal(internal, np.arange(n_items)):
        known = (internal >= 0) & (internal < len(vectors))
        vectors = np.where(known[:, None], vectors[np.where(known, internal, 0)], np.float32(0))
    return ItemFacts.of(fitted, n_items).with_content(attributes, vectors), attributes


def facts_for(facts: ItemFacts, data: Dataset, recommender: Recommender) -> ItemFacts:
    """Return the facts in the internal ids of a recommender."""
    return facts.renumbered(internal_of(data, recommender), len(recommender.ids))


def internal_of(data: Dataset, recommender: Recommender) -> np.ndarray:
    """int[N]: the recommender's internal id of each item of a data set, -1 for none."""
    return np.asarray(recommender.ids.lookup(data.ids.external(np.arange(data.n_items))))


def warnings_for(recommender: Recommender, data: Dataset, samples: Samples, split: Split) -> list[str]:
    """Return what makes the metrics of a split better or worse than they should be, a line each."""
    lines, delta = warnings_of(recommender.bundle, data, samples), recommender.catalog.delta
    if delta is not None and delta.n_clicks:
        lines.append(
            f"this recommender has learned {delta.n_clicks:,} clicks that its bundle does not have, and the samples "
            "may be among them: evaluate the folder of the bundle"
        )
    if seen_in_training(recommender.bundle, split):
        lines.append("this bundle was refit on the validation sessions; train with --no-refit to measure on them")
    internal = internal_of(data, recommender)
    withheld = (internal >= 0) & recommender.catalog.unavailable[internal]
    if count := int(np.count_nonzero(withheld[samples.targets])):
        lines.append(
            f"{count:,} of {len(samples):,} targets ({count / len(samples):.1%}) are items that are not recommended "
            "now (sold out, hidden or removed), so this bundle misses them; baselines and training's validation do not"
        )
    return lines


def seen_in_training(model: Bundle, split: Split) -> bool:
    """Return whether a bundle's training ended with the samples of a split."""
    return split == "validation" and bool(model.metrics.get("refit", True))


def sample_weights(weights: TypeWeights, data: Dataset, samples: Samples) -> np.ndarray:
    """float32[S]: weights of the samples by the types of their targets; raises UsageError if all are 0."""
    by_type = by_code(weights, data.type_names, WEIGHTS)
    if by_type is None:
        return np.ones(len(samples), dtype=np.float32)
    if samples.target_types is None:
        raise UsageError(f"{WEIGHTS}: the targets have no types in this split; prepare the data set with --type COLUMN")
    counts = by_type[samples.target_types]
    if not counts.any():
        raise UsageError(f"{WEIGHTS}: all samples have the weight 0; give a type of the targets a weight above 0")
    return counts


def named_progress(progress: Progress | None, name: str) -> Callable[[int, int], None] | None:
    """Return a callback that reports (done, total) of `name`."""
    if progress is None:
        return None

    def report(done: int, total: int) -> None:
        progress(name, done, total)

    return report


def warn(lines: Iterable[str]) -> None:
    """Warn with a DataWarning per line, in the name of the caller of the function that calls this."""
    for line in lines:
        warnings.warn(line, DataWarning, stacklevel=3)


def _with_context_of(samples: Samples, data: Dataset, model: Model) -> Samples:
    """Return the samples with their context in the model's codes, without any if either has none."""
    prefixes = samples.prefixes
    if prefixes.context is None:
        return samples
    codes = None
    if data.context is not None and model.context is not None:
        codes = translated_codes(prefixes.context, data.context, model.context.columns)
    return dataclasses.replace(samples, prefixes=dataclasses.replace(prefixes, context=codes))
