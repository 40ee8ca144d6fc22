"""Which bundle a folder to learn in has: the one that a training made, or what it has grown into since."""

from __future__ import annotations

import errno
import logging
import os
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST, model_hash
from mtaw_fast.bundle.reader import LaterFormatError
from mtaw_fast.errors import BundleError, LearnError
from mtaw_fast.online.log.event_log import START, EventLog

GROWN = "bundle"
# What a manifest or a folder with wrong contents leads to. Any other error of the system says nothing about them.
_OF_CONTENTS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
_LOG = logging.getLogger("mtaw_fast.online")

Signature = tuple[int, int] | None  # of a manifest: what changes when it is replaced; None where there is none


def signature_of(learned: Path) -> Signature:
    """That of the grown bundle in a folder to learn in."""
    try:
        status = (learned / GROWN / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def current_bundle(folder: str | os.PathLike[str], learned: Path, verify: bool) -> Bundle:
    """The bundle that what was learned in `learned` has grown `folder`'s into; `folder`'s own where there is none.

    Raises
    ------
    BundleError
        Where `folder`'s bundle is damaged, or the grown one cannot be read now (no file handles or memory left, a
        disk's error) or by this release: it may be whole, and holds what the log does not reach back to. One that is
        damaged itself is passed over, with a log line: the log makes it again.
    """
    given, place = Bundle.load(folder, verify=verify), learned / GROWN
    try:
        if not (place / MANIFEST).exists():
            return given
        grown = Bundle.load(place, verify=verify)
    except LaterFormatError as error:
        told = str(error).rpartition(";")[0]  # a new training does not help
        raise LaterFormatError(f"{told}; upgrade mtaw-fast, or give another folder to learn in") from None
    except BundleError as error:
        if _is_of_the_system(error):
            raise
        _LOG.warning("%s; it is passed over, and what the log still holds is learned on top of %s", error, folder)
        return given
    except OSError as error:
        raise BundleError(f"cannot read {place}: {error.strerror or error}; see to its disk and its rights") from error
    return grown if grown.manifest.get("grown_from") == model_hash(given.manifest) else given


def _is_of_the_system(error: BaseException) -> bool:
    """Whether an error came from one of the system that says nothing about what the files hold."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno not in _OF_CONTENTS
        cause = cause.__cause__ or cause.__context__  # also where `from None` hides it from readers
    return False


def trained_until(bundle: Bundle) -> int | None:
    """Unix milliseconds of the last click that a training, or an update by a day's log, knew; None without times.

    A bundle that has grown keeps what was so before: what it learned since, its position in the log says.
    """
    learned = bundle.model.log_progress
    return bundle.model.learned_until if learned is None or not learned.log else learned.since


def position_in(bundle: Bundle, log: EventLog) -> str:
    """Up to where a bundle knows a log. Raises LearnError where it has learned from another one."""
    learned = bundle.model.log_progress
    if learned is None:
        return START
    if learned.log not in ("", log.identity):
        raise LearnError(f"{bundle.folder} has learned from another log; give it the folder it learned in")
    return learned.position
