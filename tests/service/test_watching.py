"""What a shop watches: scored clicks, new items, coverage and drift, counted from rankings as they are served."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mtaw_fast.experiment.drift import FEWEST_CLICKS
from mtaw_fast.service.bundles import Bundles, Reloader
from mtaw_fast.service.observability.counters import COVERAGE_SLOTS
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import Snapshot, load_snapshot
from mtaw_fast.service.watching import Watch, covered_items
from tests.support.export.bundles import END, save_kind
from tests.support.random_bundle import edit_manifest
from tests.support.service.running import eventually, good, running


class Watched:
    """A worker that watches one bundle, without a service. row: which of two workers."""

    def __init__(self, snapshot: Snapshot, memory: Any = None, row: int = 0) -> None:
        self.memory = memory or Metrics.make(2)
        self.metrics = Metrics.open(self.memory, 2, row)
        self.metrics.serve(snapshot.version)
        self.snapshot = snapshot
        self.watch = Watch(self.metrics, Bundles([SimpleNamespace(snapshot=snapshot)]))  # type: ignore[list-item]

    def ranked(self, session: str | None, clicks: list[str], items: list[str]) -> None:
        self.watch.ranked(self.snapshot, session, clicks, items)

    def count(self, kind: str) -> int:
        self.watch.tick()
        names = ("answers", "fallback", "shown", "clicked", "carted", "bought", "value", "ranked_items", "new_items",
                 "scored", "hits")  # fmt: skip
        return self.metrics.counters.by_version()[self.snapshot.version][names.index(kind)]

    def series(self, name: str) -> float:
        """Return the value of the one series of a name that `/metrics` adds."""
        (line,) = [line for line in self.watch.lines() if line.startswith(f"{name}{{")]
        return float(line.rpartition(" ")[2])


@pytest.fixture(scope="module")
def snapshot(memory_bundle: Path) -> Snapshot:
    return load_snapshot(memory_bundle, "auto", "auto")


@pytest.fixture
def one(snapshot: Snapshot) -> Watched:
    return Watched(snapshot)


def test_a_click_scores_the_list_before_it(one: Watched) -> None:
    served = [f"sku-{i}" for i in range(30)]
    one.ranked("s", ["sku-1"], served)
    assert one.count("scored") == 0
    one.ranked("s", ["sku-1", "sku-5"], served)  # among the first 20
    one.ranked("s", ["sku-1", "sku-5", "sku-25"], served)  # below
    one.ranked("s", ["sku-1", "sku-5", "sku-25"], served)  # asked for again: no click
    one.ranked("s", ["sku-1", "sku-5", "sku-25", "sku-7", "sku-25"], served)  # two clicks: the first one scores
    one.ranked(None, ["sku-1", "sku-5"], served)
    one.ranked("other", ["sku-1"], served)
    assert (one.count("scored"), one.count("hits")) == (3, 2)
    # A session that is forgotten cannot be read back.
    kept = repr((one.watch._served, one.watch._lists, one.watch._clicks))
    assert one.watch._served
    assert not any(name in kept for name in ("other", "sku-1", "sku-2"))


def test_an_event_scores_once_whichever_comes_first(one: Watched) -> None:
    served = [f"sku-{i}" for i in range(20)]
    one.ranked("s", ["sku-1"], served)
    one.watch.clicked("s", "sku-3")
    one.ranked("s", ["sku-1", "sku-3"], served)  # the same click
    one.watch.clicked("s", "sku-3")  # a late event of the same click
    one.watch.clicked("nobody", "sku-3")
    assert (one.count("scored"), one.count("hits")) == (1, 1)
    one.watch.clicked("s", "sku-50")
    one.watch.clicked("s", "sku-2")  # no list was served in between
    assert (one.count("scored"), one.count("hits")) == (2, 1)


def test_coverage_is_of_all_workers_and_of_the_last_day(snapshot: Snapshot, monkeypatch: pytest.MonkeyPatch) -> None:
    hour = 480_000
    monkeypatch.setattr("mtaw_fast.service.watching._hour", lambda: hour % 65_535 + 1)
    first = Watched(snapshot)
    second = Watched(snapshot, first.memory, 1)
    first.ranked(None, ["sku-1"], ["sku-1", "sku-2"])
    second.ranked(None, ["sku-1"], ["sku-2", "sku-3"])
    first.watch.tick()
    second.watch.tick()
    assert first.series("mtaw_covered_items") == second.series("mtaw_covered_items") == 3
    assert first.series("mtaw_catalog_items") == 60
    assert first.count("ranked_items") == 4
    hour += 23
    first.ranked(None, [], ["sku-9"])
    first.watch.tick()
    assert second.series("mtaw_covered_items") == 4
    hour += 1
    assert second.series("mtaw_covered_items") == 1
    reloaded = Snapshot(snapshot.recommender, "00000000000000ff", None, "other")
    later = Watched(reloaded, first.memory)
    assert later.series("mtaw_covered_items") == 0


def test_bundles_of_one_version_share_their_coverage(snapshot: Snapshot) -> None:
    arms = [replace(snapshot, name=name) for name in ("first", "second")]
    metrics = Metrics.open(Metrics.make(1), 1, 0)
    metrics.serve(snapshot.version)
    watch = Watch(metrics, Bundles([SimpleNamespace(snapshot=arm) for arm in arms], [1, 1]))
    for arm, item in zip(arms, ("sku-1", "sku-2"), strict=True):
        watch.ranked(arm, None, [], [item])
        watch.tick()
    watch.ranked(replace(snapshot), None, [], ["sku-3"])  # of a bundle that was replaced, with other internal ids
    watch.tick()
    assert f'mtaw_covered_items{{version="{snapshot.version}"}} 2' in list(watch.lines())


def test_large_catalogs_are_counted_about() -> None:
    rng = np.random.default_rng(0)
    hours = np.zeros(COVERAGE_SLOTS, np.uint16)
    from mtaw_fast.service.watching import _hour, _slots

    shown = rng.choice(5_000_000, 2_000_000, replace=False)
    hours[_slots(shown)] = _hour()
    assert covered_items(hours, range(5_000_000)) == pytest.approx(2_000_000, rel=0.01)


def test_drift_needs_clicks_and_rings_for_another_assortment(one: Watched, text_bundle: Path) -> None:
    rng = np.random.default_rng(1)
    sessions = one.snapshot.recommender.bundle.model.sessions
    ids = one.snapshot.recommender.ids
    one.watch.measure_drift(0.0)

    def live(count: int, change: Any) -> None:
        for _ in range(count):
            clicks = sessions[int(rng.integers(len(sessions)))].tolist()
            for place in range(2, len(clicks) + 1):
                one.ranked(None, change(ids.external(np.array(clicks[:place], np.int32))), [])

    def drift(feature: str) -> float:
        text = one.metrics.text()
        lines = [line for line in text.splitlines() if line.startswith(f'mtaw_drift{{feature="{feature}"}}')]
        return float(lines[0].rpartition(" ")[2]) if lines else 0.0

    live(5, list)
    one.watch.tick()
    one.watch.measure_drift(60.0)
    assert drift("popularity") == 0
    live(FEWEST_CLICKS // 3, list)
    one.watch.tick()
    one.watch.measure_drift(120.0)
    assert 0 < drift("popularity") < 0.1
    assert 0 < drift("length") < 0.1
    live(FEWEST_CLICKS, lambda clicks: [*clicks[:-1], "sku-new"])
    one.watch.tick()
    one.watch.measure_drift(7_200.0)
    assert drift("popularity") > 1
    assert drift("length") < 0.1
    # After a compaction that moved items, the version is the same and the items have other places.
    one.watch._bundles.first.snapshot = again = replace(one.snapshot)
    assert one.watch._reference()[0] is again
    # A bundle without a session memory has no drift to report.
    one.watch._bundles.first.snapshot = load_snapshot(text_bundle, "auto", "auto")
    one.watch.measure_drift(7_260.0)
    assert "mtaw_drift{" not in one.metrics.text()


def test_the_last_click_is_reported(text_bundle: Path, tmp_path: Path) -> None:
    timed = save_kind("timed", tmp_path / "timed", 60).folder
    assert Watched(load_snapshot(timed, "auto", "auto")).series("mtaw_last_click_seconds") == END / 1000
    assert Watched(load_snapshot(text_bundle, "auto", "auto")).series("mtaw_last_click_seconds") == 0


@pytest.mark.parametrize(("row", "expected"), [(0, ["old_clicks"]), (1, [])])
def test_the_first_worker_warns_of_old_clicks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: int, expected: list[str]
) -> None:
    logged: list[str] = []
    monkeypatch.setattr("mtaw_fast.service.bundles.log_event", lambda event, **_: logged.append(event))
    timed = save_kind("timed", tmp_path / "timed", 60).folder
    Reloader(Settings(timed), load_snapshot(timed, "auto", "auto"), None, Metrics.open(Metrics.make(2), 2, row))
    assert logged == expected


def test_a_bundle_without_memory_or_date_is_watched(text_bundle: Path, tmp_path: Path) -> None:
    watched = Watched(load_snapshot(text_bundle, "auto", "auto"))
    watched.ranked("s", ["sku-11", "sku-12"], ["sku-13"])
    watched.watch.tick()
    assert (watched.series("mtaw_bundle_info"), watched.series("mtaw_bundle_trained_seconds") > 1.7e9) == (1, True)
    undated = shutil.copytree(text_bundle, tmp_path / "undated")
    edit_manifest(undated, lambda manifest: manifest.update(created="long ago"))
    assert load_snapshot(undated, "auto", "auto").trained == 0


def test_a_service_reports_what_a_shop_watches(memory_bundle: Path, tmp_path: Path) -> None:
    flags = ("--sessions", "memory", "--learn", str(tmp_path / "learned"), "--drift-threshold", "0.4")
    with running(memory_bundle, *flags) as service:
        for item in ("sku-1", "sku-2", "sku-3"):
            answer = good(service.ask("POST", "/v1/sessions/s-1/click", {"items": [item], "k": 20}))
        good(service.ask("POST", "/v1/events", {"events": [{"session": "s-1", "item": answer["items"][4]}]}))
        good(service.ask("POST", "/v1/events", {"events": [{"session": "s-9", "item": "sku-fresh"}]}))
        version = answer["version"]
        eventually(lambda: service.metric(f'mtaw_scored_clicks_total{{version="{version}"}}') == 3)
        assert 1 <= service.metric(f'mtaw_hit_clicks_total{{version="{version}"}}') <= 3
        assert service.metric(f'mtaw_bundle_info{{version="{version}",bundle="{memory_bundle.name}"}}') == 1
        assert 20 <= service.metric(f'mtaw_covered_items{{version="{version}"}}') <= 60
        assert service.metric('mtaw_drift_threshold{feature="popularity"}') >= 0.4
        assert service.metric(f'mtaw_ranked_items_total{{version="{version}"}}') == 60
        service.assert_no_error()
