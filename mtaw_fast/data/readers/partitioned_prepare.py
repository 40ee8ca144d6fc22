"""A click log larger than memory to a sharded data set: to the bit what `clicks.read` and `Dataset.save` make of it.

Sessions are independent of one another until the filters count items, so the rows are scattered by the hash of their
session or user (`partition` has the steps); in the end the sessions are gathered by stretches of time, each a part of
the set. This process plans and adds up: it holds some vectors over the N distinct items and their texts, no clicks.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import check_name, refuse_existing
from mtaw_fast.data.dataset_files import DATA_FILE, Counts, manifest_of, sharded_entry, sweep_drafts
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers import partition_steps as partition
from mtaw_fast.data.readers.click_log import nothing_readable
from mtaw_fast.data.readers.clicks import (
    ClickOptions,
    columns_of,
    dedupe_ms_of,
    default_name,
    gap_ms_of,
    no_click,
    place_of,
    record_of,
    rules_of,
)
from mtaw_fast.data.readers.dataset_builder import all_in_test, enough_support, nothing_left
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.partition_steps import Cut, Found
from mtaw_fast.data.readers.sources import Part, part_files
from mtaw_fast.data.readers.validation import Each, one_by_one, settle
from mtaw_fast.errors import DataError, UsageError, require
from mtaw_fast.storage.files import folder_lock, write_json
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

PARTITION_ROWS = 2_000_000  # of a hash by default: some 500 MB of memory for the step that sorts them
_SCRATCH = ".prepare-"
_STEPS = 7

Told = Callable[[str, int, int], object]


def prepare_in_partitions(
    source: Any,
    folder: Path,
    options: ClickOptions | None = None,
    name: str | None = None,
    *,
    overwrite: bool = False,
    partitions: int | None = None,
    each: Each = one_by_one,
    told: Told = lambda *_: None,
) -> LogReport:
    """Make a sharded data set from a log of any size.

    Parameters
    ----------
    source : path or URL
        As of `clicks.read`, but no frame. A part (file) of the log is read by one step at a time.
    folder : Path
        To write. What is not yet whole lies in a folder within it, which goes in the end, or with the next run where
        this one is killed; with the finished parts some 70 bytes a click at most.
    options : ClickOptions, optional
        As of `clicks.read`.
    name : str, optional
        Of the data set; by default from the source.
    overwrite : bool, default False
        Whether to replace a data set that is there; it stays until the new one is whole.
    partitions : int, optional
        Hashes that the sessions are scattered to, and parts of the set (fewer where its ends fall together). Memory
        falls with it, no bit depends on it but where the parts begin. By default one for `PARTITION_ROWS` rows.
    each : callable
        Runs the steps; by default this process, one after the other.
    told : callable
        Called as told(what, done, total) before every step.

    Returns
    -------
    LogReport
        What the log held, and what looks wrong; the manifest has it too.

    Raises
    ------
    UsageError
        On a frame, fewer than one partition, or where the folder holds a data set.
    DataError, MtawError
        As `clicks.read` and `Dataset.save`; nothing is left then.
    """
    options = options or ClickOptions()
    if partitions is not None and partitions < 1:
        raise UsageError(f"the number of partitions must be at least 1, not {partitions}")
    parts = part_files(source, columns_of(options).names)
    if any(part.kind == "frame" for part in parts):
        raise UsageError("a frame in memory is not partitioned; write it as Parquet and name the file")
    name = name or default_name(source)
    check_name(name)
    refuse_existing(folder, overwrite)
    with folder_lock(folder, DataError), _scratch(folder) as scratch:
        refuse_existing(folder, overwrite)  # by somebody else meanwhile
        sweep_drafts(folder)
        old = set(folder.glob("*.safetensors"))
        work = _Work([_absolute(part) for part in parts], source, options, scratch, each, told)
        try:
            manifest, report = work.run(folder.resolve(), name, partitions)
            write_json(folder / "manifest.json", manifest)
        except BaseException:
            _remove(set(folder.glob("*.safetensors")) - old)
            raise
        entries = manifest["files"]
        kept = {entries["test"]["file"], entries["ids"]["file"], *(one["file"] for one in entries["train"]["parts"])}
        _remove(path for path in folder.glob("*.safetensors") if path.name not in kept)
    return report


class _Work:
    """One run. scratch: where the steps leave their files."""

    def __init__(
        self, parts: Sequence[Part], source: Any, options: ClickOptions, scratch: Path, each: Each, told: Told
    ) -> None:
        self._parts, self._source, self._options, self._scratch = parts, source, options, scratch
        self._each, self._told, self._report = each, told, LogReport()
        self._rules = rules_of(options)

    def run(self, folder: Path, name: str, partitions: int | None) -> tuple[dict[str, Any], LogReport]:
        """All steps; the manifest."""
        report, rules = self._report, self._rules
        columns = columns_of(self._options)
        self._tell("check", 0)
        types = settle(self._parts, columns, "auto", (), self._each)
        partitions = partitions or max(1, -(-types.rows // PARTITION_ROWS))
        self._tell("scatter", 1)
        rows = [self._scratch / f"rows-{number}" for number in range(len(self._parts))]
        calls = [(part, k, columns, types, partitions, rows[k]) for k, part in enumerate(self._parts)]
        n_rows = sum(self._each(partition.scatter, calls))
        if n_rows == 0:
            raise nothing_readable(self._parts, types)
        self._tell("cut", 2)
        sessions, codes, texts, support = self._cut(rows, partitions, types.names, n_rows, types.rows - n_rows)
        preparation, reader = record_of(self._options, n_rows, report.sessions)
        self._tell("filter", 3)
        sessions, found = self._filtered(sessions, codes, support)
        self._tell("gather", 4)
        latest = max(one.latest for one in found)
        boundary = latest - rules.test_ms
        earliest = min(one.earliest for one in found)
        if earliest > boundary:
            raise all_in_test(name, sum(one.sessions for one in found), earliest, latest, rules)
        stretches = self._gathered(sessions, _cuts(found, boundary, partitions), boundary)
        self._tell("number", 5)
        internal, ids = self._numbered(stretches, texts, types.item_is_int)
        self._tell("write", 6)
        trained = self._each(partition.number, [(stretch, internal, rules, folder) for stretch in stretches])
        test, n_test, tested = self._each(
            partition.sample, [(sessions, boundary, internal, rules, name, folder, self._scratch / "test")]
        )[0]
        report.add(tested)
        trained = [{key: one[key] for key in one if key != "clicks"} for one in trained if one["sessions"]]
        n_train, samples = sum(one["sessions"] for one in trained), sum(one.pop("samples") for one in trained)
        report.judge(rules.max_session, n_train, samples, n_test)
        files = {
            "train": sharded_entry(folder, trained),
            "test": test,
            "ids": partition.data_file(folder, "ids", self._scratch, ids.arrays),
        }
        counts = Counts(len(ids), n_train, samples, n_test)
        reader = {**reader, "item_ids": ids.kind, "type_names": list(types.names)}
        preparation["log"] = report.as_dict()
        return manifest_of(name, rules.min_prefix, counts, preparation, types.names, reader, files), report

    def _cut(
        self, rows: list[Path], partitions: int, names: tuple[str, ...], n_rows: int, bad_rows: int
    ) -> tuple[list[Path], list[Path], Any, np.ndarray]:
        """The sessions of every hash, their items' codes, the texts of those, and int64[N] their support."""
        pa, pc = require("pyarrow", "score"), require("pyarrow.compute", "score")
        gap = gap_ms_of(self._options) if self._options.user is not None else None
        how = Cut(gap, dedupe_ms_of(self._options), self._rules.min_session)
        sessions = [self._scratch / f"cut-{number}" for number in range(partitions)]
        calls = [(rows, number, partitions, how, names, path) for number, path in enumerate(sessions)]
        for one in self._each(partition.cut, calls):
            self._report.add(one.report)
        self._report.rows, self._report.bad_rows = n_rows + bad_rows, bad_rows
        if self._report.clicks == 0:
            raise no_click(self._source, self._options)
        for path in rows:
            path.unlink()
        known, codes = None, []
        clicks, support = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for path in sessions:
            with pa.memory_map(str(partition.items_of(path))) as source:
                table = pa.ipc.open_file(source).read_all().combine_chunks()
                items = _whole(table["item"])
                known = items.slice(0, 0) if known is None else known
                # Looked up once: each look makes a table of all that is known.
                places = pc.index_in(items, value_set=known)
                new = items.filter(places.is_null())
                numbers = np.array(places.fill_null(-1), np.int32)
                numbers[numbers < 0] = np.arange(len(known), len(known) + len(new))
                known = pa.concat_arrays([known, new])
                clicks, support = (np.append(one, np.zeros(len(new), np.int64)) for one in (clicks, support))
                clicks[numbers] += table["clicks"].to_numpy()
                support[numbers] += table["support"].to_numpy()
            codes.append(path.with_name(f"{path.name}.codes"))
            write_tensors(codes[-1], {"codes": numbers})
        self._report.items = int(np.count_nonzero(clicks))
        self._most_clicked = int(clicks.max(initial=0))
        return sessions, codes, known, support

    def _filtered(self, sessions: list[Path], codes: list[Path], support: np.ndarray) -> tuple[list[Path], list[Found]]:
        """The sessions that the filters leave, and what is told of them."""
        report, rules = self._report, self._rules
        n_clicks, all_sessions = int(support.sum()), report.sessions
        coded: Sequence[Path | None] = codes
        for turn in range(1 << 30):
            frequent = self._scratch / f"frequent-{turn}"
            write_tensors(frequent, {"frequent": enough_support(support, rules, report)})
            kept = [self._scratch / f"kept-{turn}-{number}" for number in range(len(sessions))]
            calls = list(zip(sessions, coded, [frequent] * len(kept), [rules] * len(kept), kept, strict=True))
            found = self._each(partition.keep, calls)
            for one, path in zip(found, sessions, strict=True):
                report.add(one.report)
                path.unlink()
            left = sum(one.clicks for one in found)
            settled, n_clicks = left == n_clicks, left
            sessions, coded = kept, [None] * len(kept)
            if settled or not rules.until_stable:
                break
            support = np.zeros(len(support), np.int64)
            for path in sessions:
                support += map_tensors(path, "map")["support"]
        found = [one for one in found if one.sessions]
        report.short_sessions = all_sessions - sum(one.sessions for one in found) - report.long_sessions
        if not found:
            clicks = sum(report.days.values())
            raise nothing_left(place_of(self._source), clicks, self._most_clicked, rules, report)
        return sessions, found

    def _gathered(self, sessions: list[Path], cuts: list[int], boundary: int) -> list[Path]:
        """The training sessions by stretches of time, in order."""
        stretches = [self._scratch / f"stretch-{number}" for number in range(len(cuts) + 1)]
        bounds = [None, *cuts, boundary]
        calls = [(sessions, bounds[k], bounds[k + 1], stretch) for k, stretch in enumerate(stretches)]
        self._each(partition.gather, calls)
        return stretches

    def _numbered(self, stretches: list[Path], texts: Any, as_int: bool) -> tuple[Path, ItemIds]:
        """The file of the codes' internal ids, by first appearance, and the table of the external ones."""
        internal = np.full(len(texts), -1, np.int32)
        order = np.empty(0, np.int32)
        for stretch in stretches:
            first = map_tensors(stretch, "map")["first"]
            new = first[internal[first] < 0]
            internal[new] = np.arange(len(order), len(order) + len(new))
            order = np.append(order, new)
        path = self._scratch / "internal"
        write_tensors(path, {"internal": internal})
        pa = require("pyarrow", "score")
        names = texts.take(pa.array(order)).to_pylist()
        return path, ItemIds.from_list([int(text) for text in names] if as_int else names)

    def _tell(self, what: str, done: int) -> None:
        self._told(what, done, _STEPS)


