"""The shared pickled form: round trips, the recovery of whole sessions, and pickles that try to run code."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.data.readers import read
from mtaw_fast.errors import DataError, UsageError
from tests.support.data import reference_reader as reference
from tests.support.data.raw_logs import write_pickles

Pairs = tuple[list[list[int]], list[int]]


def samples_of(sessions: list[list[int]], min_prefix: int) -> Pairs:
    """As the scripts write them: of every session, the longest prefix first."""
    cuts = [(session, k) for session in sessions for k in range(len(session) - 1, min_prefix - 1, -1)]
    return [session[:k] for session, k in cuts], [session[k] for session, k in cuts]


def refused(folder: Path, min_prefix: int = 1) -> str:
    with pytest.raises(DataError) as caught:
        read("pickle", folder, min_prefix=min_prefix)
    assert "\n" not in str(caught.value)
    return str(caught.value)


sessions_of = st.lists(st.lists(st.integers(1, 6), min_size=3, max_size=7), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    train=sessions_of, test=sessions_of, min_prefix=st.integers(1, 2), whole=st.booleans(), protocol=st.integers(0, 5)
)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    train: list[list[int]],
    test: list[list[int]],
    min_prefix: int,
    whole: bool,
    protocol: int,
) -> None:
    """Whole sessions are the same from all_train_seq.txt and from the prefixes of train.txt."""
    folder = tmp_path_factory.mktemp("set")
    pairs = samples_of(test, min_prefix)
    (folder / "test.txt").write_bytes(pickle.dumps(list(pairs), protocol))
    if whole:
        (folder / "all_train_seq.txt").write_bytes(pickle.dumps(train, protocol))
    else:
        (folder / "train.txt").write_bytes(pickle.dumps(samples_of(train, min_prefix), protocol))
    dataset = read("pickle", folder, min_prefix=min_prefix)
    owner = [k for k, session in enumerate(test) for _ in range(len(session) - min_prefix)]
    contents = reference.contents(dataset)
    assert contents["train"] == train
    assert contents["test"] == list(zip(owner, *pairs, strict=True))
    assert contents["ids"] == sorted({item for session in train + test for item in session})
    assert dataset.preparation["train_from"] == ("all_train_seq.txt" if whole else "train.txt")


def test_a_first_session_cut_short_is_recovered(tmp_path: Path) -> None:
    """The yoochoose 1/64 set begins in the middle of a session's prefixes."""
    prefixes, labels = samples_of([[1, 2, 3, 4], [5, 6]], 1)
    write_pickles(tmp_path, train=(prefixes[1:], labels[1:]), test=([[1]], [2]))
    assert reference.contents(read("pickle", tmp_path))["train"] == [[1, 2, 3], [5, 6]]


def test_a_wrong_min_prefix_is_refused(tmp_path: Path) -> None:
    sessions = [[1, 2, 3, 4], [5, 6, 7]]
    write_pickles(tmp_path, train=samples_of(sessions, 2), test=samples_of(sessions, 2))
    assert "has 2 clicks, not 1" in refused(tmp_path, 1)
    assert "has 2 clicks, not 3" in refused(tmp_path, 3)
    assert read("pickle", tmp_path, min_prefix=2).n_train_samples == 3
    with pytest.raises(UsageError):
        read("pickle", tmp_path, min_prefix=0)


def test_shuffled_prefixes_need_the_whole_sessions(tmp_path: Path) -> None:
    write_pickles(tmp_path, train=([[1], [1, 2], [3]], [2, 3, 4]), test=([[1]], [2]))
    assert "give all_train_seq.txt" in refused(tmp_path)
    write_pickles(tmp_path, all_train_seq=[[1, 2, 3], [3, 4]])
    assert len(read("pickle", tmp_path).train) == 2


