"""`mtaw-fast serve`: the HTTP service."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command, add_number, add_serving_options, kept_folder
from mtaw_fast.cli.learning_options import (
    EVENTS_TOKEN_VARIABLE,
    add_learning_options,
    add_side_by_side,
    learning_settings,
)
from mtaw_fast.errors import UsageError, require
from mtaw_fast.system.cpus import usable_cpus

_TOKEN_VARIABLE = "MTAW_ADMIN_TOKEN"
_SHORTEST_TOKEN = 16  # characters
_PASSWORD_VARIABLE = "MTAW_REDIS_PASSWORD"
_SAME_NAMES = (  # options that are fields of `Settings`
    "host", "port", "workers", "encoder", "index", "sessions", "session_ttl", "max_sessions", "max_sessions_bytes",
    "shutdown_timeout", "reload_interval", "metrics_interval", "access_log", "state", "drift_threshold",
    "explore_share", "explore_below", "feedback_retention", "open_events", "proxy_header",
)  # fmt: skip


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(
        commands,
        "serve",
        run,
        "mtaw-fast serve shop.bundle --workers 2\n"
        '  curl -s localhost:8000/v1/recommend -d \'{"session": ["sku-9", "sku-4"], "k": 5}\'',
    )
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", nargs="?", help="folder made by 'train'")
    add_side_by_side(
        parser,
        "instead of BUNDLE, repeat for several bundles: WEIGHT is the share of the sessions that FOLDER answers, "
        "chosen by a hash of the session id. The first bundle answers sessions without an id",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on; 0 takes a free one (default: 8000)")
    parser.add_argument(
        "--workers", type=_workers, default=1, metavar="N",
        help="worker processes, which share the memory of the bundle; auto: one per usable processor (default: 1)",
    )  # fmt: skip
    add_serving_options(parser)
    _add_session_options(parser)
    add_learning_options(parser)
    parser.add_argument(
        "--state", type=kept_folder, metavar="FOLDER",
        help="without --learn: keep changes of the item table, of hidden items and of placements here (docs/items.md)",
    )  # fmt: skip
    add_number(parser, "--explore-share", "SHARE", 0.05, "share of each list for new items", float)
    add_number(parser, "--explore-below", "N", 100, "explore new items that have fewer clicks and displays together")
    _add_limits(parser)
    _add_operation_options(parser)
    _add_replica_options(parser)


def _add_session_options(parser: argparse.ArgumentParser) -> None:
    sessions = parser.add_argument_group("sessions kept by the server")
    sessions.add_argument(
        "--sessions", metavar="WHERE", help="keep sessions in memory (one worker only) or in redis://host:6379/0"
    )
    sessions.add_argument(
        "--sessions-password-file", type=Path, metavar="FILE",
        help=f"file with the password of Redis, of --feedback too (default: ${_PASSWORD_VARIABLE})",
    )  # fmt: skip
    add_number(sessions, "--session-ttl", "SECONDS", 1800, "drop a session this long after its last click", float)
    add_number(sessions, "--max-sessions", "N", 100_000, "most sessions in memory")
    add_number(sessions, "--max-sessions-bytes", "BYTES", 256 << 20, "most memory of all sessions together")


def _add_limits(parser: argparse.ArgumentParser) -> None:
    limits = parser.add_argument_group("limits")
    add_number(limits, "--max-body", "BYTES", 1 << 20, "largest request")
    add_number(limits, "--max-clicks", "N", 1000, "most clicks in a session")
    add_number(limits, "--max-k", "N", 500, "most items in an answer")
    add_number(limits, "--max-batch", "N", 256, "most sessions in a request")
    add_number(limits, "--max-results", "N", 50_000, "most results of all sessions of a request")
    add_number(
        limits, "--max-connections", "N", 4096,
        "most open connections per worker; beyond it, the longest idle one is closed",
    )  # fmt: skip
    add_number(limits, "--queue", "N", 256, "most waiting requests per worker")
    add_number(limits, "--deadline", "MS", 1000, "longest wait in the queue", float)
    add_number(
        limits, "--read-timeout", "SECONDS", 10, "time for a client to send its request, and to read the answer", float
    )
    add_number(limits, "--shutdown-timeout", "SECONDS", 30, "time to finish open requests at shutdown", float)
    add_number(
        limits, "--micro-batch", "N", 16,
        "most waiting requests that are ranked in one pass over the catalog; 1 turns this off",
    )  # fmt: skip


def _add_operation_options(parser: argparse.ArgumentParser) -> None:
    operation = parser.add_argument_group("operation")
    add_number(operation, "--reload-interval", "SECONDS", 1, "how often to look for a new bundle", float)
    add_number(operation, "--metrics-interval", "SECONDS", 1, "how long a worker keeps its answer of /metrics", float)
    operation.add_argument(
        "--admin-token-file", type=Path, metavar="FILE",
        help="file with the bearer token of the routes below /admin; without a token they refuse everybody (default: "
        f"${_TOKEN_VARIABLE})",
    )  # fmt: skip
    operation.add_argument(
        "--feedback", metavar="WHERE",
        help="add the route POST /v1/feedback; store rankings and the feedback on them in a SQLite FILE, in "
        "FOLDER/feedback.sqlite, or in redis://host:6379/0 or unix:///path (default: no such route)",
    )  # fmt: skip
    operation.add_argument(
        "--feedback-retention", type=int, metavar="DAYS",
        help="delete feedback and rankings from before so many days and today, in UTC (default: keep all)",
    )  # fmt: skip
    add_number(
        operation, "--drift-threshold", "PSI", 0.25, "drift of clicks against the training that is an alarm", float
    )
    operation.add_argument(
        "--cors-origin", action="append", default=[], metavar="ORIGIN",
        help="origin whose pages may read answers below /v1 and send clicks, such as https://shop.example; repeat for "
        "more (default: none)",
    )  # fmt: skip
    operation.add_argument("--access-log", action="store_true", help="log every request")
    operation.add_argument(
        "--trusted-host", action="append", default=[], metavar="NAME",
        help="a host name of this service: requests to names other than localhost, --host and these are refused; "
        "repeat for more",
    )  # fmt: skip


def _add_replica_options(parser: argparse.ArgumentParser) -> None:
    replicas = parser.add_argument_group("replicas on Ray (docs/beyond-one-machine.md)")
    replicas.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS",
        help="serve with replicas on the Ray cluster at ADDRESS, which keep running after the command; "
        "without ADDRESS, on a Ray on this host while the command runs. Run it again with another bundle to roll the "
        "replicas to it",
    )  # fmt: skip
    replicas.add_argument(
        "--replicas", default="1", metavar="N[..M]",
        help="number of replicas; N..M scales it with their queues (default: 1)",
    )  # fmt: skip
    add_number(replicas, "--replica-cpus", "CPUS", 1.0, "processors of each replica", float)


def run(arguments: argparse.Namespace) -> None:
    """Serve rankings, similar items and sessions over HTTP, with hot reload, metrics and a playground."""
    for package in ("litestar", "msgspec", "uvicorn"):
        require(package, "serve")
    from mtaw_fast.service.settings import Limits, Settings, absolute_location

    learn = learning_settings(arguments)
    settings = Settings(
        bundle=arguments.bundle or arguments.side_by_side[0][0],
        side_by_side=tuple(arguments.side_by_side),
        feedback=absolute_location(arguments.feedback),
        cors_origins=tuple(arguments.cors_origin),
        trusted_hosts=tuple(arguments.trusted_host),
        token=_token(arguments.admin_token_file, _TOKEN_VARIABLE, "--admin-token-file"),
        events_token=None
        if learn is None
        else _token(arguments.events_token_file, EVENTS_TOKEN_VARIABLE, "--events-token-file"),
        proxies=tuple(arguments.proxy),
        sessions_password=_secret(
            arguments.sessions_password_file, _PASSWORD_VARIABLE, "--sessions-password-file", "password"
        ),
        learn=learn,
        **{name: getattr(arguments, name) for name in _SAME_NAMES},
        limits=Limits(
            body=arguments.max_body,
            clicks=arguments.max_clicks,
            k=arguments.max_k,
            batch=arguments.max_batch,
            results=arguments.max_results,
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

    minimum, dots, maximum = arguments.replicas.partition("..")
    if not minimum.isdecimal() or not (maximum if dots else minimum).isdecimal():
        raise UsageError(f"--replicas {arguments.replicas!r}: write a number, or a range such as 2..8")
    if arguments.sessions_password_file is None:  # every replica reads the environment variable itself
        settings = dataclasses.replace(settings, sessions_password=None)
    scaling = Scaling(int(minimum), int(maximum or minimum), cpus=arguments.replica_cpus)
    serve_replicas(settings, scaling, arguments.ray)


def _workers(text: str) -> int:
    """Parse the number of workers; 'auto' is one per usable processor."""
    if text == "auto":
        return usable_cpus()
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of workers; write 1, 2, .. or auto") from None


def _secret(path: Path | None, variable: str, flag: str, name: str) -> str | None:
    """Read a secret from its file or the environment; return None if neither has one."""
    if path is None:
        return os.environ.get(variable, "").strip() or None
    secret = path.read_text(encoding="utf-8", errors="replace").strip()
    if not secret:
        raise UsageError(f"{path} has no {name}; write one, or leave {flag} out")
    return secret


def _token(path: Path | None, variable: str, flag: str) -> str | None:
    """Read a bearer token and check that an HTTP header can carry it, and that nobody guesses it."""
    token = _secret(path, variable, flag, "token")
    if token is None:
        return None
    source = f"${variable}" if path is None else str(path)
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(f"the token in {source} must be printable ASCII without spaces; write another one")
    if len(token) < _SHORTEST_TOKEN:
        raise UsageError(
            f"the token in {source} has {len(token)} characters, the fewest are {_SHORTEST_TOKEN}; write a random one, "
            "as of 'openssl rand -hex 32'"
        )
    return token
