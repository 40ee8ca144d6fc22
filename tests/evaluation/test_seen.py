"""Which test clicks a bundle has seen, and the warnings about them."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast import Recommender, evaluate, prepare, train
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle_page.examples import examples_of
from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.errors import DataWarning
from mtaw_fast.evaluation.seen import may_know, seen_targets
from tests.support.cli import write_log
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.training.curves import undrawn
from tests.support.workflow import CONFIG, FEW, Made

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A data set and a bundle, made from Python."""
    folder = tmp_path_factory.mktemp("seen")
    write_log(folder / "clicks.csv")
    with FEW:
        dataset = prepare(str(folder / "clicks.csv"), str(folder / "set"), test_days=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        return Made(folder, dataset, train(dataset, str(folder / "bundle"), CONFIG), [])


def test_a_leak_is_reported(made: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A set with a longer test, whose test sessions the bundle was trained on."""
    with FEW:
        longer = prepare(made.folder / "clicks.csv", tmp_path / "longer", test_days=5)
    with pytest.warns(DataWarning, match="not trained on the training part of clicks .* these metrics show a leak"):
        evaluation = evaluate(made.bundle, longer)
    assert evaluation.same_training_part is False
    seen = seen_targets(made.bundle, longer, longer.test)
    assert seen is not None
    # Those that the bundle was not trained on are the last two days' sessions.
    expected = len(longer.test) - len(made.dataset.test)
    assert abs(seen - expected) <= 0.05 * expected
    assert seen_targets(made.bundle, made.dataset, made.dataset.test) == 0
    capsys.readouterr()
    assert main(["evaluate", f"{made.folder}/bundle", f"{tmp_path}/longer", "--no-baselines", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("warning: this bundle was not trained on")
    assert captured.err.count("\n") == 1
    assert json.loads(captured.out)["same_training_part"] is False
    text = examples_of(Recommender.load(made.folder / "bundle"), longer, 2)["text"]
    assert text.startswith("Test sessions, which the bundle may have seen")


def test_a_leak_into_validation_is_reported(made: Made) -> None:
    """A shorter set, whose validation sessions the bundle was trained on."""
    shorter = dataclasses.replace(
        made.dataset, train=made.dataset.train.slice(0, len(made.dataset.train) // 2), fingerprint="a-shorter-set"
    )
    leak, refit = "not trained on the training part of .* these metrics show a leak", "refit on the validation sessions"
    with pytest.warns(DataWarning, match=leak), pytest.warns(DataWarning, match=refit):
        assert len(evaluate(made.bundle, shorter, split="validation").warnings) == 2
    with pytest.warns(DataWarning, match=refit):
        assert len(evaluate(made.bundle, made.dataset, split="validation").warnings) == 1


def test_what_is_known_without_times_equals_brute_force(made: Made) -> None:
    """Sessions around a ring repeat: one counts if training has all of it, with four clicks or more."""
    data = made.dataset
    test = dataclasses.replace(data.test, prefixes=data.test.prefixes.without_times(), target_times=None)
    whole: dict[int, list[int]] = {}
    for prefix, target, session in zip(test.prefixes, test.targets, test.session, strict=True):
        whole[int(session)] = [*prefix.tolist(), int(target)]  # a session's last sample is its longest
    trained = [session.tolist() for session in made.bundle.model.sessions]
    known = {session for session, clicks in whole.items() if len(clicks) >= 4 and clicks in trained}
    expected = sum(int(session) in known for session in test.session)
    assert 0 < expected < len(test)
    assert seen_targets(made.bundle, dataclasses.replace(data, test=test), test) == expected


def test_logs_that_update_learned_are_reported(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made.folder / "bundle", tmp_path / "bundle")
    assert main(["update", f"{tmp_path}/bundle", f"{made.folder}/clicks.csv", "--json"]) == 0
    with pytest.warns(DataWarning, match="has learned .* sessions from logs since.* these metrics show a leak"):
        evaluation = evaluate(tmp_path / "bundle", made.dataset)
    assert evaluation.same_training_part
    seen = seen_targets(Bundle.load(tmp_path / "bundle"), made.dataset, made.dataset.test)
    assert seen == len(made.dataset.test)
    recommender = Recommender.load(tmp_path / "bundle")
    text = examples_of(recommender, made.dataset, 2)["text"]
    assert text.startswith("Test sessions, which the bundle may have seen")
    assert examples_of(recommender, None, 2)["text"].startswith("Sessions of the training and of logs since:")


def test_a_bundle_that_was_refit_or_learned_other_sessions_does_not_know_the_test(made: Made, tmp_path: Path) -> None:
    """It has seen the validation sessions and a later log; each has a warning, and neither is about the test."""
    shutil.copytree(made.folder / "bundle", tmp_path / "bundle")
    lines = (made.folder / "clicks.csv").read_text().splitlines()
    last = max(int(line.rsplit(",", 1)[1]) for line in lines[1:])
    items = [line.split(",")[1] for line in lines[1:5]]
    later = [f"later,{item},{last + 60 * place}" for place, item in enumerate(items, 1)]
    (tmp_path / "later.csv").write_text("\n".join([lines[0], *later, ""]))
    assert main(["update", f"{tmp_path}/bundle", f"{tmp_path}/later.csv"]) == 0
    for bundle in (made.folder / "bundle", tmp_path / "bundle"):
        recommender = Recommender.load(bundle)
        assert not may_know(recommender.bundle, made.dataset, made.dataset.test)
        assert "which training has not seen" in examples_of(recommender, made.dataset, 2)["text"]


@pytest.mark.parametrize("place", [2, -1, None], ids=["within", "before the last", "last"])
@pytest.mark.parametrize("step", [1, -1], ids=["shortest prefix first", "longest prefix first"])
def test_a_known_session_with_an_unknown_click_is_found(tmp_path: Path, step: int, place: int | None) -> None:
    bundle = save_parts(tmp_path / "bundle", **bundle_parts() | memory_parts())
    session = next(clicks for clicks in bundle.model.sessions if len(clicks) > 4).tolist()
    clicks = [*session[:place], 60, *([] if place is None else session[place:])]  # 60 is no item of the bundle
    samples = Samples.from_sessions(Sessions.from_lists([clicks]), 1)
    order = np.arange(len(samples))[::step]
    samples = Samples(samples.prefixes.select(order), samples.targets[order], samples.session)
    ids = ItemIds.from_list([f"sku-{item}" for item in range(61)])
    data = Dataset("shop", Sessions.from_lists([clicks] * 2), samples, ids)
    assert seen_targets(bundle, data, samples) == len(samples) - 1  # all targets but the unknown one
