"""The progress line of a training, by a clock that the test moves."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mtaw_fast.cli.progress import TimeLeft, TrainingProgress, duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def progress(terminal: bool) -> tuple[TrainingProgress, Clock, io.StringIO]:
    clock, out = Clock(), io.StringIO()
    return TrainingProgress(Console(file=out, force_terminal=terminal, width=100), clock), clock, out


def test_the_line_names_phase_place_and_time_left() -> None:
    bar, clock, out = progress(terminal=True)
    with bar:
        bar.phase_starts("ranker", 3, 6)
        assert bar.line == "3 of 6: ranker"
        bar.epoch_starts("ranker", 1, 4, 1000)
        clock.now += 9
        bar.step_done(900, 1.5)
        assert bar.line == "3 of 6: ranker, 31 s left"
        clock.now += 1
        bar.step_done(100, 1.5)
        bar.epoch_ends({"phase": "ranker", "epoch": 1, "loss": 1.5, "seconds": 10.0, "samples_per_second": 100.0})
        bar.epoch_starts("ranker", 2, 4, 1000)
        assert bar.line == "3 of 6: ranker, 30 s left"
        bar.phase_starts("search", 4, 6)
        assert bar.line == "4 of 6: search"
    assert "3 of 6: ranker" in out.getvalue()  # how often it is drawn goes by the real clock
    assert "ranker epoch" in out.getvalue()


def test_elsewhere_than_on_a_terminal_a_phase_is_a_line() -> None:
    bar, _, out = progress(terminal=False)
    with bar:
        for number, phase in enumerate(("search", "refit"), start=1):
            bar.phase_starts(phase, number, 2)
            bar.epoch_starts(phase, 1, 1, 10)
            bar.step_done(10, 2.0)
            bar.epoch_ends({"phase": phase, "epoch": 1, "loss": 2.0, "seconds": 1.0, "sessions_per_second": 10.0})
    lines = out.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["1 of 2", "search epoch 1", "2 of 2", "refit epoch 1"]


def test_the_speed_of_an_epoch_has_the_unit_of_its_phase() -> None:
    bar, _, out = progress(terminal=False)
    for phase, unit in (("search", "sessions"), ("ranker", "samples")):
        bar.epoch_ends({"phase": phase, "epoch": 1, "loss": 1.5, "seconds": 10.0, f"{unit}_per_second": 100.0})
    assert [line.split()[-1] for line in out.getvalue().splitlines()] == ["sessions/s)", "samples/s)"]


def test_a_piece_that_was_resumed_counts_from_where_it_began() -> None:
    clock = Clock()
    time_left = TimeLeft(clock)
    time_left.epoch_starts("refit", 3, 4, 100)
    assert time_left.seconds() is None
    clock.now += 5
    time_left.step_done(50)
    assert time_left.share == pytest.approx(0.25)
    assert time_left.seconds() == pytest.approx(15)
    clock.now += 5
    time_left.step_done(50)
    time_left.epoch_starts("refit", 4, 4, 100)
    assert time_left.seconds() == pytest.approx(10)
    time_left.step_done(100)
    assert time_left.seconds() is None
    time_left.epoch_starts("other", 1, 1, 0)  # nothing to do
    assert time_left.share == 0


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3900, "1 h 5 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
