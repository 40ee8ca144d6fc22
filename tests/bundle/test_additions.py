"""Parts that are added to a bundle while others read it, with small files instead of an index."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle, additions, bundle_lock
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.errors import BundleError
from tests.support.random_bundle import bundle_parts, contents, save_parts, save_random


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_random(tmp_path / "bundle")
    return tmp_path / "bundle"


def put(folder: Path, data: bytes | None, **about: Any) -> None:
    manifest = Bundle.load(folder).manifest
    if data is None:
        replace_parts(folder, manifest, {"index": None}, {"index": None})
    else:
        addition = Addition("faiss", lambda path: path.write_bytes(data))
        replace_parts(folder, manifest, {"index": addition}, {"index": about})


def test_add_replace_and_remove(folder: Path) -> None:
    before = contents(folder)
    put(folder, b"one", recall=1)
    first = Bundle.load(folder)
    path = first.file("index")
    assert path is not None
    assert path.read_bytes() == b"one"
    assert path.name.startswith("index-")
    assert first.manifest["index"] == {"recall": 1}
    put(folder, b"two", recall=2)
    assert not path.exists()
    put(folder, None)
    assert contents(folder) == before


def test_a_damaged_index_is_found(folder: Path) -> None:
    put(folder, b"one")
    path = Bundle.load(folder).file("index")
    assert path is not None
    path.write_bytes(b"eno")
    with pytest.raises(BundleError, match=r"index-.*\.faiss is damaged"):
        Bundle.load(folder)
    path.unlink()
    with pytest.raises(BundleError, match=r"index-.*\.faiss is missing"):
        Bundle.load(folder, verify=False)


def test_a_new_training_removes_it(folder: Path) -> None:
    put(folder, b"one")
    (folder / ".index.faiss.draft").write_text("of a killed export")
    (folder / "index-0123456789abcdef.faiss").write_text("of a killed export")
    (folder / "index-mine.faiss").write_text("foreign")
    save_parts(folder, **bundle_parts(seed=1), overwrite=True)
    assert [path.name for path in folder.iterdir() if "index" in path.name] == ["index-mine.faiss"]
    assert "index" not in Bundle.load(folder).manifest


def test_a_bundle_that_changed_meanwhile_stays(folder: Path) -> None:
    built_from = Bundle.load(folder).manifest
    save_parts(folder, **bundle_parts(seed=1), overwrite=True)
    before = contents(folder)
    with pytest.raises(BundleError, match="was changed while its index was being made; run the command again"):
        replace_parts(folder, built_from, {"index": Addition("faiss", lambda path: None)}, {"index": {}})
    assert contents(folder) == before


def test_an_item_table_does_not_replace_one_that_it_was_not_made_from(folder: Path) -> None:
    built_from = Bundle.load(folder).manifest

    def put_table(data: bytes) -> None:
        replace_parts(
            folder, built_from, {"item_table": Addition("safetensors", lambda path: path.write_bytes(data))}, {}
        )

    put_table(b"one")
    before = contents(folder)
    with pytest.raises(BundleError, match="was changed while its item_table was being made; run the command again"):
        put_table(b"two")
    assert contents(folder) == before


def test_a_name_that_is_promoted_meanwhile_damages_no_bundle(folder: Path, tmp_path: Path) -> None:
    save_random(tmp_path / "next", seed=1)
    before = contents(tmp_path / "next")
    current = tmp_path / "current"
    current.symlink_to(folder)

    def write(path: Path) -> None:
        current.unlink()
        current.symlink_to(tmp_path / "next")
        path.write_bytes(b"one")

    replace_parts(current, Bundle.load(current).manifest, {"index": Addition("faiss", write)}, {"index": {}})
    assert contents(tmp_path / "next") == before
    assert Bundle.load(folder).file("index") is not None


def test_writers_exclude_each_other(folder: Path) -> None:
    with bundle_lock(folder), pytest.raises(BundleError, match="is being written by another process"):
        put(folder, b"one")


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    put(folder, b"one")
    before = contents(folder)
    manifest = Bundle.load(folder).manifest
    calls, fail_at = 0, 0

    def failing(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise error
            return step(*arguments)

        return call

    for name in ("write_file", "flush_folder", "write_json"):
        monkeypatch.setattr(additions, name, failing(getattr(additions, name)))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    write = failing(lambda path: path.write_bytes(b"two"))
    while True:
        calls, fail_at = 0, fail_at + 1
        with suppress(BundleError if isinstance(error, OSError) else KeyboardInterrupt):
            replace_parts(folder, manifest, {"index": Addition("faiss", write)}, {"index": {}})
            break
        assert contents(folder) == before
    assert fail_at == 6
    path = Bundle.load(folder).file("index")
    assert path is not None
    assert path.read_bytes() == b"two"


def test_readers_see_the_old_bundle_or_the_new_one(folder: Path) -> None:
    done = threading.Event()
    loads, failures = 0, []

    def read() -> None:
        nonlocal loads
        while not done.is_set():
            try:
                Bundle.load(folder)
                loads += 1
            except BundleError as error:
                failures.append(error)

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(60):
        put(folder, None if turn % 3 == 2 else bytes([turn]) * 1000)
    done.set()
    reader.join()
    assert not failures
    assert loads > 3
