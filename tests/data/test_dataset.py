"""The data set: round trips, its fingerprint, and contents that it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError
from tests.support.data.datasets import make, refused


@pytest.mark.parametrize("ids", [("a", "ü", "c"), (30, -1, 2**62)])
@pytest.mark.parametrize("timed", [True, False])
@pytest.mark.parametrize("tests", [True, False])
def test_round_trip(tmp_path: Path, ids: Any, timed: bool, tests: bool) -> None:
    original = make(ids, timed, tests)
    original.save(tmp_path / "deep" / "set")
    loaded = Dataset.load(tmp_path / "deep" / "set")
    for ours, theirs in ((loaded.train, original.train), (loaded.test.prefixes, original.test.prefixes)):
        assert np.array_equal(ours.items, theirs.items)
        assert np.array_equal(ours.offsets, theirs.offsets)
    known: tuple[tuple[Any, Any], ...] = (
        (loaded.train.times, original.train.times),
        (loaded.train.types, original.train.types),
        (loaded.test.prefixes.times, original.test.prefixes.times),
        (loaded.test.prefixes.types, original.test.prefixes.types),
        (loaded.test.target_times, original.test.target_times),
        (loaded.test.target_types, original.test.target_types),
    )
    for one, other in known:
        assert (one is not None) == (other is not None) == timed
        assert one is None or np.array_equal(one, other)
    assert (loaded.type_names, loaded.reader) == (original.type_names, original.reader)
    assert np.array_equal(loaded.test.targets, original.test.targets)
    assert np.array_equal(loaded.test.session, original.test.session)
    assert loaded.ids.external(np.arange(3)) == list(ids)
    assert (loaded.name, loaded.min_prefix, loaded.n_items) == ("tiny", 1, 3)
    assert loaded.preparation == original.preparation
    assert loaded.n_train_samples == 4
    assert isinstance(loaded.train.items.base, np.ndarray)
    assert not loaded.train.items.flags.writeable


def test_fingerprint_follows_the_contents(tmp_path: Path) -> None:
    make().save(tmp_path / "a")
    make(name="other").save(tmp_path / "b")
    make(ids=("a", "b", "c")).save(tmp_path / "c")
    prints = [Dataset.load(tmp_path / name).fingerprint for name in "abc"]
    assert prints[0] == prints[1] != prints[2]
    assert len(prints[0]) == 3 * 12 + 2


def test_a_name_that_no_file_can_hold_is_refused() -> None:
    with pytest.raises(DataError, match=r"'a\\ud800': its name is not UTF-8 text; give another name"):
        make(name="a\ud800")


def test_other_folders_are_refused(tmp_path: Path) -> None:
    assert "made by 'prepare'" in refused(tmp_path)
    assert "made by 'prepare'" in refused(tmp_path / "none")
    (tmp_path / "manifest.json").write_bytes(b"\xff\xfe{")
    assert "not readable JSON" in refused(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    assert "not readable JSON" in refused(tmp_path)


def test_contents_that_do_not_fit_are_refused() -> None:
    outside = Sessions.from_lists([[0, 3]])
    cases: list[tuple[dict[str, Any], str]] = [
        ({"min_prefix": 0}, "min_prefix"),
        ({"train": Sessions.from_lists([])}, "no training session is left"),
        ({"train": outside}, "train: click 1 has internal item id 3"),
        ({"test": Samples(outside, np.zeros(1, np.int32), np.zeros(1, np.int32))}, "test: click 1"),
        ({"test": Samples(Sessions.from_lists([[0]]), np.array([3], np.int32), np.zeros(1, np.int32))}, "target"),
    ]
    for changes, reason in cases:
        with pytest.raises(DataError, match=reason):
            make(**changes)
