"""Updating a bundle with a log file: the result of online learning from the same clicks, and nothing counts twice."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.readers.stream import ClickStream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import UsageError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import LogEvents, LogFile, apply_log, log_limits
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.compaction.compactor import compact_folder
from mtaw_fast.online.compaction.current import learned_position
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.settings import COMPACTED, LearningLimits, LearningSettings
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.service.snapshot import load_snapshot
from tests.support.online.logs import MIDNIGHT, N, drawn_rows, log_file, saved, trained_before, written
from tests.support.online.recommenders import plain_ranker
from tests.support.random_bundle import edit_manifest

pytestmark = pytest.mark.slow

ROWS = drawn_rows()
MODEL = trained_before(ROWS)
LIMITS = log_limits()


def same_tables(a: Model, b: Model) -> bool:
    assert a.memory is not None
    assert b.memory is not None
    return a.ids.external(np.arange(a.n_items)) == b.ids.external(np.arange(b.n_items)) and all(
        np.array_equal(array, b.memory.arrays()[name]) for name, array in a.memory.arrays().items()
    )


def test_an_update_equals_the_online_state_of_the_same_events(tmp_path: Path) -> None:
    log = log_file(tmp_path / "log.csv", ROWS, MODEL)
    updated, summary = apply_log(log, LIMITS)
    state = OnlineState(MODEL, LIMITS)
    for entries in LogEvents(log).chunks():
        state.apply(entries)
    _, items, offsets = state.delta.ordered()
    assert MODEL.memory is not None
    assert updated.memory is not None
    sessions = Sessions.concatenate([MODEL.memory.sessions, Sessions(items, offsets)])
    rebuilt = MemoryTables.build(sessions, updated.n_items, updated.memory.settings)
    assert all(np.array_equal(array, updated.memory.arrays()[name]) for name, array in rebuilt.arrays().items())
    catalog = state.catalog()
    assert catalog.size == updated.n_items
    assert catalog.clicks is not None
    assert np.array_equal(catalog.clicks, updated.popularity)
    assert summary.learned_sessions == state.delta.n_sessions
    assert summary.learned_clicks == state.delta.n_clicks == updated.sessions.n_clicks - MODEL.sessions.n_clicks
    assert summary.new_items == len({item for _, item, _ in ROWS if item.startswith("new-")}) >= 4
    assert summary.refused == {}
    ends = {session: time for session, _, time in ROWS}
    assert summary.known_clicks == MODEL.sessions.n_clicks == sum(ends[row[0]] < MIDNIGHT for row in ROWS)
    assert (updated.sessions.n_clicks, updated.learned_until) == (len(ROWS), ROWS[-1][2])


def test_a_session_that_goes_on_in_the_next_log_is_counted_whole_and_once(tmp_path: Path) -> None:
    late = [row for row in ROWS if row[2] > MIDNIGHT + 60 * 60_000]
    index = next(place for place, row in enumerate(late) if row[0] in {earlier[0] for earlier in late[:place]})
    rows = ROWS[: len(ROWS) - len(late) + index]  # the next click continues a session
    part, _ = apply_log(log_file(tmp_path / "part.csv", rows, MODEL), LIMITS)
    both, summary = apply_log(log_file(tmp_path / "log.csv", ROWS, part), LIMITS)
    at_once, _ = apply_log(log_file(tmp_path / "log.csv", ROWS, MODEL), LIMITS)
    assert summary.dropped_sessions > 0
    assert both.sessions.n_clicks == len(ROWS) == at_once.sessions.n_clicks
    assert sorted(map(tuple, both.sessions)) == sorted(map(tuple, at_once.sessions))
    assert np.array_equal(both.popularity, at_once.popularity)


def test_a_model_without_a_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no session memory"):
        log_file(tmp_path / "log.csv", ROWS, replace(MODEL, memory=None, ranker_net=None, clicked_at=None))


def test_the_command_updates_a_bundle_and_says_what_it_did(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "bundle", MODEL)
    source = written(tmp_path / "log.csv", ROWS)
    arguments = ["update", str(tmp_path / "bundle"), str(source), "--json"]
    assert main([*arguments, "--learn-limit", "new_items=2"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["new_items"] == 2
    assert 0 < printed["refused"]["catalog_full"] < sum(item.startswith("new-") for _, item, _ in ROWS)
    assert printed["learned_clicks"] + printed["known_clicks"] + printed["refused"]["catalog_full"] == printed["clicks"]
    model = Bundle.load(tmp_path / "bundle").model
    assert model.clicked_at is not None
    assert (model.n_items, len(model.clicked_at)) == (N + 2, model.sessions.n_clicks)
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["learned_clicks"] == 0, "a log counts once"
    assert main(arguments[:-1]) == 0
    text = f"{len(ROWS):,} of before its last click, known or left out by its training, 0 new items"
    assert text in capsys.readouterr().out


def test_only_an_update_with_a_refit_counts_as_a_training(tmp_path: Path) -> None:
    folder, source = tmp_path / "bundle", written(tmp_path / "log.csv", ROWS)
    saved(folder, MODEL)
    edit_manifest(folder, lambda manifest: manifest.update(created="2026-11-01T00:00:00+00:00"))
    for _ in range(2):
        assert main(["update", str(folder), str(source)]) == 0
        assert load_snapshot(folder, "auto", "auto").trained == datetime(2026, 11, 1, tzinfo=UTC).timestamp()


def test_what_a_refit_cannot_do_is_refused_before_the_log_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtaw_fast.workflow.apply_log", lambda *_, **__: pytest.fail("the log was read"))
    source = written(tmp_path / "log.csv", ROWS)
    weighted = replace(MODEL, config=MODEL.config.replace(type_weights="view=2"))
    for model, device, message in ((MODEL, "tpu9", "device 'tpu9'"), (weighted, "cpu", "weights by type (view=2)")):
        saved(tmp_path / device, model)
        assert main(["update", str(tmp_path / device), str(source), "--refit", "all", "--device", device]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(pytest.fail.Exception, match="the log was read"):  # the ranker's refit uses no device
        main(["update", str(tmp_path / "tpu9"), str(source), "--refit", "ranker", "--device", "tpu9"])


def test_a_log_with_every_event_twice_counts_each_once_where_the_data_set_did(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    once, twice = written(tmp_path / "once.csv", ROWS), written(tmp_path / "twice.csv", [r for r in ROWS for _ in "ab"])
    results = []
    for log, dedupe in ((once, 0.0), (twice, 0.0), (twice, None)):
        folder = tmp_path / "bundle"
        saved(folder, MODEL)
        edit_manifest(folder, lambda manifest, value=dedupe: manifest["dataset"]["reader"].update(dedupe=value))
        assert main(["replay", str(folder), str(log), "--json"]) == 0
        assert main(["update", str(folder), str(log), "--json"]) == 0
        replayed, updated = map(json.loads, capsys.readouterr().out.splitlines())
        results.append(
            (replayed["samples"], replayed["learning"], updated["clicks"], Bundle.load(folder).model.sessions.n_clicks)
        )
        shutil.rmtree(folder)
    assert results[0] == results[1]
    assert results[0][2:] == (len(ROWS), len(ROWS))
    assert results[2][2] == 2 * len(ROWS)


def test_of_two_updates_at_once_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one started before the first had written: its model lacks the first one's log."""
    folder = tmp_path / "bundle"
    saved(folder, MODEL)
    half = len(ROWS) // 2
    logs = [written(tmp_path / f"{k}.csv", part) for k, part in enumerate((ROWS[:half], ROWS))]

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        assert main(["update", str(folder), str(logs[1])]) == 0
        return apply_log(*arguments, **options)

    monkeypatch.setattr("mtaw_fast.workflow.apply_log", overtaken)
    assert main(["update", str(folder), str(logs[0])]) == 1
    error = capsys.readouterr().err
    assert f"{folder} was changed by another process since it was read; run the command again" in error
    assert error.count("\n") == 1
    assert Bundle.load(folder).model.sessions.n_clicks == len(ROWS)
    assert main(["update", str(folder), str(logs[0])]) == 0


