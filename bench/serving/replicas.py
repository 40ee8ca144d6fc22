"""Cost of a request through Ray Serve's proxy and to `mtaw-fast serve`: the same bundle, one replica, one worker.

python -m bench.serving.replicas [--quick] [--items N] [--json FILE]
"""

from __future__ import annotations

import argparse
import http.client
import json
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.harness.comparison import Case, Contender, Plan
from bench.harness.report import Report, bench_parser, exit_code_of, parse
from bench.serving.inputs import catalog_bundle, distinct_sessions
from bench.serving.service_process import Service
from mtaw_fast.errors import MtawError, require
from mtaw_fast.integrations.cluster import cluster
from mtaw_fast.integrations.ray_serve import Scaling, deploy
from mtaw_fast.service.settings import Settings

_ITEMS, _K, _SESSIONS = 40_000, 20, 500
_CACHE = Path("build/bench-serving")
_PLAN = Plan(rounds=200, burst=10, settle=2, seconds=40.0)
_QUICK_PLAN = Plan(rounds=60, burst=10, settle=2, seconds=8.0)
_CPU_CALLS = 1000  # to each, one after the other, to measure processor time


def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong)."""
    parser = bench_parser("replicas", (__doc__ or "").splitlines()[0], "half a minute")
    parser.add_argument("--items", type=int, default=_ITEMS, metavar="N", help=f"of the catalog (default: {_ITEMS})")
    try:
        options = parse(parser, argv)
        for package in ("psutil", "rich"):
            require(package, "bench")
        return _run(options)
    except MtawError as error:
        return exit_code_of(error)


def _run(options: argparse.Namespace) -> int:
    report = Report("replicas", options.quick)
    bundle = catalog_bundle(options.items, _CACHE, lambda text: print(f"{text} ..", file=sys.stderr))
    sessions = distinct_sessions(options.items, _SESSIONS, seed=3)
    bodies = [json.dumps({"session": [int(item) + 1 for item in clicks], "k": _K}).encode() for clicks in sessions]
    with tempfile.TemporaryDirectory() as folder, cluster(cpus=4), Service(bundle, Path(folder) / "log") as embedded:
        # Ray's processes and the embedded service's are children of this one; only the service's exist by now.
        service = {process.pid for process in embedded.workers()} | {embedded.process.pid}
        port = _free_port()
        deploy(Settings(bundle, port=port), Scaling(1, 1))
        clients = {
            "replica": _client(("127.0.0.1", port), bodies),
            "mtaw-fast-serve": _client(embedded.address, bodies),
        }
        replica, served = (Contender(name, ask) for name, ask in clients.items())

        def check(contender: Contender) -> str | None:
            differ = sum(_ranking(contender.run(call)) != _ranking(served.run(call)) for call in range(_SESSIONS))
            return f"{differ} answers are not those of mtaw-fast serve" if differ else None

        params = {"catalog": options.items, "k": _K, "connections": 1}
        plan = _QUICK_PLAN if options.quick else _PLAN
        if report.run(Case("http", params, "latency_ms", replica, [served], check, plan)) is not None:
            spent = {name: _processor_seconds(ask, service, name == "replica") for name, ask in clients.items()}
            report.notes += [
                f"{name}: {seconds * 1e6:.0f} us of processor time a request" for name, seconds in spent.items()
            ]
    return report.finish(options.json)


def _ranking(body: Any) -> dict[str, Any]:
    """Return an answer without its id, which is unique."""
    return {name: value for name, value in json.loads(body).items() if name != "recommendation"}


def _client(address: tuple[str, int], bodies: Sequence[bytes]) -> Callable[[int], bytes]:
    """Return a function that sends request number i on a kept connection and returns the body of the answer."""
    connection = http.client.HTTPConnection(*address)

    def ask(call: int) -> bytes:
        connection.request("POST", "/v1/recommend", bodies[call % len(bodies)])
        response = connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise MtawError(f"port {address[1]} answered {response.status}: {body[:200]!r}")
        return body

    return ask


def _processor_seconds(ask: Callable[[int], Any], service: set[int], ray: bool) -> float:
    """Return processor seconds a request: of the service's processes, or of all that Ray started."""
    psutil = require("psutil", "bench")
    below = psutil.Process().children(recursive=True)
    processes = [process for process in below if (process.pid in service) != ray]

    def spent() -> float:
        times = [process.cpu_times() for process in processes if process.is_running()]
        return sum(cpu.user + cpu.system for cpu in times)

    before = spent()
    for call in range(_CPU_CALLS):
        ask(call)
    return (spent() - before) / _CPU_CALLS


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


if __name__ == "__main__":
    raise SystemExit(main())
