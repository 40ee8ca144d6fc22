"""The HTTP service as replicas on a Ray cluster: `deploy` starts them or rolls them to another bundle, `health` tells.

    ray.init()
    deploy(Settings(Path("shop.bundle"), sessions="redis://redis:6379/0"), Scaling(least=2, most=8))
    deploy(Settings(Path("shop-tuesday.bundle"), sessions="redis://redis:6379/0"), Scaling(least=2, most=8))  # rolls

Routes, limits and answers are those of `mtaw-fast serve`; docs/beyond-one-machine.md says what differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.integrations.cluster import connected, one_line
from mtaw_fast.integrations.replica_registry import Report, registry_of
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import current_version

_NAME = "mtaw-fast"
_DEPLOYMENT = "recommender"
_MARGIN = 64  # requests that a replica is sent past its own queue, so that it is the one to refuse them
_LOOK = 0.2  # seconds between looks at how a deployment gets on
_ONE_BY_ONE = 1e-6  # share of the replicas that Serve changes at a time; it takes one at least
_ONE_MORE = 1  # percent of the replicas that may be there beside them during a roll, rounded up
_HEALTH_PERIOD, _HEALTH_TIMEOUT = 5.0, 30.0  # seconds
_ARRIVES = 10.0  # seconds, at most, that a deployment which nobody waits for any more has to reach Serve, to be deleted
_TRIES = 3  # replicas that must fail to start before a deployment counts as failed


class ReplicaError(MtawError):
    """Replicas could not be deployed, or do not serve what they should."""


class StoppedError(ReplicaError):
    """Whoever deployed did not want to wait any longer: `stop` was set."""


class _StopAskedError(TimeoutError):
    pass


@dataclass(frozen=True, slots=True)
class Scaling:
    """How many replicas there are.

    least, most: of them. queue: requests a replica, waiting or being answered, that Serve aims at: above, it starts
    more, below, it ends some. up, down: seconds that it must have been so, by the mean of the last `up` seconds. cpus:
    that Ray reserves for each.
    """

    least: int = 1
    most: int = 4
    queue: float = 4.0
    up: float = 10.0
    down: float = 120.0
    cpus: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= self.least <= self.most:
            raise UsageError(f"least and most must be 1 <= least <= most, not {self.least} and {self.most}")
        for name in ("queue", "up", "down", "cpus"):
            if not getattr(self, name) > 0:
                raise UsageError(f"{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Health:
    """How a deployment is.

    status: Serve's word for it: RUNNING, DEPLOYING, UNHEALTHY .. replicas: what each of those that are there said of
    itself within the last seconds.
    """

    status: str
    replicas: Sequence[Report]

    @property
    def versions(self) -> dict[str, int]:
        """Replicas by the bundle that they serve."""
        return dict(Tally(one.version for one in self.replicas))

    @property
    def problem(self) -> str | None:
        """What is wrong, in one line: replicas of mixed bundle versions, or none that runs; None where all is well."""
        if len(self.versions) > 1:
            told = ", ".join(f"{one.replica} on {one.machine} {one.version}" for one in self.replicas)
            return f"replicas of mixed bundle versions ({told}); wait for the roll to end, or deploy again"
        if self.status != "RUNNING" or not self.replicas:
            return f"the deployment is {self.status} with {len(self.replicas)} replicas; 'serve status' says why"
        return None


def deploy(
    settings: Settings,
    scaling: Scaling | None = None,
    *,
    name: str = _NAME,
    prefix: str = "/",
    patience: float = 600.0,
    stop: threading.Event | None = None,
) -> str:
    """Serve a bundle on the Ray cluster that this process is connected to, or let its replicas roll to another bundle.

    A roll replaces the replicas one by one: a new one that has loaded and ranked takes requests, then an old one takes
    no more, answers what it has, and ends. Where new ones cannot start, the old ones that are left go on.

    Parameters
    ----------
    settings : Settings
        As of `mtaw-fast serve`. The bundle's folder must be there on every machine, best one folder a version: a
        replica that starts later loads it again, and refuses another version. Serve listens on host and port
        (127.0.0.1:8000 unless told otherwise). Sessions live in Redis, whose password every machine has in
        $MTAW_REDIS_PASSWORD.
    scaling : Scaling, optional
        How many replicas there are; 1 to 4 by default.
    name : str
        Of the deployment, where there are several.
    prefix : str, default '/'
        Of all its paths: each deployment of a cluster has its own.
    patience : float, default 600
        Seconds until all replicas must serve the bundle.
    stop : threading.Event, optional
        Set by whoever does not want to wait any longer.

    Returns
    -------
    str
        The version that every replica serves.

    Raises
    ------
    BundleError
        Where the folder holds no bundle.
    UsageError
        On settings that replicas cannot have, a port that is not Serve's, or without a Ray.
    ReplicaError
        Where a replica does not serve the bundle: it then says which, and why. StoppedError where `stop` was set.
    MissingPackageError
        Without the extras `ray` and `serve`.
    """
    ray, serve = connected(), require("ray.serve", "ray")
    for package in ("litestar", "msgspec", "uvicorn"):
        require(package, "serve")
    _check(settings)
    settings = dataclasses.replace(settings, bundle=settings.bundle.absolute())
    version = current_version(settings.bundle)
    registry = registry_of(ray, name)
    serve.start(proxy_location="EveryNode", http_options={"host": settings.host, "port": settings.port})
    _check_address(settings)
    known = name in serve.status().applications
    try:
        until = time.monotonic() + patience
        application = _application(serve, settings, scaling or Scaling(), name, version)
        wait = _Wait(until, f"not all replicas served bundle {version} within {patience:g} s", stop)
        _within(
            wait,
            lambda: serve.run(application, name=name, route_prefix=prefix),
            lambda: name in serve.status().applications,
        )
        _await(ray, serve, registry, name, version, wait)
    except (RuntimeError, TimeoutError, ValueError, serve.exceptions.RayServeException) as error:
        stopped = isinstance(error, _StopAskedError)
        why = (None if stopped else _why(serve, name)) or one_line(error)
        if known:
            now = _health(ray, serve, registry, name)
            why += f"; {now.problem}" if len(now.versions) > 1 else f"; the old ones go on ({len(now.replicas)})"
        else:
            _take_back(serve, name)
        made = StoppedError if stopped else ReplicaError
        raise made(f"the replicas could not be deployed: {why}") from None
    except ReplicaError:  # Serve has them up, and they or the registry say nothing
        if not known:
            _take_back(serve, name)
        raise
    return version


def health(name: str = _NAME) -> Health:
    """How the deployment is. Raises UsageError where there is none, or without a Ray."""
    ray, serve = connected(), require("ray.serve", "ray")
    return _health(ray, serve, registry_of(ray, name), name)


def undeploy(name: str = _NAME) -> None:
    """End a deployment: its replicas answer what they have, and stop."""
    ray, serve = connected(), require("ray.serve", "ray")
    serve.delete(name)
    ray.kill(registry_of(ray, name))


def _take_back(serve: Any, name: str) -> None:
    with contextlib.suppress(TimeoutError):  # replicas that take longer than a minute to end: Serve sees to it
        serve.delete(name)


def _application(serve: Any, settings: Settings, scaling: Scaling, name: str, version: str) -> Any:
    from mtaw_fast.integrations.replica import Replica

    deployment = serve.deployment(
        serve.ingress()(Replica),
        name=_DEPLOYMENT,
        autoscaling_config={
            "min_replicas": scaling.least, "max_replicas": scaling.most, "target_ongoing_requests": scaling.queue,
            "upscale_delay_s": scaling.up, "downscale_delay_s": scaling.down,
            "look_back_period_s": scaling.up,
        },
        max_ongoing_requests=settings.limits.queue + _MARGIN,
        ray_actor_options={"num_cpus": scaling.cpus},
        graceful_shutdown_timeout_s=settings.shutdown_timeout,
        graceful_shutdown_wait_loop_s=_LOOK,
        health_check_period_s=_HEALTH_PERIOD,
        health_check_timeout_s=_HEALTH_TIMEOUT,
        rolling_update_percentage=_ONE_BY_ONE,
        max_surge_percent=_ONE_MORE,
        max_constructor_retry_count=_TRIES,
    )  # fmt: skip
    return deployment.bind(settings, version, name)


def _check(settings: Settings) -> None:
    """Raise UsageError on settings that mean nothing among replicas."""
    if settings.sessions == "memory":
        raise UsageError("sessions in memory live in one process; replicas share them in a Redis: redis://host:6379/0")
    if settings.sessions_password is not None:
        raise UsageError("a Redis password does not go through Ray; set $MTAW_REDIS_PASSWORD on every machine")
    if settings.learn is not None:
        raise UsageError(
            "replicas do not learn from clicks; 'mtaw-fast serve --learn redis://..' does, on every machine"
        )
    if settings.token is not None:
        raise UsageError(
            "replicas have no routes below /admin, which would change one of them; deploy again to roll them all"
        )
    if settings.side_by_side:
        raise UsageError("replicas serve one bundle; 'mtaw-fast serve --bundle' serves several side by side")
    if settings.workers != 1:
        raise UsageError("workers are those of 'mtaw-fast serve'; here Scaling says how many replicas there are")


def _check_address(settings: Settings) -> None:
    """Raise UsageError where the cluster's Serve was started before, with another address: it keeps that in silence."""
    from ray.serve.context import _get_global_client  # told nowhere else

    client = _get_global_client()
    assert client is not None  # it was just started
    options = client.http_config
    if (options.host, options.port) != (settings.host, settings.port):
        raise UsageError(
            f"this cluster's Serve listens on {options.host}:{options.port}, not on {settings.host}:{settings.port}; "
            "name that address, or end it with 'serve shutdown'"
        )