def timeless(items: Sequence[int] = (1, 2, 3, 2, 3), ids: list[Any] | None = None) -> ClickStream:
    """Return a log of two sessions without times."""
    ids = ids or MODEL.ids.external(np.arange(N))
    return ClickStream(np.array([0, 0, 0, 1, 1], np.int32), np.array(items, np.int32), None, None, [0, 1], ids)


def test_a_log_without_times_counts_once(tmp_path: Path) -> None:
    stream = timeless()
    once, summary = apply_log(LogFile.of(stream, MODEL), LIMITS)
    assert (summary.learned_clicks, summary.learned_sessions) == (5, 2)
    twice, summary = apply_log(LogFile.of(stream, once), LIMITS)
    assert summary.dropped_sessions == 2
    assert same_tables(twice, once)
    for other in (timeless((3, 2, 3, 2, 1)), timeless(ids=MODEL.ids.external(np.arange(N))[::-1])):
        both, summary = apply_log(LogFile.of(other, once), LIMITS)
        assert summary.dropped_sessions == 0
        assert len(both.sessions) == len(MODEL.sessions) + 4
    # It outlives the first compaction while serving: its times lie in 1970, but say nothing of how old sessions are.
    saved(tmp_path / "bundle", both)
    settings = LearningSettings(tmp_path / "learned", compact=False)
    rec = Recommender.load(tmp_path / "bundle", learn=settings)
    for visitor in ("v-1", "v-2"):
        rec.observe(visitor, ["sku-1"])
    rec.close()
    compact_folder(tmp_path / "bundle", settings)
    assert len(Bundle.load(settings.folder / COMPACTED).model.sessions) == len(MODEL.sessions) + 4


