"""Read the pickled data sets of SR-GNN, GCE-GNN and S2-DHCN, without running any code in them.

    train.txt, test.txt   (list of prefixes, list of labels): next-click samples, of every session first
                          the longest prefix, then its shorter ones
    all_train_seq.txt     list of whole sessions in time order (optional)

A pickle can name functions to call. Only lists, tuples and ints are needed here, so the reader refuses every name. Ids
are positive ints (0 is the models' padding) and become the external ids.
"""

from __future__ import annotations

import io
import os
import pickle
import pickletools
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers.stream import ClickStream, of_samples
from mtaw_fast.data.sessions import Samples, Sessions, offsets_of
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.storage.files import open_regular

FORMAT = "pickle"
_INT64_MAX = np.iinfo(np.int64).max


class _Short(reprlib.Repr):
    """A repr of a few entries and levels, because the contents of a file may be endless."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 2

    def repr_int(self, x: int, level: int) -> str:
        """Return the size of an int that is too long to show."""
        return super().repr_int(x, level) if x.bit_length() <= 256 else f"an int of {x.bit_length()} bits"


_SHORT = _Short()


def read(source: Path, min_prefix: int = 1, name: str | None = None) -> Dataset:
    """Read the folder with `test.txt` and `all_train_seq.txt`, or `train.txt` if the latter is missing.

    min_prefix: the shortest prefix of the set's samples (2 for RetailRocket's, else 1).
    Whole sessions come from `all_train_seq.txt`, or are rebuilt from the prefixes of `train.txt`. The catalog has every
    id of train and test, in ascending order, so a test label that training never saw stays a sample, as in the
    published evaluations. Test samples keep the file's order; a row that does not continue the row before (the same
    session, one click shorter) begins a new session.

    Raises DataError if a file is missing or damaged, names a global, has anything but nested lists of ints, or does not
    fit `min_prefix`.
    """
    if min_prefix < 1:
        raise UsageError(f"min_prefix must be at least 1, not {min_prefix}")
    if not source.is_dir():
        raise DataError(f"{source} is not a folder; name the folder that holds train.txt and test.txt")
    whole_path, train_path, test_path = (source / file for file in ("all_train_seq.txt", "train.txt", "test.txt"))
    prefixes, labels = _samples(test_path)
    session = _group(test_path, prefixes, labels, min_prefix)
    if whole_path.exists():
        origin, sessions = whole_path, _rows(whole_path, load_plain(whole_path), "sessions")
    else:
        origin, sessions = train_path, _recover(train_path, min_prefix)
    for number, row in enumerate(sessions):
        if len(row) <= min_prefix:
            raise DataError(
                f"{origin}: session {number} has {len(row)} clicks, fewer than min_prefix + 1 = {min_prefix + 1}; "
                "give the min_prefix that the set was made with or remove the session"
            )

    packed = [np.fromiter((item for row in rows for item in row), np.int64) for rows in (sessions, prefixes, [labels])]
    catalog, inverse = np.unique(np.concatenate(packed), return_inverse=True)
    items, prefix_items, targets = np.split(inverse.astype(np.int32), np.cumsum([len(part) for part in packed])[:-1])
    if len(catalog) and catalog[0] < 1:
        raise DataError(f"{source}: item id {catalog[0]} occurs; ids must be 1 or more, since 0 is padding")
    return Dataset(
        name=name or source.resolve().name,
        train=Sessions(items, offsets_of(list(map(len, sessions)))),
        test=Samples(Sessions(prefix_items, offsets_of(list(map(len, prefixes)))), targets, session),
        ids=ItemIds.from_list(catalog.tolist()),
        min_prefix=min_prefix,
        preparation={"reader": FORMAT, "train_from": origin.name},
        reader={"format": FORMAT, "item_ids": "int", "min_prefix": min_prefix},
    )


def stream(source: Path, reader: Mapping[str, Any]) -> ClickStream:
    """Read the test sessions in file order; see `readers.read_stream`."""
    dataset = read(source, int(reader.get("min_prefix", 1)))
    return of_samples(dataset.test, dataset.ids)


def load_plain(path: Path) -> Any:
    """Unpickle a file of lists, tuples, dicts, texts and numbers. Raises DataError if it names any global."""
    with os.fdopen(open_regular(path, DataError), "rb") as stream:
        data = stream.read()
    try:
        _check_opcodes(path, data)
        return _PlainUnpickler(io.BytesIO(data), path).load()
    except DataError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise DataError(f"{path} is not a whole pickle ({reason}); restore it or make it again") from None


# Opcodes that make a dict or a set, whose keys are hashed: for tuples that share tuples, this may never end.
_HASHING = {"DICT", "SETITEM", "SETITEMS", "ADDITEMS", "FROZENSET"}
_SHARING = {"GET", "BINGET", "LONG_BINGET", "DUP"}


def _check_opcodes(path: Path, data: bytes) -> None:
    """Raise DataError if unpickling could take far more memory or time than the size of the file suggests."""
    names: set[str] = set()
    for opcode, argument, _ in pickletools.genops(data):
        names.add(opcode.name)
        # The unpickler allocates memory up to the memo number that the file gives, however large.
        if opcode.name in ("PUT", "LONG_BINPUT") and int(argument or 0) > len(data):
            raise DataError(
                f"{path} gives an object the number {argument}, far more than a file of {len(data):,} bytes holds; "
                "refused: write it again as plain lists of ints"
            )
    if names & _HASHING and names & _SHARING:
        raise DataError(f"{path} holds dicts or sets that share objects; refused: write it as plain lists of ints")


class _PlainUnpickler(pickle.Unpickler):
    """Refuses every global and every persistent id, so that nothing in the file can be called."""

    def __init__(self, stream: io.BytesIO, path: Path) -> None:
        super().__init__(stream)
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        raise DataError(
            f"{self._path} wants to load {f'{module}.{name}'!r} while being read, so it may run code; refused: "
            "write it again as plain lists of ints"
        )

    def persistent_load(self, pid: Any) -> NoReturn:
        raise DataError(
            f"{self._path} refers to an object outside itself ({_SHORT.repr(pid)}); refused: write it again"
        )


def _samples(path: Path) -> tuple[list[Any], list[int]]:
    """Read the prefixes and labels of train.txt or test.txt, and check that they are ints."""
    value = load_plain(path)
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise DataError(f"{path} must hold two lists, prefixes and labels, not {_kind(value)}; write it again")
    prefixes, labels = _rows(path, value[0], "prefixes"), value[1]
    if not isinstance(labels, (list, tuple)):
        raise DataError(f"{path}: the labels must be a list, not {_kind(labels)}; write it again")
    _check_ints(path, labels, "the labels")
    if len(prefixes) != len(labels):
        raise DataError(f"{path} has {len(prefixes)} prefixes but {len(labels)} labels; restore it or make it again")
    return prefixes, list(labels)


def _rows(path: Path, value: Any, name: str) -> list[Any]:
    """Return `value` as a list, checked to have non-empty lists of ints."""
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{path}: the {name} must be a list of lists, not {_kind(value)}; write it again")
    for number, row in enumerate(value):
        if not isinstance(row, (list, tuple)) or not row:
            raise DataError(f"{path}: row {number} of the {name} must be a non-empty list, not {_kind(row)}; fix it")
    # An id takes at least two bytes, unless the file repeats rows by reference.
    total, size = sum(map(len, value)), path.stat().st_size
    if total > size:
        raise DataError(f"{path}: its {size:,} bytes stand for {total:,} ids; write every row out")
    for number, row in enumerate(value):
        _check_ints(path, row, f"row {number} of the {name}")
    return list(value)


def _check_ints(path: Path, row: Any, where: str) -> None:
    for item in row:
        if type(item) is not int or not -_INT64_MAX <= item <= _INT64_MAX:
            raise DataError(f"{path}: {where} holds {_kind(item)}, not an item number; write it again")


def _group(path: Path, prefixes: list[Any], labels: list[int], min_prefix: int) -> np.ndarray:
    """Return int32[S]: the session of each row. Raises DataError if all sessions end at another prefix length."""
    follows = np.zeros(len(prefixes), dtype=bool)
    for k in range(1, len(prefixes)):
        prior = prefixes[k - 1]
        follows[k] = (
            len(prefixes[k]) + 1 == len(prior) and prior[-1] == labels[k] and list(prior[:-1]) == list(prefixes[k])
        )
    is_last = np.append(~follows[1:], True)[: len(follows)]
    shortest = {len(prefixes[k]) for k in np.flatnonzero(is_last)}
    if len(shortest) == 1 and shortest != {min_prefix}:
        raise DataError(
            f"{path}: the shortest prefix of every session has {shortest.pop()} clicks, not {min_prefix}; "
            "give the min_prefix that the set was made with"
        )
    return (np.cumsum(~follows) - 1).astype(np.int32)


def _recover(path: Path, min_prefix: int) -> list[list[int]]:
    """Rebuild whole sessions from the samples of train.txt: the longest prefix of each, and its label."""
    prefixes, labels = _samples(path)
    session = _group(path, prefixes, labels, min_prefix)
    first = np.flatnonzero(np.diff(session, prepend=-1))
    last = np.append(first[1:], len(session)) - 1
    for k in last.tolist():
        if len(prefixes[k]) != min_prefix:
            raise DataError(
                f"{path}: row {k} ends a session at a prefix of {len(prefixes[k])} clicks, not {min_prefix}; whole "
                "sessions can be rebuilt only if prefixes go from longest to shortest; give all_train_seq.txt"
            )
    return [[*prefixes[k], labels[k]] for k in first.tolist()]


def _kind(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"{_SHORT.repr(value):.60} ({type(value).__name__})"