def _health(ray: Any, serve: Any, registry: Any, name: str) -> Health:
    app = serve.status().applications.get(name)
    if app is None:
        raise UsageError(f"nothing is deployed as {name!r} in this cluster; deploy it first")
    try:
        return Health(app.status.value, tuple(ray.get(registry.present.remote(), timeout=_HEALTH_TIMEOUT)))
    except ray.exceptions.RayError as error:
        raise ReplicaError(f"the replicas' registry does not answer ({type(error).__name__}); try again") from None


def _why(serve: Any, name: str) -> str | None:
    """What the deployment says of its failure, in one line."""
    app = serve.status().applications.get(name)
    messages = [] if app is None else [one.message for one in app.deployments.values() if one.message]
    return one_line(RuntimeError(messages[0])) if messages else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Wait:
    """until: on time.monotonic's clock. late: what is said then. stop: see `deploy`."""

    until: float
    late: str
    stop: threading.Event | None

    def check(self) -> None:
        """Raise TimeoutError where the wait is over."""
        if self.stop is not None and self.stop.is_set():
            raise _StopAskedError("it was stopped before all replicas served")
        if time.monotonic() > self.until:
            raise TimeoutError(self.late)


def _within(wait: _Wait, work: Callable[[], object], arrived: Callable[[], bool] = lambda: True) -> None:
    """Do work that would wait for ever, where a cluster has no room say; what it raises, or TimeoutError.

    arrived: whether the cluster knows of it. Work that is left to itself gets the time for that: else whoever takes it
    back comes too early, and what nobody waits for comes up.
    """
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, name="mtaw-deploy", daemon=True)
    thread.start()
    while thread.is_alive():
        try:
            wait.check()
        except TimeoutError as error:
            until = time.monotonic() + _ARRIVES
            while thread.is_alive() and not arrived():
                if time.monotonic() > until:
                    raise type(error)(
                        f"{error}; it may come up yet: look with 'serve status', and undeploy it"
                    ) from None
                thread.join(_LOOK)
            raise
        thread.join(_LOOK)
    if failed:
        raise failed[0]


def _await(ray: Any, serve: Any, registry: Any, name: str, version: str, wait: _Wait) -> None:
    """Until every replica serves the version. Raises ReplicaError where one refuses, TimeoutError as `wait` does."""
    while True:
        now = _health(ray, serve, registry, name)
        states = serve.status().applications[name].deployments[_DEPLOYMENT].replica_states
        settled = set(states) == {"RUNNING"} and now.status == "RUNNING"
        if settled and set(now.versions) == {version} and len(now.replicas) >= states["RUNNING"]:
            return
        if now.problem and time.monotonic() > wait.until:
            raise ReplicaError(now.problem)
        wait.check()
        time.sleep(_LOOK)
