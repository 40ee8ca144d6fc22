"""The curves of a training: a panel for each kind of data, and no curve hides another."""

from __future__ import annotations

from typing import Any

import pytest

from mtaw_fast.evaluation.curves import figure_of, figures_of

BEST = {"P@10": 40.0, "MRR@10": 20.0, "P@20": 50.0, "MRR@20": 21.0}


def records(phase: str, epochs: int, metrics: bool = False) -> list[dict[str, Any]]:
    history = []
    for epoch in range(1, epochs + 1):
        record: dict[str, Any] = {
            "phase": phase,
            "epoch": epoch,
            "loss": 9.0 / epoch,
            "losses": [9.5 / epoch, 8 / epoch],
        }
        history.append(record | ({name: value + epoch for name, value in BEST.items()} if metrics else {}))
    return history


FULL = [
    record
    for phase, epochs in (
        ("slice", 2),
        ("ranker", 4),
        ("search", 2),
        ("slice-refit", 2),
        ("ranker-refit", 4),
        ("refit", 2),
    )
    for record in records(phase, epochs)
]
PAPER = [*records("search", 3, metrics=True), *records("refit", 2)]


def drawn(axes: Any) -> int:
    return len([line for line in axes.lines if len(line.get_xdata())]) + len(axes.patches)


@pytest.mark.parametrize(
    ("history", "best", "titles"),
    [
        (FULL, BEST, ["loss of the encoder", "loss of the ranker", "validation of the whole, percent"]),
        (FULL[:2], None, ["loss of the encoder"]),
        (FULL[:6], None, ["loss of the encoder", "loss of the ranker"]),
        (PAPER, BEST, ["loss of the encoder", "validation, percent"]),
    ],
)
def test_no_panel_is_empty(history: Any, best: Any, titles: list[str]) -> None:
    figure = figure_of(history, best)
    assert [axes.get_title() for axes in figure.axes] == titles
    assert all(drawn(axes) for axes in figure.axes)
    assert [chart.axes[0].get_title() for chart in figures_of(history, best, "dark")] == titles