def _cuts(found: Sequence[Found], boundary: int, count: int) -> list[int]:
    """At most count - 1 times, ascending, that divide the sessions up to the boundary into stretches of about as many
    clicks each."""
    ends = np.concatenate([one.ends for one in found])
    weights = np.concatenate([np.full(len(one.ends), one.clicks / len(one.ends)) for one in found])
    order = np.argsort(ends, kind="stable")
    ends, weights = ends[order], np.cumsum(weights[order])
    inside = int(np.searchsorted(ends, boundary, "right"))
    if inside == 0:
        return []
    places = np.searchsorted(weights[:inside], weights[inside - 1] * np.arange(1, count) / count)
    return [int(cut) for cut in np.unique(ends[places]) if cut < ends[inside - 1]]


def _whole(column: Any) -> Any:
    """A column of a table as one array."""
    pa = require("pyarrow", "score")
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def _absolute(part: Part) -> Part:
    """The same wherever a step runs; messages name it as before."""
    return replace(part, source=part.source.resolve()) if isinstance(part.source, Path) else part


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder within `folder`; those that killed runs have left go first."""
    for left in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    made = folder.resolve() / f"{_SCRATCH}{secrets.token_hex(4)}"
    made.mkdir()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _remove(paths: Any) -> None:
    for path in paths:
        if DATA_FILE.fullmatch(path.name):
            path.unlink(missing_ok=True)
