"""Packed sessions in two numpy archives: a folder with `train.npz` and `test.npz`.

    train.npz   items int32[T], offsets int64[B + 1]: whole sessions in time order;
                n_items int32, min_prefix int32 (0-d)
    test.npz    items int32[T'], offsets int64[S + 1], labels int32[S]: prefixes and their next clicks;
                session int32[S] groups the prefixes of one session

Ids are 1..n_items (0 is free): the internal id is id - 1, the external id the number itself.
"""

from __future__ import annotations

import contextlib
import math
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers.stream import ClickStream, of_samples
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError

_MAX_RATIO = 200  # decoded to stored bytes: deflate packs zeros a thousandfold, but clicks and offsets only tenfold
_MAX_UNCLICKED = 1_000_000  # a catalog may have this many items without clicks: an id table of some 20 MB
# The errors that a damaged archive can raise.
_NO_ARCHIVE = (
    OSError, ValueError, EOFError, KeyError, SyntaxError, NotImplementedError, RuntimeError, zipfile.BadZipFile,
    zlib.error, MemoryError, struct.error,
)  # fmt: skip
# By array name: dtype and number of axes.
_TRAIN = {"items": (np.int32, 1), "offsets": (np.int64, 1), "n_items": (np.int32, 0), "min_prefix": (np.int32, 0)}
_TEST = {"items": (np.int32, 1), "offsets": (np.int64, 1), "labels": (np.int32, 1), "session": (np.int32, 1)}


def read(source: Path, name: str | None = None) -> Dataset:
    """Read the folder. Test samples keep the file's order.

    Raises DataError, naming the file and the array, if one is missing, damaged, of another dtype or shape, or has ids
    outside 1..n_items.
    """
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the folder that holds train.npz and test.npz")
    train_path, test_path = source / "train.npz", source / "test.npz"
    clicks = _decoded_sizes(train_path, _TRAIN).get("items", 0) + _decoded_sizes(test_path, _TEST).get("items", 0)
    train, test = _arrays(train_path, _TRAIN), _arrays(test_path, _TEST)
    n_items, min_prefix = int(train["n_items"]), int(train["min_prefix"])
    if n_items > max(_MAX_UNCLICKED, clicks):
        raise DataError(
            f"{train_path}: n_items is {n_items:,}, but train.npz and test.npz have only {clicks:,} clicks; write the "
            "real number of items"
        )
    if n_items < 1 or min_prefix < 1:
        raise DataError(f"{train_path}: n_items is {n_items} and min_prefix {min_prefix}; both must be at least 1")

    sessions = _sessions(train_path, train, n_items)
    _check_lengths(train_path, sessions, min_prefix + 1, "a training session must hold min_prefix + 1 clicks")
    prefixes = _sessions(test_path, test, n_items)
    _check_lengths(test_path, prefixes, min_prefix, "a test prefix must hold min_prefix clicks")
    _check_ids(test_path, "labels", test["labels"], n_items)
    try:
        samples = Samples(prefixes, test["labels"] - np.int32(1), test["session"])
    except DataError as error:
        raise DataError(f"{test_path}: {error}") from None
    return Dataset(
        name=name or source.resolve().name,
        train=sessions,
        test=samples,
        ids=ItemIds.from_list(range(1, n_items + 1)),
        min_prefix=min_prefix,
        preparation={"reader": "npz"},
        reader={"format": "npz", "item_ids": "int"},
    )


def stream(source: Path, _: Mapping[str, Any]) -> ClickStream:
    """Read the test sessions in file order; see `readers.read_stream`."""
    dataset = read(source)
    return of_samples(dataset.test, dataset.ids)


def _decoded_sizes(path: Path, expected: Mapping[str, tuple[type, int]]) -> dict[str, int]:
    """Return the number of entries of each array by its header, before anything is decoded.

    Raises DataError if a member is not as large as its header says, or all of them are too large for the file.
    `_arrays` reports other errors.
    """
    entries: dict[str, int] = {}
    total = 0
    with contextlib.suppress(*_NO_ARCHIVE), zipfile.ZipFile(path) as archive:
        for name in expected:
            member = archive.getinfo(f"{name}.npy")
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                begin = stream.tell()
            entries[name] = math.prod(shape)
            total += member.file_size
            if not dtype.hasobject and begin + entries[name] * dtype.itemsize != member.file_size:
                raise DataError(f"{path}: '{name}' is not as large as its header says; restore it or make it again")
    size = path.stat().st_size if path.is_file() else 0
    if total > _MAX_RATIO * size:
        raise DataError(f"{path}: its {size:,} bytes would be {total:,} when decoded; refused: write it uncompressed")
    return entries


def _arrays(path: Path, expected: Mapping[str, tuple[type, int]]) -> dict[str, np.ndarray]:
    """Read the arrays of one archive and check their dtypes and axes."""
    arrays: dict[str, np.ndarray] = {}
    if not path.is_file():
        raise DataError(f"{path} does not exist; the folder must hold train.npz and test.npz")
    try:
        # Members are decoded on access, so only the expected ones are; pickled ones are refused.
        archive = np.load(path, allow_pickle=False)
        if isinstance(archive, np.ndarray):
            raise DataError(f"{path} is a single array, not an archive; write it with numpy.savez")
        with archive:
            for name in expected:
                if name not in archive:
                    raise DataError(f"{path} lacks the array '{name}'; it has {sorted(archive.files)}; write it again")
                arrays[name] = np.asarray(archive[name])  # a member without an npy header comes as bytes
    except _NO_ARCHIVE as error:
        raise _damaged(path, error) from None
    for name, (dtype, axes) in expected.items():
        array = arrays[name]
        if array.dtype != dtype or array.ndim != axes:
            form = f"{np.dtype(dtype)}{'[' + 'n' * axes + ']' if axes else ''}"
            raise DataError(f"{path}: '{name}' must be {form}, not {array.dtype}{list(array.shape)}; convert it")
    return arrays


def _damaged(path: Path, error: BaseException) -> DataError:
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return DataError(f"{path} is not a whole npz archive ({reason}); restore it or make it again")


def _sessions(path: Path, arrays: dict[str, np.ndarray], n_items: int) -> Sessions:
    _check_ids(path, "items", arrays["items"], n_items)
    try:
        return Sessions(arrays["items"] - np.int32(1), arrays["offsets"])
    except DataError as error:
        raise DataError(f"{path}: {error}; make it again") from None


def _check_ids(path: Path, name: str, ids: np.ndarray, n_items: int) -> None:
    bad = np.flatnonzero((ids < 1) | (ids > n_items))
    if len(bad):
        raise DataError(f"{path}: '{name}' has id {ids[bad[0]]} at index {bad[0]}, outside 1..{n_items}; make it again")


def _check_lengths(path: Path, sessions: Sessions, shortest: int, rule: str) -> None:
    bad = np.flatnonzero(sessions.lengths < shortest)
    if len(bad):
        raise DataError(f"{path}: row {bad[0]} has {sessions.lengths[bad[0]]} clicks; {rule} ({shortest}); remove it")
