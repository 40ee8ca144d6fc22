"""From a click log to an evaluated bundle in three calls. The commands of the same names give the same bits."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from mtaw_fast.assessment import compare as compare
from mtaw_fast.assessment import evaluate as evaluate
from mtaw_fast.assessment.inputs import dataset_of, warn
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle import refuse_existing as refuse_existing_bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.bundle.format import TRAINED, trained_at
from mtaw_fast.config import DEFAULT_PRESET, Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.dataset import refuse_existing as refuse_existing_dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers import bot_rule, read_stream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError, nearest, require
from mtaw_fast.items import ItemsReport, ItemTable
from mtaw_fast.items.new_rows import with_new
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogFile, UpdateSummary, apply_log, log_limits
from mtaw_fast.online.compaction.compactor import REPEATS
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.storage.tensor_file import write_tensors
from mtaw_fast.system.cpus import usable_cpus

Folder = str | os.PathLike[str]
Progress = Callable[[str, int, int], object]
LogFormat = Literal["clicks", "npz", "pickle", "retailrocket", "tmall"]
_STEPS = 2  # of prepare
_UPDATE_KEEPS = ("grown_from", "position", REPEATS)  # manifest keys that an update keeps


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
    before: Bundle | None = None,
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
        Its `id`, `kinds`, `public` and `availability`, as in `Recommender.set_items`, and `new_since`, the column of
        dates that says which rows are new.
    before : Bundle, optional
        Without `new_since`, the rows that this bundle's table did not have are new.
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
    _report_progress(progress, "reading", 0, _STEPS)
    dataset = read()
    if items is not None:
        dataset = with_items(dataset, items, item_options, before)
    _report_progress(progress, "writing", 1, _STEPS)
    dataset.save(folder, overwrite)
    _report_progress(progress, "written", _STEPS, _STEPS)
    warn(dataset.preparation.get("log", {}).get("warnings", ()))
    return Dataset.load(folder)


def with_items(dataset: Dataset, source: Any, options: Mapping[str, Any], before: Bundle | None = None) -> Dataset:
    """Return the data set with an item table; source, options and before as in `prepare`."""
    table, report = read_items(dataset.ids, source, options, [dataset.train], before)
    preparation = {**dataset.preparation, "items": report.as_dict()}
    return dataclasses.replace(dataset, items=table, preparation=preparation)


def read_items(
    ids: ItemIds,
    source: Any,
    options: Mapping[str, Any],
    train: Sequence[Sessions],
    before: Bundle | None = None,
) -> tuple[ItemTable, ItemsReport]:
    """Read an item table for the items and training sessions of a data set; the other arguments as in `with_items`."""
    from mtaw_fast.items.readers import read_change

    change = read_change(source, ids.kind, **options)
    empty = ItemTable(len(ids), made=time.time_ns() // 1_000_000)
    ends = [int(part.times.max()) for part in train if part.times is not None and len(part.times)]
    table = with_new(
        change.applied(empty, ids.lookup, len(ids)), max(ends, default=None),
        None if before is None else before.items, None if before is None else before.ids.lookup,
    )  # fmt: skip
    return table, ItemsReport.of(change.frame, ids.lookup(change.frame.ids) >= 0, table)


def change_items(
    bundle: Bundle | Folder, source: Any, *, mode: Literal["replace", "patch"] = "replace", **options: Any
) -> ItemsReport:
    """Replace or patch the item table of a bundle in its folder; a service that serves it loads it again.

    Parameters
    ----------
    bundle : Bundle or path
        Whose table to change.
    source : path or frame
        As `items` of `prepare`.
    mode : {'replace', 'patch'}, default 'replace'
        'patch' changes only the given rows and columns.
    **options
        As `item_options` of `prepare`.

    Returns what is missing or odd. Raises DataError on a value, an id or a kind that does not fit, UsageError on a
    wrong option, BundleError if the bundle was changed meanwhile.
    """
    from mtaw_fast.items.readers import read_change

    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    change = read_change(source, bundle.ids.kind, mode, before=bundle.items, **options)
    old_table = bundle.items or ItemTable(bundle.n_items)
    table = change.applied(old_table, bundle.ids.lookup, bundle.n_items)
    table = dataclasses.replace(table, made=max(time.time_ns() // 1_000_000, old_table.made + 1))
    table = with_new(table, bundle.model.learned_until, bundle.items)

    addition = Addition("safetensors", lambda path: write_tensors(path, table.arrays()))
    replace_parts(bundle.folder, bundle.manifest, {"item_table": addition}, {})
    return ItemsReport.of(change.frame, bundle.ids.lookup(change.frame.ids) >= 0, table, bundle.items)


def _clicks_reader(source: Any, name: str | None, options: dict[str, Any]) -> Callable[[], Dataset]:
    """Return what reads a click log; raises UsageError on a wrong option."""
    from mtaw_fast.data import readers

    names = [field.name for field in dataclasses.fields(readers.ClickOptions)]
    for option in options:
        if option not in names:
            hint = nearest(option, names) or f"; the options are {', '.join(names)}"
            raise UsageError(f"prepare: there is no option {option!r}{hint}")
    if not isinstance(options.get("types", ""), str):  # a text is refused with the options
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
        GB for building the session memory's tables, and its trends, by default half of the free memory. If one pass may
        take more, they are built in ranges of items, with the same bits, and the log `mtaw_fast` has a line about it.
    budget_minutes : float, default 90
        Longest training with the full softmax, estimated from its first steps; a longer one samples the catalog
        (`loss.softmax`, 'auto'). Logs below 2 x 10^11 logits an epoch never sample.
    planned : callable, optional
        Called with the plan (`training.plan.plan.Plan`: softmax, phases, seconds, memory) before the training; by
        default its lines go to the log `mtaw_fast`.
    progress : callable, optional
        Called as progress(what, done, total) after every step, with the phase and epoch and the sessions of the epoch.
    reporter : training.progress.Reporter, optional
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
    data = dataset_of(dataset)

    from mtaw_fast.training import train as train_model
    from mtaw_fast.training.progress import Several
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


@dataclasses.dataclass(frozen=True, slots=True)
class Updated:
    """The result of `update`: the new bundle, what it learned, and of the refit a record an epoch, and its seconds."""

    bundle: Bundle
    summary: UpdateSummary
    history: list[dict[str, Any]]
    refit_seconds: float


def update(
    bundle: Bundle | Folder,
    log: Any,
    *,
    out: Folder | None = None,
    refit: Literal["ranker", "all"] | None = None,
    device: str = "cpu",
    limits: LearningLimits | None = None,
    forget: Sequence[str] = (),
    reporter: Any = None,
) -> Updated:
    """Add the sessions, items and counts of a log to a bundle. Clicks that it learned before are not learned twice.

    Parameters
    ----------
    bundle : Bundle or path
        What to add to.
    log : path, URL or frame
        As `source` of `prepare`; read as the bundle's data set was.
    out : path, optional
        The folder to write, which may hold a bundle; by default the bundle's own.
    refit : {'ranker', 'all'}, optional
        Also train the ranker, or ranker and encoder, on the new sessions.
    device : str, default 'cpu'
        Of refit='all'.
    limits : LearningLimits, optional
        Bounds on bots and new items.
    forget : sequence of str
        Ids of sessions to remove, as far as updates or learning added them.
    reporter : training.progress.Reporter, optional
        Receives every epoch of a refit.

    Returns
    -------
    Updated

    Raises
    ------
    UsageError
        If the bundle does not learn, or there is no new session to refit with.
    DataError
        If the log cannot be read.
    """
    bundle = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
    if refit:
        require("torch", "train")
        from mtaw_fast.training.refit import refuse_weights
        from mtaw_fast.training.run import device_of

        refuse_weights(bundle.config)  # before the log is read
        if refit == "all":
            device_of(device)
    limits = log_limits(limits)
    read = log_of(bundle, log, limits)
    model, summary = apply_log(read, limits, threads=usable_cpus(), forget=forget)
    began, history = time.perf_counter(), list[dict[str, Any]]()
    folder = bundle.folder if out is None else Path(out)
    if refit:
        model, history = _refitted(bundle, model, summary, refit, device, folder, reporter)
    refit_seconds = time.perf_counter() - began if refit else 0.0
    about = {name: bundle.manifest[name] for name in _UPDATE_KEEPS if name in bundle.manifest}
    if not refit and (trained := trained_at(bundle.manifest)):
        about[TRAINED] = trained
    updated = Bundle.save(
        folder, model, metrics=bundle.metrics, dataset=bundle.dataset, overwrite=True, about=about,
        instead_of=bundle if out is None else None,
    )  # fmt: skip
    return Updated(updated, summary, history, refit_seconds)


def log_of(bundle: Bundle, log: Any, limits: LearningLimits) -> LogFile:
    """Read a log with the reader that the bundle's data set was made with.

    Raises UsageError if the bundle does not name its reader, or cannot learn.
    """
    reader = bundle.dataset.get("reader")
    if not isinstance(reader, dict) or not reader:
        raise UsageError(
            f"the bundle {bundle.folder} does not say how to read a log, because its data set was not made by "
            "'prepare'; prepare and train again"
        )
    rule = bot_rule(reader, burst_clicks=limits.burst_clicks, burst_ms=limits.burst_ms)
    bundle.check_learns()
    return LogFile.of(read_stream(log, reader), bundle.model, rule)


def min_prefix_of(bundle: Bundle) -> int:
    """Return the length of the shortest prefix that counts as a sample."""
    min_prefix = bundle.dataset.get("min_prefix", 1)
    return min_prefix if type(min_prefix) is int and min_prefix >= 1 else 1


def _refitted(
    bundle: Bundle, model: Model, summary: UpdateSummary, refit: str, device: str, folder: Path, reporter: Any
) -> tuple[Model, list[dict[str, Any]]]:
    """Return the model trained on the new sessions, and the records of the epochs."""
    from mtaw_fast.training.progress import Silent
    from mtaw_fast.training.refit import refit_encoder, refit_ranker
    from mtaw_fast.training.run import device_of

    if not summary.learned_sessions:
        raise UsageError("the log has no new session, so there is nothing to refit with; leave --refit out")
    min_prefix, scratch, reporter = min_prefix_of(bundle), folder.resolve().parent, reporter or Silent()
    # The ranker first: its examples need an encoder that has not seen the new sessions.
    model, history = refit_ranker(model, bundle.model, summary.learned_sessions, min_prefix, scratch, reporter)
    if refit == "all":
        model, records = refit_encoder(model, min_prefix, scratch, device_of(device), reporter)
        history += records
    return model, history


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


def _report_progress(progress: Progress | None, step: str, done: int, total: int) -> None:
    if progress is not None:
        progress(step, done, total)
