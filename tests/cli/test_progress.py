"""The progress line of a training."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from mtaw_fast.cli.progress import TrainingProgress


def progress(terminal: bool) -> tuple[TrainingProgress, io.StringIO]:
    out = io.StringIO()
    return TrainingProgress(Console(file=out, force_terminal=terminal, width=100)), out


def test_on_a_terminal_the_line_shows_the_work_of_all_epochs() -> None:
    shown, out = progress(terminal=True)
    with shown:
        shown.phase_starts("ranker", 3, 6)
        shown.epoch_starts("ranker, dataset", 1, 1, 0)  # nothing to do
        shown.epoch_starts("ranker", 3, 4, 1000)  # resumed
        [task] = shown._bar.tasks
        assert (task.description, task.percentage) == ("3 of 6: ranker", 50)
        shown.step_done(900, 1.5)
        shown.step_done(100, 0.5)
        assert (task.percentage, task.fields["loss"]) == (pytest.approx(75), "  loss 1.4800")
        shown.epoch_ends({"phase": "ranker", "epoch": 3, "loss": 1.5, "seconds": 10.0, "samples_per_second": 100.0})
        shown.epoch_starts("ranker", 4, 4, 1000)
        shown.step_done(500, 0.0)
        assert (task.percentage, task.fields["loss"]) == (pytest.approx(87.5), "")
        assert task.time_remaining is not None
    assert "3 of 6: ranker" in out.getvalue()
    assert "ranker epoch" in out.getvalue()


def test_elsewhere_than_on_a_terminal_a_phase_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, out = progress(terminal=False)
    with shown:
        for number, phase in enumerate(("search", "refit"), start=1):
            shown.phase_starts(phase, number, 2)
            shown.epoch_starts(phase, 1, 1, 10)
            shown.step_done(10, 2.0)
            shown.epoch_ends({"phase": phase, "epoch": 1, "loss": 2.0, "seconds": 1.0, "sessions_per_second": 10.0})
    lines = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["1 of 2", "search epoch 1", "2 of 2", "refit epoch 1"]
    assert lines[-1].endswith("sessions/s)")
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now + 11)
    with shown:
        shown.epoch_starts("ranker, dataset", 1, 1, 10)
        shown.step_done(3, 0.0)
        shown.step_done(3, 0.0)
    assert out.getvalue().splitlines()[4:] == ["2 of 2: ranker, dataset 30%"]
