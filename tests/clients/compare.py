"""The clients of libmtaw against the package: equal lists for many sessions, items and scores to the bit.

    python -m tests.clients.compare --sessions 100000

The sessions are random. A client answers them in turn in batches, one by one and click by click.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.cli.config import header_file, library_file
from mtaw_fast.recommender import Recommender
from tests.libmtaw.test_answers import saved
from tests.support.cache import ROOT, cache_folder
from tests.support.ranking.timed_model import END

CLIENTS = ROOT / "clients"
BUNDLES = ("context", "int")
_BATCH = 512


class CannotRunError(Exception):
    """The host lacks what a client needs; the message says what."""


def go_environment() -> dict[str, str]:
    """Return the environment in which `go` finds libmtaw."""
    library = library_file().parent
    return os.environ | {
        "CGO_CFLAGS": f"-I{header_file().parent}", "CGO_LDFLAGS": f"-L{library} -Wl,-rpath,{library}",
        "GOCACHE": str(cache_folder() / "go"), "GOFLAGS": "-mod=mod", "GOPROXY": "off",
    }  # fmt: skip


def go_command(folder: Path) -> list[str]:
    """Build the Go client's program in a folder and return the command that runs it."""
    if shutil.which("go") is None:
        raise CannotRunError("there is no go: apt-get install golang-go")
    environment = go_environment()
    program = folder / "rank"
    _run(["go", "vet", "./..."], CLIENTS / "go", environment)
    _run(["go", "build", "-o", str(program), "./cmd/rank"], CLIENTS / "go", environment)
    return [str(program)]


def node_command(_: Path) -> list[str]:
    """Return the command that runs the Node client's program."""
    if shutil.which("node") is None:
        raise CannotRunError("there is no node: apt-get install nodejs npm")
    if not (CLIENTS / "node" / "node_modules" / "koffi").is_dir():
        raise CannotRunError("koffi is not installed: npm ci --prefix clients/node")
    return ["node", str(CLIENTS / "node" / "rank.js")]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {"go": go_command, "node": node_command}


def random_sessions(items: Sequence[Any], count: int) -> list[list[Any]]:
    """Return sessions of up to 12 clicks, a tenth of them on unknown items; some are empty."""
    rng = np.random.default_rng(3)
    places = rng.integers(0, len(items), (count, 12))
    unknown = rng.random((count, 12)) < 0.1
    lengths = np.where(rng.random(count) < 0.02, 0, rng.integers(1, 13, count))
    unknown_item = type(items[0])(10**9)
    return [
        [unknown_item if is_strange else items[place] for place, is_strange in zip(row[:n], strange[:n], strict=True)]
        for row, strange, n in zip(places.tolist(), unknown.tolist(), lengths.tolist(), strict=True)
    ]


def lines_of_package(rec: Recommender, sessions: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield what a client prints for each session."""
    names = [*rec.click_types, None]  # of its clicks, in turn
    for begin in range(0, len(sessions), _BATCH):
        batch = sessions[begin : begin + _BATCH]
        types = [[names[place % len(names)] for place in range(len(session))] for session in batch]
        for answer in rec.recommend_batch(batch, 20, at=END, types=types):
            bits = answer.scores.view(np.uint32).tolist()
            yield json.dumps([answer.items, bits], separators=(",", ":"), ensure_ascii=False)


def compare(name: str, command: Sequence[str], bundle: Path, count: int) -> str:
    """Compare one client with the package over a bundle; return a line about it. Raises AssertionError."""
    rec = Recommender.load(bundle, encoder="native", index="native")
    sessions = random_sessions(list(rec.ids), count)
    text = "".join(f"{json.dumps(session)}\n" for session in sessions)
    start = time.perf_counter()
    printed = _run(
        [*command, str(bundle), str(END)], CLIENTS, {**os.environ, "MTAW_LIBRARY": str(library_file())}, text
    )
    seconds = time.perf_counter() - start
    lines = printed.splitlines()
    assert len(lines) == count, f"{name}: {len(lines)} answers to {count} sessions"
    for number, (ours, theirs) in enumerate(zip(lines, lines_of_package(rec, sessions), strict=True)):
        assert json.loads(ours) == json.loads(theirs), f"{name}: session {number}, {sessions[number]}"
    return f"{name}, bundle {bundle.name}: {count:,} sessions, all lists equal ({seconds:.1f} s)"


def _run(command: Sequence[str], folder: Path, environment: dict[str, str], text: str = "") -> str:
    completed = subprocess.run(
        command, cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    return completed.stdout


def main() -> int:
    """Command line: all clients that this host can run; 1 if one of them cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--clients", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    missing = 0
    with tempfile.TemporaryDirectory() as folder:
        bundles = [saved(Path(folder) / kind, kind) for kind in BUNDLES]
        for name in options.clients:
            try:
                command = COMMANDS[name](Path(folder))
            except CannotRunError as reason:
                print(f"{name}: {reason}")
                missing += 1
                continue
            for bundle in bundles:
                print(compare(name, command, bundle, options.sessions), flush=True)
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
