"""The bench of the ceiling: its bounds hold and are reached, and contexts are compared across sessions alone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="bench.quality needs the extra 'train'")

from bench.quality import ceiling
from mtaw_fast.data.sessions import Sessions, offsets_of
from tests.support.bench.quality import TINY, write_ring

WEIGHTS = 1 / np.arange(1, 21)


@pytest.mark.parametrize("concentration", [0.02, 0.1, 1.0])
def test_no_order_is_better_than_the_bounds(concentration: float) -> None:
    for p in np.random.default_rng(0).dirichlet(np.full(60, concentration), 200):
        best = np.sort(p)[::-1][:20]
        assert best @ WEIGHTS <= ceiling.best_mrr(float(p @ p)) + 1e-9
        assert best.sum() <= ceiling.best_precision(p @ p) + 1e-9


@pytest.mark.parametrize("level", [0.0, 0.1, 0.3, 0.6, 0.95])
def test_some_probabilities_reach_the_bound_of_mrr(level: float) -> None:
    p = np.maximum(WEIGHTS - level, 0)
    p /= p.sum()
    assert ceiling.best_mrr(float(p @ p)) == pytest.approx(p @ WEIGHTS)
    if level == 0:  # below, the rest of the probability is on items that never repeat
        assert ceiling.best_mrr(float(p @ p / 4)) == pytest.approx(p @ WEIGHTS / 2)


def packed(*sessions: list[int]) -> Sessions:
    lengths = [len(session) for session in sessions]
    return Sessions(np.concatenate(sessions).astype(np.int32), offsets_of(lengths))


def test_a_context_is_compared_with_the_latest_earlier_session_that_has_it() -> None:
    # Samples by position: 0 1 | 2 3 4 | 5 6 | 7 8
    sessions = packed([1, 2, 3], [1, 2, 1, 2], [1, 2, 3], [5, 2, 1])

    def compared(context: str, kind: str = "all") -> dict[int, bool]:
        rows, same = ceiling.agreeing(sessions, 1, context, kind)
        return dict(zip(rows.tolist(), same.tolist(), strict=True))

    assert compared("whole 2") == {3: False, 6: False}  # 3 is the latest before 6, not 1
    assert compared("whole 1") == {2: True, 5: True}
    # 4 has no whole session before it, but the clicks 2, 1; of its own session 2 does not count.
    assert compared("last 1") == {2: True, 3: False, 4: True, 5: True, 6: False, 8: False}
    assert compared("last 1", "new") == {2: True, 5: True, 6: True, 8: False}
    assert compared("last 1", "repeat") == {}


def test_every_context_has_a_line_and_a_second_run_trains_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_ring(tmp_path / "data")
    options = [*TINY, "--set", "ranker_epochs=1", "--set", "ranker_samples=100", "--out", str(tmp_path / "out.jsonl")]
    call = ["--data", str(tmp_path / "data"), "--work", str(tmp_path / "work"), *options]
    assert ceiling.main(call) == 0
    text = (tmp_path / "out.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    bounds, found = ([line for line in lines if ("context" in line) == has] for has in (True, False))
    assert {line["context"] for line in bounds} >= {"whole 1", "last 1"}
    for line in bounds:
        mean, low, high = line["MRR@20 at most"]
        assert 0 <= low <= mean <= high <= 100
        assert 0 < line["covered"] <= line["samples"]
    for line in found:
        assert max(line["P@20"].values()) == line["P@20"]["any"]
        assert line["any over full"][0] == pytest.approx(line["P@20"]["any"] - line["P@20"]["full"], abs=0.011)
    monkeypatch.setattr("bench.quality.ablations.fit_encoder", None)
    assert ceiling.main(call) == 0
    assert (tmp_path / "out.jsonl").read_text() == text
    capsys.readouterr()
    assert ceiling.main(["--table", "--out", str(tmp_path / "out.jsonl")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5 + len({line["context"] for line in bounds}) + 5
