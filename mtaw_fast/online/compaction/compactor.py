"""python -m mtaw_fast.live.compactor BUNDLE --learn FOLDER: take what was learned into the grown bundle.

Serving processes start it. Where another one is at work in the same folder it ends at once with exit code `BUSY`, or
begins after it (--wait); `UNTIDY` says that the bundle has grown and the log still holds what it need not.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import model_hash
from mtaw_fast.errors import LearnError, MtawError
from mtaw_fast.live.compacting import BUSY, UNTIDY
from mtaw_fast.live.compaction import compacted
from mtaw_fast.live.event_log import EventLog, Stamped
from mtaw_fast.live.newest import GROWN, newest_bundle, position_in, trained_until
from mtaw_fast.live.opening import open_log
from mtaw_fast.live.scrubbing import scrub_forgotten
from mtaw_fast.live.settings import LearningSettings, limits_of

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
    before = newest_bundle(folder, settings.folder, verify=False)
    model = compacted(
        before.model,
        log.identity,
        _behind(log, before),
        settings.limits,
        keep=settings.keep_ms,
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
    assert model.learned is not None
    _tidy(log, settings, model.learned.position)
    return grown


def _tidy(log: EventLog, settings: LearningSettings, position: str) -> None:
    """Take out of the log what the grown bundle makes needless; what fails keeps nothing else from being done."""
    failures: list[MtawError] = []
    for work in (
        lambda: scrub_forgotten(log, settings.folder, position),
        lambda: log.expire(position, settings.max_bytes),
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


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; see the module."""
    parser = argparse.ArgumentParser(prog="python -m mtaw_fast.live.compactor", description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--learn", type=Path, required=True)
    parser.add_argument("--stream")
    parser.add_argument("--keep-days", type=float, default=30.0)
    parser.add_argument("--max-bytes", type=int, default=2 << 30)
    parser.add_argument("--limits", default="")
    parser.add_argument("--wait", action="store_true", help="where another one is at it, begin after it")
    asked = parser.parse_args(arguments)
    os.nice(_NICE)
    try:
        settings = LearningSettings(
            asked.learn, asked.stream, keep_days=asked.keep_days, max_bytes=asked.max_bytes,
            limits=limits_of(asked.limits),
        )  # fmt: skip
        grown = compact_folder(asked.bundle, settings, wait=asked.wait)
    except MtawError as error:
        print(f"mtaw-fast: {error}", file=sys.stderr)
        return error.exit_code
    return BUSY if grown is None else 0


if __name__ == "__main__":
    sys.exit(main())
