"""Several bundles that learn from one log: each is what it would be alone, and the log is kept for the slowest."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.errors import UsageError
from mtaw_fast.online.compaction import compactor
from mtaw_fast.online.compaction.compactor import BUSY, compact_folder
from mtaw_fast.online.compaction.current import compacted_by_all, learned_position
from mtaw_fast.online.log import open_log
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningLimits, LearningSettings
from tests.online.test_forgetting import holds_session
from tests.support.online.recommenders import answers, drawn, parts, save, until_learned
from tests.support.redis_server import Redis
from tests.support.redis_server import redis as redis

OPEN = LearningLimits(item_floor=10**6, pair_floor=10**6)
QUESTIONS = [*drawn(11, 25), ["new-a", "sku-1"], ["by-hand"], []]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles of different trainings, and a third one."""
    folder = tmp_path_factory.mktemp("trained")
    for name, seed in (("a", 3), ("b", 4), ("c", 5)):
        save(folder / name, parts(seed))
    return folder


@pytest.fixture
def bundles(trained: Path, tmp_path: Path) -> list[Path]:
    """Copies of the first two."""
    return [Path(shutil.copytree(trained / name, tmp_path / name, copy_function=os.link)) for name in ("a", "b")]


@pytest.fixture
def shared(tmp_path: Path) -> LearningSettings:
    """Settings of a folder that bundles share."""
    return LearningSettings(tmp_path / "learned", compact=False, limits=OPEN)


@pytest.fixture(params=["file", "redis"])
def of_each_kind(request: pytest.FixtureRequest, shared: LearningSettings, tmp_path: Path) -> LearningSettings:
    """The same with each kind of log."""
    if request.param == "file":
        return shared
    redis: Redis = request.getfixturevalue("redis")
    return replace(shared, stream=f"{redis.url}?stream=arms")


def load(bundles: Sequence[Path], settings: Sequence[LearningSettings]) -> list[Recommender]:
    return [Recommender.load(bundle, learn=learn) for bundle, learn in zip(bundles, settings, strict=True)]


def alone(bundle: Path, shared: LearningSettings, folder: Path) -> LearningSettings:
    """Return the settings of a bundle that learns alone from a copy of the log, in a new folder."""
    folder.mkdir()
    if shared.stream is not None:
        redis = pytest.importorskip("redis").Redis.from_url(shared.stream.partition("?")[0])
        database = 1 + int(redis.incr("copies"))
        redis.copy("arms", "arms", database)
        return replace(shared, folder=folder, stream=shared.stream.replace("/0?", f"/{database}?"))
    for path in shared.folder.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return replace(shared, folder=folder)


def teach(arms: list[Recommender], seed: int) -> None:
    """Send events of every kind, each to one of the arms, and wait until all know them."""
    first, second = arms
    for place, session in enumerate(drawn(seed, 30)):
        rec = arms[place % 2]
        position = rec.observe(f"s{seed}-{place}", [*session, "new-a"] if place % 5 == 0 else session)
    if "by-hand" not in first.ids:
        first.catch_up()
        first.add_items(["by-hand"], neighbors=[["sku-1", "new-a"]])
    second.hide([f"sku-{seed}"])
    position = second.forget(f"s{seed}-3")
    for rec in arms:
        until_learned(rec, position)
        rec.catch_up()


def same_state(one: Recommender, other: Recommender) -> None:
    """Check that two recommenders have learned the same, to the bit."""
    assert one.log_position == other.log_position
    assert answers(one, QUESTIONS) == answers(other, QUESTIONS)
    states = one.learner.state, other.learner.state
    for ours, theirs in zip(*(state.delta.ordered() for state in states), strict=True):
        assert np.array_equal(ours, theirs)
    assert np.array_equal(states[0].event_processor.items.clicks, states[1].event_processor.items.clicks)


