"""A training with times, context, types of clicks and an item table: its ranker, its bundle, what learns from a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mtaw_fast import Recommender
from mtaw_fast.assessment.inputs import rankable_by
from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.context import ContextColumns
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers import ClickStream
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.export.onnx_model import export_onnx
from mtaw_fast.items import ItemTable
from mtaw_fast.items.frame import ItemFrame
from mtaw_fast.kernels.native.memory_query import NO_TYPE, feature_names
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogEvents, LogFile, UpdateSummary, apply_log, log_limits
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click, Event, Forget
from mtaw_fast.online.replay import ReplaySettings, replay
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.refit import refit_encoder, refit_ranker
from mtaw_fast.training.trained_model import served_metrics, with_types_for
from tests.support.scoring import read_scores, score, write_sessions
from tests.support.training.timed import A_SHIFT, HOUR, START, shifting_dataset, shifting_sessions

CONFIG = Config.of(
    embedding_dim=8, epochs=1, batch_prefixes=64, lr=3e-2, validation_fraction=0.1,
    enabled=True, targets="new", ranker_fraction=0.4, recent_weight=2.0,
    ranker_epochs=6, dense_candidates=10, cooccurrence_candidates=20, trend_candidates=20, prequential_chunk=32,
)  # fmt: skip
LIMITS = log_limits()
HOURS = 5
COLUMNS = ContextColumns(("referrer", "region"), (("search", "direct", "mail"), ("n", "s")))
NAMES = ("cart", "purchase", "search", "view")
READ = ("cart", "purchase", "view")  # nobody searches
CODES = np.array([0, 1, NO_TYPE, 2], np.uint8)  # of NAMES, as the ranker reads them
OTHER_NAMES = ("view", "wish", "search", "purchase", "cart")
SHORT = CONFIG.replace(ranker_epochs=2, dense_candidates=0)
VISITS = LearningLimits(session_gap=HOUR)


def with_side(sessions: Sessions, seed: int) -> Sessions:
    """Each visit has a region; its referrer says on which item of the hour it begins, so it says much."""
    rng = np.random.default_rng(seed)
    first = np.repeat(sessions.items[sessions.offsets[:-1]] % 3, sessions.lengths)
    region = np.repeat(rng.integers(0, 4, len(sessions)), sessions.lengths)
    types = rng.choice([0, 1, 3, 3], sessions.n_clicks).astype(np.uint8)
    return replace(sessions, context=np.stack([first + 2, region], axis=1).astype(np.uint16), types=types)


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
    test, target_types = plain.test, np.full(len(plain.test), 3, np.uint8)
    return replace(
        plain,
        train=with_side(plain.train, 3),
        test=Samples(with_side(test.prefixes, 4), test.targets, test.session, test.target_times, target_types),
        context=COLUMNS,
        type_names=NAMES,
        items=items_of(plain.n_items),
    )


def next_sessions() -> Sessions:
    """Two hours after the training's; their items are new."""
    return with_side(shifting_sessions(80, 7, HOURS + 2, float(HOURS)), 5)


