"""A promoted bundle is watched by the service's metrics, and goes back on an alarm."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mtaw_fast import refresh
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.versions import current_in, promote, version_of
from mtaw_fast.cli import main
from mtaw_fast.refreshing.config import RefreshConfig, Watch
from mtaw_fast.refreshing.service import alarm_of, parsed
from mtaw_fast.refreshing.state import RefreshState
from mtaw_fast.refreshing.steps import Steps
from tests.support.shop import now_after, write_config, write_day

pytestmark = pytest.mark.slow
WATCH = "service = '{url}'\nreport = 'reports'\n"


def page(
    requests: int = 1000, failed: int = 0, slow: int = 0, hits: int = 400, scored: int = 1000, version: str = "old"
) -> str:
    """A page of metrics of which some requests failed, and some took 0.5 s, the others 5 ms."""
    route = 'route="/v1/recommend"'
    return "\n".join([
        "# TYPE mtaw_requests_total counter", f'mtaw_requests_total{{{route},status="200"}} {requests - failed}',
        f'mtaw_requests_total{{{route},status="503"}} {failed}',
        f'mtaw_request_seconds_bucket{{{route},le="0.005"}} {requests - slow}',
        f'mtaw_request_seconds_bucket{{{route},le="0.5"}} {requests}',
        f'mtaw_request_seconds_bucket{{{route},le="+Inf"}} {requests}',
        f'mtaw_scored_clicks_total{{version="{version}"}} {scored}',
        f'mtaw_hit_clicks_total{{version="{version}"}} {hits}',
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("after", "alarm"),
    [
        (page(2000, version="new"), None),
        (page(2000, failed=30, version="new"), "errors: 3.0%"),
        (page(1040, failed=20, version="new"), None),  # too few to tell
        (page(2000, slow=200, version="new"), "latency: 95% of the rankings take up to 500 ms, 5 ms before"),
        (page(2000, hits=200, version="new"), "hits: 20.0% of the clicks are among the first 20, 40.0% before"),
        (page(2000, hits=20, scored=100, version="new"), None),
        (page(300, failed=30, version="new"), "errors: 10.0%"),  # counted from a restart on
    ],
)
def test_an_alarm_compares_with_before_once_there_is_enough(after: str, alarm: str | None) -> None:
    before = parsed(page())
    found = alarm_of(before, parsed(after).since(before), ("old", "new"), Watch())
    assert (found or "").startswith(alarm or "") if alarm else found is None


class Service:
    """A stand-in for `mtaw-fast serve`: its metrics, and how it answers a reload."""

    def __init__(self) -> None:
        self.pages, self.reloads, self.status, self.looks = [page()], 0, 200, 0
        service = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self, status: int, body: str) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(body.encode())

            def do_GET(self) -> None:
                service.looks += 1
                self.answer(200, service.pages[min(service.looks, len(service.pages)) - 1])

            def do_POST(self) -> None:
                service.reloads += 1
                assert self.headers["Authorization"] == "Bearer secret"
                self.answer(service.status, json.dumps({"error": "damaged"}))

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    monkeypatch.setenv("MTAW_ADMIN_TOKEN", "secret")
    service = Service()
    threading.Thread(target=service.server.serve_forever, daemon=True).start()
    yield service
    service.server.shutdown()
    service.server.server_close()


def config_of(shop: Path, service: Service, seconds: float = 0.3) -> Path:
    config = write_config(shop, more=WATCH.format(url=service.url))
    config.write_text(config.read_text().replace("[watch]\nseconds = 0", f"[watch]\nseconds = {seconds}\nevery = 0.05"))
    return config


def test_a_quiet_hour_keeps_the_bundle(shop: Path, service: Service) -> None:
    result = refresh(config_of(shop, service, 1.0), now=now_after(4))
    assert (result.outcome, service.reloads) == ("promoted", 1)
    assert service.looks > 2
    assert json.loads((shop / "reports" / "2026-03-06.json").read_text())["done"]["watch"]["alarm"] is None
    assert "2026-03-06.bundle" in (shop / "reports" / "2026-03-06.html").read_text()


def test_an_alarm_rolls_back_and_the_next_day_is_taken(shop: Path, service: Service) -> None:
    service.pages = [page(), page(1100), page(2000, failed=500)]
    config = config_of(shop, service, 2.0)
    result = refresh(config, now=now_after(4))
    assert (result.outcome, result.bundle, service.reloads) == ("rolled back", "2026-03-05.bundle", 2)
    assert refresh(config, now=now_after(4)).outcome == "nothing"
    write_day(shop, 5)
    service.pages = [page()]
    result = refresh(config, now=now_after(5))
    assert (result.outcome, result.bundle) == ("promoted", "2026-03-07.bundle")
    assert result.run is not None
    assert result.run["done"]["final"]["clicks"] > 1000  # of both days


def test_a_refused_reload_and_a_silent_service_roll_back(shop: Path, service: Service) -> None:
    service.status = 409
    result = refresh(config_of(shop, service), now=now_after(4))
    assert (result.outcome, result.bundle) == ("rolled back", "2026-03-05.bundle")
    service.status = 200
    write_day(shop, 5)
    service.looks, service.pages = 0, [page(), page(), "mtaw_requests_total{} many"]
    result = refresh(config_of(shop, service, 60.0), now=now_after(5))
    assert result.run is not None
    assert result.run["done"]["watch"]["alarm"].startswith("silence:")


def test_a_watch_that_is_killed_looks_once_more_and_leaves_others_promotions(
    shop: Path, service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    config = config_of(shop, service, 60.0)
    with monkeypatch.context() as patch:
        patch.setattr("mtaw_fast.refreshing.watch.alarm_of", killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(config, now=now_after(4))
    assert current_in(shop / "shop") == "2026-03-06.bundle"
    clock = time.time
    with monkeypatch.context() as patch:
        patch.setattr("time.time", lambda: clock() + 3600)  # an hour later the watch is over
        service.pages = [page(2000, failed=500)]
        result = refresh(config, now=now_after(4))
    assert (result.bundle, result.run and result.run["outcome"]) == ("2026-03-05.bundle", "rolled back")
    write_day(shop, 5)
    service.pages = [page()]
    with monkeypatch.context() as patch:
        patch.setattr("mtaw_fast.refreshing.watch.alarm_of", killed)
        with pytest.raises(KeyboardInterrupt):
            refresh(config, now=now_after(5))
    promote(shop / "shop", "2026-03-05.bundle")  # by hand
    service.pages = [page(2000, failed=500)]
    assert refresh(config, now=now_after(5)).bundle == "2026-03-05.bundle"


def test_a_watch_that_does_not_take_place_is_an_outcome(
    shop: Path, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A service that is down before the promotion, and one that is not told and serves another bundle."""
    config = config_of(shop, service)
    monkeypatch.setattr("mtaw_fast.refreshing.watch._SERVED_AFTER", 0.1)
    metrics = shop / "shop" / "refresh" / "metrics" / "refresh.prom"
    service.pages = ["mtaw_requests_total{} many"]
    monkeypatch.setattr("time.time", lambda: now_after(4))
    assert main(["refresh", f"{config}"]) == 1
    assert "2026-03-06.bundle is promoted, but it was not watched: " in (text := capsys.readouterr().err)
    assert f"{service.url}/metrics does not answer" in text
    assert 'mtaw_refresh_last_seconds{what="unwatched"} 0\n' not in metrics.read_text()
    write_day(shop, 5)
    monkeypatch.delenv("MTAW_ADMIN_TOKEN")
    monkeypatch.undo()
    monkeypatch.setattr("mtaw_fast.refreshing.watch._SERVED_AFTER", 0.1)
    monkeypatch.delenv("MTAW_ADMIN_TOKEN", raising=False)
    service.pages = [page()]
    result = refresh(config, now=now_after(5))
    assert (result.outcome, result.bundle) == ("not reloaded", "2026-03-07.bundle")
    assert result.run is not None
    missed = f"not asked: $MTAW_ADMIN_TOKEN is not set; nothing answers at {service.url}"
    assert result.run["done"]["reload"]["missed"] == missed
    assert 'mtaw_refresh_last_seconds{what="unserved"} 0\n' not in metrics.read_text()


