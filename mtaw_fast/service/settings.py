"""How a service was started: what it serves, where, and the limits that it holds clients to."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from mtaw_fast.errors import UsageError
from mtaw_fast.live.settings import LearningSettings
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.retrieval import IndexName

_LIMIT_FLAGS = {
    "body": "--max-body", "clicks": "--max-clicks", "k": "--max-k", "batch": "--max-batch", "queue": "--queue",
    "deadline": "--deadline", "read_timeout": "--read-timeout", "micro_batch": "--micro-batch",
    "connections": "--max-connections",
}  # fmt: skip


def _check_positive(flag: str, value: float) -> None:
    if not 0 < value < math.inf:  # which no NaN is
        raise UsageError(f"{flag} must be above 0 and finite, not {value}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask for.

    body: bytes of a request's body. clicks: of a session. k: results. batch: sessions in a request. queue: requests
    that wait, a worker. deadline: seconds that a request may wait, and that a batch may take. read_timeout: seconds
    that a client has for its headers, for its body, and to read an answer. micro_batch: requests that wait which
    are ranked in one pass over the catalog at most; 1: none are. connections: open at once, a worker.
    """

    body: int = 1 << 20
    clicks: int = 1000
    k: int = 500
    batch: int = 256
    queue: int = 256
    deadline: float = 1.0
    read_timeout: float = 10.0
    micro_batch: int = 16
    connections: int = 4096

    def __post_init__(self) -> None:
        for name, flag in _LIMIT_FLAGS.items():
            _check_positive(flag, getattr(self, name))


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that `mtaw-fast serve` was told.

    sessions: None, 'memory' or a redis:// URL. max_sessions, max_sessions_bytes: held in memory at most. session_ttl,
    watch, grace: seconds. token: of POST /admin/reload, which does not exist without one. access_log: whether every
    request is logged. sessions_password: of the Redis. trusted_hosts: names of the service beside `host`, see
    `origin.check_origin`. learn: where the service learns from clicks, if it does.
    """

    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    encoder: EncoderName = "auto"
    index: IndexName = "auto"
    sessions: str | None = None
    session_ttl: float = 1800.0
    max_sessions: int = 100_000
    max_sessions_bytes: int = 256 << 20
    grace: float = 30.0
    watch: float = 1.0
    token: str | None = field(default=None, repr=False)
    access_log: bool = False
    sessions_password: str | None = field(default=None, repr=False)
    trusted_hosts: tuple[str, ...] = ()
    learn: LearningSettings | None = None
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1, not {self.workers}")
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"--port must be 0..65535, not {self.port}")
        for name in ("session_ttl", "max_sessions", "max_sessions_bytes", "grace", "watch"):
            _check_positive(f"--{name.replace('_', '-')}", getattr(self, name))
        if self.sessions == "memory" and self.workers > 1:
            raise UsageError(
                f"--sessions memory lives in one worker, and there are {self.workers}; take --workers 1 or "
                "--sessions redis://host:6379/0"
            )
        if self.sessions not in (None, "memory") and not self.sessions.startswith(("redis://", "rediss://", "unix://")):
            raise UsageError("--sessions is 'memory' or a redis:// address; give one of them")
        if self.sessions is not None and _names_password(self.sessions):
            raise UsageError(
                "--sessions holds a password, which every user of this machine can read in the list of processes; give "
                "it in --sessions-password-file or $MTAW_REDIS_PASSWORD"
            )

    @property
    def own_names(self) -> frozenset[str]:
        """The names that clients call this service by, in lower case."""
        return frozenset(name.lower() for name in (self.host, *self.trusted_hosts))


def _names_password(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # told where it is opened
        return "@" in address
    return bool(parts.password) or "password" in parse_qs(parts.query)
