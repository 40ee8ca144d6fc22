"""The bench of online learning on a toy shop: its JSON, its checks, its inputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rich", reason="bench.live needs the extra 'train'")

from bench.live import __main__ as live
from bench.live.inputs import make_shop, stream
from mtaw_fast.kernels.native.memory_delta import MemoryDelta
from tests.support.bench.schema import rows_of


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("_EVENT_PAST", 4000), ("_CHUNK", 200), ("_QUICK_ITEMS", 400)):
        monkeypatch.setattr(live, name, value)


def run(tmp_path: Path, cases: str) -> tuple[int, list[dict]]:
    toy = ["--quick", "--events", "600", "--cases", cases]
    status = live.main([*toy, "--json", str(tmp_path / "out.json")])
    return status, rows_of(tmp_path / "out.json")


def test_every_stage_of_an_event_has_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, rows = run(tmp_path, "event")
    assert status == 0
    assert [row["params"]["stage"] for row in rows] == ["total", "append", "read", "apply"]
    assert "target 25: " in capsys.readouterr().out


@pytest.mark.slow
def test_memory_is_that_of_a_worker_a_redaction_and_a_compaction(tmp_path: Path) -> None:
    status, rows = run(tmp_path, "memory")
    assert status == 0
    assert [row["case"] for row in rows] == ["worker-memory", "worker-memory", "redact", "compaction-memory"]
    assert [row["step_ms"] for row in rows[:2]] == [100, 1]


def test_a_delta_that_forgets_has_no_cost(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(MemoryDelta, "click", lambda self, handles, items: None)
    assert run(tmp_path, "event") == (1, [])
    assert "learned clicks" in capsys.readouterr().err


def test_streams_are_their_sessions() -> None:
    shop = make_shop(300, 3000, 500, seed=1)
    events = stream(shop.later, 500, seed=2)
    assert (np.diff(events.times) > 0).all()
    assert len(events) == 500
    for handle in np.unique(events.handles).tolist():
        clicks = events.items[events.handles == handle].tolist()
        assert clicks == shop.later[handle][: len(clicks)].tolist()
    with pytest.raises(ValueError, match="draw more"):
        stream(shop.later.slice(0, 60), 10_000)
    assert np.array_equal(shop.later.items, make_shop(300, 3000, 500, seed=1).later.items)
