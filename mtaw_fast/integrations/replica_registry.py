"""Who serves what: an actor to which every replica reports each second, and which tells it of the others.

It holds nothing that cannot be told again: where it dies, Ray starts another one, which soon knows everybody.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mtaw_fast.integrations.cluster import NAMESPACE
from mtaw_fast.service.observability.counters import Counters, Counts, added_up
from mtaw_fast.service.observability.metrics import GAUGES, WIDTH, Metrics

PERIOD = 1.0  # seconds between two reports of a replica
_PRESENT = 3.5  # seconds after its last report that a replica counts as one
_GONE = 3600.0  # seconds after which it will hardly come again: what it counted is kept in one sum
_MOST_FOLDED = 1024  # of which what they counted is known apart too, 10 to 20 MB: one may come again


@dataclass(frozen=True, slots=True)
class Report:
    """What a replica says of itself.

    replica: its id in Serve. machine, pid: where it is. version: the bundle that it serves. waiting: requests in its
    queue. counts: its counters. by_version: those by bundle version.
    """

    replica: str
    machine: str
    pid: int
    version: str
    waiting: int
    counts: tuple[int, ...] = field(repr=False)
    by_version: Counts = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Others:
    """What a replica is told of the others. counts, by_version: theirs, added up, of those that are gone too. versions:
    the bundle that each of those that are there serves."""

    counts: tuple[int, ...]
    versions: tuple[str, ...]
    by_version: Counts = field(default_factory=dict)


class ReplicaRegistry:
    """The actor's class. clock: seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._reports: dict[str, tuple[float, Report]] = {}  # with the time of each
        self._folded: dict[str, Report] = {}  # longest ago first
        self._gone_counts: list[int] = []
        self._gone_by_version: Counts = {}

    def exchange(self, report: Report) -> Others:
        """Take a replica's report, and tell it of the others."""
        now = self._clock()
        self._reports[report.replica] = now, report
        if report.replica in self._folded:  # its counts go on from those
            self._add(self._folded.pop(report.replica), -1)
        self._fold(now)
        others = [(since, one) for since, one in self._reports.values() if one.replica != report.replica]
        sums = self._gone_counts[:] or [0] * len(report.counts)
        for since, one in others:
            gone = now - since > _PRESENT
            for cell, count in enumerate(one.counts):
                if not (gone and cell in _GAUGES):  # its counts stay, so that sums never fall
                    sums[cell] += count
        present = tuple(one.version for since, one in others if now - since <= _PRESENT)
        return Others(tuple(sums), present, added_up([self._gone_by_version, *(one.by_version for _, one in others)]))

    def _fold(self, now: float) -> None:
        """Keep those that are gone for good as one sum: under autoscaling thousands come and go."""
        for replica, (since, one) in [*self._reports.items()]:
            if now - since > _GONE:
                del self._reports[replica]
                self._folded[replica] = one
                self._add(one, 1)
        for replica in [*self._folded][:-_MOST_FOLDED]:
            del self._folded[replica]

    def _add(self, one: Report, sign: int) -> None:
        """Put what a replica counted into the sums of those that are gone for good, or (sign -1) take it out again."""
        before = self._gone_counts or [0] * len(one.counts)
        self._gone_counts = [
            known + (0 if cell in _GAUGES else sign * count)
            for cell, (known, count) in enumerate(zip(before, one.counts, strict=True))
        ]
        signed = {version: [sign * count for count in counts] for version, counts in one.by_version.items()}
        self._gone_by_version = added_up([self._gone_by_version, signed])

    def present(self) -> list[Report]:
        """The last report of every replica that is there, by id."""
        now = self._clock()
        return [one for _, (since, one) in sorted(self._reports.items()) if now - since <= _PRESENT]


_GAUGES = frozenset(GAUGES)


def registry_of(ray: Any, app: str) -> Any:
    """The handle of an app's registry, which is started where there is none."""
    options = {"name": f"registry-{app}", "namespace": NAMESPACE, "lifetime": "detached", "get_if_exists": True}
    return ray.remote(ReplicaRegistry).options(**options, max_restarts=-1, num_cpus=0).remote()


class ReplicaCounters(Counters):
    """A replica's own row, and what the registry last told of the others."""

    def __init__(self) -> None:
        super().__init__(Metrics.make(1), 1, WIDTH, 0)
        self.others = Others((), ())

    def sums(self) -> list[int]:
        """See `Counters.sums`."""
        own = super().sums()
        return [mine + theirs for mine, theirs in zip(own, self.others.counts or [0] * len(own), strict=True)]

    def by_version(self) -> dict[str, list[int]]:
        """See `Counters.by_version`."""
        return added_up([super().by_version(), self.others.by_version])

    def own_by_version(self) -> dict[str, list[int]]:
        """What to report."""
        return super().by_version()

    def live_versions(self) -> list[str]:
        """See `Counters.live_versions`."""
        return [*super().live_versions(), *self.others.versions]

    def own_counts(self) -> tuple[int, ...]:
        """What to report."""
        return tuple(super().sums())