def same_model(folder: Path | None, same: Path | None) -> None:
    """Check that two compacted bundles are the same, to the bit."""
    assert folder is not None
    assert same is not None
    first, second = Bundle.load(folder), Bundle.load(same)
    for name, array in first.model.memory.arrays().items():
        assert np.array_equal(getattr(second.model.memory, name), array), name
    for name, array in first.model.weights.items():
        assert np.array_equal(second.model.weights[name], array), name
    assert np.array_equal(first.model.popularity, second.model.popularity)
    assert list(first.ids) == list(second.ids)
    assert first.model.log_progress.position == second.model.log_progress.position


def test_each_arm_is_what_it_would_be_alone(
    bundles: list[Path], of_each_kind: LearningSettings, tmp_path: Path
) -> None:
    shared = of_each_kind
    arms = shared.of_arms(bundles)
    recs = load(bundles, arms)
    teach(recs, 21)
    assert answers(recs[0], QUESTIONS) != answers(recs[1], QUESTIONS)
    for place, (bundle, rec) in enumerate(zip(bundles, recs, strict=True)):
        same_state(rec, *load([bundle], [alone(bundle, shared, tmp_path / f"before-{place}")]))
    # One is compacted, as it would be alone; the other goes on, and both restart after more events.
    copy = alone(bundles[0], shared, tmp_path / "copy")
    same_model(compact_folder(bundles[0], arms[0]), compact_folder(bundles[0], copy))
    teach(recs, 22)
    for rec in recs:
        rec.close()
    restarted = load(bundles, arms)
    assert restarted[0].bundle.folder == arms[0].folder / "bundle"
    assert restarted[1].bundle.folder == bundles[1]
    for place, (bundle, rec) in enumerate(zip(bundles, restarted, strict=True)):
        settings = alone(bundle, shared, tmp_path / f"after-{place}")
        if place == 0:
            shutil.copytree(arms[0].folder / "bundle", settings.folder / "bundle")
        same_state(rec, *load([bundle], [settings]))
        # Compacted in pieces or at once.
        whole = alone(bundle, shared, tmp_path / f"whole-{place}")
        same_model(compact_folder(bundle, arms[place]), compact_folder(bundle, whole))


def test_the_log_is_redacted_and_cut_behind_the_slowest_arm(
    bundles: list[Path], shared: LearningSettings, tmp_path: Path, trained: Path
) -> None:
    arms = replace(shared, max_log_bytes=1).of_arms(bundles)
    log = FileLog(shared.folder, segment_bytes=1000)
    log.append([Click("secret", f"sku-{n}", 1_764_150_000_000 + n) for n in range(3)])
    recs = load(bundles, arms)
    recs[0].forget("secret")
    for number in range(40):
        log.append([Click(f"other-{number}", "sku-1", 1_764_150_000_000 + number)])
    for _ in range(2):  # the second one is a duplicate
        log.append([Click("twice", "sku-2", 1_764_150_000_000, None, "e-1")])
    before = len(log.read(START))
    for bundle, arm, remaining in zip(bundles, arms, (before, 0), strict=True):
        assert compact_folder(bundle, arm) is not None
        assert (len(log.read(START)) == remaining) if remaining else (len(log.read(START)) < before - 3)
        assert bool(holds_session(tmp_path, ["secret"])) == bool(remaining)
    end = log.end()
    assert [compacted_by_all(arm.other_arms, end) for arm in arms] == [
        learned_position(arm.folder) for arm in (arms[1], arms[0])
    ]
    # The second one is trained again: the log is kept for it from the present position on.
    for path in bundles[1].iterdir():
        path.unlink()
    shutil.copytree(trained / "c", bundles[1], dirs_exist_ok=True)
    assert compacted_by_all(arms[0].other_arms, end) == START
    for number in range(40):
        log.append([Click(f"later-{number}", "sku-2", 1_764_150_100_000 + number)])
    kept = len(log.read(START))
    assert compact_folder(bundles[0], arms[0]) is not None
    assert len(log.read(START)) == kept
    compact_folder(bundles[1], arms[1])
    assert len(log.read(START)) < kept


