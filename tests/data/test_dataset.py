"""The data set: round trips, contents that it refuses, damaged files, failed writes, writers at once."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.data import dataset as dataset_module
from mtaw_fast.data import dataset_files
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.storage.files import folder_lock


def make(ids: Any = ("a", "ü", "c"), timed: bool = True, tests: bool = True, **changes: Any) -> Dataset:
    train = Sessions.from_lists([[0, 1, 2], [2, 2], [1, 0]])
    test = Sessions.from_lists([[2, 1, 0], [0, 0]] if tests else [])
    parts: dict[str, Any] = {
        "name": "tiny",
        "train": stamped(train) if timed else train,
        "test": Samples.from_sessions(stamped(test) if timed else test, 1),
        "type_names": ("view", "kauf ü") if timed else (),
        "reader": {"format": "clicks", "gap": 1800.0} if timed else {},
        "ids": ItemIds.from_list(list(ids)),
        "preparation": {"reader": "by hand", "options": {"gap": 1800.0, "name": "ü"}},
    }
    return Dataset(**(parts | changes))


def stamped(sessions: Sessions) -> Sessions:
    places = np.arange(sessions.n_clicks)
    return Sessions(sessions.items, sessions.offsets, 2**41 + places, (places % 2).astype(np.uint8))


def refused(folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        Dataset.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_two_writers_of_one_folder_take_turns(tmp_path: Path) -> None:
    """A second writer gets an error, during the first one's work and after it, and leaves its files alone."""
    folder = tmp_path / "set"
    with folder_lock(folder, DataError):
        (folder / "train.safetensors").write_bytes(b"a draft of the other's")
        with pytest.raises(DataError, match="is being written by another process"):
            make().save(folder)
        assert [path.name for path in folder.iterdir()] == ["train.safetensors"]
        (folder / "train.safetensors").unlink()
    make().save(folder)
    with pytest.raises(UsageError, match="already holds a data set"):
        make().save(folder)


def test_parts_that_are_no_regular_files_of_the_stated_size_are_refused_at_once(tmp_path: Path) -> None:
    make().save(tmp_path)
    path = next(tmp_path.glob("train-*"))
    whole = path.read_bytes()
    os.truncate(path, 1 << 40)
    assert f"is damaged: it has {1 << 40:,} bytes" in refused(tmp_path)
    path.write_bytes(whole)
    edit(tmp_path, lambda m: m["files"]["train"].pop("bytes"))
    assert len(Dataset.load(tmp_path).train) == 3
    os.truncate(path, 1 << 40)
    assert "bytes more than its header describes" in refused(tmp_path)
    for name in (path, tmp_path / "manifest.json"):
        name.unlink()
        os.mkfifo(name)
        assert "not a regular file" in refused(tmp_path)


@pytest.mark.parametrize("part", ["train", "test", "ids"])
def test_any_flipped_byte_is_noticed(tmp_path: Path, part: str) -> None:
    make().save(tmp_path)
    path = next(tmp_path.glob(f"{part}-*"))
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        assert path.name in refused(tmp_path), place
    path.write_bytes(whole)
    assert len(Dataset.load(tmp_path).train) == 3


@pytest.mark.parametrize("part", ["train", "test", "ids", "manifest"])
@pytest.mark.parametrize("left", [None, 0, 7, 0.5])
def test_a_part_that_is_missing_or_truncated_is_named(tmp_path: Path, part: str, left: float | None) -> None:
    make().save(tmp_path)
    path = next(tmp_path.glob(f"{part}*"))
    whole = path.read_bytes()
    if left is None:
        path.unlink()
    else:
        path.write_bytes(whole[: int(left if left >= 1 else left * len(whole))])
    assert path.name in refused(tmp_path)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    replaced = change(manifest)
    path.write_text(json.dumps(replaced if isinstance(replaced, list) else manifest))


