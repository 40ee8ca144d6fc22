"""The dashboards' queries and the alert rules in a real Prometheus."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.service.observability.test_metrics_dashboard import QUERIES
from tests.support.service.running import eventually, good, running

RULES = Path(__file__).resolve().parents[3] / "deploy/prometheus/alerts.yml"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")

pytestmark = pytest.mark.skipif(
    PROMETHEUS is None or PROMTOOL is None, reason="prometheus is not installed (Debian: apt-get install prometheus)"
)


class Server:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **query: str) -> Any:
        """Return the data of an answer. Raises URLError while it starts."""
        try:
            with urllib.request.urlopen(f"{self._url}/{path}?{urllib.parse.urlencode(query)}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code == 503:  # it starts
                raise
            raise AssertionError(error.read().decode()) from None


@contextlib.contextmanager
def prometheus(target: int, folder: Path) -> Iterator[Server]:
    """Run a Prometheus that scrapes a service every second."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    shutil.copy(RULES, folder / "alerts.yml")
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [alerts.yml]\nscrape_configs:\n"
        f"  - {{job_name: mtaw_fast, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}\n"
    )
    command = [
        str(PROMETHEUS), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            yield Server(port)
        finally:
            process.terminate()


def test_every_panel_has_an_answer_and_every_rule_is_evaluated(memory_bundle: Path, tmp_path: Path) -> None:
    flags = ("--sessions", "memory", "--feedback", f"{tmp_path}/kept/", "--learn", str(tmp_path / "learned"))
    with running(memory_bundle, *flags) as service, prometheus(service.port, tmp_path) as server:

        def use() -> None:
            for number in range(4):
                body = {"items": [f"sku-{(7 * number + 11) % 60}"], "k": 10}
                answer = good(service.ask("POST", f"/v1/sessions/{time.monotonic_ns() % 5}/click", body))
                report = {"recommendation": answer["recommendation"], "shown": answer["items"]}
                bought = [{"item": answer["items"][0], "value": 9.5}]
                good(service.ask("POST", "/v1/feedback", {**report, "clicked": answer["items"][:1], "bought": bought}))
            service.ask("POST", "/v1/recommend", {"session": ["nobody"]})

        def scraped() -> bool:
            use()
            with contextlib.suppress(urllib.error.URLError):
                return len(server.get("query", query="mtaw_scored_clicks_total[1m]")["result"][:1]) == 1
            return False

        eventually(scraped, 60)
        until = time.monotonic() + 4
        while time.monotonic() < until:
            use()
            time.sleep(0.3)
        empty = []
        for title, query in QUERIES:
            result = server.get("query", query=query.replace("$__rate_interval", "30s"))["result"]
            values = [float(sample["value"][1]) for sample in result]
            assert not any(value < 0 for value in values), title
            if not any(value >= 0 for value in values):  # NaN: none of a kind
                empty.append(title)
        # No drift yet, and nothing refused or reloaded.
        assert set(empty) <= {
            "Errors", "Refused under load", "Reloads", "Drift of clicks", "Stored sessions", "Since the last refresh",
        }  # fmt: skip
        rules = [rule for group in server.get("rules")["groups"] for rule in group["rules"]]
        assert len(rules) == RULES.read_text().count("- alert:")
        assert {rule["health"] for rule in rules} == {"ok"}
        assert {rule["name"] for rule in rules if rule["state"] == "firing"} <= {"Fallbacks"}


def test_the_rules_ring_when_they_should(tmp_path: Path) -> None:
    """Prometheus' own tool runs the rules over made-up series."""
    shutil.copy(RULES, tmp_path / "alerts.yml")
    hits = "0+30x2016 60480+10x480"  # a point each 5 minutes: a week at 30%, then 10%
    refreshes = {  # by what ended 10 minutes after the start
        "refusal": ("RefreshStopped", "A refresh had a refusal: 'mtaw-fast refresh CONFIG --dry-run' says what."),
        "unwatched": (
            "RefreshNotWatched", "A new bundle was promoted, but not watched: the service did not answer at /metrics."
        ),
        "unserved": (
            "RefreshNotServed", "A new bundle was promoted, but the service serves another: see MTAW_ADMIN_TOKEN."
        ),
    }  # fmt: skip
    cases = {
        "rule_files": ["alerts.yml"],
        "evaluation_interval": "5m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [
                    {"series": 'mtaw_drift{feature="popularity"}', "values": "0.1x30 0.7x60"},
                    {"series": 'mtaw_drift{feature="length"}', "values": "0.1x90"},
                    {"series": 'mtaw_drift_threshold{feature="popularity"}', "values": "0.6x90"},
                    {"series": 'mtaw_drift_threshold{feature="length"}', "values": "0.25x90"},
                    {"series": 'mtaw_workers{version="a"}', "values": "2x90"},
                    {"series": 'mtaw_bundle_trained_seconds{version="a"}', "values": "0x90"},
                    {"series": "mtaw_learning_lag_seconds", "values": "0x50 90x40"},
                    {"series": "mtaw_learning_stopped", "values": "0x90"},
                ],
                "alert_rule_test": [
                    {"eval_time": "25m", "alertname": "ClicksDrift", "exp_alerts": []},
                    {
                        "eval_time": "50m", "alertname": "ClicksDrift",
                        "exp_alerts": [{
                            "exp_labels": {"feature": "popularity"},
                            "exp_annotations": {
                                "summary": "Clicks differ from the training by popularity (700m): train again."
                            },
                        }],
                    },
                    {"eval_time": "50m", "alertname": "ServiceDown", "exp_alerts": []},
                    {"eval_time": "80m", "alertname": "BundleOld", "exp_alerts": []},
                    {"eval_time": "45m", "alertname": "LearningLate", "exp_alerts": []},
                    {
                        "eval_time": "60m", "alertname": "LearningLate",
                        "exp_alerts": [{
                            "exp_labels": {}, "exp_annotations": {"summary": "Learning is late or stopped."}
                        }],
                    },
                ],
            },
            {
                "interval": "5m",
                "input_series": [
                    {"series": 'mtaw_scored_clicks_total{version="a"}', "values": "0+100x2496"},
                    {"series": 'mtaw_hit_clicks_total{version="a"}', "values": hits},
                    {"series": 'mtaw_last_click_seconds{version="a"}', "values": "1x2496"},
                ],
                "alert_rule_test": [
                    {"eval_time": "24h", "alertname": "ClicksOld", "exp_alerts": []},
                    {
                        "eval_time": "26h", "alertname": "ClicksOld",
                        "exp_alerts": [{
                            "exp_labels": {},
                            "exp_annotations": {
                                "summary": "The last learned click is 1d 1h 59m 59s old: rankings lag behind."
                            },
                        }],
                    },
                    {"eval_time": "160h", "alertname": "HitsFell", "exp_alerts": []},
                    {
                        "eval_time": "190h", "alertname": "HitsFell",
                        "exp_alerts": [{
                            "exp_labels": {},
                            "exp_annotations": {
                                "summary": "P@20 of live clicks is 10%, a fifth below a week ago."
                            },
                        }],
                    },
                ],
            },
            *(
                {
                    "interval": "1m",
                    "input_series": [
                        {"series": f'mtaw_refresh_last_seconds{{what="{it}"}}', "values": "0x9 600x1600" if it == what
                         else "0x1600"} for it in [*refreshes, "roll_back", "failure"]
                    ],
                    "alert_rule_test": [
                        {
                            "eval_time": time, "alertname": name,
                            "exp_alerts": [{
                                "exp_labels": {"what": what} if name == "RefreshStopped" else {},
                                "exp_annotations": {"summary": summary},
                            }] if name == alert and time == "15m" else [],
                        }
                        for name, _ in refreshes.values() for time in ("5m", "15m", "25h")
                    ],
                }
                for what, (alert, summary) in refreshes.items()
            ),
        ],
    }  # fmt: skip
    (tmp_path / "cases.yml").write_text(json.dumps(cases))
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "cases.yml"]):
        completed = subprocess.run([str(PROMTOOL), *command], cwd=tmp_path, capture_output=True, text=True)
        assert completed.returncode == 0, completed.stdout + completed.stderr
