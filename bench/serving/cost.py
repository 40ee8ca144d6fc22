"""What a request costs a worker's own code: processor time without sockets, next to a bare ASGI app and the ranking.

python -m bench.serving.cost [--bundle FOLDER] [--items N] [--requests N] [--rounds N] [--json FILE]

All in one process and in turns: a worker's protocol, app and route on a transport that only counts what is written; the
bare app of `bench.serving.bare` in the same way; and `recommend` of the same sessions. The kernel's part, which is the
same for both apps, is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.report import Line, Report, command, parse, say
from mtaw_fast.errors import MtawError, require

_CONNECTIONS = 64
_TICK = 100  # requests between two ticks of a worker: 400 a second
_CACHE = Path("build/bench-serving")


class _Transport(asyncio.Transport):
    """Counts the writes of a connection that never ends."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.last = b""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: Any) -> None:
        self.writes += 1
        self.last = data

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def close(self) -> None:
        raise MtawError(f"the connection was closed after {bytes(self.last)[:200]!r}")


def costs(bundle: Path, count: int, rounds: int) -> dict[str, float]:
    """Return microseconds of processor time a request, the median of the rounds: service, bare and recommend."""
    import uvloop

    return uvloop.run(_costs(bundle, count, rounds))


async def _costs(bundle: Path, count: int, rounds: int) -> dict[str, float]:
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from bench.serving.bare import app
    from bench.serving.inputs import distinct_sessions, recommend_requests
    from mtaw_fast.service.app import make_app, make_service
    from mtaw_fast.service.bundles import Reloader
    from mtaw_fast.service.http.connection import TimedProtocol
    from mtaw_fast.service.http.open_connections import OpenConnections
    from mtaw_fast.service.observability.metrics import Metrics
    from mtaw_fast.service.settings import Settings
    from mtaw_fast.service.snapshot import load_snapshot, signature

    settings, snapshot = Settings(bundle), load_snapshot(bundle, "auto", "auto")
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    connections = TimedProtocol.open_connections = OpenConnections()
    reloader = Reloader(settings, snapshot, signature(bundle), metrics)
    service = make_service(settings, reloader, metrics, is_alone=lambda: len(connections.working) == 1)
    ids = snapshot.recommender.ids
    distinct = distinct_sessions(snapshot.recommender.n_items, min(count, 2000), 0)
    requests, sessions = recommend_requests(distinct, ids.external, 20), [ids.external(clicks) for clicks in distinct]
    ours = _connections(TimedProtocol, make_app(service))
    bare = _connections(HttpToolsProtocol, app)

    async def rank(number: int) -> None:
        snapshot.recommender.recommend(sessions[number % len(sessions)], 20)

    async def serve(number: int) -> None:
        await _ask(*ours[number % _CONNECTIONS], requests[number % len(requests)], writes=1)
        if number % _TICK == 0:
            service.gauge()

    async def answer(number: int) -> None:
        await _ask(*bare[number % _CONNECTIONS], requests[number % len(requests)], writes=2)

    works: dict[str, Callable[[int], Awaitable[None]]] = {"service": serve, "bare": answer, "recommend": rank}
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):  # the first warms up
        for name, work in works.items():
            begin = time.process_time()
            for number in range(turn * count, (turn + 1) * count):
                await work(number)
            times[name].append((time.process_time() - begin) / count * 1e6)
    if not ours[0][1].last.startswith(b"HTTP/1.1 200"):
        raise MtawError(f"the service answered {ours[0][1].last[:200]!r}")
    service.queue.close()
    snapshot.recommender.close()
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def _connections(protocol: Any, app: Any) -> list[tuple[Any, _Transport]]:
    import uvicorn

    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, server_header=False,
        proxy_headers=False,
    )  # fmt: skip
    config.load()
    state, connections = uvicorn.server.ServerState(), []
    for _ in range(_CONNECTIONS):
        connection, transport = protocol(config=config, server_state=state, app_state={}), _Transport()
        connection.connection_made(transport)
        connections.append((connection, transport))
    return connections


async def _ask(protocol: Any, transport: _Transport, request: bytes, writes: int) -> None:
    """Put a request on a connection and wait for its answer. writes: how many writes an answer takes."""
    expected = transport.writes + writes
    protocol.data_received(request)
    while transport.writes < expected:
        await asyncio.sleep(0)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print what a request costs; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="a trained bundle (default: a generated one)")
    parser.add_argument("--items", type=int, default=10_000, metavar="N", help="of the generated one (default: 10000)")
    parser.add_argument("--requests", type=int, default=500, metavar="N", help="of a round (default: 500)")
    parser.add_argument("--rounds", type=int, default=11, metavar="N", help="the median counts (default: 11)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, in the bench JSON schema")
    options = parse(parser, argv)
    for package in ("uvicorn", "psutil", "rich"):
        require(package, "bench")
    from bench.serving.inputs import catalog_bundle
    from mtaw_fast.bundle import Bundle

    bundle = options.bundle or catalog_bundle(options.items, _CACHE, say)
    report = Report("serving.cost", quick=False)
    params = {"catalog": Bundle.load(bundle, verify=False).n_items, "requests": options.requests, "threads": 1}
    for name, cpu_us in costs(bundle, options.requests, options.rounds).items():
        report.lines.append(Line.of_value("serving.cost", name, params, "cpu_us", cpu_us))
    report.notes.append("us of processor time a request, without sockets")
    return report.finish(options.json)


if __name__ == "__main__":
    raise SystemExit(main())
