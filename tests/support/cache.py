"""A cache of what tests compile: build/test-cache in the checkout, or the folder that MTAW_TEST_CACHE names.

An entry's name is a SHA-256 of everything that its content depends on, so an entry is never stale: a changed input
gives another name. Entries that no test has used for 30 days are deleted.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_MAX_DAYS = 30


@cache
def cache_folder() -> Path:
    """Return the cache's folder, without the entries that are out of use."""
    folder = Path(os.environ.get("MTAW_TEST_CACHE") or ROOT / "build" / "test-cache")
    folder.mkdir(parents=True, exist_ok=True)
    oldest = time.time() - _MAX_DAYS * 24 * 3600
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
    return folder


def digest(*inputs: object) -> str:
    """Return the hash of the inputs: a `Path` counts with its content, everything else with its `repr`."""
    sha = hashlib.sha256()
    for value in inputs:
        data = value.read_bytes() if isinstance(value, Path) else repr(value).encode()
        sha.update(f"{type(value).__name__} {len(data)} ".encode())
        sha.update(data)
    return sha.hexdigest()


def digest_of_tree(files: Iterable[Path], folder: Path = ROOT) -> str:
    """Return the hash of files by name, relative to `folder`, and content."""
    pairs = sorted((str(path.relative_to(folder)), path) for path in files)
    return digest(*(value for pair in pairs for value in pair))


def cached(kind: str, key: str, make: Callable[[Path], None]) -> Path:
    """Return the file of an entry; where it is missing, `make` writes it to the path that it is given.

    Safe for several processes: a file appears under its final name only once it is complete.
    """
    path = cache_folder() / kind / key
    if path.exists():
        os.utime(path)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{key}.{os.getpid()}")
    try:
        make(unfinished)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    return path
