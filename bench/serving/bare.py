"""The floor of a service in Python: a bare ASGI app on uvicorn with uvloop and httptools, started as the service is.

It reads a request's body and answers with about the bytes of a ranking of 20 items. `bench.serving --bare` measures it.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
from collections.abc import Sequence
from typing import Any

import uvicorn

_BODY = json.dumps({"items": list(range(10_000, 10_020)), "scores": [12.345678] * 20, "version": "0" * 16}).encode()
_HEAD = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_BODY))],
}


async def app(_: Any, receive: Any, send: Any) -> None:
    """Answer any request."""
    while (await receive()).get("more_body"):
        pass
    await send(_HEAD)
    await send({"type": "http.response.body", "body": _BODY})


def main(argv: Sequence[str] | None = None) -> None:
    """Serve until SIGTERM, with the arguments of `mtaw-fast serve` that a bench gives."""
    parser = argparse.ArgumentParser(prog="python -m bench.serving.bare")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("bundle", help="is not read")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(argv)
    with socket.create_server(("127.0.0.1", options.port), backlog=1024) as listener:
        print(json.dumps({"event": "ready", "url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
        for _ in range(options.workers - 1):
            if os.fork() == 0:
                break
        config = uvicorn.Config(
            app, http="httptools", loop="uvloop", lifespan="off", log_config=None, access_log=False,
            server_header=False, proxy_headers=False,
        )  # fmt: skip
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
