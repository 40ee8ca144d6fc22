"""The service that serves the bundles: its versions, a reload, and its metrics before and after a promotion."""

from __future__ import annotations

import http.client
import json
import os
import re
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass
from typing import Any

from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.refreshing.config import Watch

TOKEN_VARIABLE = "MTAW_ADMIN_TOKEN"
_TIMEOUT = 5.0  # seconds for the service's answer
_RELOAD_TIMEOUT = 120.0
_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_ROUTE = "/v1/recommend"
_ENOUGH = {"errors": 50, "latency": 200, "hits": 500}  # requests or clicks, before and after, for a judgment


class ServiceError(MtawError):
    """The service does not answer, or refuses the new bundle."""


@dataclass(frozen=True, slots=True)
class ServiceCounts:
    """What a service has counted since its start.

    requests, failed: answers, and those with status 5xx. latency: rankings by upper bound of their seconds, cumulative.
    scored, hits: by bundle version, clicks that scored the list before them, and those on its first 20 items.
    """

    requests: int
    failed: int
    latency: dict[str, int]
    scored: dict[str, int]
    hits: dict[str, int]

    def since(self, before: ServiceCounts) -> ServiceCounts:
        """Return what was counted since; all of it after a restart of the service."""
        if self.requests < before.requests:
            return self
        latency = {bound: count - before.latency.get(bound, 0) for bound, count in self.latency.items()}
        return ServiceCounts(
            self.requests - before.requests, self.failed - before.failed, latency, self.scored, self.hits
        )

    @property
    def failed_share(self) -> float:
        """The share of failed requests."""
        return self.failed / max(self.requests, 1)

    @property
    def rankings(self) -> int:
        """The number of rankings whose time is known."""
        return max(self.latency.values(), default=0)

    @property
    def percentile(self) -> float:
        """The bound in seconds that 95% of the rankings stay within."""
        bounds = sorted((float(bound), count) for bound, count in self.latency.items())
        return next((bound for bound, count in bounds if count >= 0.95 * self.rankings), float("inf"))


def versions_served(url: str) -> list[str]:
    """Return the versions that a service serves. Raises UsageError if none answers."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/v1/bundle", timeout=_TIMEOUT) as answer:
            reply = json.load(answer)
        return [bundle["version"] for bundle in reply.get("bundles") or [reply]]
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = str(error)
    except (LookupError, TypeError, AttributeError):
        reason = "the answer is not of mtaw-fast serve"
    raise UsageError(f"--service {url}: no service answers there ({reason}); give its address")


def reload(url: str) -> str:
    """Ask a service to reload, with $MTAW_ADMIN_TOKEN; return what became of it.

    Without a token, or if it does not answer, the service finds the bundle by itself. Raises ServiceError if it refuses
    the bundle.
    """
    token = os.environ.get(TOKEN_VARIABLE)
    if not token:
        return f"not asked: ${TOKEN_VARIABLE} is not set"
    request = urllib.request.Request(
        f"{url.rstrip('/')}/admin/reload", b"", {"Authorization": f"Bearer {token}"}, method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=_RELOAD_TIMEOUT):
            return "reloaded"
    except urllib.error.HTTPError as error:
        if error.code == 409:
            raise ServiceError(f"{url} refuses the bundle: {error.read(500).decode(errors='replace')}") from None
        return f"not reloaded: {error}"
    except (OSError, http.client.HTTPException) as error:
        return f"not reached: {error}"


def counts_of(url: str) -> ServiceCounts:
    """Return what a service has counted. Raises ServiceError if it does not answer."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/metrics", timeout=_TIMEOUT) as answer:
            return parsed(answer.read().decode(errors="replace"))
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise ServiceError(f"{url}/metrics does not answer ({error})") from None


def parsed(text: str) -> ServiceCounts:
    """Return the counts in a page of metrics."""
    requests, failed = 0, 0
    latency, scored, hits = Counter[str](), Counter[str](), Counter[str]()
    for line in text.splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        name, labels, value = found[1], dict(_LABEL.findall(found[2] or "")), found[3]
        if name == "mtaw_requests_total":
            requests += int(value)
            failed += int(value) if labels["status"].startswith("5") else 0
        elif name == "mtaw_request_seconds_bucket" and labels["route"] == _ROUTE:
            latency[labels["le"].replace("+Inf", "inf")] = int(value)
        elif name in ("mtaw_scored_clicks_total", "mtaw_hit_clicks_total"):
            (scored if "scored" in name else hits)[labels["version"]] = int(value)
    return ServiceCounts(requests, failed, dict(latency), dict(scored), dict(hits))


def alarm_of(before: ServiceCounts, after: ServiceCounts, versions: tuple[str, str], limits: Watch) -> str | None:
    """Return why a promoted bundle is worse than the one before it; None if it is not, or too little is known.

    before: until the promotion. after: since then. versions: of the bundle before, and of the promoted one.
    """
    if after.requests >= _ENOUGH["errors"] and after.failed_share > before.failed_share + limits.errors:
        return f"errors: {after.failed_share:.1%} of the requests fail, {before.failed_share:.1%} before"
    if min(before.rankings, after.rankings) >= _ENOUGH["latency"]:
        first, second = before.percentile, after.percentile
        if second > limits.latency * first:
            return f"latency: 95% of the rankings take up to {second * 1000:g} ms, {first * 1000:g} ms before"
    old, new = versions
    if min(before.scored.get(old, 0), after.scored.get(new, 0)) >= _ENOUGH["hits"]:
        first, second = before.hits.get(old, 0) / before.scored[old], after.hits.get(new, 0) / after.scored[new]
        if second < limits.hits * first:
            return f"hits: {second:.1%} of the clicks are among the first 20, {first:.1%} before"
    return None


def counts_from(values: dict[str, Any]) -> ServiceCounts:
    """Return counts from their `dataclasses.asdict`."""
    return ServiceCounts(**values)
