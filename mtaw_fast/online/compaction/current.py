"""The current bundle of a learning folder: the trained one, or the compacted one that was made from it."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import MANIFEST, model_hash
from mtaw_fast.bundle.reader import read_manifest
from mtaw_fast.errors import BundleError, LaterFormatError, LearnError
from mtaw_fast.items import ItemTable
from mtaw_fast.items.live import LiveItems
from mtaw_fast.memory.log_progress import FormerProgress, LogProgress
from mtaw_fast.model.model import Model
from mtaw_fast.online.log.event_log import START, EventLog
from mtaw_fast.online.log.private_files import FILE_MODE, make_private
from mtaw_fast.online.settings import COMPACTED, LearningSettings
from mtaw_fast.storage.files import flush_name
from mtaw_fast.system import host

# Errors that follow from the contents of a manifest or a folder. Any other OSError says nothing about the contents.
_OF_CONTENTS = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO}
_ID_DIGITS = 32  # of `host.new_id`
_LOG = logging.getLogger("mtaw_fast.online")

Signature = tuple[int, int] | None  # inode and mtime of a manifest, which change when it is replaced; None: no manifest


def signature_of(learned: Path) -> Signature:
    """Return the signature of the compacted bundle in a learning folder."""
    try:
        status = host.status(learned / COMPACTED / MANIFEST)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def learned_position(learned: Path) -> str:
    """Return the position of the compacted bundle in a learning folder; START if its manifest does not say it."""
    try:
        return str(read_manifest(learned / COMPACTED).get("position", START))
    except BundleError:
        return START


def current_bundle(folder: str | os.PathLike[str], learned: Path, verify: bool, shared: Path | None = None) -> Bundle:
    """Return the compacted bundle in `learned` if it was made from `folder`'s bundle; otherwise `folder`'s own.

    A compacted bundle of another training leaves what it knew about the log in `log_progress.former`. A damaged one is
    skipped with a log line: the log builds it again. If `folder`'s item table was read from its source after the last
    change of the compacted one, it takes that one's place. An arm that has none yet begins with the one in the folder
    that it shares, if its bundle learned there alone before.

    Raises BundleError if `folder`'s bundle is damaged, or the compacted one cannot be read now (too many open files, no
    memory, a disk error) or not by this release. That one may be intact and hold what the log no longer has.
    """
    trained, former = Bundle.load(folder, verify=verify), None
    for folder in (learned / COMPACTED,) if shared is None else (learned / COMPACTED, shared / COMPACTED):
        compacted = _compacted(folder, trained.folder, verify)
        if compacted is not None and compacted.manifest.get("grown_from") == model_hash(trained.manifest):
            return _with_newer_table(compacted, trained.items)
        former = compacted if former is None else former
    return trained if former is None else _after(former, trained)


def _compacted(folder: Path, trained: Path, verify: bool) -> Bundle | None:
    """Return the compacted bundle in a folder; None if there is none, or it is damaged. trained: for the log line."""
    try:
        if not host.exists(folder / MANIFEST):
            return None
        compacted = Bundle.load(folder, verify=verify)
    except LaterFormatError as error:
        message = str(error).rpartition(";")[0]  # without the advice to train again, which does not help here
        raise LaterFormatError(f"{message}; upgrade mtaw-fast, or give another folder to learn in") from None
    except BundleError as error:
        if _is_of_the_system(error):
            raise
        _LOG.warning("%s; skipped it, and what the log still holds is learned on top of %s", error, trained)
        return None
    except OSError as error:
        raise BundleError(f"cannot read {folder}: {error.strerror or error}; check the disk and permissions") from error
    return compacted


def _after(former: Bundle, trained: Bundle) -> Bundle:
    """Return a trained bundle with what the compacted bundle of a former training knew about the log."""
    learned, progress = former.model.log_progress, trained.model.log_progress or LogProgress("", START)
    if learned is None:
        return trained
    progress = replace(progress, former=FormerProgress(learned.log, learned.position, learned.seen.copy()))
    return replace(trained, model=replace(trained.model, log_progress=progress))


def _with_newer_table(compacted: Bundle, trained: ItemTable | None) -> Bundle:
    """Return a compacted bundle with the item table of its base, if that is newer; hidden items stay as they are."""
    items = compacted.items or ItemTable(compacted.n_items)
    if trained is None or trained.made <= max(items.made, items.changed):
        return compacted
    live = LiveItems(trained)
    table = live.table(compacted.ids.lookup, compacted.n_items)
    assert table is not None
    table = replace(
        table, hidden=items.hidden, placements=items.placements, version=max(items.version, table.version) + 1
    )
    return replace(compacted, model=replace(compacted.model, items=table))


def _is_of_the_system(error: BaseException) -> bool:
    """Return whether an error was caused by an OSError that says nothing about the files' contents."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError):
            return cause.errno not in _OF_CONTENTS
        cause = cause.__cause__ or cause.__context__  # the context too: `from None` only hides it from readers
    return False