def next_stream(names: Sequence[str] = NAMES) -> ClickStream:
    """Their clicks in a log, which has types of its own order."""
    sessions: Any = next_sessions()
    owner = np.repeat(np.arange(len(sessions), dtype=np.int32), sessions.lengths)
    order = np.argsort(sessions.times, kind="stable")
    codes = np.array([names.index(name) for name in NAMES], np.uint8)[sessions.types]
    return ClickStream(
        owner[order], sessions.items[order], sessions.times[order], codes[order],
        [f"s{number}" for number in range(len(sessions))], list(range((HOURS + 2) * A_SHIFT)),
        context=sessions.context[order], context_columns=COLUMNS, type_names=tuple(names),
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return train(dataset(), CONFIG, tmp_path_factory.mktemp("side"), refit=False)


@pytest.fixture(scope="module")
def folder(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    trained.save(folder, dataset())
    return folder


Updated = tuple[Model, UpdateSummary]


@pytest.fixture(scope="module")
def updated(trained: TrainedModel) -> Updated:
    return apply_log(LogFile.of(next_stream(OTHER_NAMES), trained.model), LIMITS)


def test_the_ranker_reads_context_content_and_the_types_that_occur(trained: TrainedModel) -> None:
    model: Any = trained.model
    net = model.ranker_net
    assert (net.side.context, net.side.categories, net.side.created) == (("referrer", "region"), ("category",), "made")
    assert net.types.names == READ
    assert [record["phase"] for record in trained.history].count("ranker") == model.config.ranker.ranker_epochs
    known: Any = dataset().train.split_last(CONFIG.optimizer.validation_fraction)[0]
    np.testing.assert_array_equal(model.clicked_at, known.times)
    np.testing.assert_array_equal(model.context.codes, known.context)
    np.testing.assert_array_equal(model.types, CODES[known.types])
    assert set(trained.feature_importance["features"]) == set(net.features)
    assert trained.metrics["P@20"] > 60
    types = [net.features.index(f"{part}_{name}") for part in ("e_last", "e_near", "e_own") for name in READ]
    assert types == list(range(len(net.features) - 9, len(net.features)))
    columns = [net.features.index(name) for name in net.side.names] + types
    assert (np.abs(net.w1[columns]).max(axis=1) > 0).all()


@pytest.mark.parametrize("change", [{"event_types": False}, {"prequential": False}, {"trends": False}])
def test_settings(change: dict[str, bool], tmp_path: Path) -> None:
    short = train(dataset(), SHORT.replace(**change), tmp_path / "run", refit=False)
    assert short.model.click_types.names == (() if "event_types" in change else READ)
    assert (short.model.types is None) == ("event_types" in change)
    if "trends" in change:
        assert short.model.trends is None
        assert short.model.clicked_at is not None
        short.save(tmp_path / "bundle", dataset())
        with pytest.raises(UsageError, match="does not read the types of clicks"):
            export_onnx(tmp_path / "bundle", part="whole")


def test_a_log_of_one_type_adds_nothing(tmp_path: Path) -> None:
    """The same ranker, to the bit, as without types."""
    plain = shifting_dataset(count=100, hours=3)
    same = replace(plain, train=replace(plain.train, types=np.zeros(plain.train.n_clicks, np.uint8)), type_names=NAMES)
    nets: list[Any] = [
        train(data, SHORT, tmp_path / str(place), refit=False).model.ranker_net
        for place, data in enumerate((plain, same))
    ]
    assert nets[0].features == nets[1].features == feature_names(trends=True)
    for name, array in nets[0].arrays().items():
        assert array.tobytes() == nets[1].arrays()[name].tobytes(), name


def test_excluded_features_and_a_type_that_the_fit_never_meets_count_for_nothing(tmp_path: Path) -> None:
    """The type occurs in the log, but not in the last sessions, which the ranker is fitted on."""
    data: Any = dataset()
    early = np.where((np.arange(data.train.n_clicks) > 300) & (data.train.types == 1), 0, data.train.types)
    rare = replace(data, train=replace(data.train, types=early.astype(np.uint8)))
    excluded = {"c_share_referrer", "i_age_made"}
    config = SHORT.replace(excluded_features=", ".join(sorted(excluded)))
    net: Any = train(rare, config, tmp_path / "run", refit=False).model.ranker_net
    assert net.types.names == READ
    zero = {name for name, scale in zip(net.features, net.scale, strict=True) if scale == 0}
    assert zero == excluded | {"e_last_purchase", "e_near_purchase", "e_own_purchase"}
    assert max(net.scale[net.features.index(name)] for name in net.features if name.startswith("e_")) < 100
    with pytest.raises(UsageError, match="there is no feature 'c_share_device'"):
        train(data, CONFIG.replace(excluded_features="c_share_device"), tmp_path / "other", refit=False)
    assert not (tmp_path / "other").exists()


def test_a_bundle_keeps_them_and_ranks_alike(trained: TrainedModel, folder: Path, tmp_path: Path) -> None:
    bundle, model = Bundle.load(folder), trained.model
    loaded: Any = bundle.model
    assert bundle.dataset["reader"] == dict(dataset().reader)
    assert bundle.dataset["min_prefix"] == 1
    assert loaded.learned_until == model.learned_until
    assert loaded.context.columns.values == COLUMNS.values
    np.testing.assert_array_equal(loaded.types, model.types)
    assert loaded.trends.context_sizes == COLUMNS.sizes
    samples = with_types_for(model, dataset().test, NAMES)
    assert served_metrics(loaded, samples) == served_metrics(model, samples)
    without_times = Samples(samples.prefixes.without_times(), samples.targets, samples.session)
    assert served_metrics(model, without_times)["P@20"] > 0
    with pytest.raises(BundleError, match="types"):
        Bundle.save(tmp_path / "wrong", replace(model, types=np.zeros(3, np.uint8)), metrics={}, dataset={})
    for wrong in (None, replace(loaded.context, codes=loaded.context.codes[1:])):
        with pytest.raises(BundleError, match="context"):
            replace(model, context=wrong).check("bundle")


def test_evaluation_reads_the_types_of_the_data_set(folder: Path) -> None:
    """Also of a data set that numbers them in another way, or whose catalog is another one."""
    data, rec = dataset(), Recommender.load(folder)
    codes: Any = data.test.prefixes.types
    rankable = rankable_by(rec, data.test, data)
    np.testing.assert_array_equal(rankable.prefixes.types, CODES[codes])
    np.testing.assert_array_equal(rankable.target_types, data.test.target_types)
    turned = data.test.with_prefix_types(3 - codes)
    rankable = rankable_by(rec, turned, replace(data, type_names=NAMES[::-1]))
    np.testing.assert_array_equal(rankable.prefixes.types, CODES[codes])
    other = replace(data, ids=ItemIds.from_list([*range(7), 999, *range(8, data.n_items)]))
    known = data.test.prefixes.items != 7
    np.testing.assert_array_equal(rankable_by(rec, data.test, other).prefixes.types, CODES[codes][known])


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


def test_scores_read_the_context_and_types_of_each_session(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [("a", [33, 34]), ("b", [33]), ("c", [33, 999, 34]), ("d", []), ("e", [35])]
    referrer, region = ["mail", None, "search", "mail", "never seen"], [0, 1, 2, 3, 4]
    types = [["cart", "view"], None, ["cart", "view", "purchase"], [], [None]]
    write_sessions(tmp_path / "in.parquet", rows, referrer=referrer, region=region, types=types, device=[1.5] * 5)
    at = ("-k", 9, "--at", START + HOURS * HOUR)
    assert score(folder, tmp_path / "in.parquet", tmp_path / "out", *at) == 0
    rec = Recommender.load(folder)
    for (_, items, scores), (_, session), row_referrer, row_region, row_types in zip(
        read_scores(tmp_path / "out"), rows, referrer, region, types, strict=True
    ):
        context = {"referrer": row_referrer, "region": row_region}
        out = rec.recommend(session, k=9, at=START + HOURS * HOUR, context=context, types=row_types)
        assert items == out.items
        assert scores == out.scores.tolist()
    for wrong in ({"referrer": [1.5] * 5}, {"types": [["cart"], None, None, None, None]}, {"types": [[1]] * 5}):
        write_sessions(tmp_path / "wrong.parquet", rows, **wrong)
        assert score(folder, tmp_path / "wrong.parquet", tmp_path / "other", *at) == 1


def test_an_update_knows_the_context_and_types_of_all_clicks(trained: TrainedModel, updated: Updated) -> None:
    """In the codes of the bundle, whatever those of the log are."""
    model: Any = updated[0]
    assert updated[1].new_items == 2 * A_SHIFT
    assert updated[1].learned_sessions == len(next_sessions())
    assert model.context.codes[-200:].any(axis=1).all()
    built = TrendTables.build(
        model.sessions, model.clicked_at, model.n_items, model.trends.settings, context_sizes=COLUMNS.sizes
    )
    assert all(np.array_equal(array, model.trends.arrays()[name]) for name, array in built.arrays().items())
    state: Any = OnlineState(trained.model, LIMITS)
    for entries in LogEvents(LogFile.of(next_stream(), trained.model)).chunks():
        state.apply(entries)
    live, now = model.trends.live(model.n_items), START + (HOURS + 2) * HOUR
    everything = np.arange(model.n_items, dtype=np.int32)
    # The delta's sums are float64, the tables' float32.
    assert np.allclose(state.trends.counts(everything, now), live.counts(everything, now), rtol=1e-4, atol=1e-6)
    for item in everything.tolist():
        np.testing.assert_allclose(state.trends.context(item, now), live.context(item, now), rtol=1e-3, atol=0.02)
    stream: Any = next_stream()
    by_time = dict(zip(stream.times.tolist(), CODES[stream.types].tolist(), strict=True))
    first: Any = trained.model.types
    learned = len(model.types) - len(first)
    assert learned > 100
    assert len(by_time) == len(stream.types)
    assert model.types[-learned:].tolist() == [by_time[time] for time in model.clicked_at[-learned:].tolist()]


def test_refits_go_on_with_what_came(trained: TrainedModel, updated: Updated, tmp_path: Path) -> None:
    model: Any = updated[0]
    refitted, history = refit_ranker(model, trained.model, updated[1].learned_sessions, 1, tmp_path, Silent())
    net: Any = refitted.ranker_net
    before = model.ranker_net
    assert (net.side, net.types) == (before.side, before.types)
    assert np.array_equal(net.mean, before.mean)
    first = before.features.index("e_last_cart")
    assert not np.array_equal(net.w1[:first], before.w1[:first])
    assert not np.array_equal(net.w1[first:], before.w1[first:])
    assert history[-1]["loss"] < history[0]["loss"]
    fitted, records = refit_encoder(refitted, 1, tmp_path, torch.device("cpu"), Silent())
    whole: Any = fitted
    assert [record["epoch"] for record in records] == [1]
    assert [len(part.log_progress.untrained) for part in (model, whole)] == [2 * A_SHIFT, 0]
    assert not np.array_equal(whole.weights["item_embedding"], model.weights["item_embedding"])
    assert whole.ranker_net is refitted.ranker_net
    assert list(tmp_path.iterdir()) == []
    Bundle.save(tmp_path / "bundle", whole, metrics={}, dataset={"name": "x", "fingerprint": "y"})


def test_forgetting_removes_the_context_of_clicks(trained: TrainedModel) -> None:
    """From the live sums at once; after a compaction the model equals one that never saw the visit, to the bit."""
    model = trained.model
    clicks = [
        Click(f"v{n % 6}", int(HOURS - 1) * A_SHIFT + n % A_SHIFT, START + HOURS * HOUR + n * 60_000,
              context={"referrer": ("mail", "never seen")[n % 2], "region": "s"})
        for n in range(30)
    ]  # fmt: skip
    now = START + (HOURS + 1) * HOUR
    states: list[Any] = [OnlineState(model, VISITS) for _ in range(2)]
    seen, clean = states
    seen.apply([LogEntry(click, f"{place:04}") for place, click in enumerate(clicks)])
    seen.apply([LogEntry(Forget("v3", now), "0100")])
    without = [LogEntry(click, f"{place:04}") for place, click in enumerate(clicks) if click.session != "v3"]
    clean.apply(without)
    for item in range(model.n_items):
        np.testing.assert_allclose(seen.trends.context(item, now), clean.trends.context(item, now), atol=1e-6)
    events: list[Event] = [*clicks, Forget("v3", now)]
    whole = [LogEntry(event, f"{place:04}") for place, event in enumerate(events)]
    models: list[Any] = [compact_model(model, "log", [log], VISITS, all_over=True) for log in (whole, without)]
    forgotten, other = models
    np.testing.assert_array_equal(forgotten.context.codes, other.context.codes)
    for name, array in other.trends.arrays().items():
        np.testing.assert_array_equal(forgotten.trends.arrays()[name], array, err_msg=name)


def test_open_sessions_are_carried_with_their_context_and_types(trained: TrainedModel) -> None:
    """A compaction while visits are open, and one after all of them, give the same."""
    model, kinds = trained.model, ("cart", None, "view", "odd", "purchase", "view", "cart")
    clicks = [
        Click(f"v{n % 5}", n % 40, START + HOURS * HOUR + n * 60_000, kinds[n % 7],
              context={"referrer": ("mail", "odd")[n % 2]})
        for n in range(40)
    ]  # fmt: skip
    entries = [LogEntry(click, f"{place:04}") for place, click in enumerate(clicks)]
    at_once: Any = compact_model(model, "log", [entries], VISITS, all_over=True)
    half: Any = compact_model(model, "log", [entries[:20]], VISITS)
    assert len(half.log_progress.carried)
    later: Any = compact_model(half, "log", [entries[20:]], VISITS, all_over=True)
    np.testing.assert_array_equal(later.context.codes, at_once.context.codes)
    assert set(at_once.types[-40:].tolist()) == {0, 1, 2, NO_TYPE}
    np.testing.assert_array_equal(later.types, at_once.types)


def test_a_replay_ranks_with_the_context_and_types_of_the_visit(
    trained: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = next_stream()
    report = replay(LogFile.of(stream, trained.model), ReplaySettings(every=10_000), LIMITS).as_dict()
    assert report["samples"] == next_sessions().n_clicks - len(next_sessions())
    assert report["frozen"]["P@20"] < 15
    assert report["learning"]["P@20"] > 70

    seen: list[tuple[list[int] | None, Any]] = []
    rank = Pipeline.rank

    def recorded(self: Pipeline, sessions: Sessions, *more: Any) -> Any:
        seen.append((None if sessions.types is None else sessions.types.tolist(), sessions.context))
        return rank(self, sessions, *more)

    monkeypatch.setattr(Pipeline, "rank", recorded)
    without = replace(stream, context=None, context_columns=None)
    runs = []
    for changed in (stream, next_stream(OTHER_NAMES), replace(stream, types=None), without):
        replay(LogFile.of(changed, trained.model), ReplaySettings(every=600_000), LIMITS)
        runs.append(seen.copy())
        seen.clear()
    typed, same, plain, bare = runs
    assert [types for types, _ in typed] == [types for types, _ in same]
    assert {code for types, _ in typed for code in types or ()} == {0, 1, 2}
    assert [types for types, _ in plain] == [None] * len(typed)
    for (_, rows), (_, renamed), (_, missing) in zip(typed, same, bare, strict=True):
        np.testing.assert_array_equal(rows, renamed)
        assert missing is None
    assert len({tuple(row) for _, rows in typed for row in rows.tolist()}) > 1
