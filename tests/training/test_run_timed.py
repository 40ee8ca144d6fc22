"""A training on clicks with times, its bundle, and what the next hours' log does to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickStream
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.kernels.native.memory_query import feature_names
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogEvents, LogFile, UpdateSummary, apply_log, log_limits
from mtaw_fast.online.replay import ReplaySettings, replay
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.refit import refit_encoder, refit_ranker
from mtaw_fast.training.trained_model import served_metrics
from tests.support.training.timed import A_SHIFT, HOUR, START, shifting_dataset, shifting_sessions

CONFIG = Config.of(
    embedding_dim=8, epochs=1, batch_prefixes=64, lr=3e-2, validation_fraction=0.1,
    enabled=True, targets="new", ranker_fraction=0.4, recent_weight=2.0,
    ranker_epochs=3, dense_candidates=10, cooccurrence_candidates=20, trend_candidates=20, prequential_chunk=32,
)  # fmt: skip
KNOWN_HOURS = 5
LIMITS = log_limits()


def dataset() -> Dataset:
    return shifting_dataset(count=300, hours=KNOWN_HOURS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return train(dataset(), CONFIG, tmp_path_factory.mktemp("timed"), refit=False)


def stream_of(sessions: Sessions) -> ClickStream:
    assert sessions.times is not None
    owner = np.repeat(np.arange(len(sessions), dtype=np.int32), sessions.lengths)
    order = np.argsort(sessions.times, kind="stable")
    names = [f"s{number}" for number in range(len(sessions))]
    items = list(range(int(sessions.items.max()) + 1))
    return ClickStream(owner[order], sessions.items[order], sessions.times[order], None, names, items)


def next_hours() -> Sessions:
    """Two hours after the training's; their items are new."""
    return shifting_sessions(80, 7, KNOWN_HOURS + 2, float(KNOWN_HOURS))


@pytest.fixture(scope="module")
def updated(trained: TrainedModel) -> tuple[Model, UpdateSummary]:
    return apply_log(LogFile.of(stream_of(next_hours()), trained.model), LIMITS)


def test_the_ranker_reads_trends_of_all_sessions(trained: TrainedModel) -> None:
    model = trained.model
    assert model.ranker_net is not None
    assert model.trends is not None
    assert model.ranker_net.features == feature_names(trends=True)
    known = dataset().train.split_last(CONFIG.optimizer.validation_fraction)[0]
    assert known.times is not None
    assert model.clicked_at is not None
    assert np.array_equal(model.clicked_at, known.times)
    built = TrendTables.build(known, known.times, dataset().n_items, model.trends.settings)
    assert all(np.array_equal(array, model.trends.arrays()[name]) for name, array in built.arrays().items())
    assert trained.metrics["P@20"] > 60


def test_without_trends_the_ranker_has_the_features_of_the_memory(tmp_path: Path) -> None:
    config = CONFIG.replace(trends=False, ranker_epochs=1, dense_candidates=0)
    model = train(dataset(), config, tmp_path, refit=False).model
    assert model.trends is None
    assert model.ranker_net is not None
    assert model.ranker_net.features == feature_names()
    assert model.clicked_at is not None


def test_a_bundle_keeps_times_and_trends_and_ranks_alike(trained: TrainedModel, tmp_path: Path) -> None:
    bundle = trained.save(tmp_path / "bundle", dataset())
    loaded = Bundle.load(tmp_path / "bundle")
    assert loaded.dataset["reader"] == dict(dataset().reader)
    assert loaded.dataset["min_prefix"] == 1
    samples = dataset().test
    assert served_metrics(loaded.model, samples) == served_metrics(trained.model, samples)
    assert loaded.model.clicked_at is not None
    assert loaded.model.learned_until == trained.model.learned_until
    without = Samples(samples.prefixes.without_times(), samples.targets, samples.session)
    assert served_metrics(bundle.model, without)["P@20"] > 0


def test_an_update_builds_the_trends_of_all_clicks(trained: TrainedModel, updated: tuple[Model, UpdateSummary]) -> None:
    model, summary = updated
    assert summary.new_items == 2 * A_SHIFT
    assert model.trends is not None
    assert model.clicked_at is not None
    assert summary.learned_sessions == len(next_hours())
    built = TrendTables.build(model.sessions, model.clicked_at, model.n_items, model.trends.settings)
    assert all(np.array_equal(array, model.trends.arrays()[name]) for name, array in built.arrays().items())
    log = LogFile.of(stream_of(next_hours()), trained.model)
    state = OnlineState(trained.model, LIMITS)
    for entries in LogEvents(log).chunks():
        state.apply(entries)
    assert state.trends is not None
    now = START + (KNOWN_HOURS + 2) * HOUR
    everything = np.arange(model.n_items, dtype=np.int32)
    # The delta's sums are float64, the tables' float32.
    fresh = model.trends.live(model.n_items).counts(everything, now)
    assert np.allclose(state.trends.counts(everything, now), fresh, rtol=1e-4, atol=1e-6)


def test_refits_go_on_with_what_came(
    trained: TrainedModel, updated: tuple[Model, UpdateSummary], tmp_path: Path
) -> None:
    model, summary = updated
    refitted, history = refit_ranker(model, trained.model, summary.learned_sessions, 1, tmp_path, Silent())
    assert refitted.ranker_net is not None
    assert model.ranker_net is not None
    assert not np.array_equal(refitted.ranker_net.w1, model.ranker_net.w1)
    assert np.array_equal(refitted.ranker_net.mean, model.ranker_net.mean)
    assert history[-1]["loss"] < history[0]["loss"]
    whole, records = refit_encoder(refitted, 1, tmp_path, torch.device("cpu"), Silent())
    assert [record["epoch"] for record in records] == [1]
    assert model.log_progress is not None
    assert whole.log_progress is not None
    assert len(model.log_progress.untrained) == 2 * A_SHIFT
    assert len(whole.log_progress.untrained) == 0
    assert not np.array_equal(whole.weights["item_embedding"], model.weights["item_embedding"])
    assert whole.ranker_net is refitted.ranker_net
    assert list(tmp_path.iterdir()) == []
    Bundle.save(tmp_path / "bundle", whole, metrics={}, dataset={"name": "x", "fingerprint": "y"})


def test_what_learns_keeps_up_with_a_log_that_moves_on(trained: TrainedModel) -> None:
    log = LogFile.of(stream_of(next_hours()), trained.model)
    report = replay(log, ReplaySettings(every=10_000), LIMITS).as_dict()
    assert report["samples"] == next_hours().n_clicks - len(next_hours())
    assert report["frozen"]["P@20"] < 15
    assert report["learning"]["P@20"] > 75
