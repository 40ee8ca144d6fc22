"""Memory of a worker, a compaction and a redaction, each in a process of its own: few bytes an event."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.live.inputs import make_shop
from bench.live.memory_use import compaction, log_events, redaction, traced_worker, worker

EVENTS = 40_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a bundle, and two logs: of an hour, and of 40 s, at whose end every session is open."""
    folder, generated = tmp_path_factory.mktemp("memory"), make_shop(2_000, 20_000, EVENTS)
    generated.saved(folder / "bundle")
    log_events(generated, EVENTS, folder / "hour", 100)
    log_events(generated, EVENTS, folder / "minute", 1)
    return folder


@pytest.mark.parametrize(("log", "peak_bytes"), [("hour", 185), ("minute", 235)])
def test_a_worker_holds_few_bytes_an_event(logged: Path, log: str, peak_bytes: int) -> None:
    memory = worker(logged / "bundle", logged / log)
    assert memory.events == EVENTS + 1
    assert memory.delta / EVENTS <= 275
    held, peak = traced_worker(logged / "bundle", logged / log)
    assert held / EVENTS <= 20
    assert peak / EVENTS <= peak_bytes


def test_a_compaction_takes_few_bytes_an_event(logged: Path) -> None:
    assert compaction(logged / "bundle", logged / "hour") / EVENTS <= 900


def test_a_redaction_takes_no_memory(logged: Path, tmp_path: Path) -> None:
    peak, _ = redaction(logged / "hour", "visitor-7", tmp_path / "log")
    assert peak <= 4 << 20
