"""Several bundles at once: who answers whom is the same everywhere, and every answer says which one made it."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle.versions import version_of
from mtaw_fast.cli import main
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.session_point import point_of
from mtaw_fast.errors import DataError, MtawError, UsageError
from mtaw_fast.items import ItemFrame, ItemTable
from mtaw_fast.items.changes import Mode
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.recommender import Recommender
from mtaw_fast.service.arms import broken_placements, catch_up, set_items, set_placement
from mtaw_fast.service.bundles import Bundles, Reloader
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.settings import Settings
from mtaw_fast.service.snapshot import load_snapshot
from tests.service.test_bundles import damage
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.service.running import WITH_TOKEN, Running, eventually, good, refused, running, same

NAMES = [f"visitor-{number}" for number in range(60)]


def save(folder: Path, seed: int, **more: Any) -> str:
    return version_of(save_parts(folder, **bundle_parts(seed=seed, **more), overwrite=True).manifest)


def both(folder: Path, *flags: str, workers: int = 2) -> Any:
    """Run a service of two bundles: `old` gets three quarters of the sessions, `new` the rest."""
    # What `running` takes for the bundle is the first argument.
    first = Path(f"--bundle={folder / 'old'}=75")
    return running(first, "--bundle", f"{folder / 'new'}=25", *flags, workers=workers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("both")
    save(folder / "old", 0)
    save(folder / "new", 1)
    return folder


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with both(folder, "--feedback", str(folder / "feedback.jsonl"), "--reload-interval", "0.05") as service:
        yield service


def arm(service: Running, name: str | None) -> str:
    body = {"session": ["sku-1"], "k": 3} | ({} if name is None else {"session_id": name})
    return good(service.ask("POST", "/v1/recommend", body))["bundle"]


def test_sessions_are_shared_by_weight() -> None:
    reloaders: list[Any] = [object(), object(), object()]
    bundles = Bundles(reloaders, [60, 30, 10])
    counts = Counter(reloaders.index(bundles.of(f"s{number}")) for number in range(30_000))
    assert [counts[place] / 30_000 for place in range(3)] == pytest.approx([0.6, 0.3, 0.1], abs=0.01)
    assert bundles.of(None) is reloaders[0]
    for weights, place in (([0, 5], 1), ([5, 0], 0)):
        pair = Bundles(reloaders[:2], weights)
        assert {reloaders.index(pair.of(name)) for name in NAMES} == {place}
    before, after = (Bundles(reloaders[:2], weights) for weights in ([90, 10], [60, 40]))
    for number in range(3000):  # a larger weight moves sessions only to its bundle
        if before.of(str(number)) is reloaders[1]:
            assert after.of(str(number)) is reloaders[1]


def test_the_place_of_a_session_is_fixed() -> None:
    """Other values would move running sessions to another bundle: these are those of the first release."""
    assert [round(point_of(name), 12) for name in ("", "a", "visitor-1", "ä🙂")] == PLACES
    assert 0 <= point_of("\ud800") < 1  # half a surrogate pair, which JSON can hold
    assert np.mean([point_of(str(number)) for number in range(5000)]) == pytest.approx(0.5, abs=0.02)


PLACES = [0.938995606318, 0.846635920762, 0.916496219339, 0.691199452528]


def test_every_worker_and_route_gives_a_session_the_same_bundle(service: Running, folder: Path) -> None:
    recommenders = {name: Recommender.load(folder / name) for name in ("old", "new")}
    versions = {name: version_of(rec.bundle.manifest) for name, rec in recommenders.items()}
    arms = {name: "new" if point_of(name) >= 0.75 else "old" for name in NAMES}
    assert 5 < list(arms.values()).count("new") < 30
    for name, expected in arms.items():
        for _ in range(2):
            body = {"session": ["sku-1", "sku-2"], "k": 9, "session_id": name}
            answer = good(service.ask("POST", "/v1/recommend", body))
            assert (answer["bundle"], answer["version"]) == (expected, versions[expected])
            assert answer["recommendation"].startswith(versions[expected])
            same(answer, recommenders[expected].recommend(["sku-1", "sku-2"], 9))
    for name in NAMES[:12]:
        batch = good(service.ask("POST", "/v1/recommend/batch", {"sessions": [["sku-1"]], "session_id": name}))
        similar = good(service.ask("GET", f"/v1/similar?item=sku-1&session_id={name}"))
        assert batch["bundle"] == similar["bundle"] == arms[name]
        same(similar, recommenders[arms[name]].similar_items("sku-1"))
    for _ in range(6):
        assert arm(service, None) == "old"  # a session without an id
    expected = good(service.ask("GET", "/v1/bundle"))
    assert [(bundle["name"], bundle["version"], bundle["share"]) for bundle in expected["bundles"]] == [
        ("old", versions["old"], 0.75), ("new", versions["new"], 0.25),
    ]  # fmt: skip
    assert service.metric(f'mtaw_workers{{version="{versions["new"]}"}}') == 2


def test_metrics_and_feedback_are_by_bundle(service: Running) -> None:
    first, second = (next(name for name in NAMES if arm(service, name) == which) for which in ("old", "new"))
    for name, clicked in ((first, 1), (second, 3)):
        answer = good(service.ask("POST", "/v1/recommend", {"session": ["sku-5"], "k": 10, "session_id": name}))
        expected = {"recommendation": answer["recommendation"], "shown": answer["items"],
                "clicked": answer["items"][:clicked]}  # fmt: skip
        answers = service.metric(f'mtaw_bundle_answers_total{{version="{answer["version"]}"}}')
        assert arm(service, name) == answer["bundle"]
        assert service.metric(f'mtaw_bundle_answers_total{{version="{answer["version"]}"}}') == answers + 1
        assert good(service.ask("POST", "/v1/feedback", expected))["of"] == answer["version"]
        reported = f'mtaw_feedback_items_total{{version="{answer["version"]}",what="%s"}}'
        assert [service.metric(reported % what) for what in ("shown", "clicked")] == [10, clicked]


def test_restarts_and_reloads_keep_each_sessions_bundle(tmp_path: Path) -> None:
    old, new = save(tmp_path / "old", 0), save(tmp_path / "new", 1)
    arms = {name: "new" if point_of(name) >= 0.75 else "old" for name in NAMES}
    with both(tmp_path, "--reload-interval", "0.05", "--sessions", "memory", workers=1) as service:
        assert {name: arm(service, name) for name in NAMES} == arms
        first = {name: good(service.ask("POST", f"/v1/sessions/{name}/click", {"items": ["sku-3"]})) for name in NAMES}
        assert {name: answer["bundle"] for name, answer in first.items()} == arms
        newer = save(tmp_path / "new", 2)
        eventually(lambda: service.metric(f'mtaw_workers{{version="{newer}"}}') == 1)
        assert service.metric(f'mtaw_workers{{version="{old}"}}') == 1
        assert service.metric(f'mtaw_workers{{version="{new}"}}') == 0
        later = {name: good(service.ask("POST", f"/v1/sessions/{name}/click", {"items": ["sku-4"]})) for name in NAMES}
        for name, answer in later.items():
            assert (answer["bundle"], answer["clicks"]) == (arms[name], 2)
            assert answer["version"] == (newer if arms[name] == "new" else old)
        damage(tmp_path / "old")
        answer = service.ask("POST", "/admin/reload", headers=WITH_TOKEN)
        refused(answer, 409, "bundle_refused")
        assert str(tmp_path / "old") in answer.json["error"]["message"]
        assert {name: arm(service, name) for name in NAMES} == arms
        save(tmp_path / "old", 3)
        assert service.ask("POST", "/admin/reload", headers=WITH_TOKEN).status == 200
        os.kill(min(service.worker_pids()), 9)
        eventually(lambda: service.metric("mtaw_worker_starts_total") == 2 if service.worker_pids() else False)
        assert {name: arm(service, name) for name in NAMES} == arms


def test_invalid_settings_of_several_bundles_are_refused(tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for pairs, expected in (
        ([(a, 1.0), (tmp_path / "x" / "a", 1.0)], "two folders are called 'a'"),
        ([(a, 1.0), (b, -1.0)], "must be 0 or above"),
        ([(a, 1.0), (b, float("nan"))], "must be 0 or above"),
        ([(a, 0.0), (b, 0.0)], "weights are all 0"),
        ([(tmp_path / str(number), 1.0) for number in range(5)], "the most is 4"),
    ):
        with pytest.raises(UsageError, match=expected):
            Settings(a, side_by_side=tuple(pairs))
    learn = LearningSettings(tmp_path / "learned")
    with pytest.raises(UsageError, match="names differ"):
        Settings(a, side_by_side=((a, 1.0), (tmp_path / "..", 1.0)), learn=learn)
    assert Settings(a, learn=learn).learn_at(0) == learn
    arms = Settings(a, side_by_side=((a, 1.0), (b, 1.0)), learn=learn)
    assert [arms.learn_at(place) for place in range(2)] == learn.of_arms([a, b])


def test_the_command_line_takes_one_bundle_or_several(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    for arguments, expected in (
        ([], "give either one BUNDLE, or several"),
        ([str(a), "--bundle", f"{a}=1"], "give either one BUNDLE, or several"),
        (["--bundle", f"{a}"], "write FOLDER=WEIGHT"),
        (["--bundle", f"{a}=much"], "write FOLDER=WEIGHT"),
        (["--bundle", f"{a}=90", "--bundle", f"{b}=10", "--sessions", "memory", "--workers", "2"], "--workers 1"),
    ):
        try:
            status = main(["serve", *arguments])
        except SystemExit as end:  # argparse's own
            status = end.code if isinstance(end.code, int) else 1
        assert status == 2
        assert expected in capsys.readouterr().err


def test_a_refused_bundle_does_not_go_on_learning(tmp_path: Path) -> None:
    parts = bundle_parts() | memory_parts()
    arms = tuple((tmp_path / name, 1.0) for name in ("old", "new"))
    for folder, _ in arms:
        save_parts(folder, **parts)
    first = arms[0][0]
    settings = Settings(first, side_by_side=arms, learn=LearningSettings(tmp_path / "learned", compact=False))
    metrics = Metrics.open(Metrics.make(1), 1, 0, settings.arms)
    served = load_snapshot(first, "auto", "auto", settings.learn_at(0), "old")
    reloader = Reloader(settings, served, None, metrics)
    save_parts(first, **parts | {"ids": ItemIds.from_list(list(range(60)))}, overwrite=True)
    before = {thread for thread in threading.enumerate() if thread.name.startswith("mtaw-")}
    with pytest.raises(MtawError, match="the new bundle's ids are int"):
        asyncio.run(reloader.reload())
    after = {thread for thread in threading.enumerate() if thread.name.startswith("mtaw-")}
    served.recommender.close()
    assert before
    assert after == before


def test_what_does_not_fit_every_bundle_changes_none(tmp_path: Path) -> None:
    """A change of the item table that fits the first bundle alone, and rules for it."""
    for name, price in (("old", 5.0), ("new", "cheap")):
        frame = ItemFrame.of([{"id": "sku-1", "price": price}])
        parts = bundle_parts() | {"items": ItemTable(60).replaced(frame, np.array([1]), 60)}
        save_parts(tmp_path / name, **parts)
    arms = [load_snapshot(tmp_path / name, "auto", "auto", None, name, tmp_path / "state") for name in ("old", "new")]
    old, new = (arm.recommender for arm in arms)
    before = old.log_position
    modes: tuple[Mode, ...] = ("patch", "replace")
    for mode in modes:
        with pytest.raises(DataError, match="bundle new: column 'price' is category in the item table, not number"):
            set_items(arms, [{"id": "sku-1", "price": 9.0}], mode)
    sale = {"sets": [{"rules": {"filter": "price < 6"}}]}
    with pytest.raises(UsageError, match="bundle new: placement 'sale', set 'set-1': filter: column 'price' is a cat"):
        set_placement(arms, "sale", sale)
    assert old.log_position == before
    assert set_items(arms, [{"id": "sku-1", "stock": 3}], "patch").rows == 1
    set_placement(arms, "cart", {"sets": [{"rules": {"filter": "stock > 2"}}]})
    catch_up(arms)
    for arm in arms:
        assert arm.recommender.recommend(["sku-2"], 5, placement="cart").items == ["sku-1"]
    assert broken_placements(arms) == {}
    old.set_placement("sale", sale)
    new.catch_up()
    assert broken_placements(arms)["sale"].startswith("bundle new: placement 'sale', set 'set-1': filter: column 'pri")
    for arm in arms:
        arm.recommender.close()
