"""The one rule of what a bot is, and that prepare, update and replay go by it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.data.bots import BotRule
from mtaw_fast.data.readers import ClickOptions, bot_rule, read, read_stream
from mtaw_fast.online.batch_update import LogFile, apply_log, log_limits
from mtaw_fast.online.replay import ReplaySettings, replay
from tests.support.online.recommenders import MODEL, N

BEGIN = 1_764_150_000
RULE = BotRule()


def bots(*sessions: list[int], rule: BotRule = RULE) -> list[bool]:
    """Return which sessions, by the times of their clicks in ms, are bots; the clicks come mixed."""
    owners = np.concatenate([np.full(len(times), number) for number, times in enumerate(sessions)])
    times = np.concatenate([np.array(times, np.int64) for times in sessions])
    order = np.argsort(times, kind="stable")
    return rule.bots(owners[order], times[order], len(sessions)).tolist()


def test_more_clicks_in_a_burst_than_people_make() -> None:
    start = BEGIN * 1000 + 1
    fast, slow = [start + 320 * n for n in range(31)], [start + 340 * n for n in range(31)]
    assert bots(fast, fast[:30], slow, [start]) == [True, False, False, False]
    late = [start + 60_000 * n for n in range(50)] + [start + 3_000_000 + n for n in range(31)]
    assert bots(late, late[:80]) == [True, False], "a burst at the end"
    assert bots(fast, rule=BotRule(burst_clicks=40)) == [False]


def test_more_clicks_than_people_make() -> None:
    untimed = RULE.bots(np.repeat([0, 1], [501, 500]), None, 2)
    assert untimed.tolist() == [True, False]


def test_the_formats_of_published_scripts_know_no_bots() -> None:
    assert bot_rule({"format": "clicks", "max_session": None}) == BotRule(longest=None)
    assert bot_rule({"format": "clicks"}) == RULE, "of a bundle that does not say"
    assert bot_rule({"format": "tmall"}) is bot_rule({"format": "npz"}) is None


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A day with 200 visitors, one bot that is fast, and one that clicks 600 times."""
    rng = np.random.default_rng(5)
    lines = ["session_id,item_id,timestamp"]
    for visitor in range(200):
        begin = BEGIN + 300 * visitor
        lines += [f"v{visitor},sku-{i},{begin + 30 * n}" for n, i in enumerate(rng.integers(0, N, 4).tolist())]
    lines += [f"fast,sku-{n % N},{BEGIN + 1 + n // 5}" for n in range(60)]
    lines += [f"long,sku-{n % N},{BEGIN + 1 + 60 * n}" for n in range(600)]
    path = tmp_path / "day.csv"
    path.write_text("\n".join(lines))
    return path


def test_prepare_update_and_replay_leave_out_the_same_sessions(log: Path) -> None:
    dataset = read("clicks", log, options=ClickOptions(test_days=0, min_support=1))
    report = dataset.preparation["log"]
    assert len(dataset.train) == 200
    assert {name: report[name] for name in ("long_sessions", "long_clicks", "burst_sessions", "burst_clicks")} == {
        "long_sessions": 1, "long_clicks": 600, "burst_sessions": 1, "burst_clicks": 60,
    }  # fmt: skip
    stream = read_stream(log, dataset.reader)
    file = LogFile.of(stream, MODEL, bot_rule(dataset.reader))
    assert (file.bot_clicks, int(file.bots.sum())) == (660, 2)
    limits = log_limits()
    model, summary = apply_log(file, limits)
    assert (summary.bots, summary.refused["bot"], summary.known_clicks) == (2, 660, 0)
    assert summary.learned_sessions == 200
    assert summary.clicks == summary.learned_clicks + sum(summary.refused.values())
    result = replay(file, ReplaySettings(), limits)
    assert (result.bots, result.refused["bot"], len(result.clicks)) == (2, 660, 200 * 3)
    assert result.as_dict()["bots"] == 2
    assert model.n_items == N
