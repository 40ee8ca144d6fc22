"""Concurrent edits of items and rules: many clients change them, rank with them, and workers are killed meanwhile.

    python -m tests.service.edits [--seconds 120] [--store learn|state]

A request may fail only if a killed worker had it: an answer of 500 or above is a finding, except 503 while the service
cannot take a request.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import re
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.service.running import WITH_TOKEN, Running, ask_on

N_ITEMS, WORKERS, THREADS = 60, 2, 8
BETWEEN_KILLS = 5.0
_PATIENCE = 30.0
_NAMES = ("summer", "winter", "sale")
_BUSY = {"overloaded", "starting", "stopping"}
Request = tuple[str, str, Any]


@dataclass
class Edits:
    """Result: answers by method, path and status, requests that a killed worker had, and a line for each failure."""

    answers: Counter[tuple[str, str, int]] = field(default_factory=Counter)
    cut: int = 0
    kills: int = 0
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        counts = [
            f"{count:7,}  {method} {path}: {status}" for (method, path, status), count in sorted(self.answers.items())
        ]
        return "\n".join([f"{self.kills} workers killed, {self.cut} requests cut", *counts, *self.wrong[:20]])


def edit(work: Path, seconds: float, store: str = "learn", seed: int = 0) -> Edits:
    """Let `THREADS` clients change items for so many seconds. store: `learn` or `state`, where changes are kept."""
    save_parts(work / "bundle", **bundle_parts(n_items=N_ITEMS), **memory_parts(N_ITEMS))
    edits = Edits()
    flags = (f"--{store}", str(work / "kept"))
    with Running(work / "bundle", work / "log", WORKERS, flags) as service:
        end, lock = time.monotonic() + seconds, threading.Lock()
        clients = [
            threading.Thread(target=_client, args=(service, random.Random(seed * THREADS + number), end, edits, lock))
            for number in range(THREADS)
        ]
        for client in clients:
            client.start()
        draw = random.Random(seed)
        while time.monotonic() < end - BETWEEN_KILLS:
            time.sleep(BETWEEN_KILLS)
            os.kill(draw.choice(sorted(service.worker_pids())), signal.SIGKILL)
            edits.kills += 1
            service.wait_until_ready(60)
        for client in clients:
            client.join()
        edits.wrong += [
            f"logged: {line}"
            for line in service.events()
            if line["level"] == "error" and line.get("status") != -signal.SIGKILL
        ]
        if service.stop() != 0:
            edits.wrong.append(f"it did not stop: {service.last_words()}")
    return edits


def _client(service: Running, draw: random.Random, end: float, found: Edits, lock: threading.Lock) -> None:
    connection = service.connect(_PATIENCE)
    while time.monotonic() < end:
        method, path, body = draw.choice(_REQUESTS)(draw)
        try:
            reply = ask_on(connection, method, path, body, WITH_TOKEN)
        except (OSError, http.client.HTTPException):
            connection.close()
            connection = service.connect(_PATIENCE)
            with lock:
                found.cut += 1
            continue
        with lock:
            found.answers[method, re.sub(r"(s|sku)-\d+", "..", path), reply.status] += 1
            if reply.status >= 500 and not (reply.status == 503 and reply.code in _BUSY):
                found.wrong.append(f"{method} {path} {str(body)[:200]}: {reply.status} {reply.body[:300]!r}")
    connection.close()


def _items(draw: random.Random, most: int = 8) -> list[str]:
    return [f"sku-{draw.randrange(N_ITEMS + 6)}" for _ in range(draw.randint(1, most))]


def _table(draw: random.Random) -> dict[str, Any]:
    """Return rows whose columns come, go and change their kind."""
    columns = draw.sample(["brand", "price", "tags", "stock"], draw.randint(1, 4))
    values: dict[str, Callable[[], Any]] = {
        "brand": lambda: draw.choice(["acme", "zeta", None]),
        "price": lambda: draw.choice([1.5, 2, 99.0, None]),
        "tags": lambda: draw.sample(["a", "b", "c"], draw.randint(0, 3)),
        "stock": lambda: draw.choice([True, False]) if draw.random() < 0.9 else draw.randint(0, 5),
    }
    rows = [{"id": item, **{name: values[name]() for name in columns}} for item in dict.fromkeys(_items(draw, 30))]
    return {"items": rows, "public": columns[:1]}


def _rules(draw: random.Random) -> dict[str, Any]:
    rules: dict[str, Any] = {
        "filter": draw.choice(
            ["price < 50", "brand == 'acme'", "tags == 'a'", "stock == true", "not brand == current.brand"]
        )
    }
    if draw.random() < 0.5:
        rules["pin"] = {item: place + 1 for place, item in enumerate(dict.fromkeys(_items(draw, 3)))}
    return rules


def _placement(draw: random.Random) -> Any:
    return {"sets": [{"rules": _rules(draw)} for _ in range(draw.randrange(3))], "together": draw.random() < 0.5}


def _ranking(draw: random.Random) -> Request:
    body: dict[str, Any] = {"session": _items(draw, 4), "k": 10}
    if draw.random() < 0.5:
        body["placement"] = draw.choice(_NAMES)
    if draw.random() < 0.5:
        body["rules"] = _rules(draw)
    return "POST", "/v1/recommend", body


def _added(draw: random.Random) -> Request:
    items = [f"new-{draw.randrange(200)}" for _ in range(draw.randint(1, 3))]
    return "POST", "/admin/items/add", {"items": items, "neighbors": [_items(draw, 2) for _ in items]}


_REQUESTS: tuple[Callable[[random.Random], Request], ...] = (
    _ranking,
    _ranking,
    _added,
    lambda draw: ("PUT", "/admin/items", _table(draw)),
    lambda draw: ("PATCH", "/admin/items", _table(draw)),
    lambda draw: ("PATCH", "/admin/items", _table(draw)),
    lambda draw: ("POST", "/admin/items/hide", {"items": _items(draw)}),
    lambda draw: ("POST", "/admin/items/show", {"items": _items(draw)}),
    lambda draw: ("POST", "/admin/items/remove", {"items": _items(draw, 2)}),
    lambda draw: ("PUT", f"/admin/placements/{draw.choice(_NAMES)}", _placement(draw)),
    lambda draw: ("DELETE", f"/admin/placements/{draw.choice(_NAMES)}", None),
    lambda draw: ("GET", f"/admin/placements/{draw.choice(_NAMES)}", None),
    lambda _: ("GET", "/v1/items?search=sku-1", None),
    lambda draw: ("POST", "/v1/events", {"events": [{"session": f"s-{draw.randrange(50)}", "item": _items(draw)[0]}]}),
    lambda draw: ("DELETE", f"/v1/sessions/s-{draw.randrange(50)}", None),
    lambda _: ("POST", "/admin/compact", None),
)  # fmt: skip


def main() -> int:
    """Run the command; return the exit status: 0 if nothing failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--store", choices=["learn", "state"], default="learn")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        edits = edit(Path(name), options.seconds, options.store, options.seed)
    print(edits)
    return int(bool(edits.wrong))


if __name__ == "__main__":
    sys.exit(main())
