"""The steps of a preparation in partitions: their files, and disks that are full."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.data import dataset_files
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers import partition_steps
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.storage.tensor_file import write_tensors
from tests.support.data.partitions import PLAIN, compare, log_frame


def test_a_set_that_is_there_stays_until_the_new_one_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_frame(4).write_parquet(tmp_path / "log.parquet")
    log_frame(5).write_parquet(tmp_path / "other.parquet")
    folder = tmp_path / "set"
    prepare_in_partitions(tmp_path / "log.parquet", folder, PLAIN, partitions=2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(UsageError, match="already holds a data set; pass --overwrite"):
        prepare_in_partitions(tmp_path / "other.parquet", folder, PLAIN, partitions=2)

    def full(failing: str, path: Path, arrays: Any) -> None:
        if path.name.startswith(failing):
            raise MtawError(f"cannot write {path}: {os.strerror(errno.ENOSPC)}; free some space")
        write_tensors(path, arrays)

    for failing in ("cut-1", "kept-0-1", "span-1", "test", "ids"):
        for module in (partition_steps, dataset_files):
            monkeypatch.setattr(module, "write_tensors", functools.partial(full, failing))
        with pytest.raises(MtawError, match="No space left on device; free some space"):
            prepare_in_partitions(tmp_path / "other.parquet", folder, PLAIN, overwrite=True, partitions=2)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    monkeypatch.undo()
    prepare_in_partitions(tmp_path / "other.parquet", folder, PLAIN, overwrite=True, partitions=3)
    assert {path.name for path in folder.iterdir()}.isdisjoint(before.keys() - {"manifest.json"})
    compare(tmp_path / "other.parquet", tmp_path / "again", PLAIN, partitions=3)
    expected = Dataset.load(tmp_path / "again" / "one")
    assert Dataset.load(folder).fingerprint == expected.fingerprint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_while_rows_are_scattered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log_frame(4).write_parquet(tmp_path / "log.parquet")
    (tmp_path / "full").symlink_to("/dev/full")
    full = contextlib.nullcontext(tmp_path / "full")
    monkeypatch.setattr(partition_steps, "_temporary", lambda _: full)
    with pytest.raises(MtawError, match=r"cannot write .*No space left on device; free some space") as caught:
        prepare_in_partitions(tmp_path / "log.parquet", tmp_path / "set", PLAIN, partitions=2)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "set").exists()
