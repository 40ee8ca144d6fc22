"""The npz form: a small folder by hand, every kind of damage, and the published counts on the real sets."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import npz, read
from mtaw_fast.errors import DataError
from tests.support.data import reference_reader as reference
from tests.support.data.raw_logs import npz_arrays, write_npz

DATA = os.environ.get("MTAW_DATA")


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        read("npz", folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_by_hand_and_through_a_saved_folder(tmp_path: Path) -> None:
    dataset = read("npz", write_npz(tmp_path, *npz_arrays()), name="small")
    dataset.save(tmp_path / "set")
    for version in (dataset, Dataset.load(tmp_path / "set")):
        assert reference.contents(version) == {
            "ids": [1, 2, 3, 4],
            "train": [[1, 2, 3], [3, 1]],
            "times": None,
            "test": [(0, [4, 2], 1), (0, [4], 2), (1, [1], 3)],
            "test times": None,
        }
        assert (version.name, version.min_prefix, version.n_train_samples) == ("small", 1, 3)
    assert read("npz", tmp_path).name == tmp_path.name


CHANGES: list[tuple[str, str, Any, list[str]]] = [
    ("train", "items", np.array([1, 2, 3, 3, 5], np.int32), ["train.npz", "'items'", "id 5 at index 4", "1..4"]),
    ("train", "items", np.array([1, 2, 0, 3, 1], np.int32), ["id 0 at index 2"]),
    ("train", "items", np.array([1, 2, 3, 3, 1], np.int64), ["'items' must be int32[n], not int64[5]"]),
    ("train", "items", np.array([[1, 2, 3, 3, 1]], np.int32), ["not int32[1, 5]"]),
    ("train", "offsets", np.array([0, 3, 5], np.int32), ["'offsets' must be int64[n]"]),
    ("train", "offsets", np.array([0, 3, 6], np.int64), ["offsets must run from 0 to 5"]),
    ("train", "offsets", np.array([0, 4, 5], np.int64), ["row 1 has 1 clicks"]),
    ("train", "offsets", np.array([0, 7, 5], np.int64), ["must not decrease"]),
    ("train", "offsets", np.array([], np.int64), ["offsets must be int64"]),
    ("train", "offsets", None, ["lacks the array 'offsets'"]),
    ("train", "n_items", np.int32(0), ["at least 1"]),
    ("train", "n_items", np.array([4], np.int32), ["'n_items' must be int32, not int32[1]"]),
    ("train", "min_prefix", np.int32(0), ["at least 1"]),
    ("train", "min_prefix", np.int32(2), ["row 1 has 2 clicks", "min_prefix + 1"]),
    ("train", "items", np.array([1, 2, 3, 3, None], object), ["train.npz", "not a whole npz archive"]),
    ("test", "labels", np.array([1, 2, 5], np.int32), ["test.npz", "'labels'", "id 5"]),
    ("test", "labels", np.array([1, 2], np.int32), ["targets must be int32[3]"]),
    ("test", "labels", None, ["lacks the array 'labels'"]),
    ("test", "session", np.array([0, 1], np.int32), ["session must be int32[3]"]),
    ("test", "session", np.array([0, 0, 1], np.float32), ["'session' must be int32[n], not float32"]),
    ("test", "offsets", np.array([0, 2, 2, 4], np.int64), ["row 1 has 0 clicks"]),
]


@pytest.mark.parametrize(("part", "name", "value", "expected"), CHANGES)
def test_wrong_arrays_are_refused(tmp_path: Path, part: str, name: str, value: Any, expected: list[str]) -> None:
    train, test = npz_arrays()
    arrays = train if part == "train" else test
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    message = refused(write_npz(tmp_path, train, test))
    for text in expected:
        assert text in message


def test_every_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    """No damage may raise anything but a DataError, nor change a click."""
    expected = reference.contents(read("npz", write_npz(tmp_path, *npz_arrays())))
    path = tmp_path / "test.npz"
    whole = path.read_bytes()
    refusals = 0
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert reference.contents(read("npz", tmp_path)) == expected, place
        except DataError:
            refusals += 1
    assert refusals > len(whole) // 7 // 2


def test_a_file_that_decodes_to_far_more_is_refused_undecoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """8 MB of the same click in 8 kB; with the bound above that they are read."""
    train, test = npz_arrays()
    train |= {"items": np.ones(2_000_000, np.int32), "offsets": np.array([0, 2_000_000])}
    np.savez_compressed(tmp_path / "train.npz", **train)
    np.savez(tmp_path / "test.npz", **test)
    monkeypatch.setattr(npz, "_MAX_RATIO", 1 << 20)
    assert read("npz", tmp_path).train.n_clicks == 2_000_000
    monkeypatch.undo()
    loads = 0

    def load(*arguments: Any, **options: Any) -> None:
        nonlocal loads
        loads += 1

    monkeypatch.setattr(npz.np, "load", load)
    assert "would be 8,000," in refused(tmp_path)
    assert loads == 0


@pytest.mark.parametrize(("n_items", "fine"), [(1_000_000, True), (1_000_001, False), (2**31 - 1, False)])
def test_a_catalog_out_of_proportion_to_its_clicks_is_refused(tmp_path: Path, n_items: int, fine: bool) -> None:
    train, test = npz_arrays()
    write_npz(tmp_path, train | {"n_items": np.int32(n_items)}, test)
    if fine:
        assert read("npz", tmp_path).n_items == n_items
    else:
        assert f"n_items is {n_items:,}, but train.npz and test.npz have only 9 clicks" in refused(tmp_path)


def test_other_sources_are_refused(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path)
    assert "is not a folder" in refused(tmp_path / "train.npz")
    write_npz(tmp_path, *npz_arrays())
    with (tmp_path / "test.npz").open("wb") as stream:
        np.save(stream, np.zeros(3))
    assert "single array" in refused(tmp_path)
    with zipfile.ZipFile(tmp_path / "test.npz", "w") as archive:
        for name in ("items", "offsets", "labels", "session"):
            archive.writestr(name, b"no npy header")
    assert "'items' must be int32[n]" in refused(tmp_path)


@pytest.mark.skipif(DATA is None, reason="MTAW_DATA (a folder with tmall/ and retailrocket/) is not set")
@pytest.mark.parametrize(
    ("name", "train_samples", "test_samples", "items", "min_prefix", "test_sessions"),
    [("tmall", 351_268, 25_898, 40_727, 1, 1_027), ("retailrocket", 433_648, 15_132, 36_968, 2, 4_735)],
)
def test_published_counts(
    tmp_path: Path,
    name: str,
    train_samples: int,
    test_samples: int,
    items: int,
    min_prefix: int,
    test_sessions: int,
) -> None:
    dataset = read("npz", Path(str(DATA)) / name)
    dataset.save(tmp_path / "set")
    for version in (dataset, Dataset.load(tmp_path / "set")):
        assert (version.n_train_samples, len(version.test), version.n_items) == (train_samples, test_samples, items)
        assert (version.name, version.min_prefix) == (name, min_prefix)
        assert len(np.unique(version.test.session)) == test_sessions
        assert version.ids.external(np.array([0, items - 1])) == [1, items]
