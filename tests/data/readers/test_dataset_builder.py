"""From clicks to a data set: sessions, filters, and the cut between training and test."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.readers import read
from tests.support.data import reference_reader as reference
from tests.support.data.click_files import DAY, refused
from tests.support.data.raw_logs import LOOSE, click_log


@settings(max_examples=80, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 900), st.sampled_from(["view", "view", "cart"])),
        min_size=1,
        max_size=60,
    ),
    gap=st.sampled_from([0.5, 20.0, 60.0]),
)
def test_inactivity_gap_equals_the_plain_reference(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int, str]], gap: float
) -> None:
    path = click_log(tmp_path_factory.mktemp("log") / "log.csv", rows, "who,item_id,timestamp,kind\n")
    options = dataclasses.replace(LOOSE, user="who", gap=gap, type="kind", types=("view",))
    expected = reference.prepare(
        reference.sessions_by_gap([(u, i, t * 1000, kind == "view") for u, i, t, kind in rows], round(gap * 1000)),
        min_session=2,
        max_session=None,
        min_support=1,
        until_stable=False,
        test_ms=0,
        drop_at_boundary=False,
        min_prefix=1,
    )
    if expected is None:
        refused(path, options)
    else:
        assert reference.contents(read("clicks", path, options=options)) == expected


def test_once_and_until_stable_differ(tmp_path: Path) -> None:
    """Worked by hand: c falls to the support of 2 only in the second round, when the session of b is gone."""
    rows = [("1", "a", 1), ("1", "a", 2), ("2", "b", 3), ("2", "c", 4), ("3", "c", 5), ("3", "a", 6), ("3", "a", 7)]
    path = click_log(tmp_path / "log.csv", rows)
    once = read("clicks", path, options=dataclasses.replace(LOOSE, min_support=2))
    stable = read("clicks", path, options=dataclasses.replace(LOOSE, min_support=2, support_rounds="until-stable"))
    assert reference.contents(once)["train"] == [["a", "a"], ["c", "a", "a"]]
    assert reference.contents(stable)["train"] == [["a", "a"], ["a", "a"]]
    assert stable.ids.external(np.arange(1)) == ["a"]


def test_end_is_the_last_click_before_filtering(tmp_path: Path) -> None:
    """Session 2's last click is on a rare item, yet it decides that the session is test."""
    rows = [("1", "a", 0), ("1", "b", 10), ("2", "a", 20), ("2", "b", 30), ("2", "rare", 90 * DAY), ("3", "a", 40)]
    rows += [("3", "b", 50)]
    options = dataclasses.replace(LOOSE, min_support=2, test_days=1)
    contents = reference.contents(read("clicks", click_log(tmp_path / "log.csv", rows), options=options))
    assert contents["train"] == [["a", "b"], ["a", "b"]]
    assert contents["test"] == [(0, ["a"], "b")]


def test_boundary_session_is_training(tmp_path: Path) -> None:
    rows = [("1", "a", 0), ("1", "b", 0), ("2", "a", DAY), ("2", "b", DAY)]
    dataset = read("clicks", click_log(tmp_path / "log.csv", rows), options=dataclasses.replace(LOOSE, test_days=1))
    assert (len(dataset.train), len(dataset.test)) == (1, 1)


def test_items_unseen_in_training_leave_the_test(tmp_path: Path) -> None:
    rows = [("1", "a", 0), ("1", "b", 1), ("2", "new", 9 * DAY), ("2", "a", 9 * DAY + 1), ("2", "b", 9 * DAY + 2)]
    contents = reference.contents(
        read("clicks", click_log(tmp_path / "log.csv", rows), options=dataclasses.replace(LOOSE, test_days=1))
    )
    assert contents["ids"] == ["a", "b"]
    assert contents["test"] == [(0, ["a"], "b")]


def test_periods_that_leave_nothing_are_refused(tmp_path: Path) -> None:
    rows = [("1", "a", 0), ("1", "b", 1), ("2", "c", 2 * DAY), ("2", "d", 2 * DAY)]
    path = click_log(tmp_path / "log.csv", rows)
    assert "none is left to train on" in refused(path, dataclasses.replace(LOOSE, test_days=30))
    assert "lengthen the test period" in refused(path, dataclasses.replace(LOOSE, test_days=1))
    typed = click_log(tmp_path / "typed.csv", [("1", "a", 0, "cart")], "session_id,item_id,timestamp,kind\n")
    assert "is never 'view'" in refused(typed, dataclasses.replace(LOOSE, type="kind", types=("view",)))
