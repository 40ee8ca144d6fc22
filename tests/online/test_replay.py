"""A replay against a brute-force reference: a new state for every step, every click ranked by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.cli import main
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.evaluation.decayed import DecayedCounts
from mtaw_fast.evaluation.metrics import gains_of, listed_rank, means_of
from mtaw_fast.items import ItemTable
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.batch_update import log_limits
from mtaw_fast.online.log.event_log import LogEntry
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.replay import ReplayResult, ReplaySettings, replay
from mtaw_fast.online.state.online_state import OnlineState
from mtaw_fast.ranking.catalog import Catalog
from mtaw_fast.ranking.encoders import NativeEncoder
from mtaw_fast.ranking.options import Conditions
from mtaw_fast.ranking.pipeline import Pipeline
from mtaw_fast.ranking.retrieval import NativeIndex
from tests.support.online.logs import MIDNIGHT, N, Row, drawn_rows, log_file, saved, trained_before, written

pytestmark = pytest.mark.slow

ROWS = drawn_rows(seed=4, sessions=56)
MODEL = trained_before(ROWS)
LIMITS = log_limits()
EVERY = 20_000


def pipeline_of(catalog: Catalog, model: Model) -> Pipeline:
    index = NativeIndex(model.item_vectors, model.scan)
    return Pipeline.of(catalog, NativeEncoder(model.config, model.weights), index)


def rank_in(pipeline: Pipeline, names: list[str], target: str, exclude_seen: bool) -> int:
    """Return the rank of a target for one session of external ids, as the service ranks."""
    places = [place for place in pipeline.catalog.ids.lookup(names).tolist() if place >= 0]
    ids, scores = pipeline.rank(Sessions.from_lists([places]), 21, Conditions(exclude_seen=exclude_seen))
    place = int(pipeline.catalog.ids.lookup([target])[0])
    rank = int(listed_rank(ids, scores, np.array([place if place >= 0 else -2]))[0])
    return rank if rank <= 20 else 0


def brute_force(rows: list[Row], model: Model, exclude_seen: bool) -> dict[str, list[float]]:
    """Return ranks and unknown targets of every click after midnight that has one before it."""
    ends = {session: time for session, _, time in rows}
    unlearned = [row for row in rows if ends[row[0]] > (model.learned_until or 0)]
    columns: dict[str, list[float]] = {"learning": [], "frozen": [], "unknown": []}
    frozen = pipeline_of(Catalog.of(model), model)
    learning, before_step = None, -1
    for place, (session, item, time) in enumerate(rows):
        before = [row[1] for row in rows[:place] if row[0] == session]
        if time <= (model.learned_until or 0) or not before:
            continue
        step = time // EVERY
        if step != before_step:
            state = OnlineState(model, LIMITS)
            state.apply([LogEntry(Click(*row, trusted=True), "") for row in unlearned if row[2] // EVERY < step])
            learning, before_step = pipeline_of(state.catalog(), model), step
        assert learning is not None
        columns["learning"].append(rank_in(learning, before, item, exclude_seen))
        columns["frozen"].append(rank_in(frozen, before, item, exclude_seen))
        columns["unknown"].append(item.startswith("new-") and item not in {row[1] for row in rows[:place]})
    return columns


@pytest.mark.parametrize("exclude_seen", [False, True])
def test_it_equals_the_reference(tmp_path: Path, exclude_seen: bool) -> None:
    log = log_file(tmp_path / "log.csv", ROWS, MODEL)
    result = replay(log, ReplaySettings(every=EVERY, exclude_seen=exclude_seen), LIMITS)
    expected = brute_force(ROWS, MODEL, exclude_seen)
    assert len(result.clicks) > 60
    assert result.ranks["learning"].tolist() == expected["learning"]
    assert result.ranks["frozen"].tolist() == expected["frozen"]
    assert result.unknown.tolist() == expected["unknown"]
    assert result.metrics()["learning"] == means_of(gains_of(np.array(expected["learning"])))
    assert result.ranks["learning"].tolist() != result.ranks["frozen"].tolist()
    assert 0 < result.unknown_percent() < 50


def test_what_is_hidden_now_was_there_and_what_the_log_removed_is_in_no_ranking(tmp_path: Path) -> None:
    hidden = replace(MODEL, items=ItemTable(N, hidden=frozenset({"sku-26", "sku-28", "new-1"})))
    removed = replace(MODEL, log_progress=LogProgress("", "", removed=np.arange(N // 2, dtype=np.int32)))
    plain, with_hidden, with_removed = (
        replay(log_file(tmp_path / "log.csv", ROWS, model), ReplaySettings(every=EVERY), LIMITS)
        for model in (MODEL, hidden, removed)
    )
    internal_ids = MODEL.ids.lookup([ROWS[click][1] for click in plain.clicks.tolist()])
    is_removed = (internal_ids >= 0) & (internal_ids < N // 2)
    for name, ranks in plain.ranks.items():
        assert with_hidden.ranks[name].tolist() == ranks.tolist(), name
    for name in ("frozen", "learning"):
        assert plain.ranks[name][is_removed].any()
        assert not with_removed.ranks[name][is_removed].any()


def test_the_baselines_know_all_clicks_of_earlier_steps(tmp_path: Path) -> None:
    half_life = 600_000.0
    log = log_file(tmp_path / "log.csv", ROWS, MODEL)
    result = replay(log, ReplaySettings(every=EVERY, half_life=half_life), LIMITS)
    numbers = {item: N + code for code, item in enumerate(log.stream.item_ids)} | {f"sku-{i}": i for i in range(N)}
    before = [[numbers[row[1]] for row in ROWS[:place] if row[0] == name] for place, (name, *_) in enumerate(ROWS)]
    for place, by_pairs, by_clicks in zip(
        result.clicks.tolist(), result.ranks["co-occurrence"], result.ranks["popularity"], strict=True
    ):
        counts = DecayedCounts(half_life)
        for index, (_, item, time) in enumerate(ROWS[:place]):
            if time // EVERY < ROWS[place][2] // EVERY:
                counts.click(numbers[item], before[index], time)
        target = np.array([numbers[ROWS[place][1]]])
        for rank, (ids, scores) in (
            (by_pairs, counts.co_occurring(before[place], 21, set())), (by_clicks, counts.popular(21, set())),
        ):  # fmt: skip
            expected = int(listed_rank(ids[None], scores[None], target)[0])
            assert rank == (expected if expected <= 20 else 0)


def test_what_is_scored(tmp_path: Path) -> None:
    log = log_file(tmp_path / "log.csv", ROWS, MODEL)
    begin, until = MIDNIGHT + 600_000, MIDNIGHT + 3_600_000
    result = replay(log, ReplaySettings(begin=begin, until=until, every=EVERY), LIMITS)
    first = [place for place, row in enumerate(ROWS) if row[0] not in {earlier[0] for earlier in ROWS[:place]}]
    assert result.clicks.tolist() == [
        place for place, row in enumerate(ROWS) if begin <= row[2] < until and place not in first
    ]
    assert sum(len(samples) for _, samples in result.parts()) == len(result.clicks)
    assert [name for name, _ in result.parts()] == ["2025-11-26T00:00"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "bundle", MODEL)
    source = written(tmp_path / "log.csv", ROWS)
    arguments = ["replay", str(tmp_path / "bundle"), str(source), "--every", "20"]
    assert main([*arguments, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    result = replay(log_file(tmp_path / "log.csv", ROWS, MODEL), ReplaySettings(every=EVERY), LIMITS)
    assert printed == result.as_dict()
    assert set(printed) == {"learning", "frozen", "baselines", "samples", "unknown_targets", "bots", "refused"}
    assert set(printed["baselines"]) == {"co-occurrence", "popularity"}
    assert {"P@20", "MRR@20"} <= set(printed["learning"])
    plot = tmp_path / "hours.png"
    assert main([*arguments, "--from", "2025-11-26T00:30", "--until", "2025-11-26T02:00", "--plot", str(plot)]) == 0
    assert "2025-11-26T01:00" in capsys.readouterr().out
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--json", "--plot", str(tmp_path / "missing" / "hours.png")]) == 1
    captured = capsys.readouterr()
    assert "hours.png" in captured.err
    assert json.loads(captured.out) == printed, "a picture that cannot be written takes no metrics along"
    assert main([*arguments, "--from", "yesterday"]) == 2
    assert main([*arguments, "--from", "2031-01-01"]) == 2


@pytest.mark.parametrize("option", ["--every", "--half-life"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "1e300"])
def test_a_bad_duration_is_an_error_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, number: str
) -> None:
    saved(tmp_path / "bundle", MODEL)
    source = written(tmp_path / "log.csv", ROWS)
    assert main(["replay", str(tmp_path / "bundle"), str(source), f"{option}={number}"]) == 2
    error = capsys.readouterr().err
    assert error == f"mtaw-fast: {option} {float(number)} is not a duration; write a number such as 0.5\n"


def test_the_parts_of_a_log_without_times_are_quarters() -> None:
    nothing = np.zeros(10, dtype=np.int32)
    result = ReplayResult(np.arange(10), np.arange(10), False, nothing > 0, {"learning": nothing}, {})
    assert [len(samples) for _, samples in result.parts()] == [3, 3, 2, 2]
    assert N == 30
