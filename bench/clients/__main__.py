"""The time of a call from Python, C, Go, Node.js and ONNX Runtime, on one bundle, with start times and sizes.

python -m bench.clients [--bundle FOLDER] [--quick] [--json FILE]

ONNX Runtime takes part if the bundle has its graph (`mtaw-fast export BUNDLE --onnx --variants float32`). Each
client is a process. In every round each of them has a turn, in random order, on the same sessions, and times its own
calls. Every client must give the items of the package, ONNX Runtime nine of ten.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from platform import machine

import numpy as np

from bench.harness.comparison import Case, Comparison, Contender, Plan, Timing
from bench.harness.report import Report, Row, bench_parser, command, parse, rows_of, say
from bench.harness.workload import Workload, from_bundle, generated_with_times
from mtaw_fast.cli.config import header_file, library_file
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native import _native

_ROOT = Path(__file__).parents[2]
_HERE = Path(__file__).parent
_PLAN, _QUICK = Plan(rounds=60, burst=40, settle=10), Plan(rounds=5, burst=10, settle=5)
_STARTS, _CHECKED = 5, 20
_SAME = 0.9  # of the items of ONNX Runtime, at least
_AT = 1_764_150_000_000  # after all clicks


@dataclass(frozen=True, slots=True)
class Client:
    """How a client starts. size: bytes of its libraries, and of the program or the graph that only it has."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    size: int


class Running:
    """A client's process. seconds: from its start to its first answer."""

    def __init__(self, client: Client, arguments: Sequence[str]) -> None:
        begin = time.perf_counter()
        self._process = subprocess.Popen(
            [*client.command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **client.environment}, cwd=_ROOT,
        )  # fmt: skip
        self.name = client.name
        assert self._process.stdout is not None
        if (first := self._process.stdout.readline()) != "ready\n":
            raise UsageError(f"{client.name} does not start: {first.strip()}")
        self.answer(0)
        self.seconds = time.perf_counter() - begin

    def _asked(self, line: str) -> list[str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().split()

    def answer(self, session: int) -> list[str]:
        """Return the items of a session."""
        return self._asked(f"answer {session}")

    def turn(self, begin: int, count: int) -> np.ndarray:
        """Return the seconds of `count` calls, float64[count]."""
        return np.array(self._asked(f"time {begin} {count}"), dtype=np.float64) * 1e-9

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("clients", __doc__, "few rounds")
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="default: a generated one of 5,000 items")
    options = parse(parser, argv)
    report = Report("clients", options.quick)
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-bench-") as folder:
        work = Path(folder)
        bundle = options.bundle or work / "bundle"
        workload = from_bundle(bundle) if options.bundle else generated_with_times(5000, bundle)
        clients = _clients(workload, bundle, work)
        lists = [" ".join(map(str, workload.bundle.ids.external(session))) for session in workload.serve]
        (work / "sessions").write_text("\n".join(lists) + "\n")
        arguments = [str(bundle), str(_AT), str(work / "sessions")]
        _measure(report, workload, clients, arguments, _QUICK if options.quick else _PLAN)
    return report.finish(options.json)


def _measure(
    report: Report, workload: Workload, clients: Sequence[Client], arguments: Sequence[str], plan: Plan
) -> None:
    starts: dict[str, list[float]] = {client.name: [] for client in clients}
    for _ in range(_STARTS):
        for client in clients:
            running = Running(client, arguments)
            starts[client.name].append(running.seconds)
            running.close()
    with ExitStack() as stack:
        ours, *others = [Running(client, arguments) for client in clients]
        right = [ours]
        for running in (ours, *others):
            stack.callback(running.close)
        expected = [ours.answer(session) for session in range(_CHECKED)]
        for running in others:
            wrong = first_wrong(running.name, [running.answer(session) for session in range(_CHECKED)], expected)
            if wrong is not None:
                report.refuse(f"{running.name}: session {wrong}: other items than the package's")
            else:
                right.append(running)
        say(f"measuring {', '.join(process.name for process in right)}")
        timings = _timings(right, plan)
    params = {**workload.params, "k": 20}
    contenders = [Contender(timing.name, lambda _: None) for timing in timings]
    case = Case("call", params, "latency_us", contenders[0], contenders[1:], lambda _: None, plan)
    report.rows += rows_of("clients", Comparison(case, timings[0], timings[1:], {}))
    fastest = ", ".join(f"{timing.name} {1e6 * timing.percentile(10):.0f}" for timing in timings)
    report.notes.append(f"the fastest tenth of the calls, which other load disturbs least, in us: {fastest}")
    for client in clients:
        median = float(np.median(starts[client.name]))
        report.rows.append(Row.of("clients", f"start of {client.name}", params, "start_ms", 1e3 * median))
        report.rows.append(Row.of("clients", f"size of {client.name}", params, "size_mb", client.size / 1e6))


