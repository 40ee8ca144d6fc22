"""The registry of the replicas: an actor that gets a report of every replica each second and answers with the others.

The registry keeps nothing that the replicas cannot report again: if it dies, Ray starts another one, which soon has all
reports.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mtaw_fast.integrations.cluster import NAMESPACE
from mtaw_fast.service.observability.counters import Counters, Counts, added_up
from mtaw_fast.service.observability.metrics import DRIFT_GAUGES, GAUGES, WIDTH, Metrics

PERIOD = 1.0  # seconds between two reports of a replica
_PRESENT = 3.5  # seconds after its last report for which a replica counts as present
_GONE = 3600.0  # seconds after its last report when a replica's counts are added to one sum of all that are gone
_MAX_FOLDED = 1024  # gone replicas whose own counts are also kept (10 to 20 MB), as one may return


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a replica.

    replica: its id in Serve. host, pid: its host and process. version: the bundle that it serves. waiting: requests
    in its queue. counts: its counters. by_version: the counters by bundle version.
    """

    replica: str
    host: str
    pid: int
    version: str
    waiting: int
    counts: tuple[int, ...] = field(repr=False)
    by_version: Counts = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Others:
    """The registry's answer about all other replicas. counts, by_version: their sums, with those of gone replicas.
    versions: the bundle of each present one."""

    counts: tuple[int, ...]
    versions: tuple[str, ...]
    by_version: Counts = field(default_factory=dict)


class ReplicaRegistry:
    """The class of the actor. clock: returns seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[float, Report]] = {}  # last report and its time, by replica
        self._folded: dict[str, Report] = {}  # last reports of gone replicas, oldest first
        self._gone_counts: list[int] = []
        self._gone_by_version: Counts = {}

    def exchange(self, report: Report) -> Others:
        """Store a replica's report and return the sums of the others."""
        now = self._clock()
        self._reports[report.replica] = now, report
        if report.replica in self._folded:  # it is back, and its counts continue
            self._add(self._folded.pop(report.replica), -1)
        self._fold(now)
        others = [(since, other) for since, other in self._reports.values() if other.replica != report.replica]
        sums = self._gone_counts[:] or [0] * len(report.counts)
        for since, other in others:
            is_gone = now - since > _PRESENT
            for cell, count in enumerate(other.counts):
                if not (is_gone and cell in _GAUGES):  # counters of a gone replica stay, so that sums never decrease
                    sums[cell] += count
        present = tuple(other.version for since, other in others if now - since <= _PRESENT)
        return Others(
            tuple(sums), present, added_up([self._gone_by_version, *(other.by_version for _, other in others)])
        )

    def _fold(self, now: float) -> None:
        """Merge long-gone replicas into one sum, because autoscaling makes thousands of them."""
        for replica, (since, report) in [*self._reports.items()]:
            if now - since > _GONE:
                del self._reports[replica]
                self._folded[replica] = report
                self._add(report, 1)
        for replica in [*self._folded][:-_MAX_FOLDED]:
            del self._folded[replica]

    def _add(self, report: Report, sign: int) -> None:
        """Add a replica's counts to the sums of gone replicas, or (sign -1) subtract them."""
        totals = self._gone_counts or [0] * len(report.counts)
        self._gone_counts = [
            total + (0 if cell in _GAUGES else sign * count)
            for cell, (total, count) in enumerate(zip(totals, report.counts, strict=True))
        ]
        signed = {version: [sign * count for count in counts] for version, counts in report.by_version.items()}
        self._gone_by_version = added_up([self._gone_by_version, signed])

    def present(self) -> list[Report]:
        """Return the last report of every present replica, by id."""
        now = self._clock()
        return [report for _, (since, report) in sorted(self._reports.items()) if now - since <= _PRESENT]


_GAUGES = frozenset(GAUGES)


def registry_of(ray: Any, app: str) -> Any:
    """Return the handle of an app's registry; start the registry if there is none."""
    options = {"name": f"registry-{app}", "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return ray.remote(ReplicaRegistry).options(**options, max_restarts=-1, num_cpus=0).remote()


class ReplicaCounters(Counters):
    """A replica's own counters, and the registry's last sums of the others."""

    def __init__(self) -> None:
        super().__init__(Metrics.make(1), 1, WIDTH, 0)
        self.others = Others((), ())

    def sums(self) -> list[int]:
        """See `Counters.sums`."""
        own_sums = super().sums()
        return [
            mine if cell in DRIFT_GAUGES else mine + theirs
            for cell, (mine, theirs) in enumerate(zip(own_sums, self.others.counts or [0] * len(own_sums), strict=True))
        ]

    def by_version(self) -> dict[str, list[int]]:
        """See `Counters.by_version`."""
        return added_up([super().by_version(), self.others.by_version])

    def own_by_version(self) -> dict[str, list[int]]:
        """Return the counters to report."""
        return super().by_version()

    def live_versions(self) -> list[str]:
        """See `Counters.live_versions`."""
        return [*super().live_versions(), *self.others.versions]

    def own_counts(self) -> tuple[int, ...]:
        """Return the counters to report."""
        return tuple(super().sums())