class Runs:
    """Unpickling it with the plain unpickler makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def persistent(_: Path) -> bytes:
    stream = io.BytesIO()
    pickler = pickle.Pickler(stream)
    pickler.persistent_id = lambda value: "elsewhere" if value == 13 else None  # type: ignore[method-assign]
    pickler.dump([[13, 1]])
    return stream.getvalue()


ATTACKS: dict[str, Callable[[Path], bytes]] = {
    "reduce": lambda path: pickle.dumps([[1, 2], Runs(path)]),
    "reduce, protocol 0": lambda path: pickle.dumps(Runs(path), 0),
    "global": lambda _: b"cos\nsystem\n(S'true'\ntR.",
    "inst": lambda _: b"(S'true'\nios\nsystem\n.",
    "stack global": lambda _: b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "builtins": lambda _: b"cbuiltins\nlist\n.",
    "numpy": lambda _: pickle.dumps([[np.int64(1), np.int64(2)]]),
    "persistent": persistent,
}


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("name", ["all_train_seq", "train", "test"])
def test_code_is_refused_and_not_run(tmp_path: Path, name: str, attack: str) -> None:
    write_pickles(tmp_path, train=([[1]], [2]), test=([[1]], [2]))
    marker = tmp_path / "ran"
    data = ATTACKS[attack](marker)
    (tmp_path / f"{name}.txt").write_bytes(data)
    message = refused(tmp_path)
    assert f"{name}.txt" in message
    assert "refused" in message
    assert not marker.exists()


def test_the_attack_would_work_on_a_plain_unpickler(tmp_path: Path) -> None:
    pickle.loads(ATTACKS["reduce"](tmp_path / "ran"))
    assert (tmp_path / "ran").exists()


def doubled(depth: int, innermost: Any, make: Callable[[Any, Any], Any]) -> Any:
    """A value of 2^depth parts in a few bytes a level."""
    for _ in range(depth):
        innermost = make(innermost, innermost)
    return innermost


def mapped(key: Any) -> bytes:
    """A dict with one key, which is hashed when it is read (hashing it here would not end)."""
    return pickle.dumps(key, 4)[:-1].replace(b"\x80\x04", b"\x80\x04}", 1) + b"K\x01s."


BOMBS: dict[str, tuple[bytes, str]] = {
    # 60 levels of lists that hold the one before twice, inside a dict: their repr has no end
    "repr": (pickle.dumps(([[[{1: 2, 3: doubled(60, [1], lambda a, b: [a, b])}]]], [2])), "dicts or sets that share"),
    "repr of a text": (pickle.dumps(([["x" * 10**7]], [2])), "holds 'xxxx"),
    "digits": (pickle.dumps(([[10**6000]], [2])), "an int of 19932 bits"),
    "digits within": (pickle.dumps(([[{1: 10**6000}]], [2])), "{1: an int of 19932 bits} (dict)"),
    "persistent": (b"(" + pickle.dumps(doubled(60, [1], lambda a, b: [a, b]), 2)[2:-1] + b"Q.", "outside itself"),
    "hash": (mapped(doubled(60, (1,), lambda a, b: (a, b))), "dicts or sets that share"),
    # an object numbered 2^32 - 1: the unpickler allocates memory for as many
    "memo": (b"\x80\x02]r\xff\xff\xff\xff.", "the number 4294967295"),
    "memo as text": (b"]p99999999999\n.", "the number 99999999999"),
    "rows": (pickle.dumps(([[1] * 1000] * 1000, [2] * 1000)), "stand for 1,000,000 ids"),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.timeout(20)
def test_files_that_grow_without_end_are_refused_at_once(tmp_path: Path, bomb: str) -> None:
    data, message = BOMBS[bomb]
    (tmp_path / "test.txt").write_bytes(data)
    error = refused(tmp_path)
    assert message in error
    assert "test.txt" in error
    assert len(error) < 400


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "test.txt")
    assert "not a regular file" in refused(tmp_path)


LOOP: list[Any] = []
LOOP.append(LOOP)
WRONG: list[tuple[str, Any, str]] = [
    ("test", [[1], [2], [3]], "two lists"),
    ("test", {"a": 1}, "two lists"),
    ("test", ([[1], [2]], [2]), "2 prefixes but 1 labels"),
    ("test", ([[1]], 2), "labels must be a list"),
    ("test", ([[1]], [True]), "the labels holds True"),
    ("test", ([[1]], ["2"]), "'2' (str)"),
    ("test", ([1], [2]), "row 0 of the prefixes must be a non-empty list, not 1 (int)"),
    ("test", ([[]], [2]), "row 0 of the prefixes"),
    ("test", ([[1.5]], [2]), "holds 1.5 (float)"),
    ("test", ([[2**70]], [2]), "holds 11805"),
    ("test", ([[{"a": [[[[[1]]]]]}]], [2]), "holds {'a': [[...]]} (dict)"),
    ("test", ([[1]], [0]), "item id 0 occurs"),
    ("all_train_seq", [[(1, 99), (2, 99)]], "holds a tuple of 2"),
    ("all_train_seq", [[1, 2], [3]], "session 1 has 1 clicks"),
    ("all_train_seq", 7, "sessions must be a list of lists"),
    ("all_train_seq", [], "no training session"),
    ("all_train_seq", LOOP, "holds a list of 1"),
]


@pytest.mark.parametrize(("name", "value", "expected"), WRONG)
def test_other_contents_are_refused(tmp_path: Path, name: str, value: Any, expected: str) -> None:
    write_pickles(tmp_path, all_train_seq=[[1, 2]], test=([[1]], [2]))
    write_pickles(tmp_path, **{name: value})
    assert expected in refused(tmp_path)


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"\x80\x04", b"\x80\xff.", b"(lp0\nI1\naI", b"\x80\x04K\x01b.", b"]R."]
)
def test_damaged_pickles_are_refused(tmp_path: Path, data: bytes) -> None:
    write_pickles(tmp_path, all_train_seq=[[1, 2]])
    (tmp_path / "test.txt").write_bytes(data)
    assert "test.txt is not a whole pickle" in refused(tmp_path)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    assert "test.txt" in refused(tmp_path)
    write_pickles(tmp_path, test=([[1]], [2]))
    assert "train.txt" in refused(tmp_path)
    assert "is not a folder" in refused(tmp_path / "test.txt")
