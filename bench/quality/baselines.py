"""The baselines that nothing is trained for, recorded like a finalist."""

from __future__ import annotations

import re
from typing import Any

from bench.harness.records import finish, log_read
from bench.quality import records
from bench.quality.records import Finalist, Places
from bench.quality.runs import FIRST_READ, samples_of
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.evaluation import evaluate
from mtaw_fast.evaluation.baselines import fit_baselines

BASELINES = ("popularity", "own items, recent first", "own items, frequent first", "co-occurrence + repeats")


def run_baselines(dataset: Dataset, split: str, places: Places) -> list[dict[str, Any]]:
    """Evaluate every baseline that is not recorded yet; returns all records.

    Co-occurrence is tuned on the validation samples; for the test it is then fitted on all training sessions.
    """
    config = Config()
    known, held_out = dataset.train.split_last(config.optimizer.validation_fraction)
    samples = samples_of(dataset, Finalist(dataset.name, "baseline", config, split))
    fitted = dataset.train if split == "test" else known
    found = []
    rankers = None
    for name in BASELINES:
        path = places.results / f"{dataset.name}-baseline-{re.sub('[^a-z]+', '-', name)}-{split}.json"
        if path.exists():
            record = records.read_record(path)
            if "metrics" in record and record["dataset"]["fingerprint"] == dataset.fingerprint:
                found.append(record)
                continue
        rankers = rankers or fit_baselines(fitted, known, held_out, dataset.min_prefix, dataset.n_items)
        record = {
            "kind": records.KIND,
            "schema": records.SCHEMA,
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "preset": name,
            "changed": {},
            "seed": None,
            "split": split,
            "reads": [],
        }
        if split == "test":
            log_read(path, record, FIRST_READ)
        report = evaluate(rankers[name], samples)
        measured = {name: value for name, value in report.as_dict().items() if "@" not in name}
        finish(path, {**record, "metrics": dict(report.metrics), **measured})
        found.append(records.read_record(path))
    return found
