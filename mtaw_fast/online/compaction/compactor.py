"""python -m mtaw_fast.online.compaction.compactor BUNDLE --learn FOLDER: take what was learned into the grown bundle.

Serving processes start it. Where another one is at work in the same folder it ends at once with exit code `BUSY`, or
begins after it (--wait); `UNTIDY` says that the bundle has grown and the log still holds what it need not.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import model_hash
from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.online.compaction.compaction import compacted
from mtaw_fast.online.compaction.current import GROWN, current_bundle, position_in, trained_until
from mtaw_fast.online.compaction.redaction import redact_forgotten
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import EventLog, Stamped
from mtaw_fast.online.settings import LearningSettings, limits_of

BUSY, UNTIDY = 75, 76  # exit codes, next to 0 and those of errors; 75 is "try again" in sysexits.h
_READ_EVENTS = 10_000
_LOCK = ".compact.lock"
_NICE = 10


class UntidyError(LearnError):
    """The bundle has grown, and the log could not be freed of what it need not hold any more."""

    exit_code = UNTIDY


def compact_folder(folder: str | os.PathLike[str], settings: LearningSettings, *, wait: bool = False) -> Bundle | None:
    """Grow the bundle by the events that it does not know; None where another process is at it.

    wait: until no other process is at it, instead.

    Raises
    ------
    UntidyError
        Where the bundle has grown, but forgotten clicks or events past the log's size are in the log still: the next
        call takes them out.
    MtawError
        Where the bundle or the log cannot be read, or the grown one cannot be written. The old one is as it was.
    """
    settings.folder.mkdir(parents=True, exist_ok=True)
    with (settings.folder / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        log = open_log(settings)
        try:
            return _compact(folder, settings, log)
        finally:
            log.close()


def _compact(folder: str | os.PathLike[str], settings: LearningSettings, log: EventLog) -> Bundle:
    before = current_bundle(folder, settings.folder, verify=False)
    model = compacted(
        before.model,
        log.identity,
        _behind(log, before),
        settings.limits,
        keep=settings.retention_ms,
        since=trained_until(before),
    )
    grown = Bundle.save(
        settings.folder / GROWN,
        model,
        metrics=before.manifest["metrics"],
        dataset=before.manifest["dataset"],
        overwrite=True,
        about={"grown_from": before.manifest.get("grown_from", model_hash(before.manifest))},
    )
    assert model.log_progress is not None
    _tidy(log, settings, model.log_progress.position)
    return grown


def _tidy(log: EventLog, settings: LearningSettings, position: str) -> None:
    """Take out of the log what the grown bundle makes needless; what fails keeps nothing else from being done."""
    failures: list[MtawError] = []
    for work in (
        lambda: redact_forgotten(log, settings.folder, position),
        lambda: log.expire(position, settings.max_log_bytes),
    ):
        try:
            work()
        except MtawError as error:
            failures.append(error)
    if failures:
        told = "; ".join(map(str, failures))
        raise UntidyError(f"{settings.folder} has its grown bundle, and the log is not tidied yet: {told}")


def _behind(log: EventLog, bundle: Bundle) -> Iterator[list[Stamped]]:
    """The events behind a bundle's position. Raises LearnError where that is of another log."""
    position = position_in(bundle, log)
    while some := log.read(position, _READ_EVENTS):
        yield some
        position = some[-1].position


def start_compactor(
    folder: str | os.PathLike[str], settings: LearningSettings, *, wait: bool
) -> subprocess.Popen[bytes]:
    """A compactor of `folder`'s bundle; see `online.compaction.compactor`.

    wait: whether it begins after another one that is at it, instead of leaving it to that one.
    """
    command = [sys.executable, "-m", "mtaw_fast.online.compaction.compactor", str(folder), *settings.arguments()]
    return subprocess.Popen([*command, "--wait"] if wait else command, stdin=subprocess.DEVNULL)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m mtaw_fast.online.compaction.compactor", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--learn", type=Path, required=True)
    parser.add_argument("--stream")
    parser.add_argument("--retention-days", type=float, default=30.0)
    parser.add_argument("--max-log-bytes", type=int, default=2 << 30)
    parser.add_argument("--learn-limit", action="append", default=[])
    parser.add_argument("--wait", action="store_true", help="where another one is at it, begin after it")
    asked = parser.parse_args(arguments)
    os.nice(_NICE)
    try:
        settings = LearningSettings(
            asked.learn, asked.stream, retention_days=asked.retention_days, max_log_bytes=asked.max_log_bytes,
            limits=limits_of(asked.learn_limit),
        )  # fmt: skip
        grown = compact_folder(asked.bundle, settings, wait=asked.wait)
    except MtawError as error:
        print(f"mtaw-fast: {error}", file=sys.stderr)
        return error.exit_code
    return BUSY if grown is None else 0


if __name__ == "__main__":
    sys.exit(main())
