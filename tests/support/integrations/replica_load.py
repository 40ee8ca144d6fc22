"""Honest clients of replicas, who note what failed, when, and whether answers were those of the bundles they name."""

from __future__ import annotations

import contextlib
import http.client
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from mtaw_fast.recommender import Recommender
from tests.support.service.running import Client, Reply, ask_on

_SETTLING = 0.05  # seconds in which a request that is being sent may still reach a process that was just killed


@dataclass(frozen=True)
class Failure:
    """A request that was not answered with 200. began, ended: on time.monotonic's clock. why: the answer or error."""

    began: float
    ended: float
    why: str


@dataclass
class Load:
    """Clients that ask without a pause, from `with` to its end.

    known: a recommender for every version that may answer. Half of the clients ask for sessions that they send whole,
    the others click in sessions that the service keeps, where it does.
    """

    service: Client
    known: Mapping[str, Recommender]
    clients: int = 6
    clicks: bool = True
    answers: int = 0
    failures: list[Failure] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    versions: set[str] = field(default_factory=set)
    _name: str = field(default_factory=lambda: secrets.token_hex(4))  # of its sessions, which outlive it in Redis
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __enter__(self) -> Self:
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def unexplained(self, kills: list[float]) -> list[Failure]:
        """Failures of requests that were not under way when a replica was killed."""
        return [
            failure
            for failure in self.failures
            if not any(failure.began <= kill + _SETTLING and failure.ended >= kill for kill in kills)
        ]

    def _run(self, number: int) -> None:
        rng, clicking = np.random.default_rng(number), self.clicks and number % 2 == 1
        session: list[Any] = []
        connection = self.service.connect()
        visit = 0
        while not self._stop.is_set():
            items = [f"sku-{item}" for item in rng.integers(10, 60, 1 if clicking else rng.integers(1, 9))]
            path = f"/v1/sessions/{self._name}-{number}-{visit}/click" if clicking else "/v1/recommend"
            began = time.monotonic()
            try:
                body = {"items" if clicking else "session": items, "k": 10}
                reply = ask_on(connection, "POST", self.service.prefix + path, body)
                reason = None if reply.status == 200 else f"{reply.status} {reply.body[:200]!r}"
            except (OSError, http.client.HTTPException) as error:
                reason, reply = repr(error), None
                connection.close()
                connection = self.service.connect()
            session = [*session, *items] if clicking else items
            if reason is not None or reply is None:
                with self._lock:
                    self.failures.append(Failure(began, time.monotonic(), str(reason)))
                visit, session = visit + 1, []  # unknown whether the click was stored, so use another session
                continue
            self._check(reply, session, clicking)
            if len(session) >= 30:
                visit, session = visit + 1, []
        with contextlib.suppress(OSError):
            connection.close()

    def _check(self, reply: Reply, session: list[Any], clicking: bool) -> None:
        answer = reply.json
        out = self.known[answer["version"]].recommend(session, 10)
        right = answer["items"] == out.items and answer["scores"] == out.scores.tolist()
        right = right and answer.get("clicks", len(session)) == len(session)
        with self._lock:
            self.answers += 1
            self.versions.add(answer["version"])
            if not right:
                self.wrong.append(f"{answer['version']}: {len(session)} clicks, {answer.get('clicks')} kept")
