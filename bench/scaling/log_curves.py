"""Costs that grow with the log: preparing it, the memory's tables, the ranker's fit and the evaluation.

The log is a Parquet file of `mtaw_fast.data.synthetic_log`, with an item for every 100 clicks. Log, data set and tables
are made once for each size and kept in the folder for the later curves.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from bench.scaling.inputs import memory_model, random_ranker
from bench.scaling.point import Setting, Work
from mtaw_fast.config import preset
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.clicks import ClickOptions
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.data.sessions import Samples
from mtaw_fast.data.synthetic_log import write_click_log
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.settings import MemorySettings

_MEAN_LENGTH = 5.6  # clicks of a session, a bit more than the law gives
_ITEM = 100  # clicks for each item of the catalog
_TEST_DAYS = 1.0
_QUERIES = 4096
_SAMPLES = 2048
_D = 32  # the encoder's part depends on the catalog alone
_K = 20


def log_of(setting: Setting, ending: str = "parquet") -> Path:
    """Return the log of about `size` clicks, written if it does not exist."""
    path = setting.folder / f"log-{setting.size}.{ending}"
    if not path.exists():
        write_click_log(path, max(setting.size // _ITEM, 1000), int(setting.size / _MEAN_LENGTH), seed=0)
    return path


def prepare(setting: Setting) -> Work:
    """Time preparing the log as a data set in parts, on this process's threads."""
    return _preparing(setting, "parquet")


def prepare_csv(setting: Setting) -> Work:
    """Time the same from CSV."""
    return _preparing(setting, "csv")


def _preparing(setting: Setting, ending: str) -> Work:
    log, folder = log_of(setting, ending), _dataset(setting)

    def call(_: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        prepare_in_partitions(log, folder, ClickOptions(test_days=_TEST_DAYS))

    return Work(call, facts={"log_mb": round(log.stat().st_size / 1e6)})


def tables(setting: Setting) -> Work:
    """Time building the memory's tables as `train` does within its memory bound; the tables are kept."""
    from mtaw_fast.training.memory_tables import TableMemory

    folder, path = _prepared(setting), _tables(setting)
    built: list[MemoryTables] = []
    facts: dict[str, object] = {}

    def call(_: int) -> None:
        built.clear()
        dataset = Dataset.load(folder)
        bound = TableMemory(setting.table_memory, setting.folder)
        memory_tables = bound.build(dataset.train, dataset.n_items, MemorySettings(), setting.threads)
        facts.update(
            items=dataset.n_items, pairs=len(memory_tables.neighbors), tables_mb=round(memory_tables.n_bytes / 1e6)
        )
        built.append(memory_tables)

    return Work(call, after=lambda: built[0].save(path), facts=facts)


def ranker(setting: Setting) -> Work:
    """Time one epoch of the ranker's fit over 4,096 prefixes, with their candidates and features."""
    from mtaw_fast.training.ranker.candidates import PrefixCandidates, Prefixes
    from mtaw_fast.training.ranker.fitting import RankerFit, fit_ranker
    from mtaw_fast.training.reporting import Silent
    from mtaw_fast.training.threads import Threads, training_threads

    memory, config = _built(setting), preset("full")
    past = memory.sessions
    prefixes = Prefixes.of(past.slice(max(0, len(past) - _QUERIES), len(past)), 1)
    queries = min(_QUERIES, len(prefixes.targets))
    last_prefixes = Prefixes(
        prefixes.items, prefixes.begins[-queries:], prefixes.ends[-queries:], prefixes.targets[-queries:]
    )

    def call(number: int) -> None:
        with training_threads(Threads.of(setting.threads)):
            candidates = PrefixCandidates(config, memory, None, last_prefixes)
            fit_ranker(
                candidates,
                last_prefixes.targets,
                last_prefixes.lengths,
                RankerFit(1, config.ranker.ranker_lr),
                number,
                "ranker",
                Silent(),
            )

    return Work(call, per=queries)


def evaluate(setting: Setting) -> Work:
    """Time ranking test samples through the path that serves, with memory and ranker."""
    from mtaw_fast.training.trained_model import served_ranks

    memory, dataset = _built(setting), Dataset.load(_prepared(setting))
    rows = np.sort(np.random.default_rng(0).permutation(len(dataset.test))[:_SAMPLES])
    test = dataset.test
    samples = Samples(test.prefixes.select(rows).without_times(), test.targets[rows], test.session[rows])
    model = memory_model(memory, dataset.n_items, _D, random_ranker())
    return Work(lambda _: served_ranks(model, samples), per=len(samples))


def _dataset(setting: Setting) -> Path:
    return setting.folder / f"log-{setting.size}.dataset"


def _tables(setting: Setting) -> Path:
    return setting.folder / f"log-{setting.size}.tables"


def _prepared(setting: Setting) -> Path:
    if not (_dataset(setting) / "manifest.json").exists():
        prepare(setting).call(0)
    return _dataset(setting)


def _built(setting: Setting) -> MemoryTables:
    if not _tables(setting).exists():
        work = tables(setting)
        work.call(0)
        assert work.after is not None
        work.after()
    return MemoryTables.load(_tables(setting))
