"""The bench of a ranker's types, end to end on toy logs, and the log that it draws."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="bench.quality needs the extra 'train'")

from bench.quality import types
from mtaw_fast.data.synthetic_types import CART, PURCHASE, VIEW, TypeLaw, draw_typed_sessions


def test_both_logs_have_a_line_for_each_group(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out, small = tmp_path / "out.jsonl", ["--sessions", "250", "--items", "60", "--seeds", "1"]
    options = ["--set", "ranker_epochs=1", "--set", "ranker_samples=200", "--set", "trend_candidates=10"]
    assert types.main(["--out", str(out), *small, *options]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert {line["log"] for line in lines} == set(types.LOGS)
    assert len(lines) == 2 * 5
    for line in lines:
        for mean, low, high in line["difference"].values():
            assert low <= mean + 0.01
            assert mean <= high + 0.01
    capsys.readouterr()
    assert types.main(["--table", "--out", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 10


@pytest.mark.parametrize("steers", [True, False])
def test_types_follow_the_law(steers: bool) -> None:
    law = TypeLaw(steers=steers)
    sessions = draw_typed_sessions(300, 4000, 1, types=law)
    same = draw_typed_sessions(300, 4000, 1, types=law)
    assert sessions.types is not None
    assert (sessions.items.tobytes(), sessions.types.tobytes()) == (same.items.tobytes(), same.types.tobytes())
    repeats, total = np.zeros(3), np.zeros(3)
    for row in range(len(sessions)):
        bounds = slice(sessions.offsets[row], sessions.offsets[row + 1])
        strongest: dict[int, int] = {}
        for item, kind in zip(sessions.items[bounds].tolist(), sessions.types[bounds].tolist(), strict=True):
            before = strongest.get(item)
            if before is not None:
                assert kind in ((VIEW, CART), (VIEW, PURCHASE), (VIEW,))[before]  # no item is bought twice
            for other, of_other in strongest.items():
                total[of_other] += 1
                repeats[of_other] += other == item
            strongest[item] = max(kind, strongest.get(item, VIEW))
    shares = repeats / total
    assert (shares[CART] > 2 * shares[VIEW]) == steers
    assert (shares[PURCHASE] < 0.7 * shares[VIEW]) == steers
