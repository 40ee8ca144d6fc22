"""The phases from a log to a bundle. Each runs in a process of its own, on the files of the phases before it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.comparison import limit_threads
from bench.harness.peak_memory import in_new_process, restart_peak
from bench.large_log.log import LogSize, write_log
from mtaw_fast.config import Config, preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.clicks import ClickOptions
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.data.sessions import Samples
from mtaw_fast.memory import MemoryTables, RankerNet
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from mtaw_fast.system.memory_use import peak_memory

OPTIONS = ClickOptions(session="session", item="aid", time="ts", type="type", test_days=0.5)
_LIBRARIES = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")  # read as they load


@dataclass(frozen=True, slots=True)
class Setting:
    """What the phases share.

    folder: where log, data set and tables are. size: that of the log. memory: how many bytes building tables and trends
    may take. samples: how many samples the encoder trains on. ranked: how many test samples are ranked. ranker_samples:
    how many samples the ranker is fitted on, by default as many as in the preset.
    """

    folder: Path
    size: LogSize
    memory: int
    samples: int
    ranked: int
    ranker_samples: int = preset("full").ranker.ranker_samples


@dataclass(frozen=True, slots=True)
class Measured:
    """The measurements of a phase.

    seconds: elapsed. processor: processor seconds, all threads together. peak: largest resident bytes. facts: what the
    report says about the result.
    """

    seconds: float
    processor: float
    peak: int
    facts: Mapping[str, Any]


def log(setting: Setting) -> dict[str, Any]:
    """Write the missing pieces of the log."""
    return {"written": write_log(setting.folder / "log", setting.size), "pieces": setting.size.pieces}


def prepare(setting: Setting) -> dict[str, Any]:
    """Prepare the log in partitions."""
    folder = setting.folder / "log.dataset"
    prepare_in_partitions(setting.folder / "log", folder, OPTIONS, overwrite=True)
    dataset = Dataset.load(folder)
    clicks = dataset.train.n_clicks
    return {"clicks": clicks, "sessions": len(dataset.train), "items": dataset.n_items, "types": dataset.type_names}


def tables(setting: Setting) -> dict[str, Any]:
    """Build the session memory's tables of all training sessions, and keep them."""
    from mtaw_fast.memory.settings import MemorySettings

    dataset = _dataset(setting)
    memory = _table_memory(setting).build(dataset.train, dataset.n_items, MemorySettings(), 1)
    memory.save(setting.folder / "tables")
    return {"pairs": len(memory.neighbors), "mb": round(memory.n_bytes / 1e6)}


def trends(setting: Setting) -> dict[str, Any]:
    """Build the trends of all training sessions, and keep them."""
    from mtaw_fast.memory.trends import trend_settings

    dataset = _dataset(setting)
    trend_tables = _table_memory(setting).build_trends(
        dataset.train, dataset.n_items, trend_settings(config_of()), 1, ()
    )
    trend_tables.save(setting.folder / "trends")
    return {"pairs": len(trend_tables.neighbors), "mb": round(trend_tables.n_bytes / 1e6)}


def start(setting: Setting) -> dict[str, Any]:
    """Compute the encoder's initial weights, and keep them."""
    from mtaw_fast.model.mtaw import MTAW
    from mtaw_fast.training.encoder.initial_weights import initialize

    dataset = _dataset(setting)
    model = MTAW(config_of(), dataset.n_items)
    initialize(model, dataset.train)
    _keep_weights(setting, model)
    return {}


def encoder(setting: Setting) -> dict[str, Any]:
    """Train the encoder on some sessions, with the negatives drawn from the whole catalog and log."""
    import torch

    from mtaw_fast.model.mtaw import MTAW
    from mtaw_fast.training.steps.batch import sample_counts
    from mtaw_fast.training.steps.choice import make_stepper
    from mtaw_fast.training.steps.epoch import EpochBatches

    dataset, config = _dataset(setting), config_of()
    usable = dataset.train.without_times().keep_last(config.model.max_session_length + 1)
    counts = sample_counts(usable, dataset.min_prefix, config.loss.targets, None)
    order = np.random.default_rng(0).permutation(np.flatnonzero(counts))
    sample = order[: int(np.searchsorted(np.cumsum(counts[order]), setting.samples)) + 1]
    model = MTAW(config, dataset.n_items)
    with torch.no_grad():
        for name, values in map_tensors(setting.folder / "weights").items():
            model.get_parameter(name).copy_(torch.from_numpy(np.array(values)))
    stepper = make_stepper(model, config, usable)
    source = EpochBatches(config, usable.select(np.sort(sample)), dataset.min_prefix)
    batches = source.cut(0)
    began = time.process_time()
    losses = [stepper.step(stepper.stage(source.batch(numbers, stepper.input_device)), 1.0) for numbers in batches]
    stepped = time.process_time() - began
    stepper.end_epoch()
    _keep_weights(setting, model)
    return {
        "steps": len(batches), "samples": int(counts[sample].sum()), "samples_an_epoch": int(counts.sum()),
        "steps_s": round(stepped, 2), "loss": [round(float(np.mean(part)), 3) for part in np.array_split(losses, 4)],
    }  # fmt: skip


