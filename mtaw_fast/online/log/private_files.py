"""Files and folders that only their owner reads: the log holds what visitors clicked."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from mtaw_fast.storage.files import flush_name
from mtaw_fast.system import host

FILE_MODE, FOLDER_MODE = 0o600, 0o700
_OURS = re.compile(
    r"log\.json|events-[0-9]+\.log|bundle|arms|redacted\.json|\.(append|compact|serving|items)\.lock|\..*\.tmp"
    r"|ranking-ids\.key|reader\.id"
)
_LOG = logging.getLogger("mtaw_fast.online")


def make_private(folder: Path) -> None:
    """Create a learning folder that only its owner enters, or take the access of others from one that is there.

    In a folder that holds other files too, only the files of learning are taken from others. If this user owns none of
    them, they stay as they are, with a log line. Raises OSError if the folder cannot be made or listed.
    """
    missing = [ancestor for ancestor in (folder, *folder.parents) if not host.exists(ancestor)]
    host.make_folder(folder, FOLDER_MODE, exist_ok=True)
    for created in missing or [folder]:  # also if another process has just made it
        flush_name(created)
    paths = host.listing(folder)
    ours = [path for path in paths if _OURS.fullmatch(path.name)]
    try:
        for path in [folder, *ours] if len(ours) == len(paths) else ours:
            _take_from_others(path)
    except PermissionError:
        _LOG.warning("%s belongs to another user, so others may read the clicks in it; set its mode to 700", folder)


def _take_from_others(path: Path) -> None:
    try:
        mode = host.status(path).st_mode & 0o7777
        if mode & 0o077:
            host.set_mode(path, mode & ~0o077)
    except FileNotFoundError:
        pass  # another process removed it meanwhile
