"""The clients of libmtaw against the package: equal answers to many calls, scores to the bit.

    python -m tests.clients.compare --sessions 100000

The calls are random, with all options, one by one, in batches and as growing sessions. WebAssembly is compared with the
package's portable instruction set.
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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli.config import header_file, library_file
from mtaw_fast.items.placements import Revision
from mtaw_fast.recommender import Recommender
from tests.clients.calls import PLACEMENTS, Call, random_calls
from tests.libmtaw.test_answers import saved
from tests.support.cache import ROOT, cache_folder
from tests.support.ranking.timed_model import END
from tests.support.ranking.typed_model import typed_model
from tests.support.rules.random_rules import KINDS, random_rows, table_of

CLIENTS = ROOT / "clients"
_ASK = Path(__file__).with_name("ask.mjs")


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
    program = folder / "ask"
    _run(["go", "vet", "./..."], CLIENTS / "go", environment)
    _run(["go", "build", "-o", str(program), "./cmd/ask"], CLIENTS / "go", environment)
    return [str(program)]


def node_command(_: Path) -> list[str]:
    """Return the command that runs the Node client's program."""
    if shutil.which("node") is None:
        raise CannotRunError("there is no node: apt-get install nodejs npm")
    if not (CLIENTS / "node" / "node_modules" / "koffi").is_dir():
        raise CannotRunError("koffi is not installed: npm ci --prefix clients/node")
    return ["node", str(_ASK), str(CLIENTS / "node")]


def wasm_command(_: Path) -> list[str]:
    """Return the command that runs the WebAssembly client's program."""
    if not (CLIENTS / "wasm" / "dist" / "mtaw.wasm").exists():
        raise CannotRunError("the WebAssembly module is not built: run 'make wasm'")
    return ["node", str(_ASK), str(CLIENTS / "wasm")]


def python_command(name: str) -> list[str]:
    """Return the command that makes calls with the package, or with C."""
    return [sys.executable, "-m", "tests.clients.ask", name]


COMMANDS: dict[str, Callable[[Path], list[str]]] = {
    "C": lambda _: python_command("c"), "Go": go_command, "Node.js": node_command, "WebAssembly": wasm_command,
}  # fmt: skip


def complete_bundle(folder: Path) -> Path:
    """Save a bundle that has all that calls ask for: types, context, times, sessions, an item table."""
    model = typed_model()
    rows = random_rows(np.random.default_rng(8), model.n_items)
    table = table_of(model.ids.external(np.arange(model.n_items)), rows, public=[*KINDS])
    kept = {name: (Revision(1, END, content),) for name, content in PLACEMENTS.items()}
    table = replace(table, placements=kept)
    Bundle.save(folder, replace(model, items=table), metrics={}, dataset={"name": "complete"})
    return folder


def answers_of(
    command: Sequence[str], bundle: Path, calls: Sequence[Call], environment: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """Return what a client says to each call."""
    text = "".join(f"{json.dumps(call)}\n" for call in calls)
    environment = {**os.environ, "MTAW_LIBRARY": str(library_file()), **(environment or {})}
    lines = _run([*command, str(bundle)], ROOT, environment, text).splitlines()
    assert len(lines) == len(calls), f"{len(lines)} answers to {len(calls)} calls"
    return [{name: value for name, value in json.loads(line).items() if name != "ms"} for line in lines]


def expected_of(name: str, bundle: Path, calls: Sequence[Call]) -> list[dict[str, Any]]:
    """Return what the package says to the calls that a client is asked."""
    return answers_of(
        python_command("package"), bundle, calls, {"MTAW_ISA": "portable"} if name == "WebAssembly" else None
    )


def compare(name: str, command: Sequence[str], bundle: Path, count: int) -> str:
    """Compare one client with the package over a bundle; return a line about it. Raises AssertionError."""
    rec = Recommender.load(bundle, encoder="native", index="native")
    calls = list(random_calls(rec, count))
    start = time.perf_counter()
    found = answers_of(command, bundle, calls)
    seconds = time.perf_counter() - start
    for call, ours, expected in zip(calls, found, expected_of(name, bundle, calls), strict=True):
        assert ours == expected, f"{name}: {call}\n{ours}\n{expected}"
        assert "answers" in expected, f"{call}: {expected}"
    return (
        f"{name}, bundle {bundle.name}: {count:,} sessions in {len(calls):,} calls, all answers equal ({seconds:.1f} s)"
    )


def _run(command: Sequence[str], folder: Path, environment: Mapping[str, str], text: str = "") -> str:
    completed = subprocess.run(
        command, cwd=folder, env=environment, input=text, capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr[-4000:]
    return completed.stdout


def main() -> int:
    """Command line: all clients that this host can run; 1 if one other than WebAssembly cannot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--clients", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    missing = 0
    with tempfile.TemporaryDirectory() as folder:
        bundles = [complete_bundle(Path(folder) / "complete"), saved(Path(folder) / "int", "int")]
        for name in options.clients:
            try:
                command = COMMANDS[name](Path(folder))
            except CannotRunError as reason:
                print(f"{name}: {reason}")
                missing += name != "WebAssembly"
                continue
            for bundle in bundles:
                print(compare(name, command, bundle, options.sessions), flush=True)
    return int(missing > 0)


if __name__ == "__main__":
    sys.exit(main())