def reader_id(settings: LearningSettings) -> str:
    """Return the id by which a stream knows the compacted bundle of these settings; a log in a folder needs
    none. Made at the first call. Raises LearnError if the folder cannot be read or written.
    """
    if settings.stream is None:
        return ""
    path = settings.folder / "reader.id"
    try:
        make_private(settings.folder)
        file = host.open_file(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
        try:
            host.lock(file, fcntl.LOCK_EX)  # several processes may start at once
            name = os.pread(file, _ID_DIGITS, 0)
            if len(name) < _ID_DIGITS:
                name = host.new_id().encode()
                host.pwrite(file, name, 0)
                host.fsync(file)
                flush_name(path)
        finally:
            host.close(file)
    except OSError as error:
        raise LearnError(f"cannot learn in {path.parent}: {error.strerror or error}; give a writable folder") from None
    return name.decode("ascii", "replace")


def trained_until(bundle: Bundle) -> int | None:
    """Return Unix milliseconds of the last click that a training, or an update by a log file, knew; None without times.

    A compacted bundle keeps the value of its base: its position in the log covers the rest.
    """
    learned = bundle.model.log_progress
    return bundle.model.learned_until if learned is None or not learned.log else learned.since


def former_position(bundle: Bundle) -> str:
    """Return the position up to which the compacted bundle of a former training had learned; START if there is none."""
    learned = bundle.model.log_progress
    return START if learned is None or learned.former is None else learned.former.position


def model_for(bundle: Bundle, log: EventLog) -> Model:
    """Return the model with which a reader of a log starts. Raises LearnError if it learned from another log."""
    position_in(bundle, log)
    model, learned = bundle.model, bundle.model.log_progress
    if learned is None or learned.former is None or learned.former.log == log.identity:
        return model
    return replace(model, log_progress=replace(learned, former=None))  # positions of another log mean nothing here


def position_in(bundle: Bundle, log: EventLog) -> str:
    """Return the position up to which a bundle has learned a log. Raises LearnError if it learned from another one."""
    learned = bundle.model.log_progress
    if learned is None:
        return START
    if learned.log not in ("", log.identity):
        raise LearnError(f"{bundle.folder} has learned from another log; give it the folder it learned in")
    return learned.position


def compacted_by_all(arms: Iterable[tuple[Path, Path]], position: str) -> str:
    """Return the position up to which every arm has compacted the log; START if one has not, of its present training.

    arms: trained bundle and folder of each arm but one; position: of that one.
    """
    return min([position, *(_compacted_position(bundle, folder) for bundle, folder in arms)])


def _compacted_position(bundle: Path, learned: Path) -> str:
    """Return the position of the compacted bundle that an arm would begin with; START if it has none it can use."""
    try:
        trained, compacted = read_manifest(bundle), read_manifest(learned / COMPACTED)
    except BundleError:
        return START
    return str(compacted.get("position", START)) if compacted.get("grown_from") == model_hash(trained) else START
