"""Write what was learned into the compacted bundle of a learning folder.

    python -m mtaw_fast.online.compaction.compactor BUNDLE --learn FOLDER

Serving processes start it. If another one already works in the folder, it exits at once with code `BUSY`, or starts
after that one (--wait). Exit code `CLEANUP_FAILED` means that the bundle was written and the log was not cleaned up.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import logging
import os
import sys
from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST, model_hash
from mtaw_fast.bundle.writer import save_bundle
from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.online.compaction.compaction import compact_model
from mtaw_fast.online.compaction.current import (
    compacted_by_all,
    current_bundle,
    model_for,
    position_in,
    reader_id,
    trained_until,
)
from mtaw_fast.online.compaction.redaction import forgotten_until, redact_forgotten
from mtaw_fast.online.compaction.serving_lock import arm_folders, not_served, other_arms
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import START, EventLog, LogEntry
from mtaw_fast.online.log.events import ConfirmClock, now_ms
from mtaw_fast.online.log.private_files import make_private
from mtaw_fast.online.settings import COMPACTED, LearningSettings, limits_of
from mtaw_fast.system import host

BUSY, CLEANUP_FAILED = 75, 76  # exit codes next to 0 and those of errors; 75 means "try again" in sysexits.h
_READ_EVENTS = 10_000
_LOCK = ".compact.lock"
_NICE = 10
REPEATS = "repeats"  # in the manifest: what the next compaction removes from the log if this one cannot any more


class LogCleanupError(LearnError):
    """The compacted bundle was written, but the log could not be redacted or shortened."""

    exit_code = CLEANUP_FAILED


def compact_folder(
    folder: str | os.PathLike[str], settings: LearningSettings, *, wait: bool = False, confirm_clock: bool = False
) -> Path | None:
    """Write the compacted bundle with all events of the log; return its folder, None if another process is doing it.

    wait: wait for that process instead. confirm_clock: say in the log that the clocks of its hosts are right.

    Raises LogCleanupError if the bundle was written, but the log still holds forgotten clicks or is too large: the next
    call cleans it up. Raises MtawError if the bundle or the log cannot be read, the log's times are not confirmed, or
    the compacted bundle cannot be written: the old one is unchanged.
    """
    try:
        make_private(settings.log_folder)
        if settings.shared_folder is not None:
            make_private(settings.folder)
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(host.open_stream(settings.folder / _LOCK, "w"))
            try:
                host.lock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return None
            if settings.shared_folder is not None:  # arms take turns: each needs much memory, and cleans up the log
                host.lock(stack.enter_context(host.open_stream(settings.shared_folder / _LOCK, "w")), fcntl.LOCK_EX)
            log = open_log(settings)
            stack.callback(log.close)
            if confirm_clock:
                log.append([ConfirmClock(now_ms())])
            return _compact(folder, settings, log)
    except OSError as error:
        raise LearnError(f"cannot learn in {settings.folder}: {error.strerror or error}") from None


def _compact(folder: str | os.PathLike[str], settings: LearningSettings, log: EventLog) -> Path:
    before = current_bundle(folder, settings.folder, False, settings.shared_folder)
    before.check_learns()
    duplicates = list[str]()
    model = compact_model(
        model_for(before, log),
        log.identity,
        _events_after(log, before),
        settings.limits,
        keep=settings.retention_ms,
        since=trained_until(before),
        duplicates=duplicates,
    )
    log.flush(position_in(before, log))  # else a power loss could leave a log that ends before the bundle's position
    assert model.log_progress is not None
    position = model.log_progress.position
    # Once the first of such clicks is redacted, a reader that begins at the start would learn the others. What another
    # arm has yet to read stays as it is: it removes them then.
    reader = reader_id(settings)
    until = log.read_by_all(reader, compacted_by_all(other_arms(settings), position))
    repeats = [repeat for repeat in duplicates if repeat <= until]
    # The log's last event stays until the bundle is there: without both, no reader reaches its acknowledged position.
    last = [repeat for repeat in repeats if repeat == position]
    log.remove([*before.manifest.get(REPEATS, ()), *(repeat for repeat in repeats if repeat != position)])
    compacted, manifest = settings.folder / COMPACTED, before.manifest
    grown = {"grown_from": manifest.get("grown_from", model_hash(manifest)), "position": position, REPEATS: last}
    # Not `Bundle.save`, which loads what it wrote: that would hold the model twice.
    save_bundle(compacted, model, manifest["metrics"], manifest["dataset"], overwrite=True, about=grown)
    make_private(settings.folder)  # the new bundle holds the clicks of open sessions
    log.note_reader(reader, position)
    _clean_up(log, settings, reader, position, last)
    return compacted


def _clean_up(log: EventLog, settings: LearningSettings, reader: str, position: str, repeats: Sequence[str]) -> None:
    """Remove from the log what the compacted bundles make unnecessary, and `repeats`, the positions of clicks that came
    again; one failure does not stop the other work."""
    arms = other_arms(settings)
    until = log.read_by_all(reader, compacted_by_all(arms, position))
    if until == START:  # another reader still needs all of it, and cleans up when it has compacted it
        return
    served = {settings.folder, *(folder for _, folder in arms)}
    failures: list[Exception] = []
    log.note_cut(until)
    for work in (
        lambda: _redact(log, settings.log_folder, until, served, repeats),
        lambda: log.expire(until, settings.max_log_bytes),
    ):
        try:
            work()
        except (MtawError, OSError) as error:
            failures.append(error)
    if failures:
        reasons = "; ".join(map(str, failures))
        raise LogCleanupError(f"{settings.folder} has its compacted bundle, but its log is not cleaned up: {reasons}")


def _redact(log: EventLog, log_folder: Path, until: str, served: Container[Path], repeats: Sequence[str]) -> None:
    """Redact the log. If a session asked to be forgotten, also remove the bundles outside `served`, which nobody keeps
    up to date. `repeats` go first, before the clicks that they repeat."""
    log.remove(repeats)
    folders = [folder for folder in arm_folders(log_folder) if folder not in served]
    unserved = [folder for folder in folders if host.exists(folder / COMPACTED)]
    if unserved and forgotten_until(log, log_folder, until):
        for folder in unserved:
            with not_served(folder) as free:
                if not free:
                    raise LearnError(
                        f"{folder} is served since a moment ago, so nothing is redacted yet; compact again"
                    )
                _remove(folder / COMPACTED)
    redact_forgotten(log, log_folder, until)


def _remove(bundle: Path) -> None:
    """Remove a bundle, its manifest first: without it nobody takes the rest for one."""
    for path in sorted(host.listing(bundle), key=lambda path: path.name != MANIFEST):
        host.unlink(path)
    host.remove_folder(bundle)


def _events_after(log: EventLog, bundle: Bundle) -> Iterator[list[LogEntry]]:
    """Yield the events after a bundle's position. Raises LearnError if that is a position of another log."""
    position = position_in(bundle, log)
    while entries := log.read(position, _READ_EVENTS):
        yield entries
        position = entries[-1].position


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m mtaw_fast.online.compaction.compactor", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--learn", type=Path, required=True)
    parser.add_argument("--stream")
    parser.add_argument("--shared-folder", type=Path)
    parser.add_argument("--other-arm", type=Path, nargs=2, action="append", default=[])
    parser.add_argument("--retention-days", type=float, default=30.0)
    parser.add_argument("--max-log-bytes", type=int, default=2 << 30)
    parser.add_argument("--learn-limit", action="append", default=[])
    parser.add_argument("--wait", action="store_true", help="if another compactor is at work, start after it")
    options = parser.parse_args(arguments)
    host.lower_priority(_NICE)
    try:
        settings = LearningSettings(
            options.learn, options.stream, retention_days=options.retention_days, max_log_bytes=options.max_log_bytes,
            limits=limits_of(options.learn_limit), shared_folder=options.shared_folder,
            other_arms=tuple(map(tuple, options.other_arm)),
        )  # fmt: skip
        compacted = compact_folder(options.bundle, settings, wait=options.wait)
    except MtawError as error:
        print(f"mtaw-fast: {error}", file=sys.stderr)
        return error.exit_code
    return BUSY if compacted is None else 0


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)  # what the log holds, its readers have warned of in their own format
    sys.exit(main())
