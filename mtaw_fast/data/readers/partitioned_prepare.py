"""Make a sharded data set from a click log larger than memory: the same bits as `clicks.read` and `Dataset.save`.

Sessions are independent until the filters count items. So the rows are first scattered by the hash of their session or
user, and in the end the sessions are gathered by time ranges, each a part of the data set (`partition_steps` has the
steps). This process plans the steps and adds up their counts. It keeps vectors over the N distinct items and their
texts in memory, but no clicks.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import check_name, refuse_existing
from mtaw_fast.data.dataset_files import manifest_of, remove_parts, sharded_entry, sweep_drafts
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.readers import partition_steps as steps
from mtaw_fast.data.readers.click_log import nothing_readable
from mtaw_fast.data.readers.clicks import default_name, place_of, record_of
from mtaw_fast.data.readers.dataset_builder import all_in_test, enough_support, no_click, nothing_left
from mtaw_fast.data.readers.log_report import LogReport
from mtaw_fast.data.readers.options import ClickOptions
from mtaw_fast.data.readers.partition_steps import Found
from mtaw_fast.data.readers.sources import Part, part_files
from mtaw_fast.data.readers.validation import TaskRunner, check_log, run_serially
from mtaw_fast.errors import DataError, UsageError, require
from mtaw_fast.storage.files import folder_lock, write_json
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors

PARTITION_ROWS = 2_000_000  # default rows per partition: the step that sorts them needs some 500 MB of memory
_SCRATCH = ".prepare-"
_STEPS = 7

Progress = Callable[[str, int, int], object]
CheckIds = Callable[[str], object]


def prepare_in_partitions(
    source: Any,
    folder: Path,
    options: ClickOptions | None = None,
    name: str | None = None,
    *,
    overwrite: bool = False,
    partitions: int | None = None,
    run_tasks: TaskRunner = run_serially,
    progress: Progress = lambda *_: None,
    check_ids: CheckIds = lambda _: None,
) -> LogReport:
    """Make a sharded data set from a log of any size.

    source: as in `clicks.read`, but not a frame. One task reads a part (file) of the log at a time.
    folder: the folder to write. Unfinished files are in a folder within it, which is removed at the end, or by the next
    run if this one is killed. Together with the finished parts they take at most some 70 bytes per click.
    options, name: as in `clicks.read`.
    overwrite: replace an existing data set; it stays until the new one is complete.
    partitions: number of hash partitions, and of parts of the data set (fewer if many sessions end at the same time).
    More partitions need less memory; only the borders of the parts depend on the number. By default one per
    `PARTITION_ROWS` rows.
    run_tasks: runs the tasks of a step; by default in this process, one after the other.
    progress: called as progress(step, done, total) before every step.
    check_ids: called with the kind of the item ids, 'int' or 'str', before anything is replaced; it may raise an error.

    Returns the counts of the log and the warnings, which the manifest also has. Raises UsageError on a frame, on
    context columns, on fewer than one partition, or if the folder already has a data set, and what `clicks.read` and
    `Dataset.save` raise; then no file is left behind.
    """
    options = options or ClickOptions()
    if partitions is not None and partitions < 1:
        raise UsageError(f"the number of partitions must be at least 1, not {partitions}")
    if options.context:
        raise UsageError("context columns are read in one pass, not in partitions; call prepare or leave them out")
    parts = part_files(source, options.columns)
    if any(part.kind == "frame" for part in parts):
        raise UsageError("a frame in memory cannot be partitioned; write it as Parquet and name the file")
    name = name or default_name(source)
    check_name(name)
    refuse_existing(folder, overwrite)
    with folder_lock(folder, DataError), _scratch(folder) as scratch:
        refuse_existing(folder, overwrite)  # again, as another process may have written one meanwhile
        sweep_drafts(folder)
        old = set(folder.glob("*.safetensors"))
        work = _Work(
            [_absolute(part) for part in parts], place_of(source), options, scratch, run_tasks, progress, check_ids
        )
        try:
            manifest, report = work.run(folder.resolve(), name, partitions)
            write_json(folder / "manifest.json", manifest)
        except BaseException:
            remove_parts(set(folder.glob("*.safetensors")) - old)
            raise
        entries = manifest["files"]
        used = {entries["test"]["file"], entries["ids"]["file"], *(part["file"] for part in entries["train"]["parts"])}
        remove_parts(path for path in folder.glob("*.safetensors") if path.name not in used)
    return report


@dataclass(frozen=True, slots=True)
class _Work:
    """One run. where: the source in messages. scratch: the folder for files between the steps."""

    parts: Sequence[Part]
    where: str
    options: ClickOptions
    scratch: Path
    run_tasks: TaskRunner
    progress: Progress
    check_ids: CheckIds
    report: LogReport = field(default_factory=LogReport)

    def run(self, folder: Path, name: str, partitions: int | None) -> tuple[dict[str, Any], LogReport]:
        """Run all steps; return the manifest and the report."""
        report, options = self.report, self.options
        self.progress("check", 0, _STEPS)
        types = check_log(self.parts, options, "auto", (), self.run_tasks)
        partitions = partitions or max(1, -(-types.rows // PARTITION_ROWS))
        self.progress("scatter", 1, _STEPS)
        rows = [self.scratch / f"rows-{number}" for number in range(len(self.parts))]
        calls = [(part, k, options, types, partitions, rows[k]) for k, part in enumerate(self.parts)]
        written = self.run_tasks(steps.scatter, calls)
        n_rows, n_clicks = sum(part[0] for part in written), sum(part[1] for part in written)
        if n_clicks == 0 and types.counted:
            raise nothing_readable(self.parts, types)
        report.bad_rows, report.left_out_rows = types.counted - n_clicks, types.rows - types.counted
        self.progress("cut", 2, _STEPS)
        sessions, codes, texts, support, most_clicked = self._cut(rows, partitions, types.names, types.rows)
        reader, preparation = record_of(options)
        self.progress("filter", 3, _STEPS)
        sessions, summaries = self._filtered(sessions, codes, support, most_clicked)
        self.progress("gather", 4, _STEPS)
        latest = max(summary.latest for summary in summaries)
        boundary = latest - options.test_ms
        earliest = min(summary.earliest for summary in summaries)
        if earliest > boundary:
            raise all_in_test(name, sum(summary.sessions for summary in summaries), earliest, latest, options)
        spans = self._gathered(sessions, _cuts(summaries, boundary, partitions), boundary)
        self.progress("number", 5, _STEPS)
        internal, ids = self._numbered(spans, texts, types.item_is_int)
        self.check_ids(ids.kind)
        self.progress("write", 6, _STEPS)
        train = self.run_tasks(steps.number, [(span, internal, options, folder) for span in spans])
        test, n_test, test_report = self.run_tasks(
            steps.sample, [(sessions, boundary, internal, options, name, folder, self.scratch / "test")]
        )[0]
        report.add(test_report)
        train = [part for part in train if part["sessions"]]
        n_train, samples = sum(part["sessions"] for part in train), sum(part.pop("samples") for part in train)
        report.judge(options.max_session, n_train, samples, n_test)
        files = {
            "train": sharded_entry(folder, train),
            "test": test,
            "ids": steps.data_file(folder, "ids", self.scratch / "ids", ids.arrays),
        }
        counts = len(ids), n_train, samples, n_test
        reader = {**reader, "item_ids": ids.kind, "type_names": list(types.names)}
        preparation |= {"rows": n_rows, "sessions": report.sessions, "log": report.as_dict()}
        return manifest_of(name, options.min_prefix, counts, preparation, types.names, reader, files), report

    def _cut(
        self, rows: list[Path], partitions: int, names: tuple[str, ...], n_rows: int
    ) -> tuple[list[Path], list[Path], Any, np.ndarray, int]:
        """Return the files of the partitions' sessions and item codes, the item texts, int64[N] their support, and the
        clicks of the most clicked item."""
        pa, pc = require("pyarrow", "score"), require("pyarrow.compute", "score")
        sessions = [self.scratch / f"cut-{number}" for number in range(partitions)]
        calls = [(rows, number, partitions, self.options, names, path) for number, path in enumerate(sessions)]
        for summary in self.run_tasks(steps.cut, calls):
            self.report.add(summary.report)
        self.report.rows = n_rows
        if self.report.clicks == 0:
            raise no_click(self.where, self.options, self.report)
        for path in rows:
            path.unlink()
        texts, codes = None, []
        clicks, support = np.zeros(0, np.int64), np.zeros(0, np.int64)
        for path in sessions:
            with pa.memory_map(str(steps.items_of(path))) as source:
                table = pa.ipc.open_file(source).read_all().combine_chunks()
                items = steps.whole(table["item"])
                texts = items.slice(0, 0) if texts is None else texts
                # One lookup per partition, because each one builds a hash table of all known items.
                indices = pc.index_in(items, value_set=texts)
                new_texts = items.filter(indices.is_null())
                numbers = np.array(indices.fill_null(-1), np.int32)
                numbers[numbers < 0] = np.arange(len(texts), len(texts) + len(new_texts))
                texts = pa.concat_arrays([texts, new_texts])
                clicks, support = (np.append(array, np.zeros(len(new_texts), np.int64)) for array in (clicks, support))
                clicks[numbers] += table["clicks"].to_numpy()
                support[numbers] += table["support"].to_numpy()
            codes.append(path.with_name(f"{path.name}.codes"))
            write_tensors(codes[-1], {"codes": numbers})
        self.report.items = int(np.count_nonzero(clicks))
        return sessions, codes, texts, support, int(clicks.max(initial=0))

    def _filtered(
        self, sessions: list[Path], codes: list[Path], support: np.ndarray, most_clicked: int
    ) -> tuple[list[Path], list[Found]]:
        """Return the files of the sessions that pass the filters, and their counts."""
        report, options = self.report, self.options
        n_clicks = int(support.sum())
        code_files: Sequence[Path | None] = codes
        for turn in range(1 << 30):
            frequent = self.scratch / f"frequent-{turn}"
            write_tensors(frequent, {"frequent": enough_support(support, options, report)})
            kept = [self.scratch / f"kept-{turn}-{number}" for number in range(len(sessions))]
            calls = list(zip(sessions, code_files, [frequent] * len(kept), [options] * len(kept), kept, strict=True))
            summaries = self.run_tasks(steps.keep, calls)
            for summary, path in zip(summaries, sessions, strict=True):
                report.add(summary.report)
                path.unlink()
            n_left = sum(summary.clicks for summary in summaries)
            settled, n_clicks = n_left == n_clicks, n_left
            sessions, code_files = kept, [None] * len(kept)
            if settled or options.support_rounds == "once":
                break
            support = np.zeros(len(support), np.int64)
            for path in sessions:
                support += map_tensors(path, "map")["support"]
        summaries = [summary for summary in summaries if summary.sessions]
        n_sessions = sum(summary.sessions for summary in summaries)
        report.count_short(n_sessions)
        if not summaries:
            raise nothing_left(self.where, most_clicked, options, report)
        return sessions, summaries

    def _gathered(self, sessions: list[Path], cuts: list[int], boundary: int) -> list[Path]:
        """Write the training sessions by time range, in order."""
        spans = [self.scratch / f"span-{number}" for number in range(len(cuts) + 1)]
        bounds = [None, *cuts, boundary]
        calls = [(sessions, bounds[k], bounds[k + 1], span) for k, span in enumerate(spans)]
        self.run_tasks(steps.gather, calls)
        return spans

    def _numbered(self, spans: list[Path], texts: Any, as_int: bool) -> tuple[Path, ItemIds]:
        """Number the items by first appearance; return the file of the codes' internal ids, and the id table."""
        internal = np.full(len(texts), -1, np.int32)
        order = np.empty(0, np.int32)
        for span in spans:
            first = map_tensors(span, "map")["first"]
            new_codes = first[internal[first] < 0]
            internal[new_codes] = np.arange(len(order), len(order) + len(new_codes))
            order = np.append(order, new_codes)
        path = self.scratch / "internal"
        write_tensors(path, {"internal": internal})
        pa = require("pyarrow", "score")
        names = texts.take(pa.array(order)).to_pylist()
        return path, ItemIds.from_list([int(text) for text in names] if as_int else names)


def _cuts(summaries: Sequence[Found], boundary: int, count: int) -> list[int]:
    """Return at most count - 1 ascending times that cut the sessions up to the boundary into ranges of about equal
    clicks."""
    ends = np.concatenate([summary.ends for summary in summaries])
    weights = np.concatenate([np.full(len(summary.ends), summary.clicks / len(summary.ends)) for summary in summaries])
    order = np.argsort(ends, kind="stable")
    ends, weights = ends[order], np.cumsum(weights[order])
    n_inside = int(np.searchsorted(ends, boundary, "right"))
    if n_inside == 0:
        return []
    indices = np.searchsorted(weights[:n_inside], weights[n_inside - 1] * np.arange(1, count) / count)
    return [int(cut) for cut in np.unique(ends[indices]) if cut < ends[n_inside - 1]]


def _absolute(part: Part) -> Part:
    """Return the part with an absolute path, valid in every process; messages keep its name."""
    return replace(part, source=part.source.resolve()) if isinstance(part.source, Path) else part


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Make a folder within `folder` for the time of a run, after removing those of killed runs."""
    for leftover in folder.glob(f"{_SCRATCH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    scratch = folder.resolve() / f"{_SCRATCH}{secrets.token_hex(4)}"
    scratch.mkdir()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
