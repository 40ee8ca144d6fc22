"""From a click log to an evaluated bundle in three calls. The commands of the same names give the same bits."""

from __future__ import annotations

import dataclasses
import os
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle import refuse_existing as refuse_existing_bundle
from mtaw_fast.config import DEFAULT_PRESET, Config, preset
from mtaw_fast.config.type_weights import TypeWeights, by_code, parsed
from mtaw_fast.data.context import translated_codes
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.dataset import refuse_existing as refuse_existing_dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, check_prefixes
from mtaw_fast.errors import DataWarning, UsageError, require
from mtaw_fast.evaluation import baselines as all_baselines
from mtaw_fast.evaluation import protocol
from mtaw_fast.evaluation.comparison import Evaluation
from mtaw_fast.evaluation.protocol import Report, translated
from mtaw_fast.evaluation.seen import same_training_part, warnings_of
from mtaw_fast.items import ItemsReport, ItemTable
from mtaw_fast.model.model import Model
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName
from mtaw_fast.recommender import Recommender

Folder = str | os.PathLike[str]
Progress = Callable[[str, int, int], object]
LogFormat = Literal["clicks", "npz", "pickle", "retailrocket", "tmall"]
_STEPS = 2  # of prepare
_WEIGHTS = "evaluate: weights"


