"""Refreshes on a disk that gets full, repeatedly; run by hand, `python -m tests.refreshing.full_disk`.

The disk is a small file system in memory, which this process mounts for itself alone. From the begin of a step on,
each in turn, a few pages are free, or a few files can be made. The run must come to its end, or to one line that names
a file of the shop and the remedy. The served bundle must be whole and answer. With free space, the next run must end
with what a run without a full disk leaves.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from mtaw_fast import refresh
from mtaw_fast.errors import MtawError
from tests.support.refreshes import KINDS, RefreshProcess, begun_shop, check_same, check_served, copied, in_fork, warm

_INSIDE = "--inside"
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PAGES, _FILES = 64, 16  # most that are free
_WITH_MOUNTS = ("unshare", "--user", "--map-root-user", "--mount")


def may_mount() -> bool:
    """Return whether this host lets a user mount a file system for itself alone."""
    probe = subprocess.run([*_WITH_MOUNTS, "mount", "-t", "tmpfs", "none", "/mnt"], check=False, capture_output=True)
    return probe.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="runs on a full disk (default: 100)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="what the runs are (default: both in turn)")
    parser.add_argument("--begun", type=Path, help="a shop with a first bundle, instead of a new one")
    parser.add_argument(_INSIDE, action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:
        return subprocess.run(
            [*_WITH_MOUNTS, sys.executable, "-m", "tests.refreshing.full_disk", *sys.argv[1:], _INSIDE], check=False
        ).returncode
    chance, errors, wrong = random.Random(arguments.seed), 0, list[str]()
    kinds = arguments.kind or list(KINDS)
    warm()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        shops = {kind: begun_shop(folder / kind, kind, arguments.begun) for kind in kinds}
        steps = {kind: _steps(shops[kind], folder / f"{kind} whole") for kind in kinds}
        disk = folder / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g,nr_inodes=100k", "none", disk], check=True)
        for number in range(arguments.runs):
            kind, turn = kinds[number % len(kinds)], number // len(kinds)
            step = steps[kind][turn % len(steps[kind])]
            pages, files = (None, chance.randrange(_FILES)) if turn % 3 == 2 else (chance.randrange(_PAGES), None)
            shop = copied(shops[kind], disk / "shop")
            error = _filled(shop, step, pages, files, folder / "error")
            served = check_served(shop)
            errors += bool(error)
            if error and ("\n" in error or str(shop) not in error or "space" not in error.rpartition("; ")[2]):
                wrong.append(error)
            _mount(disk, None, None)
            RefreshProcess(shop, spawned=False).end()
            check_same(folder / f"{kind} whole", shop, failed=True)
            print(f"{kind}, full at {step}, {pages=}, {files=}: {served}, {error.replace(str(shop), '..')}", flush=True)
            shutil.rmtree(shop)
        subprocess.run(["umount", disk], check=True)
    print(f"{arguments.runs} runs: a whole bundle was served after each, and {errors} ended in an error first")
    for error in wrong:
        print(f"not one line with a file and the remedy: {error}")
    return bool(wrong)


def _steps(shop: Path, copy: Path) -> list[str]:
    process = RefreshProcess(copied(shop, copy), spawned=False)
    process.end()
    return [name for name, _ in process.steps]


def _filled(shop: Path, step: str, pages: int | None, files: int | None, out: Path) -> str:
    """Refresh a shop in a fork, on a disk that is full from a step on; return the error, '' without one."""
    out.write_text("")

    def note(line: str) -> None:
        if line.endswith(f": {step}") or (step == "read" and line.startswith("reading ")):
            _mount(shop.parent, pages, files)

    def run() -> None:
        if step == "start":
            _mount(shop.parent, pages, files)
        try:
            refresh(shop / "shop.toml", progress=note)
        except MtawError as error:
            out.write_text(str(error))
        except Exception as error:
            out.write_text(f"{type(error).__name__}\n{error}")

    if status := in_fork(run):
        raise SystemExit(f"full at {step}, {pages=}, {files=}: the refresh ended with {status}")
    return out.read_text()


def _mount(disk: Path, pages: int | None, files: int | None) -> None:
    """Let a disk have so many free pages and so many more files; None: any."""
    used = os.statvfs(disk)
    size = 1 << 30 if pages is None else (used.f_blocks - used.f_bfree) * used.f_frsize + pages * _PAGE
    count = 100_000 if files is None else used.f_files - used.f_ffree + files
    subprocess.run(["mount", "-o", f"remount,size={size},nr_inodes={count}", disk], check=True)


if __name__ == "__main__":
    sys.exit(main())
