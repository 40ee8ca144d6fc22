"""The bench of online learning end to end on a toy shop: its JSON, its checks, its inputs."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("uvicorn", reason="bench.live needs the extra 'serve'")
pytest.importorskip("psutil", reason="bench.live needs the extra 'bench'")
pytest.importorskip("rich", reason="bench.live needs the extra 'train'")

from bench.harness.comparison import Plan
from bench.live import added, command, event, loss, rate
from bench.live.inputs import make_shop, queries, stream
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from mtaw_fast.online.state.event_processor import EventProcessor
from tests.support.bench.schema import rows_of

TOY = ["--quick", "--items", "400", "--clicks", "4000", "--events", "600", "--workers", "1"]
LOAD = ["--pairs", "1", "--seconds", "0.5", "--rate", "60", "--event-rate", "200", "--batch", "10"]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, cheap_timing: None) -> None:
    """Toy sizes and few calls, with everything else as it is."""
    monkeypatch.setattr(command, "_QUICK_PLAN", Plan(rounds=3, burst=2, settle=1, warmup=1))
    monkeypatch.setattr(command, "_EVENT_PAST", 4000)
    monkeypatch.setitem(command._QUICK, "deltas", (50, 300))
    monkeypatch.setitem(command._QUICK, "ramp", 0.2)
    monkeypatch.setattr(added, "_ASKED", 60)
    monkeypatch.setattr(event, "_CHUNK", 200)
    monkeypatch.setattr(rate, "_SESSIONS", 300)


def run(tmp_path: Path, *arguments: str) -> tuple[int, list[dict]]:
    status = command.main([*TOY, "--json", str(tmp_path / "out.json"), *arguments])
    return status, rows_of(tmp_path / "out.json")


def test_the_cases_within_a_process_in_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows = run(tmp_path, "--cases", "recommend-added,event,compact")
    assert status == 0
    first, *others = rows
    assert (first["case"], first["metric"], first["baseline"]) == ("recommend-added", "latency_us", "base-alone")
    assert first["params"]["base_clicks"] == 4000
    stages = [row["params"]["stage"] for row in others if row["case"] == "event"]
    assert stages == ["total", "append", "read", "ledger", "native"]
    sizes = [(row["params"]["events"], row["metric"]) for row in others if row["case"] == "compact"]
    assert sizes == [(50, "compact_s"), (300, "compact_s")]
    printed = capsys.readouterr().out
    assert "us p50; target +10" in printed
    assert "target 25: " in printed


@pytest.mark.slow
def test_the_cases_over_http_in_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows = run(tmp_path, "--cases", "rate,fresh", *LOAD, "--trials", "2")
    assert status == 0, capsys.readouterr().err
    load, fresh = rows
    assert (load["case"], load["baseline"], load["errors"]) == ("rate", "without-learning", 0)
    assert load["p90_ratio"] == pytest.approx(load["p90"] / load["p90_without"], rel=1e-3)
    assert load["ratio"] == pytest.approx(1 / load["p90_ratio"], rel=1e-3)
    assert load["checked"] == 100
    assert (fresh["case"], fresh["n"]) == ("fresh", 2)
    assert fresh["p50"] <= fresh["max"]


def test_killed_observers_lose_nothing(tmp_path: Path) -> None:
    status, rows = run(tmp_path, "--cases", "loss", "--kills", "2")
    assert status == 0
    (row,) = rows
    assert (row["lost"], row["doubled"]) == (0, 0)
    assert row["params"]["acknowledged"] > 0


def test_an_observer_that_ends_by_itself_is_no_kill(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    assert run(tmp_path, "--cases", "loss", "--kills", "1") == (1, [])
    assert "an observer ended by itself, with status 1" in capsys.readouterr().err


@pytest.mark.parametrize("times", [0, 2])
def test_events_that_are_lost_or_doubled_are_noticed(times: int, tmp_path: Path, monkeypatch, capsys) -> None:
    """The observer is unchanged; the reader that counts learns its first event never, or twice."""
    process = EventProcessor.process

    def wrong(self, entries, sink):
        if entries and self.position == "":
            bare = entries[0]._replace(event=type(entries[0].event)("s0", 1, entries[0].event.time))
            entries = [*[bare] * times, *entries[1:]]
        process(self, entries, sink)

    monkeypatch.setattr(EventProcessor, "process", wrong)
    monkeypatch.setattr(loss, "_MAX_ACKS", 20)
    status, (row,) = run(tmp_path, "--cases", "loss", "--kills", "1")
    assert status == 1
    assert (row["lost"], row["doubled"]) == ((1, 0) if times == 0 else (0, 1))
    assert "refused: loss" in capsys.readouterr().err


def test_a_delta_that_forgets_has_no_latency(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(MemoryDelta, "click", lambda self, handles, items: None)
    status, rows = run(tmp_path, "--cases", "recommend-added,event")
    assert status == 1
    assert {row["case"] for row in rows} == {"places-as-in-a-rebuild"}
    assert all(row["p50"] < row["target"] for row in rows)
    output = capsys.readouterr().err
    assert "ranks are as in a rebuild" in output
    assert "learned clicks" in output


def test_events_that_were_acknowledged_and_not_learned_have_no_rate(tmp_path: Path) -> None:
    bundle = make_shop(300, 3000, 10).saved(tmp_path / "bundle")
    with pytest.raises(MtawError, match="10 events were acknowledged, 0 learned"):
        rate._check(rate.Pairs(events=10), None, bundle, tmp_path / "learned", [])  # type: ignore[arg-type]


def test_streams_are_their_sessions() -> None:
    shop = make_shop(300, 3000, 500, seed=1)
    events = stream(shop.later, 500, seed=2)
    assert (np.diff(events.times) > 0).all()
    ordered = events.ordered()
    assert ordered.n_clicks == len(events) == 500
    for handle in np.unique(events.handles).tolist():
        clicks = events.items[events.handles == handle].tolist()
        assert clicks == shop.later[handle][: len(clicks)].tolist()
    last = [int(np.flatnonzero(events.handles == handle)[-1]) for handle in np.unique(events.handles)]
    newest = int(np.unique(events.handles)[int(np.argmax(last))])
    assert ordered[len(ordered) - 1].tolist() == events.items[events.handles == newest].tolist()
    assert 3 < shop.later.lengths.mean() < 5
    with pytest.raises(ValueError, match="draw more"):
        stream(shop.later.slice(0, 60), 10_000)
    repeated = make_shop(300, 3000, 500, seed=1)
    assert np.array_equal(shop.later.items, repeated.later.items)
    assert isinstance(queries(shop.later, 3), Sessions)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cases", "speed"], "there is no such case"),
        (["--events", "0"], "must be over 0"),
        (["--batch", "0"], "over 0"),
    ],
)
def test_misuse_is_reported_before_anything_runs(arguments: list[str], said: str, capsys) -> None:
    assert command.main(arguments) == UsageError.exit_code
    assert said in capsys.readouterr().err