def ranker(setting: Setting) -> dict[str, Any]:
    """Train the ranker: tables and trends of the sessions before, the last ones learned, samples ranked, the fit."""
    from mtaw_fast.training.memory_tables import training_table_memory
    from mtaw_fast.training.ranker.last_sessions import split_for_ranker
    from mtaw_fast.training.ranker.side_inputs import SideInputs
    from mtaw_fast.training.ranker.train_ranker import fit_samples, ranker_samples
    from mtaw_fast.training.reporting import Silent

    dataset, config = _dataset(setting), config_of().replace(ranker_samples=setting.ranker_samples)
    weights = dict(map_tensors(setting.folder / "weights", "map"))
    with training_table_memory(_table_memory(setting)):
        samples = ranker_samples(
            config, dataset.train, dataset.n_items, dataset.min_prefix, weights, setting.folder, "ranker", Silent(),
            side=SideInputs.of(dataset, types=config.ranker.event_types),
        )  # fmt: skip
        net, _ = fit_samples(samples, config, "ranker", Silent())
    net.save(setting.folder / "ranker")
    learned = split_for_ranker(config, dataset.train)[1].n_clicks
    return {"ranker_samples": setting.ranker_samples, "learned": learned}


def validate(setting: Setting) -> dict[str, Any]:
    """Rank some test samples with the whole model, and keep it as a bundle."""
    from mtaw_fast.evaluation import report_of
    from mtaw_fast.model.model import Model
    from mtaw_fast.training.trained_model import served_ranks, with_types_for

    dataset, folder = _dataset(setting), setting.folder
    net = RankerNet.load(folder / "ranker")
    model = Model.of(
        config=config_of(),
        weights=dict(map_tensors(folder / "weights", "map")),
        ids=dataset.ids,
        popularity=np.bincount(dataset.train.items, minlength=dataset.n_items).astype(np.int64),
        memory=MemoryTables.load(folder / "tables"),
        ranker_net=net,
        clicked_at=dataset.train.times,
        trends=TrendTables.load(folder / "trends"),
        types=net.types.translated(dataset.train.types, dataset.type_names),
    )
    test = dataset.test
    rows = np.sort(np.random.default_rng(0).permutation(len(test))[: setting.ranked])
    assert test.target_times is not None
    samples = Samples(
        test.prefixes.select(rows), test.targets[rows], test.session[rows], test.target_times[rows],
        None if test.target_types is None else test.target_types[rows],
    )  # fmt: skip
    began = time.process_time()
    ranks = served_ranks(model, with_types_for(model, samples, dataset.type_names))
    ranked_s = time.process_time() - began
    held_out = dataset.train.split_last(config_of().optimizer.validation_fraction)[1]
    return {
        "ranked": len(samples), "ranked_s": round(ranked_s, 2),
        "validation_samples": int(np.maximum(held_out.lengths - dataset.min_prefix, 0).sum()),
        **{name: round(value, 2) for name, value in report_of(ranks, samples).metrics.items()},
    }  # fmt: skip


PHASES: dict[str, Callable[[Setting], dict[str, Any]]] = {
    phase.__name__: phase for phase in (log, prepare, tables, trends, start, encoder, ranker, validate)
}


def config_of() -> Config:
    """Return the settings of a large log's training: preset `full`, with samples of the catalog."""
    return preset("full").replace(softmax="sampled")


def measure(name: str, setting: Setting) -> Measured:
    """Run a phase in a new process. Raises MtawError with the reason if it fails or is killed."""
    outcome, tree = in_new_process(f"phase {name}", _measured, name, setting)
    seconds, processor, peak, facts = outcome
    return Measured(seconds, processor, max(tree, peak), facts)


def _measured(ready: Callable[[], None], name: str, setting: Setting) -> tuple[float, float, int, dict[str, Any]]:
    for library in _LIBRARIES:
        os.environ[library] = "1"
    with limit_threads(1):
        restart_peak()
        ready()
        began, cpu_began = time.perf_counter(), time.process_time()
        facts = PHASES[name](setting)
        return time.perf_counter() - began, time.process_time() - cpu_began, peak_memory(), facts


def _dataset(setting: Setting) -> Dataset:
    return Dataset.load(setting.folder / "log.dataset")


def _table_memory(setting: Setting) -> Any:
    from mtaw_fast.training.memory_tables import TableMemory

    return TableMemory(setting.memory, setting.folder)


def _keep_weights(setting: Setting, model: Any) -> None:
    arrays = {name: value.detach().numpy() for name, value in model.named_parameters()}
    write_tensors(setting.folder / "weights", arrays)
