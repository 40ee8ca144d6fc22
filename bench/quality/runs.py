"""Training a finalist and scoring it through the path that serves."""

from __future__ import annotations

import dataclasses
import re
import shutil
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from bench.harness.records import finish, log_read
from bench.quality import records
from bench.quality.records import HELD_OUT, Finalist
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import read
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation import evaluate, ranks_of, report_of
from mtaw_fast.evaluation.baselines import fit_baselines
from mtaw_fast.evaluation.cooccurrence import CoOccurrence
from mtaw_fast.evaluation.metrics import gains_of, means_of
from mtaw_fast.recommender import Recommender
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.progress import Silent

FIRST_READ, CUT_OFF = "the finalist's one read", "the read before was cut off"
BASELINES = ("popularity", "own items, recent first", "own items, frequent first", "co-occurrence + repeats")


class ProgressLines(Silent):
    """A training reporter for a log: a line an epoch."""

    def epoch_ends(self, record: Mapping[str, Any]) -> None:
        """Print the epoch's line."""
        metrics = "".join(f"  {name} {value:.2f}" for name, value in record.items() if "@" in name)
        print(f"  {record['phase']} epoch {record['epoch']}: loss {record['loss']:.4f}{metrics}  "
              f"({record['seconds']:.1f} s)", file=sys.stderr, flush=True)  # fmt: skip


def prepared(data: Path, name: str, work: Path) -> Dataset:
    """Return the data set DATA/name (train.npz, test.npz), converted once into the work folder."""
    folder = work / f"{name}.dataset"
    if not (folder / "manifest.json").exists():
        read("npz", data / name, name=name).save(folder)
    return Dataset.load(folder)


def run(
    finalist: Finalist, base: Config, dataset: Dataset, results: Path, work: Path, again: str | None = None
) -> dict[str, Any]:
    """Train, evaluate and record a finalist; a finished record is returned unchanged.

    base: the preset's settings. results, work: folders of the records, and of running trainings. again: why to read the
    test set once more for a recorded finalist. Raises UsageError if the record has other data or defaults.
    """
    entry = records.records_in(results).entry(finalist.name)
    record = records.load(entry, finalist, dataset.fingerprint)
    if record is not None and "metrics" in record and again is None:
        return record
    if again is not None and (finalist.split != "test" or record is None):
        raise UsageError(f"--again is for a test set that was read before, and {entry} has no such read")
    config, split = finalist.config, finalist.split
    record = record or records.new_record(
        dataset, finalist.preset, split, changed=records.changed_settings(config, base), config=config.settings(),
        seed=config.optimizer.seed, protocol=finalist.protocol,
    )  # fmt: skip
    folder = work / finalist.name
    refit = split == "test" and finalist.protocol == HELD_OUT
    trained = train(dataset, config, folder / "run", resume=True, refit=refit, reporter=ProgressLines())
    trained.save(folder / "bundle", dataset, overwrite=True)
    if split == "test":
        # A run that is interrupted after this has read the test set: the next run is one more read.
        log_read(entry, record, again or (CUT_OFF if record["reads"] else FIRST_READ))
    measured = measure(folder / "bundle", trained, samples_of(dataset, split, config))
    finish(entry, {**record, **measured})
    shutil.rmtree(folder)
    return entry.read()


def samples_of(dataset: Dataset, split: str, config: Config) -> Samples:
    """Return the samples of a split; UsageError if there are none."""
    if split == "test":
        samples = dataset.test
    else:
        held_out = dataset.train.split_last(config.optimizer.validation_fraction)[1]
        samples = Samples.from_sessions(held_out, dataset.min_prefix)
    if len(samples) == 0:
        raise UsageError(f"data set {dataset.name} has no {split} samples")
    return samples


def measure(bundle: Path, trained: TrainedModel, samples: Samples) -> dict[str, Any]:
    """Return metrics, intervals and times of a bundle on samples, as plain JSON values."""
    recommender = Recommender.load(bundle)
    began = time.perf_counter()
    report = report_of(ranks_of(recommender, samples), samples)
    seconds = time.perf_counter() - began
    return {
        "metrics": dict(report.metrics),
        **{name: value for name, value in report.as_dict().items() if "@" not in name},
        "exclude_seen": new_items_only(recommender, samples),
        "training": trained.record(),
        "evaluation_seconds": round(seconds, 1),
        "encoder": recommender.encoder.name,
        "index": recommender.index.name,
    }


def new_items_only(recommender: Recommender, samples: Samples) -> dict[str, Any]:
    """Return the metrics on samples whose target is new to the session, without its own items in the ranking."""
    ranker: Any = SimpleNamespace(rank=partial(recommender.rank, exclude_seen=True))
    new_rows = np.flatnonzero(~samples.repeats())
    new_samples = Samples(samples.prefixes.select(new_rows), samples.targets[new_rows], samples.session[new_rows])
    metrics = means_of(gains_of(ranks_of(ranker, new_samples)))
    return {**{name: value for name, value in metrics.items() if value == value}, "samples": len(new_rows)}


def run_baselines(dataset: Dataset, split: str, results: Path) -> list[dict[str, Any]]:
    """Evaluate every baseline that is not recorded yet; returns all records.

    Co-occurrence is tuned on the validation samples; for the test it is then fitted on all training sessions.
    """
    config = Config()
    known, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    samples = samples_of(dataset, split, config)
    fitted = dataset.train if split == "test" else known
    recorded = []
    rankers = None
    for name in BASELINES:
        entry = records.records_in(results).entry(f"{dataset.name}-baseline-{re.sub('[^a-z]+', '-', name)}-{split}")
        earlier = entry.found()
        if earlier is not None:
            records.refuse_other_data(entry, earlier, dataset.fingerprint)
            if "metrics" in earlier:
                recorded.append(earlier)
                continue
        rankers = rankers or fit_baselines(fitted, known, held_out, dataset.min_prefix, dataset.n_items)
        record = earlier or records.new_record(dataset, name, split, changed={}, seed=None)
        if split == "test":
            log_read(entry, record, CUT_OFF if record["reads"] else FIRST_READ)
        if isinstance(ranker := rankers[name], CoOccurrence):
            record["settings"] = dataclasses.asdict(ranker.settings)
        report = evaluate(ranker, samples)
        measured = {name: value for name, value in report.as_dict().items() if "@" not in name}
        finish(entry, {**record, "metrics": dict(report.metrics), **measured})
        recorded.append(entry.read())
    return recorded
