"""A log in partitions: to the bit the data set that one process makes, whatever the log; and failures in one line."""

from __future__ import annotations

import contextlib
import errno
import functools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast.data import dataset_files
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.dataset_files import read_stored
from mtaw_fast.data.readers import ClickOptions, clicks, partition_steps
from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.storage.tensor_file import write_tensors
from tests.support.data.partitions import PLAIN, compare, log_frame

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0, 1, 2, pytest.param(3, marks=pytest.mark.long(caught="here, in fewer partitions"))])
@pytest.mark.parametrize(
    "options",
    [
        PLAIN,
        replace(PLAIN, dedupe=1.0, type="kind"),
        replace(PLAIN, type="kind", types=("view", "buy"), support_rounds="until-stable", min_support=4),
        replace(PLAIN, user="session_id", gap=4000.0, dedupe=0.0, max_session=6),
        replace(PLAIN, user="session_id", gap=90_000.0, type="kind", types=("view",), test_days=0, max_session=None),
        replace(PLAIN, type="kind", merge_types=True, since="2023-11-15", until=1_701_300_000_000),
        replace(PLAIN, type="kind", types=("view", "buy"), merge_types=True, since="2023-11-15"),
    ],
    ids=["plain", "dedupe", "types", "users", "users-types", "window-merged", "window-ranked"],
)  # fmt: skip
def test_the_same_bits(tmp_path: Path, seed: int, options: ClickOptions) -> None:
    source = tmp_path / "log"
    source.mkdir()
    frame = log_frame(seed, text=seed % 2 == 0)
    rows = random.Random(seed).sample(range(1, len(frame)), 3)
    for number, (begin, end) in enumerate(zip([0, *sorted(rows)], [*sorted(rows), len(frame)], strict=True)):
        part = frame[begin:end]
        part.write_csv(source / f"{number}.csv") if seed % 3 else part.write_parquet(source / f"{number}.parquet")
    compare(source, tmp_path, options, partitions=1 + seed)