EDITS: list[tuple[Callable[[dict[str, Any]], Any], str]] = [
    (lambda m: m.update(format_version=5), "has data set format 5, this release reads 3 and 4; upgrade mtaw-fast"),
    (lambda m: m.update(format_version=2), "prepare the data set again"),
    (lambda m: m.pop("format_version"), "format None"),
    (lambda m: m.update(format="bundle"), "not a data set folder"),
    (lambda m: [m], "not a data set folder"),
    (lambda m: m.pop("files"), "lacks 'files'"),
    (lambda m: m["files"].pop("ids"), "lacks 'ids'"),
    (lambda m: m["files"]["ids"].pop("sha256"), "lacks 'sha256'"),
    (lambda m: m["files"].update(ids=None), "lacks"),
    (lambda m: m.update(preparation=7), "lacks"),
    (lambda m: m.update(min_prefix="one"), "lacks"),
    (lambda m: m.pop("reader"), "lacks 'reader'"),
    (lambda m: m.update(reader=3), "lacks"),
    (lambda m: m.update(type_names=["view"]), "has type 1, but only 1 types have names"),
    (lambda m: m.update(min_prefix=0), "min_prefix"),
    (lambda m: m["files"]["train"].update(sha256="0" * 64), "is damaged"),
    (lambda m: m["files"].update(train=m["files"]["ids"]), "lacks 'items'"),
    (lambda m: m["files"].update(ids=m["files"]["train"]), "not an item id table"),
]


@pytest.mark.parametrize(("change", "reason"), EDITS)
def test_manifests_that_do_not_fit_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], reason: str
) -> None:
    make().save(tmp_path)
    edit(tmp_path, change)
    assert reason in refused(tmp_path)


@pytest.mark.parametrize("name", ["../train.safetensors", "/etc/passwd", "sub/train.safetensors", "..", ".", ""])
def test_names_outside_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    make().save(tmp_path / "set")
    real = next((tmp_path / "set").glob("train-*"))
    for place in (tmp_path / "train.safetensors", tmp_path / "set" / "sub" / "train.safetensors"):
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(real.read_bytes())
    edit(tmp_path / "set", lambda m: m["files"]["train"].update(file=name))
    refused(tmp_path / "set")


@pytest.mark.parametrize("at", ["train", "ids", "manifest"])
@pytest.mark.parametrize("existing", [True, False])
def test_a_failed_save_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str, existing: bool) -> None:
    """A full disk at the first file, at the last, and at the manifest."""

    def failing(real: Callable[..., None]) -> Callable[..., None]:
        def write(path: Path, *arguments: Any) -> None:
            if path.name.startswith(at):
                raise MtawError(f"cannot write {path}: {errno.errorcode[errno.ENOSPC]}")
            real(path, *arguments)

        return write

    for module, name in ((dataset_files, "write_tensors"), (dataset_module, "write_json")):
        monkeypatch.setattr(module, name, failing(getattr(module, name)))
    folder = tmp_path / "set"
    if existing:
        folder.mkdir()
        (folder / "notes.txt").write_text("mine")
    with pytest.raises(MtawError, match="ENOSPC"):
        make().save(folder)
    assert [path.name for path in tmp_path.rglob("*")] == (["set", "notes.txt"] if existing else [])


KILLED = """
import os, sys
from mtaw_fast.storage import files
from tests.data.test_dataset import make

real, calls = files._fsync, 0
def fsync(path):
    global calls
    calls += not path.is_dir()
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), 9)
    real(path)
files._fsync = fsync
make().save(sys.argv[1])
"""


def test_what_a_killed_save_left_goes_with_the_next_one(tmp_path: Path) -> None:
    """Killed at each of its files and at the manifest. What others wrote stays."""
    folder = tmp_path / "set"
    for call in range(1, 5):
        command: list[str | Path] = [sys.executable, "-c", KILLED, folder, str(call)]
        assert subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == -9
        assert len(list(folder.glob(".*.tmp"))) == 1  # not those before
    foreign = {"notes.safetensors", ".checkpoint-1.safetensors.x.tmp", "train-of-mine.safetensors"}
    for name in foreign:
        (folder / name).touch()
    make().save(folder)
    make().save(tmp_path / "whole")
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "whole").iterdir()} | foreign
    Dataset.load(folder)


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.errors import MtawError
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions

train = Sessions.from_lists([[0, 1]] * 20_000)
whole = Dataset("big", train, Samples.from_sessions(train.slice(0, 1), 1), ItemIds.from_list([1, 2]))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
try:
    whole.save(Path(sys.argv[1]))
except MtawError as error:
    print(error)
"""


def test_a_real_file_size_limit_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path / "set")], capture_output=True, text=True, check=True
    )
    assert process.stdout.startswith("cannot write")
    assert process.stdout.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


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
    assert not loaded.train.items.flags.owndata
    assert not loaded.train.items.flags.writeable


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
