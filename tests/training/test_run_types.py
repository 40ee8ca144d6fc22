"""A training on a log with types: its ranker, its bundle, and what learns from a later log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.assessment.inputs import rankable_by
from mtaw_fast.bundle import Bundle
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers import ClickStream
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.kernels.native.memory_query import NO_TYPE
from mtaw_fast.online.batch_update import LogFile, apply_log
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.replay import ReplaySettings, replay
from mtaw_fast.online.settings import LearningLimits
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.training import TrainedModel, train
from mtaw_fast.training.progress import Silent
from mtaw_fast.training.refit import refit_ranker
from mtaw_fast.training.trained_model import served_metrics, with_types_for
from tests.support.scoring.command import score
from tests.support.scoring.inputs import read_scores, write_sessions
from tests.support.training.timed import A_SHIFT, HOUR, START, shifting_dataset, shifting_sessions
from tests.training.test_run_timed import CONFIG, LIMITS, stream_of

HOURS = 5
NAMES = ("cart", "purchase", "search", "view")
READ = ("cart", "purchase", "view")  # nobody searches


def with_types(sessions: Sessions, seed: int) -> Sessions:
    return replace(sessions, types=np.random.default_rng(seed).choice([0, 1, 3, 3], sessions.n_clicks).astype(np.uint8))


def dataset() -> Dataset:
    plain = shifting_dataset(count=300, hours=HOURS)
    prefixes = with_types(plain.test.prefixes, 4)
    target_types = np.full(len(plain.test), 3, np.uint8)
    test = Samples(prefixes, plain.test.targets, plain.test.session, plain.test.target_times, target_types)
    return replace(plain, train=with_types(plain.train, 3), test=test, type_names=NAMES)


def next_stream(names: tuple[str, ...] = NAMES) -> ClickStream:
    """The clicks of the next two hours; the log has types of its own order."""
    sessions = with_types(shifting_sessions(80, 7, HOURS + 2, float(HOURS)), 5)
    assert sessions.times is not None
    assert sessions.types is not None
    codes = np.array([names.index(name) for name in NAMES], np.uint8)[sessions.types]
    return replace(stream_of(sessions), types=codes[np.argsort(sessions.times, kind="stable")], type_names=names)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> TrainedModel:
    return train(dataset(), CONFIG, tmp_path_factory.mktemp("types"), refit=False)


@pytest.fixture(scope="module")
def folder(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    trained.save(folder, dataset())
    return folder


def test_the_ranker_reads_the_types_that_occur(trained: TrainedModel) -> None:
    model, net = trained.model, trained.model.ranker_net
    assert net is not None
    assert net.has_trends
    assert net.types.names == READ
    known = dataset().train.split_last(CONFIG.optimizer.validation_fraction)[0]
    assert known.types is not None
    assert model.types is not None
    np.testing.assert_array_equal(model.types, np.array([0, 1, NO_TYPE, 2], np.uint8)[known.types])
    assert set(trained.feature_importance["features"]) == set(net.features)
    columns = [net.features.index(f"{part}_{name}") for part in ("e_last", "e_near", "e_own") for name in READ]
    assert columns == list(range(len(net.features) - 9, len(net.features)))
    assert (np.abs(net.w1[columns]).max(axis=1) > 0).all()


@pytest.mark.parametrize("change", [{"event_types": False}, {"prequential": False}, {"trends": False}])
def test_settings(change: dict[str, bool], tmp_path: Path) -> None:
    config = CONFIG.replace(ranker_epochs=1, dense_candidates=0, **change)
    model = train(dataset(), config, tmp_path / "run", refit=False).model
    assert model.click_types.names == (() if "event_types" in change else READ)
    assert (model.types is None) == ("event_types" in change)


def test_a_log_of_one_type_adds_nothing(tmp_path: Path) -> None:
    """The same ranker, to the bit, as without types."""
    plain = shifting_dataset(count=100, hours=3)
    same = replace(plain, train=replace(plain.train, types=np.zeros(plain.train.n_clicks, np.uint8)), type_names=NAMES)
    config = CONFIG.replace(ranker_epochs=1, dense_candidates=0)
    nets = [
        train(data, config, tmp_path / str(place), refit=False).model.ranker_net
        for place, data in enumerate((plain, same))
    ]
    assert nets[0] is not None
    assert nets[1] is not None
    assert nets[0].features == nets[1].features
    for name, array in nets[0].arrays().items():
        assert array.tobytes() == nets[1].arrays()[name].tobytes(), name


def test_a_type_that_the_fit_never_meets_counts_for_nothing(tmp_path: Path) -> None:
    """It occurs in the log, but not in the last sessions, which the ranker is fitted on."""
    data = dataset()
    assert data.train.types is not None
    early = np.where((np.arange(data.train.n_clicks) > 300) & (data.train.types == 1), 0, data.train.types)
    rare = replace(data, train=replace(data.train, types=early.astype(np.uint8)))
    config = CONFIG.replace(ranker_epochs=1, dense_candidates=0)
    net = train(rare, config, tmp_path / "run", refit=False).model.ranker_net
    assert net is not None
    assert net.types.names == READ
    scales = {name: float(net.scale[net.features.index(name)]) for name in net.features if name.startswith("e_")}
    assert {name for name, scale in scales.items() if scale == 0} == {
        "e_last_purchase",
        "e_near_purchase",
        "e_own_purchase",
    }
    assert max(scales.values()) < 100


def test_a_bundle_keeps_them_and_ranks_alike(trained: TrainedModel, folder: Path, tmp_path: Path) -> None:
    model, loaded = trained.model, Bundle.load(folder).model
    assert loaded.types is not None
    np.testing.assert_array_equal(loaded.types, model.types)
    samples = with_types_for(model, dataset().test, NAMES)
    assert served_metrics(loaded, samples) == served_metrics(model, samples)
    with pytest.raises(BundleError, match="types"):
        Bundle.save(tmp_path / "wrong", replace(model, types=np.zeros(3, np.uint8)), metrics={}, dataset={})


def test_evaluation_reads_the_types_of_the_data_set(folder: Path) -> None:
    """Also of a data set that numbers them in another way, or whose catalog is another one."""
    data, rec = dataset(), Recommender.load(folder)
    codes = data.test.prefixes.types
    assert codes is not None
    rankable = rankable_by(rec, data.test, data)
    expected = np.array([0, 1, NO_TYPE, 2], np.uint8)[codes]
    np.testing.assert_array_equal(rankable.prefixes.types, expected)
    np.testing.assert_array_equal(rankable.target_types, data.test.target_types)
    turned = data.test.with_prefix_types(3 - codes)
    rankable = rankable_by(rec, turned, replace(data, type_names=NAMES[::-1]))
    np.testing.assert_array_equal(rankable.prefixes.types, expected)
    other = replace(data, ids=ItemIds.from_list([*range(7), 999, *range(8, data.n_items)]))
    known = data.test.prefixes.items != 7
    np.testing.assert_array_equal(rankable_by(rec, data.test, other).prefixes.types, expected[known])


def test_scores_read_the_types_of_each_session(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    rows = [("a", [33, 34]), ("b", [33, 999, 34]), ("c", [33]), ("d", []), ("e", [35])]
    types = [["cart", "view"], ["cart", "view", "purchase"], None, [], [None]]
    write_sessions(tmp_path / "in.parquet", rows, types=types)
    now = START + HOURS * HOUR
    assert score(folder, tmp_path / "in.parquet", tmp_path / "out", "-k", 9, "--at", now) == 0
    rec = Recommender.load(folder)
    for (_, items, scores), (_, session), click_types in zip(read_scores(tmp_path / "out"), rows, types, strict=True):
        out = rec.recommend(session, k=9, at=now, types=click_types)
        assert items == out.items
        assert scores == out.scores.tolist()
    for wrong in ([["cart"], None, None, None, None], [[1]] * 5):
        write_sessions(tmp_path / "wrong.parquet", rows, types=wrong)
        assert score(folder, tmp_path / "wrong.parquet", tmp_path / "other", "-k", 9, "--at", now) == 1


def test_an_update_keeps_the_types_of_all_clicks(trained: TrainedModel, tmp_path: Path) -> None:
    """In the codes of the bundle, whatever those of the log are; a refit of the ranker reads them."""
    names = ("view", "wish", "search", "purchase", "cart")
    model, _ = apply_log(LogFile.of(next_stream(names), trained.model), LIMITS)
    assert model.types is not None
    assert trained.model.types is not None
    stream, learned = next_stream(), len(model.types) - len(trained.model.types)
    assert stream.types is not None
    assert stream.times is not None
    assert model.clicked_at is not None
    codes = np.array([0, 1, NO_TYPE, 2], np.uint8)[stream.types]
    by_time = dict(zip(stream.times.tolist(), codes.tolist(), strict=True))
    assert learned > 100
    assert len(by_time) == len(codes)
    assert model.types[-learned:].tolist() == [by_time[time] for time in model.clicked_at[-learned:].tolist()]
    before = model.ranker_net
    assert before is not None
    refitted, _ = refit_ranker(model, trained.model, 80, 1, tmp_path, Silent())
    assert refitted.ranker_net is not None
    assert refitted.ranker_net.types == before.types
    first = before.features.index("e_last_cart")
    assert not np.array_equal(refitted.ranker_net.w1[first:], before.w1[first:])


def test_open_sessions_are_carried_with_their_types(trained: TrainedModel) -> None:
    """A compaction while visits are open, and one after all of them, keep the same types."""
    limits, model = LearningLimits(session_gap=HOUR), trained.model
    kinds = ("cart", None, "view", "odd", "purchase", "view", "cart")
    clicks = [Click(f"v{n % 5}", n % A_SHIFT, START + HOURS * HOUR + n * 60_000, kinds[n % 7]) for n in range(40)]
    entries = [LogEntry(click, f"{place:04}") for place, click in enumerate(clicks)]
    at_once = compact_model(model, "log", [entries], limits, all_over=True)
    half = compact_model(model, "log", [entries[:20]], limits)
    later = compact_model(half, "log", [entries[20:]], limits, all_over=True)
    assert at_once.types is not None
    assert later.types is not None
    assert set(at_once.types[-40:].tolist()) == {0, 1, 2, NO_TYPE}
    np.testing.assert_array_equal(later.types, at_once.types)


def test_a_replay_ranks_with_the_types_of_the_clicks(trained: TrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int] | None] = []
    rank = Pipeline.rank

    def recorded(self: Pipeline, sessions: Sessions, *more: Any) -> Any:
        seen.append(None if sessions.types is None else sessions.types.tolist())
        return rank(self, sessions, *more)

    monkeypatch.setattr(Pipeline, "rank", recorded)
    names, runs = ("view", "wish", "search", "purchase", "cart"), []
    for stream in (next_stream(), next_stream(names), replace(next_stream(), types=None)):
        replay(LogFile.of(stream, trained.model), ReplaySettings(every=600_000), LIMITS)
        runs.append(seen.copy())
        seen.clear()
    typed, same, plain = runs
    assert typed == same
    assert {code for codes in typed for code in codes or ()} == {0, 1, 2}
    assert plain == [None] * len(typed)


def test_the_whole_graph_is_not_exported(folder: Path) -> None:
    from mtaw_fast.export.onnx_model import export_onnx

    with pytest.raises(UsageError, match="does not read the types of clicks"):
        export_onnx(folder, part="whole")
