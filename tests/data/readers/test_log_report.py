"""What `prepare` says of a log: counts against brute force, and a warning for each thing that looks wrong."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import ClickOptions, read
from mtaw_fast.errors import DataError, UsageError

NAMES = ("session_id", "item_id", "timestamp")
DAY = 86_400
BEGIN = 1_700_000_000 // DAY * DAY
LOOSE = {"min_support": 1, "test_days": 0}


def prepared(rows: list[tuple[Any, ...]], **options: Any) -> Dataset:
    frame = pl.DataFrame(rows, schema=NAMES[: len(rows[0])] + ("kind",) * (len(rows[0]) - 3), orient="row")
    return read("clicks", frame, options=ClickOptions(**{**LOOSE, **options}))


def report(rows: list[tuple[Any, ...]], **options: Any) -> dict[str, Any]:
    return prepared(rows, **options).preparation["log"]


def visits(sessions: int, per_day: int = 200, clicks: int = 3, items: int = 40) -> list[tuple[int, str, int]]:
    """Sessions of so many clicks, a minute between two, evenly over the days."""
    return [
        (s, f"i{(7 * s + t) % items}", BEGIN + s * DAY // per_day + 60 * t)
        for s in range(sessions)
        for t in range(clicks)
    ]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 3), st.integers(0, 12), st.sampled_from(["view", "cart"])),
        min_size=1,
        max_size=40,
    ),
    seconds=st.sampled_from([0.0, 1.0, 3.0]),
    typed=st.booleans(),
)
def test_dedupe_equals_brute_force(rows: list[tuple[Any, ...]], seconds: float, typed: bool) -> None:
    """A click counts unless the same one came within so many seconds before it, itself kept or not."""
    latest: dict[Any, int] = {}
    kept, same, near = Counter[Any](), 0, 0
    for session, item, moment, kind in sorted(rows, key=lambda row: row[2]):
        key = (session, item, kind if typed else "")
        gap = moment - latest.get(key, -100)
        latest[key] = moment
        same, near = same + (gap == 0), near + (gap <= 1)
        kept[session] += gap > seconds
    options = {"dedupe": seconds, **({"type": "kind"} if typed else {})}
    expected = sum(count for count in kept.values() if count >= 2)
    if not expected:
        with pytest.raises(DataError):
            prepared(rows, **options)
        return
    dataset = prepared(rows, **options)
    log = dataset.preparation["log"]
    assert dataset.train.n_clicks == expected
    assert (log["repeats"], log["near_repeats"]) == (same, near)
    assert log["dropped_repeats"] == len(rows) - sum(kept.values())


BOTS = [(-1 - bot, f"i{k % 40}", BEGIN + k) for bot in range(3) for k in range(2000)]
FUTURE = [(-1, "i1", 4_070_908_800), (-1, "i2", 4_070_908_801)]
NEWS = [(s, f"day{s // 200}-{(s + t) % 9}", BEGIN + s * DAY // 200 + t) for s in range(2000) for t in range(3)]
NEWS += [(5000 + s, "front page", BEGIN + s * DAY // 200 + t) for s in range(2000) for t in range(2)]


@pytest.mark.parametrize(
    ("rows", "options", "texts"),
    [
        (visits(1500), {}, []),
        ([row for row in visits(1500) for _ in range(2)], {}, ["50% of the clicks repeat"]),
        ([row for row in visits(1500) for _ in range(2)], {"dedupe": 0}, []),
        ([*visits(2500), (-1, "i1", 5), (-1, "i2", 6)], {}, ["2 clicks up to 1970-01-01 are"]),
        ([(*row[:2], row[2] % DAY) for row in visits(1500)], {},
         ["4,500 clicks from 1970-01-01 to 1970-01-01 are before 1990: check --time, the column"]),
        ([*visits(1500), *FUTURE], {"test_days": 7},
         ["from 2099-01-01 on are in the future", "the test split has 1 sample", "too few to compare models"]),
        ([*visits(1500), *BOTS], {}, ["3 sessions of more than 500 clicks"]),
        ([*visits(1500), *BOTS], {"max_session": None}, ["the longest session has 2,000 clicks"]),
        (NEWS, {"test_days": 1}, ["on items that training never saw"]),
    ],
    ids=["clean", "twice", "deduped", "1970", "no-times", "2099", "bots", "long", "news"],
)  # fmt: skip
def test_what_looks_wrong_is_a_warning(rows: list[tuple[Any, ...]], options: dict[str, Any], texts: list[str]) -> None:
    warnings = report(rows, **options)["warnings"]
    assert bool(warnings) == bool(texts)
    for text in texts:
        assert any(text in warning for warning in warnings)


@pytest.mark.parametrize("rounds", ["once", "until-stable"])
def test_counts_by_hand(rounds: str) -> None:
    rows = [
        *((1, item, BEGIN + t) for t, item in enumerate("abab")),
        *((2, item, BEGIN + 10 + t) for t, item in enumerate("az")),  # z is rare: then too short
        (3, "a", BEGIN + 20),  # too short
        *((4, "b", DAY + BEGIN + t) for t in range(6)),  # too long
    ]
    counts = report(rows, min_support=2, max_session=5, support_rounds=rounds)
    expected = {"rows": 13, "clicks": 13, "sessions": 4, "short_sessions": 1, "rare_sessions": 1, "long_sessions": 1}
    assert {name: counts[name] for name in expected} == expected
    assert (counts["items"], counts["rare_items"], counts["longest"]) == (3, 1, 6)
    first, second = (str(np.datetime64(BEGIN + k * DAY, "s").astype("datetime64[D]")) for k in range(2))
    assert counts["days"] == {first: 7, second: 6}


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 30)), min_size=2, max_size=60),
    min_prefix=st.integers(1, 2),
)
def test_what_training_never_saw_equals_brute_force(rows: list[tuple[int, int, int]], min_prefix: int) -> None:
    sessions: dict[int, list[tuple[int, int]]] = {}
    for session, item, moment in rows:
        sessions.setdefault(session, []).append((moment, item))
    whole = {
        s: sorted(clicks, key=lambda click: click[0]) for s, clicks in sessions.items() if len(clicks) > min_prefix
    }
    last = max((clicks[-1][0] for clicks in whole.values()), default=0)
    test = {s for s, clicks in whole.items() if clicks[-1][0] > last - 10}
    known = {item for s, clicks in whole.items() if s not in test for _, item in clicks}
    unseen = [[item not in known for _, item in whole[s]] for s in test]
    options = {"test_days": 10 / DAY, "min_prefix": min_prefix, "min_session": min_prefix + 1}
    if not known or not any(len(flags) - sum(flags) > min_prefix for flags in unseen):
        with pytest.raises(DataError):
            prepared(rows, **options)
        return
    dataset: Any = prepared(rows, **options)
    counts = dataset.preparation["log"]
    assert counts["test_clicks"] == sum(map(len, unseen))
    assert counts["unseen_clicks"] == sum(map(sum, unseen))
    missed = [sum(flags[min_prefix:]) for flags in unseen]
    assert counts["missed_targets"] == sum(missed)
    assert sorted(Counter(dataset.unseen.tolist()).values()) == sorted(count for count in missed if count)
    # Samples and missed targets of one session bear one number.
    by_number = Counter([*dataset.test.session.tolist(), *dataset.unseen.tolist()])
    kept = [len(flags) - sum(flags) > min_prefix for flags in unseen]
    expected = [
        sum(flags[min_prefix:]) + (max(len(flags) - sum(flags) - min_prefix, 0) if fits else 0)
        for flags, fits in zip(unseen, kept, strict=True)
    ]
    assert sorted(by_number.values()) == sorted(count for count in expected if count)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_support": 5}, "none of 30 clicks in 10 sessions: no session .* .the most clicked of 30 items has 1"),
        ({"min_session": 4, "test_days": 0}, "the longest session has 3"),
        ({"test_days": 7}, "all 10 sessions end within the test period.*span 0.0 days"),
    ],
)
def test_a_log_of_ten_sessions_says_what_is_too_few(options: dict[str, Any], message: str) -> None:
    rows = [(s, f"i{3 * s + t}", BEGIN + 60 * s + t) for s in range(10) for t in range(3)]
    with pytest.raises(DataError, match=message):
        prepared(rows, **options)
    assert report(rows)["warnings"][0].startswith("10 training sessions are too few")
    new_items = [(1, "a", 0), (1, "b", 1), (2, "c", 2 * DAY), (2, "d", 2 * DAY)]
    with pytest.raises(DataError, match="lengthen the test period"):
        prepared(new_items, test_days=1)


def test_overwrite(tmp_path: Path) -> None:
    first, second = prepared(visits(30)), prepared(visits(60))
    first.save(tmp_path / "set")
    (tmp_path / "set/notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="--overwrite"):
        second.save(tmp_path / "set")
    mapped = Dataset.load(tmp_path / "set")
    second.save(str(tmp_path / "set"), overwrite=True)
    assert len(Dataset.load(str(tmp_path / "set")).train) == 60
    assert np.array_equal(mapped.train.items, first.train.items)  # a reader keeps what it has
    assert len(list((tmp_path / "set").glob("*.safetensors"))) == 3
    assert (tmp_path / "set/notes.txt").read_text() == "mine"
    second.save(tmp_path / "set", overwrite=True)  # the same files again
    assert len(Dataset.load(tmp_path / "set").train) == 60
    (tmp_path / "set/manifest.json").write_text('{"format": "other"}')
    with pytest.raises(UsageError, match="not a data set folder"):
        second.save(tmp_path / "set", overwrite=True)
    assert len(list((tmp_path / "set").glob("*.safetensors"))) == 3


def test_a_failed_overwrite_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(visits(30)).save(tmp_path / "set")

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mtaw_fast.data.dataset.write_json", broken)
    for sessions in (30, 60):  # the same files, others
        with pytest.raises(OSError, match="space"):
            prepared(visits(sessions)).save(tmp_path / "set", overwrite=True)
        assert len(Dataset.load(tmp_path / "set").train) == 30
        assert len(list((tmp_path / "set").glob("*.safetensors"))) == 3


def test_a_type_that_no_click_has() -> None:
    rows = [(*row, ("view", "cart")[place % 2]) for place, row in enumerate(visits(1500, clicks=4))]
    counts = report(rows, type="kind", types=("views", "cart"))
    assert counts["type_clicks"] == {"views": 0, "cart": len(rows) // 2}
    assert "no click has the type 'views' (there are 'cart'): check --types" in counts["warnings"]
    for options in ({}, {"types": ("view",)}):
        counts = report(rows, type="kind", **options)
        assert set(counts["type_clicks"].values()) == {len(rows) // 2}
        assert not any("type" in warning for warning in counts["warnings"])
    assert report(visits(1500))["type_clicks"] == {}
