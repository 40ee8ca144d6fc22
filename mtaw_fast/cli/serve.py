"""`mtaw-fast serve`: the HTTP service."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, add_serving_options
from mtaw_fast.cli.learning_options import add_learning_options, learning_settings
from mtaw_fast.errors import UsageError, require
from mtaw_fast.system.cpus import usable_cpus

_TOKEN_VARIABLE = "MTAW_ADMIN_TOKEN"
_PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "serve",
        run,
        "Answer over HTTP: rankings, similar items, sessions; with hot reload, metrics and a playground.",
        "mtaw-fast serve shop.bundle --workers 2\n"
        '  curl -s localhost:8000/v1/recommend -d \'{"session": ["sku-9", "sku-4"], "k": 5}\'',
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", nargs="?", help="the folder to serve")
    parser.add_argument(
        "--bundle", dest="side_by_side", action="append", default=[], type=_weighted, metavar="FOLDER=WEIGHT",
        help="in place of BUNDLE, for each of several that are served side by side: how much of the sessions it "
        "answers, by a hash of their ids. One without an id is the first one's",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 takes a free one (default: 8000)")
    parser.add_argument(
        "--workers", type=_workers, default=1, metavar="N",
        help="processes that share the mapped bundle; auto: one for each processor that this one may use (default: 1)",
    )  # fmt: skip
    add_serving_options(parser)
    sessions = parser.add_argument_group("sessions kept by the server")
    sessions.add_argument("--sessions", metavar="WHERE", help="memory (one worker only) or redis://host:6379/0")
    sessions.add_argument(
        "--sessions-password-file", type=Path, metavar="FILE",
        help=f"holds the password of that Redis (default: ${_PASSWORD_VARIABLE})",
    )  # fmt: skip
    sessions.add_argument("--session-ttl", type=float, default=1800, metavar="SECONDS", help="(default: 1800)")
    sessions.add_argument("--max-sessions", type=int, default=100_000, metavar="N", help="in memory (default: 100000)")
    sessions.add_argument(
        "--max-sessions-bytes", type=int, default=256 << 20, metavar="BYTES",
        help="of memory that all of them take (default: 268435456)",
    )  # fmt: skip
    add_learning_options(parser)
    limits = parser.add_argument_group("limits")
    limits.add_argument("--max-body", type=int, default=1 << 20, metavar="BYTES", help="(default: 1048576)")
    limits.add_argument("--max-clicks", type=int, default=1000, metavar="N", help="in a session (default: 1000)")
    limits.add_argument("--max-k", type=int, default=500, metavar="N", help="results (default: 500)")
    limits.add_argument("--max-batch", type=int, default=256, metavar="N", help="sessions (default: 256)")
    limits.add_argument(
        "--max-connections", type=int, default=4096, metavar="N",
        help="open at once, a worker; the one idle for longest makes room (default: 4096)",
    )  # fmt: skip
    limits.add_argument("--queue", type=int, default=256, metavar="N", help="waiting, a worker (default: 256)")
    limits.add_argument("--deadline", type=float, default=1000, metavar="MS", help="to wait in it (default: 1000)")
    limits.add_argument(
        "--read-timeout", type=float, default=10, metavar="SECONDS",
        help="for a client to send its request, and to read the answer (default: 10)",
    )  # fmt: skip
    limits.add_argument(
        "--shutdown-timeout", type=float, default=30, metavar="SECONDS", help="at shutdown (default: 30)"
    )
    limits.add_argument(
        "--micro-batch", type=int, default=16, metavar="N",
        help="waiting requests to rank in one pass over the catalog at most; 1: none (default: 16)",
    )  # fmt: skip
    operation = parser.add_argument_group("operation")
    operation.add_argument(
        "--reload-interval",
        type=float,
        default=1,
        metavar="SECONDS",
        help="how often to look for a new bundle (default: 1)",
    )
    operation.add_argument(
        "--admin-token-file", type=Path, metavar="FILE",
        help="holds the bearer token of the routes below /admin, which refuse everybody without one (default: "
        f"${_TOKEN_VARIABLE})",
    )  # fmt: skip
    operation.add_argument(
        "--feedback", metavar="WHERE",
        help="keep what comes to POST /v1/feedback: a FILE of JSON lines, a folder (FOLDER/) with one a day, or "
        "redis://host:6379/0 (default: there is no such route)",
    )  # fmt: skip
    operation.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN",
        help="whose pages may read answers below /v1 and send clicks, as in https://shop.example; may be repeated "
        "(default: none)",
    )  # fmt: skip
    operation.add_argument("--access-log", action="store_true", help="log every request")
    replicas = parser.add_argument_group("replicas on Ray (docs/beyond-one-machine.md)")
    replicas.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS",
        help="serve by replicas on the cluster at that address, and leave them there; without one, on a Ray of this "
        "machine for as long as the command runs. The same again with another bundle rolls them to it",
    )  # fmt: skip
    replicas.add_argument(
        "--replicas", default="1", metavar="N[..M]", help="how many; N..M lets their queues decide (default: 1)"
    )
    replicas.add_argument("--replica-cpus", type=float, default=1.0, metavar="CPUS", help="of each (default: 1)")
    operation.add_argument(
        "--trusted-host", action="append", default=[], metavar="NAME",
        help="a name of this service, beside --host, under which clicks need not be declared as JSON; may be repeated",
    )  # fmt: skip


def run(arguments: argparse.Namespace) -> None:
    """Serve until told to stop."""
    for package in ("litestar", "msgspec", "uvicorn"):
        require(package, "serve")
    from mtaw_fast.service.settings import REDIS, Limits, Settings

    side_by_side = tuple(arguments.side_by_side)
    if (arguments.bundle is None) == (not side_by_side):
        raise UsageError("name one BUNDLE, or several as --bundle FOLDER=WEIGHT; not both, and not none")
    bundle = arguments.bundle = arguments.bundle or side_by_side[0][0]
    settings = Settings(
        bundle=bundle,
        side_by_side=side_by_side,
        feedback=_place(arguments.feedback, REDIS),
        cors_origins=tuple(arguments.cors_origin),
        host=arguments.host,
        port=arguments.port,
        workers=arguments.workers,
        encoder=arguments.encoder,
        index=arguments.index,
        sessions=arguments.sessions,
        session_ttl=arguments.session_ttl,
        max_sessions=arguments.max_sessions,
        max_sessions_bytes=arguments.max_sessions_bytes,
        shutdown_timeout=arguments.shutdown_timeout,
        reload_interval=arguments.reload_interval,
        token=_token(arguments.admin_token_file),
        sessions_password=_secret(
            arguments.sessions_password_file, _PASSWORD_VARIABLE, "--sessions-password-file", "password"
        ),
        trusted_hosts=tuple(arguments.trusted_host),
        access_log=arguments.access_log,
        learn=learning_settings(arguments),
        limits=Limits(
            body=arguments.max_body,
            clicks=arguments.max_clicks,
            k=arguments.max_k,
            batch=arguments.max_batch,
            queue=arguments.queue,
            deadline=arguments.deadline / 1000,
            read_timeout=arguments.read_timeout,
            micro_batch=arguments.micro_batch,
            connections=arguments.max_connections,
        ),
    )
    if arguments.ray is None:
        from mtaw_fast.service.supervisor import serve

        serve(settings)
    else:
        _serve_replicas(settings, arguments)


def _serve_replicas(settings: Any, arguments: argparse.Namespace) -> None:
    from mtaw_fast.integrations.ray_serve import Scaling
    from mtaw_fast.integrations.replica_command import serve_replicas

    least, dots, most = arguments.replicas.partition("..")
    if not least.isdecimal() or not (most if dots else least).isdecimal():
        raise UsageError(f"--replicas {arguments.replicas!r}: write a number, or two as in 2..8")
    if arguments.sessions_password_file is None:  # every replica reads the variable itself
        settings = dataclasses.replace(settings, sessions_password=None)
    scaling = Scaling(int(least), int(most or least), cpus=arguments.replica_cpus)
    serve_replicas(settings, scaling, arguments.ray)


def _workers(text: str) -> int:
    """A number of workers; 'auto' is one for each usable processor."""
    return usable_cpus() if text == "auto" else int(text)


def _weighted(text: str) -> tuple[Path, float]:
    """A folder and its weight."""
    folder, equals, weight = text.rpartition("=")
    try:
        if not (folder and equals):
            raise ValueError
        return Path(folder).absolute(), float(weight)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write FOLDER=WEIGHT, as in shop.bundle=90") from None


def _place(where: str | None, schemes: tuple[str, ...]) -> str | None:
    """A path that holds wherever a process works; an address as it is."""
    if where is None or where.startswith(schemes):
        return where
    if not where:
        raise UsageError("--feedback is empty; name a file, a folder or a redis:// address")
    return str(Path(where).absolute()) + (os.sep if where.endswith(os.sep) else "")


def _secret(path: Path | None, variable: str, flag: str, what: str) -> str | None:
    """A secret from its file or the environment; None where neither is there."""
    if path is None:
        return os.environ.get(variable, "").strip() or None
    secret = path.read_text(encoding="utf-8", errors="replace").strip()
    if not secret:
        raise UsageError(f"{path} holds no {what}; write one, or leave {flag} out")
    return secret


def _token(path: Path | None) -> str | None:
    """The admin token, which a header must be able to carry."""
    token = _secret(path, _TOKEN_VARIABLE, "--admin-token-file", "token")
    if token is not None and (not (token.isascii() and token.isprintable()) or " " in token):
        where = f"${_TOKEN_VARIABLE}" if path is None else str(path)
        raise UsageError(f"the token in {where} must be of ASCII characters without blanks; make one with such alone")
    return token