def first_wrong(name: str, answers: Sequence[list[str]], expected: Sequence[list[str]]) -> int | None:
    """Return the first session with other items than expected, or None.

    ONNX Runtime gives close scores, so close items may swap: nine of ten must be the same.
    """
    for session, (items, right) in enumerate(zip(answers, expected, strict=True)):
        same = {*items} & {*right}
        if (len(same) < _SAME * len(right)) if name == "onnxruntime" else items != right:
            return session
    return None


def _timings(clients: Sequence[Running], plan: Plan) -> list[Timing]:
    rng = np.random.default_rng(plan.seed)
    times = np.empty((len(clients), plan.rounds, plan.burst))
    for index in range(plan.rounds):
        begin = index * (plan.settle + plan.burst)
        for turn in rng.permutation(len(clients)):
            times[turn, index] = clients[turn].turn(begin, plan.settle + plan.burst)[plan.settle :]
    return [Timing(client.name, seconds) for client, seconds in zip(clients, times, strict=True)]


def _clients(workload: Workload, bundle: Path, work: Path) -> list[Client]:
    """Return the clients that this host can run, the package first."""
    library, include = library_file(), header_file().parent
    flags = [f"-L{library.parent}", f"-Wl,-rpath,{library.parent}"]
    text = {"TEXT_IDS": "1" if workload.bundle.ids.kind == "str" else "0"}
    python = [sys.executable, "-m", "bench.clients.turns"]
    size = _stripped(library, work)
    clients = [Client("python", python, text, _stripped(Path(_native.__file__), work))]
    program = work / "turns-c"
    _run(["cc", "-O2", "-std=c99", f"-I{include}", str(_HERE / "turns.c"), *flags, "-lmtaw", "-o", str(program)])
    clients.append(Client("c", [str(program)], {}, size))
    if shutil.which("go"):
        program = work / "turns-go"
        environment = {
            "CGO_CFLAGS": f"-I{include}", "CGO_LDFLAGS": " ".join(flags), "GOFLAGS": "-mod=mod", "GOPROXY": "off",
        }  # fmt: skip
        _run(
            ["go", "build", "-ldflags=-s -w", "-o", str(program), "./cmd/turns"], environment, _ROOT / "clients" / "go"
        )
        clients.append(Client("go", [str(program)], {}, size + program.stat().st_size))
    koffi = _ROOT / "clients" / "node" / "node_modules" / "koffi"
    if shutil.which("node") and koffi.is_dir():
        node = ["node", str(_HERE / "turns.mjs"), str(_ROOT / "clients" / "node")]
        arch = "x64" if machine() == "x86_64" else "arm64"
        addon = (koffi / "build" / "koffi" / f"{sys.platform}_{arch}" / "koffi.node").stat().st_size
        clients.append(Client("node", node, {"MTAW_LIBRARY": str(library)}, size + addon))
    entry, runtime = workload.bundle.manifest["files"].get("recommender"), find_spec("onnxruntime")
    if entry is not None and runtime is not None and runtime.origin is not None:
        graph = bundle / entry["file"]
        libraries = sum(file.stat().st_size for file in Path(runtime.origin).parent.rglob("*.so*"))
        graph_environment = {**text, "ONNX_GRAPH": str(graph)}
        clients.append(Client("onnxruntime", python, graph_environment, libraries + graph.stat().st_size))
    return clients


def _stripped(library: Path, work: Path) -> int:
    """Return the bytes of a library without its symbols."""
    stripped = work / library.name
    _run(["strip", "-o", str(stripped), str(library)])
    return stripped.stat().st_size


def _run(command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path = _ROOT) -> None:
    result = subprocess.run(
        command, env={**os.environ, **(environment or {})}, cwd=folder, capture_output=True, text=True, check=False
    )
    if result.returncode:
        raise UsageError(f"{' '.join(command[:2])} fails: {result.stderr.strip().splitlines()[-1:]}")


if __name__ == "__main__":
    raise SystemExit(main())
