"""The HTTP service as replicas on a Ray cluster: `deploy` starts them or rolls them to another bundle.

    ray.init()
    deploy(Settings(Path("shop.bundle"), sessions="redis://redis:6379/0"), Scaling(least=2, most=8))
    deploy(Settings(Path("shop-tuesday.bundle"), sessions="redis://redis:6379/0"), Scaling(least=2, most=8))  # rolls

Routes, limits and answers are those of `mtaw-fast serve`; docs/beyond-one-machine.md lists what differs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mtaw_fast.errors import MtawError, UsageError, require
from mtaw_fast.integrations.cluster import connected, one_line
from mtaw_fast.integrations.replica_registry import Report, registry_of
from mtaw_fast.service.settings import Settings, absolute_location
from mtaw_fast.service.snapshot import current_version

_NAME = "mtaw-fast"
_DEPLOYMENT = "recommender"
_MARGIN = 64  # requests sent to a replica beyond its queue limit, so that the replica itself refuses them
_POLL = 0.2  # seconds between two checks of a deployment
_ONE_BY_ONE = 1e-6  # share of the replicas that Serve replaces at a time; it takes at least one
_ONE_MORE = 1  # percent of additional replicas during a roll, rounded up to one
_HEALTH_PERIOD, _HEALTH_TIMEOUT = 5.0, 30.0  # seconds
_ARRIVES = 10.0  # most seconds for an abandoned deployment to reach Serve, so that it can be deleted there
_TRIES = 3  # replicas that must fail to start before a deployment counts as failed


class ReplicaError(MtawError):
    """Replicas could not be deployed, or do not serve the right bundle."""


class StoppedError(ReplicaError):
    """The caller of `deploy` stopped waiting: `stop` was set."""


class _StopAskedError(TimeoutError):
    pass


@dataclass(frozen=True, slots=True)
class Scaling:
    """The number of replicas and how it scales.

    least, most: bounds of the number. queue: target number of open requests per replica; Serve starts replicas above it
    and ends them below it. up, down: seconds above or below the target before Serve acts, by the mean of the last `up`
    seconds. cpus: processors that Ray reserves for each replica.
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
            if not 0 < getattr(self, name) < math.inf:
                raise UsageError(f"{name} must be above 0 and finite, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a deployment.

    status: the status in Serve: RUNNING, DEPLOYING, UNHEALTHY .. replicas: the last report of each present replica.
    """

    status: str
    replicas: Sequence[Report]

    @property
    def versions(self) -> dict[str, int]:
        """The number of replicas by the bundle version that they serve."""
        return dict(Counter(report.version for report in self.replicas))

    @property
    def problem(self) -> str | None:
        """What is wrong, in one line: mixed bundle versions, or no running replica; None if all is well."""
        if len(self.versions) > 1:
            replicas = ", ".join(f"{report.replica} on {report.host} {report.version}" for report in self.replicas)
            return f"replicas of mixed bundle versions ({replicas}); wait for the roll to end, or deploy again"
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
    """Serve a bundle on the Ray cluster that this process is connected to, or roll the replicas to another bundle.

    A roll replaces the replicas one by one: a new one starts to take requests after it has loaded the bundle and
    ranked; then an old one takes no more requests, answers its open ones, and ends. If new ones cannot start, the
    remaining old ones continue.

    Parameters
    ----------
    settings : Settings
        As of `mtaw-fast serve`. Every host needs the bundle at the same path, best in a folder per version: a replica
        that starts later loads it again and refuses another version. Serve listens on host and port (127.0.0.1:8000 by
        default). Sessions are in Redis, whose password every host has in $MTAW_REDIS_PASSWORD.
    scaling : Scaling, optional
        The number of replicas; 1 to 4 by default.
    name : str
        The name of the deployment.
    prefix : str, default '/'
        The prefix of all its paths; each deployment of a cluster needs another one.
    patience : float, default 600
        Seconds within which all replicas must serve the bundle.
    stop : threading.Event, optional
        Set it to stop waiting.

    Returns
    -------
    str
        The version that every replica serves.

    Raises
    ------
    BundleError
        If the folder has no bundle.
    UsageError
        On settings that replicas cannot have, on a port that is not Serve's, or if not connected to Ray.
    ReplicaError
        If a replica does not serve the bundle; the message names it and the reason. StoppedError if `stop` was set.
    MissingPackageError
        Without the extras `ray` and `serve`.
    """
    ray, serve = connected(), require("ray.serve", "ray")
    for package in ("litestar", "msgspec", "uvicorn"):
        require(package, "serve")
    _check(settings)
    # Replicas may have another working folder.
    settings = dataclasses.replace(
        settings, bundle=settings.bundle.absolute(), feedback=absolute_location(settings.feedback)
    )
    version = current_version(settings.bundle)
    registry = registry_of(ray, name)
    serve.start(proxy_location="EveryNode", http_options={"host": settings.host, "port": settings.port})
    _check_address(settings)
    existed = name in serve.status().applications
    try:
        deadline = time.monotonic() + patience
        application = _application(serve, settings, scaling or Scaling(), name, version)
        wait = _Wait(deadline, f"not all replicas served bundle {version} within {patience:g} s", stop)
        _within(
            wait,
            lambda: serve.run(application, name=name, route_prefix=prefix),
            lambda: name in serve.status().applications,
        )
        _await(ray, serve, registry, name, version, wait)
    except (RuntimeError, TimeoutError, ValueError, serve.exceptions.RayServeException) as error:
        stopped = isinstance(error, _StopAskedError)
        reason = (None if stopped else _why(serve, name)) or one_line(error)
        if existed:
            state = _health(ray, serve, registry, name)
            reason += (
                f"; {state.problem}" if len(state.versions) > 1 else f"; the old ones continue ({len(state.replicas)})"
            )
        else:
            _take_back(serve, name)
        error_type = StoppedError if stopped else ReplicaError
        raise error_type(f"the replicas could not be deployed: {reason}") from None
    except ReplicaError:  # Serve says they run, but they or the registry do not answer
        if not existed:
            _take_back(serve, name)
        raise
    return version


def health(name: str = _NAME) -> Health:
    """Return the health of the deployment. Raises UsageError if there is none, or if not connected to Ray."""
    ray, serve = connected(), require("ray.serve", "ray")
    return _health(ray, serve, registry_of(ray, name), name)


def undeploy(name: str = _NAME) -> None:
    """End a deployment: its replicas answer their open requests and stop."""
    ray, serve = connected(), require("ray.serve", "ray")
    serve.delete(name)
    ray.kill(registry_of(ray, name))


def _take_back(serve: Any, name: str) -> None:
    with contextlib.suppress(TimeoutError):  # replicas that take over a minute to end; Serve continues to end them
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
        graceful_shutdown_wait_loop_s=_POLL,
        health_check_period_s=_HEALTH_PERIOD,
        health_check_timeout_s=_HEALTH_TIMEOUT,
        rolling_update_percentage=_ONE_BY_ONE,
        max_surge_percent=_ONE_MORE,
        max_constructor_retry_count=_TRIES,
    )  # fmt: skip
    return deployment.bind(settings, version, name)


def _check(settings: Settings) -> None:
    """Raise UsageError on settings that do not apply to replicas."""
    if settings.sessions == "memory":
        raise UsageError("replicas cannot share sessions in memory; keep them in Redis: redis://host:6379/0")
    if settings.sessions_password is not None:
        raise UsageError("a Redis password does not go through Ray; set $MTAW_REDIS_PASSWORD on every host")
    if settings.learn is not None:
        raise UsageError(
            "replicas do not learn from clicks; run 'mtaw-fast serve --learn redis://..' on every host instead"
        )
    if settings.state is not None:
        raise UsageError("replicas keep no changes of items; leave --state out")
    if settings.token is not None:
        raise UsageError(
            "replicas have no routes below /admin, which would change only one of them; deploy again to change all"
        )
    if settings.side_by_side:
        raise UsageError("replicas serve one bundle; 'mtaw-fast serve --bundle' serves several side by side")
    if settings.workers != 1:
        raise UsageError("replicas have one worker each; set their number in Scaling")


def _check_address(settings: Settings) -> None:
    """Raise UsageError if the cluster's Serve already runs with another address, which it keeps without an error."""
    from ray.serve.context import _get_global_client  # the only place that has the address

    client = _get_global_client()
    assert client is not None  # it was just started
    options = client.http_config
    if (options.host, options.port) != (settings.host, settings.port):
        raise UsageError(
            f"this cluster's Serve listens on {options.host}:{options.port}, not on {settings.host}:{settings.port}; "
            "use that address, or stop it with 'serve shutdown'"
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
    """Return the deployment's message about its failure, in one line."""
    app = serve.status().applications.get(name)
    messages = (
        [] if app is None else [deployment.message for deployment in app.deployments.values() if deployment.message]
    )
    return one_line(RuntimeError(messages[0])) if messages else None


@dataclasses.dataclass(frozen=True, slots=True)
class _Wait:
    """The end of a wait. until: on time.monotonic's clock. late: the message then. stop: see `deploy`."""

    until: float
    late: str
    stop: threading.Event | None

    def check(self) -> None:
        """Raise TimeoutError if the wait is over."""
        if self.stop is not None and self.stop.is_set():
            raise _StopAskedError("it was stopped before all replicas served")
        if time.monotonic() > self.until:
            raise TimeoutError(self.late)


def _within(wait: _Wait, work: Callable[[], object], arrived: Callable[[], bool] = lambda: True) -> None:
    """Run work that may never return, such as on a full cluster. Raises its error, or TimeoutError when `wait` ends.

    arrived: whether the cluster has received the work. Abandoned work gets some time for that; otherwise it could
    arrive after the caller has tried to delete it, and would start unattended.
    """
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="mtaw-deploy", daemon=True)
    thread.start()
    while thread.is_alive():
        try:
            wait.check()
        except TimeoutError as error:
            deadline = time.monotonic() + _ARRIVES
            while thread.is_alive() and not arrived():
                if time.monotonic() > deadline:
                    raise type(error)(f"{error}; it may still start: check 'serve status', and undeploy it") from None
                thread.join(_POLL)
            raise
        thread.join(_POLL)
    if errors:
        raise errors[0]


def _await(ray: Any, serve: Any, registry: Any, name: str, version: str, wait: _Wait) -> None:
    """Wait until every replica serves the version. Raises ReplicaError if one refuses, TimeoutError as `wait` does."""
    while True:
        state = _health(ray, serve, registry, name)
        states = serve.status().applications[name].deployments[_DEPLOYMENT].replica_states
        settled = set(states) == {"RUNNING"} and state.status == "RUNNING"
        if settled and set(state.versions) == {version} and len(state.replicas) >= states["RUNNING"]:
            return
        if state.problem and time.monotonic() > wait.until:
            raise ReplicaError(state.problem)
        wait.check()
        time.sleep(_POLL)
