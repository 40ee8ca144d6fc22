"""A training with context and an item table: its ranker, its bundle, and what learns from a log with context."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickStream
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.items import ItemTable
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogEvents, LogFile, apply_log
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.replay import ReplaySettings, replay
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.plan import estimate, first_steps
from mtaw_fast.training.ranker.prequential import build_dataset
from mtaw_fast.training.ranker.side_inputs import SideInputs
from mtaw_fast.training.trained_model import served_metrics
from tests.support.scoring.command import score
from tests.support.scoring.inputs import read_scores, write_sessions
from tests.support.training.timed import A_SHIFT, HOUR, START, shifting_dataset, shifting_sessions
from tests.training.test_run_timed import CONFIG, LIMITS, stream_of

HOURS = 5
COLUMNS = ContextColumns(("referrer", "region"), (("search", "direct", "mail"), ("n", "s")))


def with_context(sessions: Sessions, seed: int) -> Sessions:
    """Each visit has a region; its referrer says on which item of the hour it begins, so it says much."""
    rng = np.random.default_rng(seed)
    first = np.repeat(sessions.items[sessions.offsets[:-1]] % 3, sessions.lengths)
    region = np.repeat(rng.integers(0, 4, len(sessions)), sessions.lengths)
    return replace(sessions, context=np.stack([first + 2, region], axis=1).astype(np.uint16))


def items_of(count: int) -> ItemTable:
    ids = list(range(count))
    frame = ItemFrame.of(
        {
            "id": ids,
            "category": [None if i % 7 == 0 else f"c{i % 3}" for i in ids],
            "made": [START + i // A_SHIFT * HOUR for i in ids],
        },
        kinds={"made": "time", "category": "category"},
    )
    return ItemTable(0).replaced(frame, np.arange(count), count)


def dataset() -> Dataset:
    plain = shifting_dataset(count=300, hours=HOURS)
    prefixes = with_context(plain.test.prefixes, 4)
    return replace(
        plain,
        train=with_context(plain.train, 3),
        test=Samples(prefixes, plain.test.targets, plain.test.session, plain.test.target_times),
        context=COLUMNS,
        items=items_of(plain.n_items),
    )


def next_stream() -> ClickStream:
    sessions = with_context(shifting_sessions(80, 7, HOURS + 2, float(HOURS)), 5)
    plain = stream_of(sessions)
    assert sessions.times is not None
    assert sessions.context is not None
    order = np.argsort(sessions.times, kind="stable")
    return replace(plain, context=sessions.context[order], context_columns=COLUMNS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return train(dataset(), CONFIG, tmp_path_factory.mktemp("side"), refit=False)


@pytest.fixture(scope="module")
def folder(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    trained.save(folder, dataset())
    return folder


def test_the_ranker_reads_context_and_content(trained: TrainedModel) -> None:
    model = trained.model
    assert model.ranker_net is not None
    side = model.ranker_net.side
    assert (side.context, side.categories, side.created) == (("referrer", "region"), ("category",), "made")
    assert model.context is not None
    known = dataset().train.split_last(CONFIG.optimizer.validation_fraction)[0]
    np.testing.assert_array_equal(model.context.codes, known.context)
    assert set(side.names) <= set(trained.feature_importance["features"])
    columns = [model.ranker_net.features.index(name) for name in side.names]
    assert (np.abs(model.ranker_net.w1[columns]).max(axis=1) > 0).all()


def test_excluded_features_count_for_nothing(tmp_path: Path) -> None:
    config = CONFIG.replace(excluded_features="c_share_referrer, i_age_made", ranker_epochs=1, dense_candidates=0)
    net = train(dataset(), config, tmp_path / "run", refit=False).model.ranker_net
    assert net is not None
    for name in ("c_share_referrer", "i_age_made"):
        assert net.scale[net.features.index(name)] == 0
    with pytest.raises(UsageError, match="there is no feature 'c_share_device'"):
        train(dataset(), CONFIG.replace(excluded_features="c_share_device"), tmp_path / "other", refit=False)


def test_a_bundle_keeps_them_and_ranks_alike(trained: TrainedModel, folder: Path) -> None:
    model, loaded = trained.model, Bundle.load(folder).model
    assert loaded.context is not None
    assert model.context is not None
    assert loaded.context.columns.values == COLUMNS.values
    np.testing.assert_array_equal(loaded.context.codes, model.context.codes)
    assert loaded.trends is not None
    assert loaded.trends.context_sizes == COLUMNS.sizes
    samples = dataset().test
    assert served_metrics(loaded, samples) == served_metrics(model, samples)


def test_the_context_of_a_request_changes_its_ranking(folder: Path) -> None:
    rec, now = Recommender.load(folder), START + HOURS * HOUR
    plain = rec.recommend([33], k=9, at=now)
    others = [
        rec.recommend([33], k=9, at=now, context={"referrer": referrer}) for referrer in ("search", "direct", "mail")
    ]
    assert len({tuple(out.scores.tolist()) for out in (plain, *others)}) == 4
    assert rec.recommend([33], k=9, at=now, context={}).scores.tolist() == plain.scores.tolist()
    assert rec.recommend([33], k=9, at=now, context={"referrer": None}).scores.tolist() == plain.scores.tolist()
    unknown = [
        rec.recommend([33], k=9, at=now, context={"referrer": referrer}).scores.tolist()
        for referrer in ("new", "other")
    ]
    assert unknown[0] == unknown[1]
    visit = rec.session([33]).recommend(k=9, at=now, context={"referrer": "mail"})
    assert visit.scores.tolist() == others[2].scores.tolist()
    batch = rec.recommend_batch([[33], [34]], k=9, at=now, context={"referrer": "mail"})
    assert batch[0].scores.tolist() == others[2].scores.tolist()
    with pytest.raises(UsageError, match="'device' is not a context column"):
        rec.recommend([33], context={"device": "phone"})


def test_scores_read_the_context_of_each_session(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [("a", [33]), ("b", [33]), ("c", [33, 999]), ("d", []), ("e", [34])]
    referrer, region = ["mail", None, "search", "mail", "never seen"], [0, 1, 2, 3, 4]
    write_sessions(tmp_path / "in.parquet", rows, referrer=referrer, region=region, device=[1.5] * 5)
    now = START + HOURS * HOUR
    assert score(folder, tmp_path / "in.parquet", tmp_path / "out", "-k", 9, "--at", now) == 0
    rec = Recommender.load(folder)
    for (_, items, scores), (_, session), row_referrer, row_region in zip(
        read_scores(tmp_path / "out"), rows, referrer, region, strict=True
    ):
        out = rec.recommend(session, k=9, at=now, context={"referrer": row_referrer, "region": row_region})
        assert items == out.items
        assert scores == out.scores.tolist()
    write_sessions(tmp_path / "wrong.parquet", rows, referrer=[1.5] * 5)
    assert score(folder, tmp_path / "wrong.parquet", tmp_path / "other") == 1


def test_the_plan_times_the_side_features(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr(estimate, "TIMED_FROM", 1)

    def build(*given: Any, side: SideInputs, **more: Any) -> Any:
        seen.append(side.features.names)
        return build_dataset(*given, side=side, **more)

    monkeypatch.setattr(first_steps, "build_dataset", build)
    plan = estimate.plan_training(dataset(), CONFIG, folder=tmp_path)
    assert len(seen) == 3
    assert all(len(names) == 7 for names in seen)
    assert all(phase.seconds is not None for phase in plan.phases)


def events(stream: ClickStream, model: Model) -> list[LogEntry]:
    return [event for chunk in LogEvents(LogFile.of(stream, model)).chunks() for event in chunk]


def test_an_update_counts_the_context_of_all_clicks(trained: TrainedModel) -> None:
    model, _ = apply_log(LogFile.of(next_stream(), trained.model), LIMITS)
    assert model.trends is not None
    assert model.clicked_at is not None
    assert model.context is not None
    assert model.context.codes[-200:].any(axis=1).all()
    built = TrendTables.build(
        model.sessions, model.clicked_at, model.n_items, model.trends.settings, context_sizes=COLUMNS.sizes
    )
    assert all(np.array_equal(array, model.trends.arrays()[name]) for name, array in built.arrays().items())
    state, now = OnlineState(trained.model, LIMITS), START + (HOURS + 2) * HOUR
    state.apply(events(next_stream(), trained.model))
    assert state.trends is not None
    live = model.trends.live(model.n_items)
    for item in range(model.n_items):
        np.testing.assert_allclose(state.trends.context(item, now), live.context(item, now), rtol=1e-3, atol=0.02)


def test_forgetting_removes_the_context_of_clicks(trained: TrainedModel) -> None:
    """From the live sums at once; after a compaction the model equals one that never saw the visit, to the bit."""
    limits, model = LearningLimits(session_gap=HOUR), trained.model
    clicks = [
        Click(f"v{n % 6}", int(HOURS - 1) * A_SHIFT + n % A_SHIFT, START + HOURS * HOUR + n * 60_000,
              context={"referrer": ("mail", "never seen")[n % 2], "region": "s"})
        for n in range(30)
    ]  # fmt: skip
    now = START + (HOURS + 1) * HOUR
    seen, clean = OnlineState(model, limits), OnlineState(model, limits)
    seen.apply([LogEntry(click, f"{place:04}") for place, click in enumerate(clicks)])
    seen.apply([LogEntry(Forget("v3", now), "0100")])
    without = [LogEntry(click, f"{place:04}") for place, click in enumerate(clicks) if click.session != "v3"]
    clean.apply(without)
    assert seen.trends is not None
    assert clean.trends is not None
    for item in range(model.n_items):
        np.testing.assert_allclose(seen.trends.context(item, now), clean.trends.context(item, now), atol=1e-6)
    events: list[Event] = [*clicks, Forget("v3", now)]
    whole = [LogEntry(event, f"{place:04}") for place, event in enumerate(events)]
    forgotten = compact_model(model, "log", [whole], limits, all_over=True)
    other = compact_model(model, "log", [without], limits, all_over=True)
    assert forgotten.context is not None
    assert other.context is not None
    assert forgotten.trends is not None
    assert other.trends is not None
    np.testing.assert_array_equal(forgotten.context.codes, other.context.codes)
    for name, array in other.trends.arrays().items():
        np.testing.assert_array_equal(forgotten.trends.arrays()[name], array, err_msg=name)


def test_open_sessions_are_carried_with_their_context(trained: TrainedModel) -> None:
    """A compaction while visits are open, and one after all of them, give the same tables."""
    limits, model = LearningLimits(session_gap=HOUR), trained.model
    clicks = [
        Click(f"v{n % 5}", n % 40, START + HOURS * HOUR + n * 60_000, context={"referrer": ("mail", "odd")[n % 2]})
        for n in range(40)
    ]
    entries = [LogEntry(click, f"{place:04}") for place, click in enumerate(clicks)]
    at_once = compact_model(model, "log", [entries], limits, all_over=True)
    half = compact_model(model, "log", [entries[:20]], limits)
    assert half.log_progress is not None
    assert len(half.log_progress.carried)
    later = compact_model(half, "log", [entries[20:]], limits, all_over=True)
    assert at_once.context is not None
    assert later.context is not None
    np.testing.assert_array_equal(later.context.codes, at_once.context.codes)


def test_a_replay_ranks_with_the_context_of_the_visit(trained: TrainedModel) -> None:
    log = LogFile.of(next_stream(), trained.model)
    with_it = replay(log, ReplaySettings(every=10_000), LIMITS)
    without = replay(LogFile.of(replace(next_stream(), context=None, context_columns=None), trained.model),
                     ReplaySettings(every=10_000), LIMITS)  # fmt: skip
    assert not np.array_equal(with_it.ranks["learning"], without.ranks["learning"])
    assert with_it.as_dict()["learning"]["P@20"] > 70


def test_parts_that_do_not_belong_together(trained: TrainedModel) -> None:
    model = trained.model
    assert model.context is not None
    for wrong in (None, replace(model.context, codes=model.context.codes[1:])):
        with pytest.raises(BundleError, match="context"):
            replace(model, context=wrong).check("bundle")