def test_a_bundle_that_learned_alone_goes_on_as_an_arm_and_back(
    bundles: list[Path], shared: LearningSettings, tmp_path: Path
) -> None:
    (rec,) = load(bundles[:1], [shared])
    until_learned(rec, rec.observe("s", ["sku-1", "new-a", "sku-2"]))
    assert compact_folder(bundles[0], shared) is not None
    rec.close()
    arms = shared.of_arms(bundles)
    recs = load(bundles, arms)
    assert [rec.bundle.folder for rec in recs] == [shared.folder / "bundle", bundles[1]]
    assert "new-a" in recs[1].ids, "the other bundle learns the whole log"
    until_learned(recs[0], recs[0].observe("gone", ["sku-5", "sku-6"]))
    for bundle, arm in zip(bundles, arms, strict=True):
        compact_folder(bundle, arm)
    assert (shared.folder / "bundle").exists()
    # A session asks to be forgotten: nobody keeps that bundle up to date any more.
    recs[0].forget("gone")
    for bundle, arm in zip(bundles, arms, strict=True):
        compact_folder(bundle, arm)
    assert not (shared.folder / "bundle").exists()
    assert not holds_session(shared.folder, ["gone"])
    for rec in recs:
        rec.close()
    # The first one is served alone again: it goes on where it was.
    position = learned_position(arms[0].folder)
    for learn in (shared.folder, shared):
        served = Recommender.load(bundles[0], learn=learn)
        assert served.learner.settings.folder == arms[0].folder
        assert served.bundle.folder == arms[0].folder / "bundle"
        assert served.log_position == position
        served.close()
    assert shared.of_one(tmp_path / "unknown") == shared


@pytest.mark.parametrize("alone", ["a", "c"])
def test_a_command_for_one_bundle_takes_nothing_from_the_others_that_are_served(
    bundles: list[Path], shared: LearningSettings, trained: Path, alone: str
) -> None:
    arms = shared.of_arms(bundles)
    log = FileLog(shared.folder, segment_bytes=1000)
    log.append([Click(f"s-{number}", "sku-1", 1_764_150_000_000 + number) for number in range(40)])
    for bundle, arm in zip(bundles, arms, strict=True):
        compact_folder(bundle, arm)
    recs = load(bundles, arms)
    for number in range(40):
        log.append([Click(f"later-{number}", "sku-2", 1_764_150_100_000 + number)])
    recs[0].forget("s-3")
    before = len(log.read(START))
    target = bundles[0] if alone == "a" else trained / "c"
    command = ["compact", str(target), "--learn", str(shared.folder), "--max-log-bytes", "1"]
    for _ in range(2):
        assert main(command) == 0
        assert len(log.read(START)) == before
        assert [arm.folder.joinpath("bundle").exists() for arm in arms] == [True, True]
    # What the other one asks for is done once it is no longer served.
    for rec in recs:
        rec.close()
    assert main(command) == 0
    assert len(log.read(START)) < before - 40
    assert not (arms[1].folder / "bundle").exists()
    assert not holds_session(shared.folder, ["s-3"])


def test_a_compactor_gets_the_settings_of_its_arm(
    bundles: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "nice", lambda _: 0)
    shared = LearningSettings(tmp_path / "learned", retention_days=9.0)
    passed: list[LearningSettings] = []
    monkeypatch.setattr(compactor, "compact_folder", lambda _, settings, wait: passed.append(settings))
    arms = shared.of_arms(bundles)
    for bundle, arm in zip(bundles, arms, strict=True):
        assert compactor.main([str(bundle), *arm.arguments()]) == BUSY
    assert passed == arms
    assert arms[0].other_arms == ((bundles[1], arms[1].folder),)
    assert arms[0].log_folder == arms[1].log_folder == shared.log_folder == tmp_path / "learned"
    open_log(arms[0]).close()
    assert (tmp_path / "learned" / "log.json").exists()


@pytest.mark.parametrize("names", [["x/a", "y/a"], ["x/..", "a"], ["/", "a"]])
def test_bundles_need_names_of_their_own(names: list[str]) -> None:
    with pytest.raises(UsageError, match="names differ"):
        LearningSettings(Path("learned")).of_arms([Path(name) for name in names])