def test_an_update_of_a_compacted_bundle_keeps_what_the_next_compaction_does(tmp_path: Path) -> None:
    """The repeat of a click, the log's last event, is removed from the log by the compaction after the next event."""
    saved(tmp_path / "bundle", MODEL)
    settings = LearningSettings(tmp_path / "learned", compact=False)
    compacted = settings.folder / COMPACTED
    rec = Recommender.load(tmp_path / "bundle", learn=settings)
    rec.observe("v-1", ["sku-1"], ids=["first"])
    position = rec.observe("v-1", ["sku-1"], ids=["first"])
    compact_folder(tmp_path / "bundle", settings)
    assert main(["update", str(compacted), str(written(tmp_path / "log.csv", ROWS))]) == 0
    assert learned_position(settings.folder) == position
    rec.observe("v-2", ["sku-2"])
    rec.close()
    compact_folder(tmp_path / "bundle", settings)
    assert (settings.folder / "events-0000000000.log").read_bytes().count(b'"first"') == 1


def test_a_session_that_a_compacted_bundle_carries_along_is_counted_whole_and_once(tmp_path: Path) -> None:
    clicks = [row for row in ROWS if row[0] == ROWS[-1][0]]
    assert len(clicks) > 1
    name, item, time = clicks[0]
    compacted = compact_model(MODEL, "log", [[LogEntry(Click(name, item, time), "1")]], LearningLimits())
    assert len(compacted.log_progress.carried)
    updated, _ = apply_log(log_file(tmp_path / "log.csv", clicks, compacted), LIMITS)
    assert updated.ids.external(updated.sessions[len(MODEL.sessions)]) == [item for _, item, _ in clicks]


def inputs_of_second_refit(
    model: Model, rows: Sequence[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Model, Model, tuple[Any, ...]]:
    """Return the model before and after the second of two logs, and what its refit makes the ranker's samples from."""
    pytest.importorskip("torch", reason="needs the extra 'train'")
    from mtaw_fast.training import refit
    from mtaw_fast.training.progress import Silent

    parts = [row for row in rows if int(row[0][1:]) < 40], [row for row in rows if int(row[0][1:]) >= 40]
    before, _ = apply_log(log_file(tmp_path / "log.csv", parts[0], model), LIMITS)
    after, summary = apply_log(log_file(tmp_path / "log.csv", parts[1], before), LIMITS)
    inputs: list[tuple[Any, ...]] = []

    def build_dataset(*arguments: Any, **_options: Any) -> None:
        inputs.append(arguments)
        raise InterruptedError

    monkeypatch.setattr(refit, "build_dataset", build_dataset)
    with pytest.raises(InterruptedError):
        refit.refit_ranker(after, before, summary.learned_sessions, 1, tmp_path, Silent())
    return before, after, inputs[0]


def test_a_second_refit_learns_from_the_trends_that_were_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions of logs count a pair once in them."""
    assert MODEL.clicked_at is not None
    trends = TrendTables.build(MODEL.sessions, MODEL.clicked_at, N)
    model = replace(MODEL, trends=trends, ranker_net=plain_ranker(trends=True))
    rows = [row for row in ROWS if row[1].startswith("sku-")]
    before, _, inputs = inputs_of_second_refit(model, rows, tmp_path, monkeypatch)
    used = next(value for value in inputs if isinstance(value, TrendTables)).arrays()
    assert before.trends is not None
    for name, array in before.trends.arrays().items():
        assert np.array_equal(used[name], array), name


def test_a_second_refit_ranks_by_vectors_that_do_not_follow_from_its_clicks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items of the first log get other vectors by the second one."""
    before, after, inputs = inputs_of_second_refit(MODEL, ROWS, tmp_path, monkeypatch)
    vectors = before.weights["item_embedding"]
    used = next(value for value in inputs if isinstance(value, dict))["item_embedding"]
    assert not np.array_equal(after.weights["item_embedding"][: before.n_items], vectors)
    assert np.array_equal(used[: before.n_items], vectors)
    assert not used[before.n_items :].any()


@pytest.mark.parametrize("setting", [{"train_step": "cuda-graph"}, {"loss_backend": "triton"}])
def test_a_bundle_that_a_gpu_trained_is_refitted_on_a_cpu(tmp_path: Path, setting: dict[str, str]) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'train'")
    from mtaw_fast.training.progress import Silent
    from mtaw_fast.training.refit import refit_encoder

    model = replace(MODEL, config=MODEL.config.replace(**setting))
    refitted, _ = refit_encoder(model, 1, tmp_path, torch.device("cpu"), Silent())
    assert not np.array_equal(refitted.weights["item_embedding"], model.weights["item_embedding"])
    assert refitted.config is model.config