def prepare(
    source: Any,
    folder: Folder,
    *,
    format: LogFormat = "clicks",
    name: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    items: Any = None,
    item_options: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> Dataset:
    """Make a data set folder from a click log.

    Parameters
    ----------
    source : path, URL or frame
        For 'clicks': a CSV, Parquet or JSON lines file, a folder of parts, a glob pattern, a URL (s3://, gs://, az://),
        or a frame of Polars, pandas or Arrow. For the other formats a path.
    folder : path
        Data set folder to write.
    format : {'clicks', 'npz', 'pickle', 'retailrocket', 'tmall'}, default 'clicks'
        Format of the source.
    name : str, optional
        Name of the data set; by default from the source.
    overwrite : bool, default False
        Whether to replace an existing data set.
    progress : callable, optional
        Called as progress(what, done, total).
    items : path or frame, optional
        The item table: a CSV, Parquet or JSON lines file, or a table in memory.
    item_options : mapping, default {}
        Its `id`, `kinds`, `public` and `availability`, as in `Recommender.set_items`.
    **options
        For 'clicks' the fields of `data.readers.ClickOptions` (session, item, time, user, gap, dedupe, ..); for
        'pickle' min_prefix.

    Returns
    -------
    Dataset
        Mapped from the folder; `preparation` has counts of the log (`log`), and a report on the items (`items`).

    Raises
    ------
    UsageError
        If an option is unknown or out of range, or the folder has a data set.
    DataError
        If the source cannot be read.

    Warns
    -----
    DataWarning
        If something in the log looks wrong.
    """
    folder = Path(folder)
    refuse_existing_dataset(folder, overwrite)
    read = _clicks_reader(source, name, options) if format == "clicks" else _reader(format, source, name, options)
    _tell(progress, "reading", 0, _STEPS)
    dataset = read()
    if items is not None:
        dataset = with_items(dataset, items, item_options)
    _tell(progress, "writing", 1, _STEPS)
    dataset.save(folder, overwrite)
    _tell(progress, "written", _STEPS, _STEPS)
    _warn(dataset.preparation.get("log", {}).get("warnings", ()))
    return Dataset.load(folder)


def with_items(dataset: Dataset, source: Any, options: Mapping[str, Any]) -> Dataset:
    """Return the data set with an item table; source and options as `items` and `item_options` of `prepare`."""
    table, report = read_items(dataset.ids, source, options)
    preparation = {**dataset.preparation, "items": report.as_dict()}
    return dataclasses.replace(dataset, items=table, preparation=preparation)


def read_items(ids: ItemIds, source: Any, options: Mapping[str, Any]) -> tuple[ItemTable, ItemsReport]:
    """Read an item table for the items of a data set, and report on it; the other arguments as in `with_items`."""
    from mtaw_fast.items.readers import read_change

    change = read_change(source, ids.kind, **options)
    empty = ItemTable(len(ids), made=time.time_ns() // 1_000_000)
    table = change.applied(empty, ids.lookup, len(ids))
    return table, ItemsReport.of(change.frame, ids.lookup(change.frame.ids) >= 0, table)


def _clicks_reader(source: Any, name: str | None, options: dict[str, Any]) -> Callable[[], Dataset]:
    """Return what reads a click log; raises UsageError on a wrong option."""
    from mtaw_fast.data import readers

    known = [field.name for field in dataclasses.fields(readers.ClickOptions)]
    for option in options:
        if option not in known:
            raise UsageError(f"prepare: there is no option {option!r}; the options are {', '.join(known)}")
    if "types" in options:
        options["types"] = tuple(options["types"])
    return partial(readers.read, "clicks", source, options=readers.ClickOptions(**options), name=name)


def _reader(format: str, source: Any, name: str | None, options: dict[str, Any]) -> Callable[[], Dataset]:
    """Return what reads a format other than a click log; raises UsageError on a wrong option."""
    from mtaw_fast.data import readers

    for option in options:
        if option != "min_prefix":
            raise UsageError(f"prepare: option {option} works only with the format 'clicks'")
    return partial(readers.read, format, source, min_prefix=options.get("min_prefix"), name=name)


def train(
    dataset: Dataset | Folder,
    bundle: Folder,
    config: Config | str = DEFAULT_PRESET,
    *,
    resume: bool = False,
    overwrite: bool = False,
    refit: bool = True,
    device: str = "auto",
    threads: int | None = None,
    encoder_threads: int = 1,
    table_memory: float | None = None,
    budget_minutes: float = 90.0,
    planned: Callable[[Any], object] | None = None,
    progress: Progress | None = None,
    reporter: Any = None,
    group: Any = None,
) -> Bundle:
    """Train a model on a data set and write it as a bundle.

    Parameters
    ----------
    dataset : Dataset or path
        What `prepare` made.
    bundle : path
        The folder to write; BUNDLE.training next to it has the run.
    config : Config or str, default 'full'
        Settings, or the name of a preset.
    resume : bool, default False
        Whether to continue an interrupted training.
    overwrite : bool, default False
        Whether to replace the bundle and any earlier run.
    refit : bool, default True
        Whether to train on all sessions at the end, including the validation ones.
    device : str, default 'auto'
        'auto', 'cpu' or 'cuda'.
    threads : int, optional
        For the loss and the session memory; no result depends on it.
    encoder_threads : int, default 1
        For PyTorch in a step; another number rounds differently.
    table_memory : float, optional
        GB for building the session memory's tables, by default half of the free memory. If one pass may take more, they
        are built in ranges of items, with the same bits, and the log `mtaw_fast` has a line about it.
    budget_minutes : float, default 90
        Longest training with the full softmax, estimated from its first steps; a longer one samples the catalog
        (`loss.softmax`, 'auto'). Logs below 2 x 10^11 logits an epoch never sample.
    planned : callable, optional
        Called with the plan (`training.plan.plan.Plan`: softmax, phases, seconds, memory) before the training; by
        default its lines go to the log `mtaw_fast`.
    progress : callable, optional
        Called as progress(what, done, total) after every step, with the phase and epoch and the sessions of the epoch.
    reporter : training.reporting.Reporter, optional
        Receives every phase, epoch and loss, in addition to `progress`.
    group : training.group.Group, optional
        Processes that torchrun started; this one has rank 0, the others call `group.follow(dataset)`. `device` is
        ignored. After a restart by torchrun the training resumes.

    Returns
    -------
    Bundle
        Loaded from the folder.

    Raises
    ------
    UsageError
        If a setting or the device does not work, or a bundle or run exists already.
    TrainingError
        On a loss that is not finite.
    MissingPackageError
        Without the extra `train`.
    """
    require("torch", "train")
    bundle = Path(bundle)
    settings = preset(config) if isinstance(config, str) else config
    if group is not None and not group.leads:
        raise UsageError("train: this process is not rank 0 of its group; call group.follow(dataset) instead")
    if group is not None and group.resumes(run_folder_of(bundle)):
        resume = overwrite = True  # the existing files are of this training
    refuse_existing_bundle(bundle, overwrite)
    data = _opened(dataset)

    from mtaw_fast.training import train as train_model
    from mtaw_fast.training.reporting import Several
    from mtaw_fast.training.run_state import refuse_to_drop_finished

    run_folder = run_folder_of(bundle)
    if not (resume or overwrite):
        refuse_to_drop_finished(run_folder)
    reporters = [] if reporter is None else [reporter]
    if progress is not None:
        reporters.insert(0, _ProgressReporter(progress))
    trained = train_model(
        data,
        settings,
        run_folder,
        resume=resume,
        overwrite=overwrite,
        refit=refit,
        device=device,
        reporter=Several(reporters),
        threads=threads,
        encoder_threads=encoder_threads,
        table_memory=None if table_memory is None else round(table_memory * 1e9),
        group=group,
        budget_minutes=budget_minutes,
        planned=planned,
    )
    return trained.save(bundle, data, overwrite)


def evaluate(
    bundle: Recommender | Bundle | Folder,
    dataset: Dataset | Folder,
    *,
    split: Literal["test", "validation"] = "test",
    unseen: Literal["leave-out", "misses"] = "leave-out",
    weights: TypeWeights | None = None,
    baselines: bool = False,
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
    encoder, index : str, default 'auto'
        As in `Recommender.load`; for a bundle or path.
    progress : callable, optional
        Called as progress(what, done, total) with ranked samples.

    Returns
    -------
    Evaluation
        Its `metrics` are in percent; `str()` of it is a table.

    Raises
    ------
    UsageError
        If the split has no sample, or `unseen` or the weights do not fit the split or the data set's types.

    Warns
    -----
    DataWarning
        If the bundle was trained on another training part, has learned from logs since (with the share of the samples
        that it has seen), or has seen the validation sessions.
    """
    recommender = _recommender(bundle, encoder, index)
    data, model = _opened(dataset), recommender.bundle
    if unseen not in ("leave-out", "misses"):
        raise UsageError(f"evaluate: unseen must be 'leave-out' or 'misses', not {unseen!r}")
    if split not in ("test", "validation"):
        raise UsageError(f"evaluate: split must be 'test' or 'validation', not {split!r}")
    if unseen == "misses" and split != "test":
        raise UsageError("evaluate: training has seen all items of the validation sessions; leave --unseen out")
    if weights is not None and unseen == "misses":
        raise UsageError(
            "evaluate: weights do not work with unseen='misses', whose targets have no known types; leave one out"
        )
    fitted, samples = data.train, data.test
    if split == "validation" or baselines:  # only these need at least two training sessions
        known, held_out = data.train.split_last(model.config.optimizer.validation_fraction)
        remedy = ", or leave the baselines out" if split == "test" else ""
        check_prefixes(held_out.lengths, f"data set {_named(dataset, data)}: the validation prefixes", remedy)
    if split == "validation":
        fitted, samples = known, Samples.from_sessions(held_out, data.min_prefix)
    if len(samples) == 0:
        raise UsageError(f"{_named(dataset, data)} has no {split} samples; prepare it with a test part")
    missed = data.unseen if data.unseen is not None else np.empty(0, np.int32)
    log = data.preparation.get("log") if split == "test" else None
    if unseen == "misses" and log is None:
        raise UsageError(f"{_named(dataset, data)} has no list of targets that training never saw; prepare it again")
    counted = missed if unseen == "misses" else None

    seen = split == "validation" and bool(model.metrics.get("refit", True))
    lines = warnings_of(model, data, samples) if split == "test" else []
    if seen:
        lines.append("this bundle was refit on the validation sessions; train with --no-refit to measure on them")
    rankable = translated(_with_context_of(samples, data, model.model), data.ids, model.ids)
    counts = None if weights is None else _sample_weights(weights, data, samples)
    common: dict[str, Any] = {"unseen": counted, "type_names": data.type_names, "weights": counts}
    report = protocol.evaluate(recommender, rankable, progress=_named_progress(progress, "model"), **common)
    others: dict[str, Report] = {}
    if baselines:
        fitting = all_baselines.fit_baselines(fitted, known, held_out, data.min_prefix, data.n_items)
        for name, ranker in fitting.items():
            others[name] = protocol.evaluate(ranker, samples, progress=_named_progress(progress, name), **common)
    _warn(lines)
    return Evaluation(
        report=report,
        baselines=others,
        name=data.name,
        split=split,
        encoder=recommender.encoder.name,
        index=recommender.index.name,
        seen_in_training=seen,
        same_training_part=same_training_part(model, data),
        unseen_share=_unseen_share(log),
        unseen_targets=len(missed) if log is not None else 0,
        warnings=lines,
        weights={} if weights is None else parsed(weights, _WEIGHTS),
    )


def run_folder_of(bundle: Path) -> Path:
    """Return the run folder of a bundle's training."""
    target = bundle.resolve()  # '.' has no name of its own
    return target.with_name(target.name + ".training")


class _ProgressReporter:
    """A training Reporter that calls progress(what, done, total)."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._what, self._done, self._total = "", 0, 0

    def phase_starts(self, phase: str, number: int, phases: int) -> None: ...

    def epoch_starts(self, phase: str, epoch: int, epochs: int, sessions: int) -> None:
        self._what, self._done, self._total = f"{phase} {epoch}/{epochs}", 0, sessions
        self._progress(self._what, 0, sessions)

    def step_done(self, sessions: int, loss: float) -> None:  # noqa: ARG002 (as every Reporter)
        self._done += sessions
        self._progress(self._what, self._done, self._total)

    def epoch_ends(self, record: Mapping[str, Any]) -> None: ...


def _opened(dataset: Dataset | Folder) -> Dataset:
    return dataset if isinstance(dataset, Dataset) else Dataset.load(dataset)


def _recommender(
    bundle: Recommender | Bundle | Folder, encoder: EncoderName | str, index: IndexName | str
) -> Recommender:
    if isinstance(bundle, Recommender):
        return bundle
    return Recommender.load(bundle.folder if isinstance(bundle, Bundle) else bundle, encoder=encoder, index=index)


def _named(given: Dataset | Folder, dataset: Dataset) -> str:
    return dataset.name if isinstance(given, Dataset) else str(given)


def _with_context_of(samples: Samples, data: Dataset, model: Model) -> Samples:
    """Return the samples with their context in the model's codes, without any if either has none."""
    prefixes = samples.prefixes
    if prefixes.context is None:
        return samples
    codes = None
    if data.context is not None and model.context is not None:
        codes = translated_codes(prefixes.context, data.context, model.context.columns)
    return dataclasses.replace(samples, prefixes=dataclasses.replace(prefixes, context=codes))


def _sample_weights(weights: TypeWeights, data: Dataset, samples: Samples) -> np.ndarray:
    """float32[S]: weights of the samples by the types of their targets; raises UsageError if all are 0."""
    by_type = by_code(weights, data.type_names, _WEIGHTS)
    if by_type is None:
        return np.ones(len(samples), dtype=np.float32)
    if samples.target_types is None:
        raise UsageError(
            f"{_WEIGHTS}: the targets have no types in this split; prepare the data set with --type COLUMN"
        )
    counts = by_type[samples.target_types]
    if not counts.any():
        raise UsageError(f"{_WEIGHTS}: all samples have the weight 0; give a type of the targets a weight above 0")
    return counts


def _unseen_share(log: Mapping[str, Any] | None) -> float | None:
    if log is None or not log["test_clicks"]:
        return None
    return log["unseen_clicks"] / log["test_clicks"]


def _named_progress(progress: Progress | None, what: str) -> protocol.Progress | None:
    return None if progress is None else lambda done, total: _tell(progress, what, done, total)


def _tell(progress: Progress | None, what: str, done: int, total: int) -> None:
    if progress is not None:
        progress(what, done, total)


def _warn(lines: Any) -> None:
    for line in lines:
        warnings.warn(line, DataWarning, stacklevel=3)
