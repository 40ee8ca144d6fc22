"""The settings of a service: what it serves, where, and the limits for its clients."""

from __future__ import annotations

import ipaddress
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

from mtaw_fast.errors import UsageError
from mtaw_fast.experiment.drift import THRESHOLD
from mtaw_fast.experiment.redis_streams import REDIS
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.ranking.encoders import EncoderName
from mtaw_fast.ranking.options import EXPLORE_BELOW
from mtaw_fast.ranking.retrieval import IndexName

_LIMIT_FLAGS = {
    "body": "--max-body", "clicks": "--max-clicks", "k": "--max-k", "batch": "--max-batch", "results": "--max-results",
    "queue": "--queue",
    "deadline": "--deadline", "read_timeout": "--read-timeout", "micro_batch": "--micro-batch",
    "connections": "--max-connections",
}  # fmt: skip
MAX_DAYS = 36_500
PROXY_HEADER = "x-forwarded-for"
MAX_BUNDLES = 4  # served side by side
_HOST_NAME = re.compile(r"[\w.-]+", re.ASCII)
_HEADER_NAME = re.compile(r"[a-z0-9-]+")
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_DEFAULT_PORTS = {"http": 80, "https": 443}


def _check_positive(flag: str, value: float) -> None:
    if not 0 < value < math.inf:  # NaN fails, too
        raise UsageError(f"{flag} must be above 0 and finite, not {value}")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may ask for.

    Parameters
    ----------
    body : int
        Bytes of a request's body.
    clicks, k, batch : int
        Clicks of a session, results, and sessions in a request.
    results : int
        Results of all sessions of a request; each counts once more for every column that it reports.
    queue, connections : int
        Waiting requests and open connections of each worker.
    deadline : float
        Seconds that a request may wait, and that a batch may take.
    read_timeout : float
        Seconds that a client has to send its headers, to send its body, and to read an answer.
    micro_batch : int
        Waiting requests that are ranked in one pass over the catalog at most; 1 turns this off.
    """

    body: int = 1 << 20
    clicks: int = 1000
    k: int = 500
    batch: int = 256
    results: int = 50_000
    queue: int = 256
    deadline: float = 1.0
    read_timeout: float = 10.0
    micro_batch: int = 16
    connections: int = 4096

    def __post_init__(self) -> None:
        for name, flag in _LIMIT_FLAGS.items():
            _check_positive(flag, getattr(self, name))
        if self.k > self.results:
            raise UsageError(f"--max-k {self.k} is more than --max-results {self.results}; raise --max-results too")


class Served(NamedTuple):
    """A bundle's folder; if it is one of several, also the name that its answers carry."""

    folder: Path
    name: str | None


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of `mtaw-fast serve`. Raises UsageError if they do not make sense together.

    Parameters
    ----------
    bundle : Path
        The folder to serve; with `side_by_side`, the first of its folders.
    sessions : str, optional
        Where the service keeps sessions: 'memory' or a redis:// URL.
    session_ttl, reload_interval, shutdown_timeout : float
        Seconds.
    metrics_interval : float
        Seconds that a worker keeps its answer of /metrics.
    max_sessions, max_sessions_bytes : int
        Limits of `sessions='memory'`.
    sessions_password : str, optional
        The password of Redis.
    token : str, optional
        The bearer token of the routes below /admin. Without it they refuse every request.
    access_log : bool
        Whether to log every request.
    trusted_hosts : tuple of str
        Names of the service in addition to `host`, see `http.access.Gate`.
    cors_origins : tuple of str
        Origins whose pages may read answers and click.
    events_token : str, optional
        The bearer token of trusted events. With it, events without a token are refused.
    open_events : bool
        Take events without a token, too, as a service does that has none.
    proxies : tuple of str
        Addresses and networks of proxies, whose `proxy_header` names the origin of an open event.
    proxy_header : str
        The name of that header, in lower case.
    feedback : str, optional
        Where to store feedback: a file, a folder or a redis:// URL.
    feedback_retention : int, optional
        Days before today of which feedback is kept; all of it without.
    side_by_side : tuple of (Path, float)
        Folder and weight of each bundle, if several are served.
    learn : LearningSettings, optional
        Learn from clicks, with these settings. With `side_by_side`, every bundle learns from the one log.
    state : Path, optional
        Without `learn`: the folder that keeps changes of the item table, of hidden items and of placements.
    drift_threshold : float
        Drift of clicks against the training from which on pages and rules alarm, see `experiment.drift`.
    ranking_key : bytes, optional
        The key of the rankings' ids, see `ranking_ids.load_key`.
    explore_share : float
        Share of each list for new items, unless a request says another.
    explore_below : int
        A new item is explored while it has fewer clicks and displays together.
    """

    bundle: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    encoder: EncoderName | str = "auto"
    index: IndexName | str = "auto"
    sessions: str | None = None
    session_ttl: float = 1800.0
    max_sessions: int = 100_000
    max_sessions_bytes: int = 256 << 20
    shutdown_timeout: float = 30.0
    reload_interval: float = 1.0
    metrics_interval: float = 1.0
    token: str | None = field(default=None, repr=False)
    access_log: bool = False
    sessions_password: str | None = field(default=None, repr=False)
    trusted_hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    events_token: str | None = field(default=None, repr=False)
    open_events: bool = False
    proxies: tuple[str, ...] = ()
    proxy_header: str = PROXY_HEADER
    feedback: str | None = None
    feedback_retention: int | None = None
    side_by_side: tuple[tuple[Path, float], ...] = ()
    learn: LearningSettings | None = None
    state: Path | None = None
    drift_threshold: float = THRESHOLD
    ranking_key: bytes | None = field(default=None, repr=False)
    explore_share: float = 0.05
    explore_below: int = EXPLORE_BELOW
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1, not {self.workers}")
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"--port must be 0..65535, not {self.port}")
        for name in (
            "session_ttl",
            "max_sessions",
            "max_sessions_bytes",
            "shutdown_timeout",
            "reload_interval",
            "metrics_interval",
            "drift_threshold",
        ):
            _check_positive(f"--{name.replace('_', '-')}", getattr(self, name))
        if not 0 <= self.explore_share <= 1:
            raise UsageError(
                f"--explore-share must be a share from 0 to 1, not {self.explore_share}; write 0.05 for one place in 20"
            )
        if self.explore_below < 1:
            raise UsageError(f"--explore-below must be at least 1, not {self.explore_below}")
        if self.feedback_retention is not None and self.feedback is None:
            raise UsageError("--feedback-retention needs --feedback; name a file, a folder or a redis:// address there")
        if self.feedback_retention is not None and not 1 <= self.feedback_retention <= MAX_DAYS:
            raise UsageError(f"--feedback-retention must be 1 to {MAX_DAYS} days, not {self.feedback_retention}")
        if self.learn is not None and self.state is not None:
            raise UsageError("--state: with --learn, the log of learning keeps the item table too; leave --state out")
        self._check_side_by_side()
        self._check_events()
        for origin in self.cors_origins:
            _check_cors_origin(origin)
        for name in self.trusted_hosts:
            if not _HOST_NAME.fullmatch(name):
                raise UsageError(
                    f"--trusted-host {name!r} is not a host name; write it without scheme and port, as in shop.example"
                )
        if self.sessions == "memory" and self.workers > 1:
            raise UsageError(
                f"--sessions memory works with one worker, not {self.workers}; use --workers 1 or "
                "--sessions redis://host:6379/0"
            )
        if self.sessions not in (None, "memory") and not self.sessions.startswith(REDIS):
            raise UsageError("--sessions must be 'memory' or a redis:// address")
        for flag, address in (("--sessions", self.sessions), ("--feedback", self.feedback)):
            if address is not None and address.startswith(REDIS) and _names_password(address):
                raise UsageError(
                    f"{flag} contains a password, and every user of this machine can read it in the process list; "
                    "give it in --sessions-password-file or $MTAW_REDIS_PASSWORD"
                )

    def _check_events(self) -> None:
        if self.events_token is not None and self.events_token == self.token:
            raise UsageError(
                "the token of events is that of /admin, too, and who sends events could change the service; write "
                "another one"
            )
        if self.open_events and self.events_token is None:
            raise UsageError("--open-events goes with --events-token-file; without a token, events are open anyway")
        if not _HEADER_NAME.fullmatch(self.proxy_header) or self.proxy_header == "forwarded":
            raise UsageError(
                f"--proxy-header {self.proxy_header!r} must be a header that lists addresses; write its name, as in "
                f"{PROXY_HEADER}"
            )
        if self.proxy_header != PROXY_HEADER and not self.proxies:
            raise UsageError("--proxy-header goes with --proxy; name the proxy that sets the header there")
        for proxy in self.proxies:
            network_of(proxy)

    def _check_side_by_side(self) -> None:
        if not self.side_by_side:
            return
        folders, weights = zip(*self.side_by_side, strict=True)
        names = [folder.name for folder in folders]
        if len(folders) > MAX_BUNDLES:
            raise UsageError(f"--bundle is given {len(folders)} times, the most is {MAX_BUNDLES}; serve fewer")
        if len(set(names)) < len(names):
            raise UsageError(
                f"--bundle: two folders are called {_twice(names)!r}, and answers carry that name; rename one"
            )
        for name in names:
            if name.encode(errors="replace").decode() != name:
                raise UsageError(f"--bundle: answers carry the folder name {name!r}, which is not UTF-8; rename it")
        for folder, weight in self.side_by_side:
            if not 0 <= weight < math.inf:
                raise UsageError(f"--bundle {folder}={weight:g}: the weight must be 0 or above, and finite")
        if not 0 < sum(weights) < math.inf:
            raise UsageError("--bundle: the weights are all 0; give at least one bundle a weight above 0")
        if self.learn is not None:
            self.learn.of_arms(folders)

    @property
    def served(self) -> tuple[Served, ...]:
        """All bundles that are served."""
        if not self.side_by_side:
            return (Served(self.bundle, None),)
        return tuple(Served(folder, folder.name) for folder, _ in self.side_by_side)

    @property
    def arms(self) -> tuple[str, ...]:
        """The names of the bundles, if several are served."""
        return tuple(name for _, name in self.served if name is not None)

    def learn_at(self, number: int) -> LearningSettings | None:
        """How bundle `number` of `served` learns, counted from 0."""
        if self.learn is None or not self.side_by_side:
            return self.learn
        return self.learn.of_arms([folder for folder, _ in self.side_by_side])[number]

    @property
    def takes_open_events(self) -> bool:
        """Whether the service learns from events without a token."""
        return self.learn is not None and (self.open_events or self.events_token is None)

    @property
    def own_names(self) -> frozenset[str]:
        """The host names of this service, in lower case."""
        return frozenset(name.lower().removesuffix(".") for name in (self.host, *self.trusted_hosts))


def absolute_location(feedback: str | None) -> str | None:
    """Return an address of Redis unchanged, and a path as an absolute one, which is valid in every process."""
    if feedback is None or feedback.startswith(REDIS):
        return feedback
    if not feedback:
        raise UsageError("--feedback is empty; give a file, a folder or a redis:// address")
    return str(Path(feedback).absolute()) + (os.sep if feedback.endswith(os.sep) else "")


def _twice(names: list[str]) -> str:
    return next(name for name in names if names.count(name) > 1)


def _check_cors_origin(origin: str) -> None:
    """Raise UsageError unless it is an origin as browsers send it: scheme, host, and any port but the default."""
    try:
        parts = urlsplit(origin)
        valid = parts.scheme in _DEFAULT_PORTS and bool(parts.hostname) and parts.port != _DEFAULT_PORTS[parts.scheme]
        valid = valid and "@" not in parts.netloc and origin == f"{parts.scheme}://{parts.netloc}".lower()
    except ValueError:
        valid = False
    if not valid or not (origin.isascii() and origin.isprintable()):
        raise UsageError(
            f"--cors-origin {origin!r} is not an origin as browsers send it; write scheme and host in lower case, and "
            "the port unless it is the default, as in https://shop.example"
        )


def network_of(proxy: str) -> Network:
    """Return one of `Settings.proxies` as a network. Raises UsageError if it is neither an address nor a network."""
    try:
        return ipaddress.ip_network(proxy)
    except ValueError:
        raise UsageError(
            f"--proxy {proxy!r} is neither an address nor a network; write it as in 10.0.0.7 or 10.0.0.0/24"
        ) from None


def _names_password(address: str) -> bool:
    try:
        parts = urlsplit(address)
    except ValueError:  # opening it reports the error
        return "@" in address
    return bool(parts.password) or "password" in parse_qs(parts.query)
