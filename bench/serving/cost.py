"""The processor time of a request in a worker, without sockets, next to a bare ASGI app and to `recommend` alone.

python -m bench.serving.cost [--bundle FOLDER] [--items N] [--requests N] [--rounds N]

All in one process and in turns: a worker's protocol, app and route on a transport that only counts what is written; the
bare app of `bench.serving.bare` in the same way; and `recommend` of the same sessions. The kernel's part, which is the
same for both apps, is missing.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.harness.report import command, say
from mtaw_fast.errors import MtawError, require

_CONNECTIONS = 64
_TICK = 100  # requests between two ticks of a worker: 400 a second
_CACHE = Path("build/bench-serving")


class _Transport(asyncio.Transport):
    """Counts the writes of a connection that never ends."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.writes, self.last = 0, b""

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


def _connections(protocol: Any, app: Any) -> list[tuple[Any, _Transport]]:
    import uvicorn

    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False
    )
    config.load()
    state, made = uvicorn.server.ServerState(), []
    for _ in range(_CONNECTIONS):
        one, transport = protocol(config=config, server_state=state, app_state={}), _Transport()
        one.connection_made(transport)
        made.append((one, transport))
    return made


async def costs(bundle: Path, count: int, rounds: int) -> dict[str, np.ndarray]:
    """Return microseconds of processor time a request, float64[rounds]: service, bare and recommend."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    from bench.serving.bare import app
    from bench.serving.inputs import distinct_sessions, recommend_requests
    from mtaw_fast.service.app import make_app, make_service
    from mtaw_fast.service.bundles import Reloader
    from mtaw_fast.service.http.connection import OpenConnections, TimedProtocol
    from mtaw_fast.service.observability.metrics import Metrics
    from mtaw_fast.service.settings import Settings
    from mtaw_fast.service.snapshot import load_snapshot, signature

    gc.freeze()  # as a worker does
    settings, snapshot = Settings(bundle), load_snapshot(bundle, "auto", "auto")
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    connections = TimedProtocol.open_connections = OpenConnections()
    reloader = Reloader(settings, snapshot, signature(bundle), metrics)
    service = make_service(settings, reloader, metrics, is_alone=lambda: len(connections.working) == 1)
    ids = snapshot.recommender.ids
    asked = distinct_sessions(snapshot.recommender.n_items, min(count, 2000), 0)
    requests, sessions = recommend_requests(asked, ids.external, 20), [ids.external(clicks) for clicks in asked]
    ours, bare = _connections(TimedProtocol, make_app(service)), _connections(HttpToolsProtocol, app)

    async def ask(connections: list[tuple[Any, _Transport]], number: int, writes: int) -> None:
        protocol, transport = connections[number % _CONNECTIONS]
        until = transport.writes + writes
        protocol.data_received(requests[number % len(requests)])
        while transport.writes < until:
            await asyncio.sleep(0)

    async def serve(number: int) -> None:
        await ask(ours, number, writes=1)
        if number % _TICK == 0:
            service.gauge()

    async def answer(number: int) -> None:
        await ask(bare, number, writes=2)

    async def rank(number: int) -> None:
        snapshot.recommender.recommend(sessions[number % len(sessions)], 20)

    works: dict[str, Callable[[int], Awaitable[None]]] = {"service": serve, "bare": answer, "recommend": rank}
    taken: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(rounds + 1):  # the first warms up
        for name, work in works.items():
            begin = time.process_time()
            for number in range(turn * count, (turn + 1) * count):
                await work(number)
            taken[name].append((time.process_time() - begin) / count * 1e6)
    if not ours[0][1].last.startswith(b"HTTP/1.1 200"):
        raise MtawError(f"the service answered {ours[0][1].last[:200]!r}")
    service.queue.close()
    snapshot.recommender.close()
    return {name: np.array(values[1:]) for name, values in taken.items()}


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Print what a request costs; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.cost", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, metavar="FOLDER", help="a trained bundle (default: a generated one)")
    parser.add_argument("--items", type=int, default=10_000, metavar="N", help="of the generated one (default: 10000)")
    parser.add_argument("--requests", type=int, default=500, metavar="N", help="of a round (default: 500)")
    parser.add_argument("--rounds", type=int, default=41, metavar="N", help="of each (default: 41)")
    options = parser.parse_args(argv)
    for package in ("uvicorn", "uvloop"):
        require(package, "bench")
    import uvloop

    from bench.serving.inputs import catalog_bundle

    bundle = options.bundle or catalog_bundle(options.items, _CACHE, say)
    taken = uvloop.run(costs(bundle, options.requests, options.rounds))
    for name, of in (("least", np.min), ("median", np.median)):
        service, bare, recommend = (of(taken[part]) for part in ("service", "bare", "recommend"))
        print(
            f"{name} of {options.rounds} rounds, us of processor time: service {service:.1f}, bare app {bare:.1f}, "
            f"recommend {recommend:.1f}; {service / (bare + recommend):.2f} times both"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