def test_live_clicks_that_drift_start_a_training(shop: Path, service: Service) -> None:
    config = config_of(shop, service, 0.0)
    assert refresh(config, now=now_after(4)).outcome == "promoted"
    version = version_of(Bundle.load(shop / "shop" / "current").manifest)
    counts = [(0, 0), (2000, 800), (4000, 1600), (6000, 2400), (7000, 2401), (8000, 3000)]
    for scored, hits in counts:
        service.pages = [page(scored=scored, hits=hits, version=version)]
        result = refresh(config, now=now_after(4))
        assert (result.outcome == "promoted") == (scored == 8000)  # 30% of 2,000 clicks; 1,000 alone are too few
    assert result.run is not None
    assert result.run["done"]["plan"] == {
        "how": "train", "why": "P@20 of live clicks fell to 30.0%, usually 40.0%", "from": result.run["begin"],
    }  # fmt: skip
    assert (result.run["incumbent"], result.run["against"]) == ("2026-03-06.bundle", "2026-03-05.bundle")
    assert result.run["done"]["judge"]["samples"] > 100
    assert result.bundle == "2026-03-06-2.bundle"
    # Had the training lost, the served bundle, which knows the period, would have stayed.
    state = RefreshState(shop / "shop")
    lost = result.run["done"]["judge"] | {"worse": ["P@20 -4.00, at most -2.00"]}
    state.run = {**result.run, "done": {**result.run["done"], "judge": lost}}
    assert Steps(RefreshConfig.of(config), state, print)._final() is None
