"""Two bundles that learn from one log: every event, item and request reaches both, in every worker."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle.versions import version_of
from mtaw_fast.cli import main
from mtaw_fast.data.session_point import point_of
from mtaw_fast.errors import DataError, LearnError
from mtaw_fast.online.compaction.current import learned_position
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.service.arms import add_items, remove_items, request_compactions
from mtaw_fast.service.snapshot import load_snapshot
from tests.online.test_forgetting import holds_session
from tests.service.routes.test_events import PLENTY, learned, same, teach, visitors
from tests.service.test_bundles_side_by_side import NAMES, both
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.service.running import WITH_TOKEN, Running, TwoWorkers, ask_on, eventually, good, refused

ARMS = ("old", "new")
OF = {which: next(name for name in NAMES if (point_of(name) >= 0.75) == (which == "new")) for which in ARMS}


def save(folder: Path, seed: int) -> str:
    """Put a bundle that can learn into a folder; its version."""
    parts = {**bundle_parts(seed=seed), **memory_parts(seed=seed)}
    return version_of(save_parts(folder, **parts, overwrite=True).manifest)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("arms")
    for seed, name in enumerate(ARMS):
        save(folder / name, seed)
    return folder


def serving(folder: Path, workers: int = 2) -> Any:
    flags = ("--learn", str(folder / "learned"), "--feedback", str(folder / "feedback.jsonl"), *PLENTY)
    return both(folder, *flags, "--reload-interval", "0.1", workers=workers)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Running]:
    with serving(folder) as service:
        yield service


@pytest.fixture(scope="module")
def workers(service: Running) -> Iterator[list[Any]]:
    two = TwoWorkers(service)
    yield list(two.connections.values())
    two.close()


def ranked(connection: Any, which: str, *clicks: str, k: int = 60, **more: Any) -> Any:
    body = {"session": list(clicks), "k": k, "session_id": OF[which], **more}
    answer = good(ask_on(connection, "POST", "/v1/recommend", body))
    assert answer["bundle"] == which
    return answer


def everywhere(workers: list[Any], position: str) -> None:
    """Wait until both arms know a position in both workers."""
    eventually(
        lambda: all(ranked(link, which, "sku-1")["log_position"] >= position for link in workers for which in ARMS)
    )


def lists(workers: list[Any]) -> list[Any]:
    """Return the rankings of both arms by the first worker; those of the second one must be the same."""
    by_worker = [[ranked(link, which, "sku-1", "sku-7", k=20, explore=0) for which in ARMS] for link in workers]
    rankings = [[(answer["items"], answer["scores"]) for answer in answers] for answers in by_worker]
    assert rankings[0] == rankings[1]
    return rankings[0]


def test_an_event_reaches_both_arms_in_every_worker(service: Running, workers: list[Any]) -> None:
    before = lists(workers)
    everywhere(workers, teach(service, *visitors("first-", 30, ("sku-1", "brand new", "sku-2"))))
    after = lists(workers)
    assert all(old[1] != new[1] for old, new in zip(before, after, strict=True))
    for connection in workers:
        for which in ARMS:
            eventually(lambda c=connection, w=which: not ranked(c, w, "brand new")["unknown"])
    for which in ARMS:  # the gauges are by arm, the one log has its events once
        eventually(lambda w=which: service.metric(f'mtaw_learned_clicks{{bundle="{w}"}}') >= 90, 5)
        assert service.metric(f'mtaw_new_items{{bundle="{which}"}}') == 1
    assert service.metric("mtaw_events_total") == 90
    text = service.ask("GET", "/metrics").body.decode()
    assert 'mtaw_learning_stopped{bundle="new"} 0' in text
    assert "mtaw_learning_stopped 0" not in text


def test_items_are_added_and_removed_in_both_arms(service: Running, workers: list[Any]) -> None:
    add, remove = "/admin/items/add", "/admin/items/remove"
    body = {"items": ["by hand", "sku-extra"], "neighbors": [["sku-1", "brand new"], ["sku-3"]]}
    everywhere(workers, good(service.ask("POST", add, body, WITH_TOKEN))["log_position"])
    for connection in workers:
        for which in ARMS:
            assert "by hand" in eventually(lambda c=connection, w=which: ranked(c, w, "sku-1")["items"])
    for bad_body, reason in (
        (body, "'by hand' is already in the catalog of every bundle"),
        ({"items": ["x", "x"], "neighbors": [["sku-1"]] * 2}, "listed twice"),
    ):
        assert reason in refused(service.ask("POST", add, bad_body, WITH_TOKEN), 409, "items_refused")
    answer = good(service.ask("POST", remove, {"items": ["sku-extra"]}, WITH_TOKEN))
    everywhere(workers, answer["log_position"])
    hidden = {"items": ["sku-40"]}
    everywhere(workers, good(service.ask("POST", "/admin/items/hide", hidden, WITH_TOKEN))["log_position"])
    for connection in workers:
        for which in ARMS:
            eventually(lambda c=connection, w=which: {"sku-extra", "sku-40"}.isdisjoint(ranked(c, w, "sku-3")["items"]))


def test_a_session_is_forgotten_in_both_arms_and_all_their_files(
    service: Running, workers: list[Any], folder: Path
) -> None:
    before = lists(workers)
    everywhere(workers, teach(service, *({"session": "regrets", "item": f"sku-{i}"} for i in (1, 7, 20, 41, 7))))
    assert not all(same([old], [new]) for old, new in zip(before, lists(workers), strict=True))
    position = good(service.ask("DELETE", "/v1/sessions/regrets"))["log_position"]
    everywhere(workers, position)
    assert all(same([old], [new]) for old, new in zip(before, lists(workers), strict=True))
    assert holds_session(folder, ["regrets"])
    reply = service.ask("POST", "/admin/compact", headers=WITH_TOKEN)
    assert (reply.status, reply.json["log_position"] >= position) == (202, True)
    eventually(lambda: not holds_session(folder, ["regrets"]), 120)
    for which in ARMS:
        assert (folder / "learned" / "arms" / which / "bundle" / "manifest.json").exists()
    assert not (folder / "learned" / "bundle").exists()
    service.assert_no_error()


def test_one_arm_is_reloaded_and_learns_the_log(service: Running, workers: list[Any], folder: Path) -> None:
    old = ranked(workers[0], "old", "sku-1")["version"]
    newer = save(folder / "new", 5)
    eventually(lambda: service.metric(f'mtaw_workers{{version="{newer}"}}') == 2, 60)
    position = teach(service, {"session": "after", "item": "sku-9"})
    everywhere(workers, position)
    for connection in workers:
        answers = [ranked(connection, which, "brand new", "sku-9", k=80) for which in ARMS]
        assert [reply["version"] for reply in answers] == [old, newer]
        for answer in answers:
            assert not answer["unknown"]
            assert "by hand" in answer["items"]
            assert "sku-40" not in answer["items"]


def test_a_killed_worker_and_a_killed_service_lose_nothing(folder: Path, service: Running, workers: list[Any]) -> None:
    teach(service, *visitors("before-", 20, ("sku-3", "late item", "sku-4")))
    pid = min(service.worker_pids())
    os.kill(pid, 9)
    eventually(lambda: pid not in service.worker_pids() and len(service.worker_pids()) == 2)
    position = teach(service, {"session": "last", "item": "sku-3"})
    for process in (service.process, *service.workers()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, 9)
    service.process.wait()
    log = FileLog(folder / "learned")
    assert log.end() >= position
    count = len(log.read(START, 100_000))
    log.close()
    assert count > 60
    with serving(folder, workers=1) as restarted:
        for which in ARMS:
            with contextlib.closing(restarted.connect()) as connection:
                answer = ranked(connection, which, "late item", "by hand")
            assert answer["log_position"] >= position
            assert not answer["unknown"]
        learned(restarted, teach(restarted, {"session": "next", "item": "sku-1"}))
        restarted.assert_no_error()


def test_arms_with_other_catalogs_take_what_is_new_to_them(tmp_path: Path) -> None:
    bundles = [tmp_path / name for name in ARMS]
    for seed, (bundle, n_items) in enumerate(zip(bundles, (60, 64), strict=True)):
        save_parts(bundle, **bundle_parts(n_items, seed=seed), **memory_parts(n_items, seed))
    settings = LearningSettings(tmp_path / "learned", compact=False).of_arms(bundles)
    arms = [
        load_snapshot(bundle, "auto", "auto", arm_settings, bundle.name)
        for bundle, arm_settings in zip(bundles, settings, strict=True)
    ]
    old, new = (arm.recommender for arm in arms)
    add_items(arms, ["sku-62", "x"], None, [["sku-1"], ["sku-63", "sku-2"]])
    assert (old.n_items, new.n_items) == (62, 65)
    for items, vectors, neighbors, why in (
        (["x"], np.ones((1, 12)), None, "the bundles' vectors differ"), (["x"], None, None, "vectors differ"),
        (["x", "y"], None, [["sku-1"], ["sku-63"]], "old knows none of the neighbors of item 'y', which it lacks"),
        (["y", "sku-62"], None, [["sku-1"], ["sku-1"]], "item 'sku-62' is already in the catalog of every bundle"),
        (["y"], None, [["sku-1", "nobody"]], "no bundle's catalog knows 'nobody'"),
        (["y"], None, [["sku-1"], ["sku-2"]], "neighbors for 2 items, not for 1"),
        (["y"], None, [[]], "bundle old: item 'y' has no neighbors"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=why):
            add_items(arms, items, vectors, neighbors)
    remove_items(arms, ["sku-63", "sku-1"])
    assert (old.n_items, new.n_items) == (61, 63)
    with pytest.raises(DataError, match="'y' is not in the catalog of any bundle"):
        remove_items(arms, ["sku-2", "y"])
    add_items(arms, ["sku-1"], None, [["sku-2"]])  # back again
    assert (old.n_items, new.n_items) == (62, 64)
    for arm in arms:
        arm.recommender.close()


def test_compactions_of_all_arms_start_or_none(tmp_path: Path) -> None:
    bundles = [tmp_path / name for name in ARMS]
    for seed, bundle in enumerate(bundles):
        save(bundle, seed)
    settings = LearningSettings(tmp_path / "learned", compact=False).of_arms(bundles)
    recs = [Recommender.load(*pair[:1], learn=pair[1]) for pair in zip(bundles, settings, strict=True)]
    learners: list[Any] = [rec.learner for rec in recs]
    save(bundles[1], 7)
    with pytest.raises(LearnError, match="new holds another training now"):
        request_compactions(learners)
    assert not any(learner.compactions.is_requested for learner in learners)
    save(bundles[1], 1)
    position = recs[0].observe("s", ["sku-1"])
    assert request_compactions(learners) == position
    eventually(lambda: all(learned_position(arm_settings.folder) == position for arm_settings in settings), 60)
    for rec in recs:
        rec.close()


def test_the_command_compacts_every_arm(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ARMS:
        shutil.copytree(folder / name, tmp_path / name)
    bundles = [f"--bundle={tmp_path / name}=1" for name in ARMS]
    (tmp_path / "learned").mkdir()
    assert main(["compact", *bundles, "--learn", str(tmp_path / "learned")]) == 0
    written = [tmp_path / "learned" / "arms" / name / "bundle" for name in ARMS]
    assert capsys.readouterr().out == "".join(f"wrote {path}\n" for path in written)
    assert main(["compact", "--learn", str(tmp_path / "learned")]) == 2
    assert "give either one BUNDLE, or several" in capsys.readouterr().err