def test_every_way_to_write_a_log(tmp_path: Path) -> None:
    """Zones, JSON lines with broken ones, bad rows of each kind, a time of another unit, integers as text."""
    source, base = tmp_path / "log", 1_700_000_000_000
    source.mkdir()
    times = pl.Series([f"2024-05-{1 + k % 20:02} 12:{k % 60:02}:00 Europe/Berlin" for k in range(300)])
    frame = log_frame(3, 300).with_columns(times.alias("timestamp"))
    frame.write_ndjson(source / "a.jsonl")
    with (source / "a.jsonl").open("a") as stream:
        stream.write('{"session_id": "x"\n{"session_id": null, "item_id": "sku-1", "timestamp": "2024-05-01"}\n')
    rows = ["session_id,item_id,timestamp,kind", "ü-1,,2024-05-02T10:00:00Z,view", "ü-2,sku-1,never,view"]
    rows += [f"ü-{k % 9},sku-{k % 7},2024-05-{1 + k % 20:02}T10:00:00Z,view" for k in range(200)]
    (source / "b.csv").write_text("\n".join(rows))
    dataset = compare(source, tmp_path, replace(PLAIN, bad_rows="skip", type="kind", dedupe=5.0), partitions=3)
    assert dataset.preparation["log"]["bad_rows"] == 4
    assert dataset.preparation["log"]["dropped_repeats"] > 0
    numbers = pl.DataFrame({"session_id": np.arange(600) % 90, "item_id": np.arange(600) % 11, "timestamp": base})
    numbers = numbers.with_columns(pl.col("timestamp") + np.arange(600) * 3_600_000)
    mixed = pl.DataFrame({"session_id": [1, 2], "item_id": [3, 4], "timestamp": [base // 1000, base + 5]})
    pl.concat([numbers, mixed]).write_parquet(tmp_path / "numbers.parquet")
    (tmp_path / "second").mkdir()
    compare(tmp_path / "numbers.parquet", tmp_path / "second", replace(PLAIN, bad_rows="skip"), partitions=30)


@pytest.mark.parametrize(
    ("change", "options"),
    [
        (lambda frame: frame.with_columns(pl.lit(None, pl.String).alias("item_id")), PLAIN),
        (lambda frame: frame.with_columns(pl.lit("soon").alias("timestamp")), PLAIN),
        (lambda frame: frame.with_columns(pl.lit("soon").alias("timestamp")), replace(PLAIN, bad_rows="skip")),
        (lambda frame: frame.rename({"item_id": "sku"}), PLAIN),
        (lambda frame: frame, replace(PLAIN, type="kind", types=("sold",))),
        (lambda frame: frame, replace(PLAIN, min_support=10_000)),
        (lambda frame: frame, replace(PLAIN, min_session=500, max_session=None)),
        (lambda frame: frame.filter(pl.len().over("session_id") > 4), replace(PLAIN, max_session=3, min_support=1)),
        (lambda frame: frame, replace(PLAIN, test_days=999)),
        (lambda frame: frame.head(0), PLAIN),
    ],
    ids=["empty", "time", "none-readable", "column", "types", "support", "short", "long", "all-test", "no-row"],
)  # fmt: skip
def test_what_is_refused_is_refused_in_the_same_words(
    tmp_path: Path, change: Callable[[pl.DataFrame], pl.DataFrame], options: ClickOptions
) -> None:
    change(log_frame(1)).write_parquet(tmp_path / "log.parquet")
    with pytest.raises(DataError) as expected:
        clicks.read(tmp_path / "log.parquet", options)
    with pytest.raises(DataError) as caught:
        prepare_in_partitions(tmp_path / "log.parquet", tmp_path / "parts", options, partitions=4)
    assert str(caught.value) == str(expected.value)
    assert not (tmp_path / "parts").exists()


def test_a_sharded_set_that_is_damaged(tmp_path: Path) -> None:
    log_frame(2).write_parquet(tmp_path / "log.parquet")
    folder = tmp_path / "set"
    prepare_in_partitions(tmp_path / "log.parquet", folder, PLAIN, partitions=4)
    stored = read_stored(str(folder))
    assert len(stored.parts) > 1
    assert all((part.times is not None) and len(part) for part in stored.parts)
    manifest = json.loads((folder / "manifest.json").read_text())
    part = folder / manifest["files"]["train"]["parts"][1]["file"]
    whole = part.read_bytes()
    for spoilt, named in ((whole[:-1] + b"?", "its hash differs"), (whole[:-8], "bytes, not"), (None, "is missing")):
        part.unlink() if spoilt is None else part.write_bytes(spoilt)
        with pytest.raises(DataError, match=named) as caught:
            Dataset.load(folder)
        assert part.name in str(caught.value)
        assert "\n" not in str(caught.value)
    part.write_bytes(whole)
    for parts, named in (([], "names no training part"), ([{"file": "../x", "sha256": ""}], "outside the folder")):
        changed = {**manifest, "files": {**manifest["files"], "train": {"sha256": "", "parts": parts}}}
        (folder / "manifest.json").write_text(json.dumps(changed))
        with pytest.raises(DataError, match=named):
            Dataset.load(folder)


def test_a_killed_run_leaves_no_set_and_runs_again(tmp_path: Path) -> None:
    """Killed in each of its steps."""
    log_frame(6).write_parquet(tmp_path / "log.parquet")
    folder = tmp_path / "set"
    script = (
        "import os, sys; from pathlib import Path\n"
        "from mtaw_fast.data.readers import ClickOptions\n"
        "from mtaw_fast.data.readers.partitioned_prepare import prepare_in_partitions\n"
        "def progress(what, done, total):\n"
        "    if what == sys.argv[3]: os.kill(os.getpid(), 9)\n"
        "options = ClickOptions(min_support=2, test_days=3)\n"
        "prepare_in_partitions(Path(sys.argv[1]), Path(sys.argv[2]), options, partitions=3, progress=progress)\n"
    )
    for step in ("cut", "write"):
        command: list[str | Path] = [sys.executable, "-c", script, tmp_path / "log.parquet", folder, step]
        assert subprocess.run(command, check=False).returncode == -9
        assert not (folder / "manifest.json").exists()
        assert len(list(folder.glob(".prepare-*"))) == 1
    prepare_in_partitions(tmp_path / "log.parquet", folder, PLAIN, partitions=3)
    assert not list(folder.glob(".prepare-*"))
    expected = clicks.read(tmp_path / "log.parquet", PLAIN)
    expected.save(tmp_path / "one")
    assert Dataset.load(folder).fingerprint == Dataset.load(tmp_path / "one").fingerprint


def test_what_makes_no_sense(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="write it as Parquet"):
        prepare_in_partitions(log_frame(0), tmp_path / "set", PLAIN)
    with pytest.raises(UsageError, match="at least 1, not 0"):
        prepare_in_partitions(tmp_path / "log.csv", tmp_path / "set", PLAIN, partitions=0)
    with pytest.raises(UsageError, match="context columns are read in one pass"):
        prepare_in_partitions(tmp_path / "log.csv", tmp_path / "set", replace(PLAIN, context=("kind",)))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "log.csv").write_text("session_id,item_id,timestamp\n")
    with pytest.raises(DataError, match="its name is not UTF-8 text"):
        prepare_in_partitions(tmp_path / "log.csv", tmp_path / "set", PLAIN, "a\ud800")
    assert not (tmp_path / "set").exists()


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
