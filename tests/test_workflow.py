"""prepare, train and evaluate from Python: the same bits as the commands."""

from __future__ import annotations

import dataclasses
import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from mtaw_fast import Config, Recommender, evaluate, prepare, train
from mtaw_fast.cli import main
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, UsageError
from mtaw_fast.training.plan.estimate import plan_training
from tests.support.cli import TINY, write_log
from tests.support.random_bundle import contents
from tests.support.training.curves import undrawn
from tests.support.workflow import CONFIG, FEW, Made, recorded_in


@pytest.fixture(scope="module", autouse=True)
def undrawn_curves() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtaw_fast.training.run_state.plot_curves", undrawn)
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A data set and a bundle, made from Python, and the same made by the commands."""
    folder = tmp_path_factory.mktemp("workflow")
    write_log(folder / "clicks.csv")
    reported: list[tuple[str, int, int]] = []
    with FEW:
        dataset = prepare(str(folder / "clicks.csv"), str(folder / "set"), test_days=2, progress=recorded_in(reported))
    bundle = train(dataset, str(folder / "bundle"), CONFIG, progress=recorded_in(reported))
    assert main(["prepare", "clicks", f"{folder}/clicks.csv", f"{folder}/set2", "--test-days", "2"]) == 0
    assert main(["train", f"{folder}/set2", f"{folder}/bundle2", "--epochs", "1", *TINY, "--json"]) == 0
    return Made(folder, dataset, bundle, reported)


def manifest(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "manifest.json").read_text())


def test_the_commands_make_the_same_to_the_bit(made: Made) -> None:
    assert manifest(made.folder / "set") == manifest(made.folder / "set2")
    ours, theirs = manifest(made.folder / "bundle"), manifest(made.folder / "bundle2")
    assert ours["files"] == theirs["files"]
    assert ours["config"] == theirs["config"]
    assert ours["dataset"] == theirs["dataset"]
    for entry in ours["files"].values():
        assert (made.folder / "bundle" / entry["file"]).read_bytes() == (
            made.folder / "bundle2" / entry["file"]
        ).read_bytes()


def test_a_frame_makes_what_its_file_makes(made: Made, tmp_path: Path) -> None:
    frame = pl.read_csv(made.folder / "clicks.csv")
    with FEW:
        dataset = prepare(frame, tmp_path / "set", test_days=2, name="clicks")
    assert dataset.fingerprint == made.dataset.fingerprint
    with FEW:
        repeated = prepare(frame, tmp_path / "set", test_days=5, overwrite=True)
    assert len(repeated.train) < len(dataset.train)


def test_progress_is_reported(made: Made) -> None:
    assert made.reported[:3] == [("reading", 0, 2), ("writing", 1, 2), ("written", 2, 2)]
    phases = list(dict.fromkeys(name for name, _, _ in made.reported[3:]))
    assert "search 1/1" in phases
    assert "refit 1/1" in phases
    for phase in phases:
        counts = [(count, total) for name, count, total in made.reported if name == phase]
        assert counts[0][0] == 0
        assert counts == sorted(counts)


def test_an_exception_of_the_callback_ends_the_training(made: Made, tmp_path: Path) -> None:
    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made.dataset, tmp_path / "bundle", CONFIG, progress=stop)
    assert not (tmp_path / "bundle").exists()


def full(_: Any, bundle: Path, *__: Any) -> None:
    raise OSError("disk full")


def killed(_: Any, bundle: Path, *__: Any) -> None:
    """By then the bundle's folder exists, without a manifest."""
    bundle.mkdir()
    (bundle / ".weights.safetensors.draft").touch()
    raise KeyboardInterrupt


@pytest.mark.parametrize(("save", "error"), [(full, OSError), (killed, KeyboardInterrupt)], ids=["full", "killed"])
def test_a_training_whose_bundle_was_not_written_is_not_dropped(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save: Any, error: type[BaseException]
) -> None:
    monkeypatch.setattr("mtaw_fast.training.TrainedModel.save", save)
    with pytest.raises(error):
        train(made.dataset, tmp_path / "bundle", CONFIG)
    monkeypatch.undo()
    before = contents(tmp_path / "bundle.training")
    with pytest.raises(UsageError, match="has a finished training whose bundle is missing; write it with --resume"):
        train(made.dataset, tmp_path / "bundle", CONFIG)
    assert contents(tmp_path / "bundle.training") == before
    began: list[tuple[str, int, int]] = []
    train(made.dataset, tmp_path / "bundle", CONFIG, resume=True, progress=recorded_in(began))
    assert not began
    assert manifest(tmp_path / "bundle")["files"] == manifest(made.folder / "bundle")["files"]
    assert not (tmp_path / "bundle/.weights.safetensors.draft").exists()


def test_prefixes_of_a_bot_are_made_where_they_are_ranked_alone(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A last training session of thousands of clicks has millions in its prefixes, which a test does not need."""
    items = np.append(made.dataset.train.items, np.zeros(300, np.int32))
    offsets = np.append(made.dataset.train.offsets, len(items))
    data = dataclasses.replace(made.dataset, train=Sessions(items, offsets))
    monkeypatch.setattr("mtaw_fast.data.sessions.MAX_PREFIX_CLICKS", 300 * 299 // 2)
    evaluation = evaluate(made.bundle, data)
    assert evaluation.metrics == evaluate(made.bundle, made.dataset).metrics
    refused = "data set clicks: the validation prefixes hold .* up to 300 .*such as --max-session 299"
    for call, remedy in (
        (lambda: evaluate(made.bundle, data, split="validation"), "$"),
        (lambda: evaluate(made.bundle, data, baselines=True), ", or leave the baselines out$"),
        (lambda: train(data, tmp_path / "b", CONFIG), ", or hold out less than --set validation_fraction=0.1$"),
        (lambda: plan_training(data, CONFIG), ", or hold out less than --set validation_fraction=0.1$"),
    ):
        monkeypatch.setattr("mtaw_fast.training.run._Run._search", lambda *_: pytest.fail("it trained"), raising=False)
        with pytest.raises(DataError, match=refused + remedy):
            call()
    assert not (tmp_path / "b").exists()
    alone = CONFIG.replace(enabled=False)  # validated in one pass over each session, without prefixes
    monkeypatch.undo()
    monkeypatch.setattr("mtaw_fast.data.sessions.MAX_PREFIX_CLICKS", 300 * 299 // 2)
    train(data, tmp_path / "b", alone, refit=False)


def test_a_set_of_one_training_session_is_evaluated_on_its_test(made: Made) -> None:
    data = dataclasses.replace(made.dataset, train=made.dataset.train.slice(0, 1))
    evaluation = evaluate(made.bundle, data)
    assert evaluation.metrics == evaluate(made.bundle, made.dataset).metrics
    with pytest.raises(DataError, match="cannot hold sessions out"):
        evaluate(made.bundle, data, baselines=True)


def test_evaluate_equals_the_command(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    reported: list[tuple[str, int, int]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        evaluation = evaluate(
            str(made.folder / "bundle"), str(made.folder / "set"), baselines=True, progress=recorded_in(reported)
        )
    capsys.readouterr()
    assert main(["evaluate", f"{made.folder}/bundle", f"{made.folder}/set", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == evaluation.as_dict()
    assert captured.err == ""
    assert evaluation.same_training_part
    assert reported[-1][1] == reported[-1][2] == len(made.dataset.test)
    for bundle in (made.bundle, Recommender.load(made.folder / "bundle")):
        assert evaluate(bundle, made.dataset).metrics == evaluation.metrics
    assert "\n0.0% of the test clicks are on items that training never saw: 0 targets\n" in str(evaluation)


def test_targets_that_training_never_saw_count_as_misses(made: Made) -> None:
    data = dataclasses.replace(made.dataset, unseen=np.array([0, 0, 10**6], np.int32))
    plain, counted = evaluate(made.bundle, data), evaluate(made.bundle, data, unseen="misses", baselines=True)
    share = len(data.test) / (len(data.test) + 3)
    for name, value in plain.metrics.items():
        assert counted.metrics[name] == pytest.approx(value * share)
        low, high = counted.report.intervals[name]
        assert low <= counted.metrics[name] <= high
    assert (counted.report.samples, counted.report.unseen) == (len(data.test) + 3, 3)
    assert counted.report.sessions == plain.report.sessions + 1
    assert counted.baselines["popularity"].unseen == 3
    assert "3 targets, counted as misses, but not in recall" in str(counted)
    assert "3 targets, not counted" in str(plain)


def with_target_types(dataset: Dataset, names: tuple[str, ...]) -> Dataset:
    """The data set with random types of the targets and prefixes of its test."""
    rng, test = np.random.default_rng(0), dataset.test
    types = rng.integers(0, len(names), len(test.prefixes.items)).astype(np.uint8)
    typed = dataclasses.replace(
        test,
        prefixes=dataclasses.replace(test.prefixes, types=types),
        target_types=rng.integers(0, len(names), len(test)).astype(np.uint8),
    )
    return dataclasses.replace(dataset, test=typed, type_names=names)


def test_metrics_by_type_survive_the_translation(made: Made) -> None:
    """A data set with types, whose catalog the bundle has in another order and not as a whole."""
    typed = with_target_types(made.dataset, ("view", "buy"))
    names = typed.ids.external(np.arange(typed.n_items))
    for ids in (typed.ids, ItemIds.from_list(["else", *names[1:]])):
        data = dataclasses.replace(typed, ids=ids, fingerprint="")
        report = evaluate(made.bundle, data).report
        assert typed.test.target_types is not None
        counts = np.bincount(typed.test.target_types)
        assert {name: metrics["samples"] for name, metrics in report.by_type.items()} == {
            "view": counts[0], "buy": counts[1],
        }  # fmt: skip
        total = sum(metrics["P@20"] * metrics["samples"] for metrics in report.by_type.values())
        assert total / len(typed.test) == pytest.approx(report.metrics["P@20"])
    assert "targets of type buy: P@10" in str(evaluate(made.bundle, data))


def test_weighted_metrics_are_the_weighted_mean_of_those_by_type(made: Made) -> None:
    data = with_target_types(made.dataset, ("view", "cart", "buy"))
    evaluation = evaluate(made.bundle, data, weights="cart=3,buy=0.5", baselines=True)
    for report in (evaluation.report, *evaluation.baselines.values()):
        mass = {
            name: {"view": 1, "cart": 3, "buy": 0.5}[name] * metrics["samples"]
            for name, metrics in report.by_type.items()
        }
        for metric, value in report.weighted.items():
            total = sum(mass[name] * metrics[metric] for name, metrics in report.by_type.items())
            assert value == pytest.approx(total / sum(mass.values()))
    plain = evaluate(made.bundle, data)
    assert plain.metrics == evaluation.metrics
    assert "weighted" not in plain.as_dict()
    assert evaluate(made.bundle, data, weights={"view": 1}).report.weighted == plain.metrics
    assert evaluation.as_dict()["weights"] == {"cart": 3, "buy": 0.5}
    assert "targets weighted by type (cart=3, buy=0.5)" in str(evaluation)
    with pytest.raises(UsageError, match="no type 'sale' in the data set; its types are view, cart, buy"):
        evaluate(made.bundle, data, weights={"sale": 1})
    with pytest.raises(UsageError, match="the targets have no types in this split"):  # those of the training have none
        evaluate(made.bundle, data, split="validation", weights={"buy": 2})
    with pytest.raises(UsageError, match="the sessions' clicks have no types"):
        train(data, made.folder / "never", Config.of(type_weights="buy=2"))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda made, tmp: prepare(made.folder / "clicks.csv", tmp / "d", sesion="x"), "no option 'sesion'"),
        (lambda made, tmp: prepare(made.folder, tmp / "d", format="npz", gap=3), "works only with the format 'clicks'"),
        (lambda made, tmp: prepare(made.folder / "clicks.csv", made.folder / "set"), "overwrite=True"),
        (lambda made, tmp: train(made.dataset, tmp / "b", "none"), "no preset 'none'"),
        (lambda made, tmp: train(made.dataset, made.folder / "bundle", Config()), "overwrite=True"),
        (lambda made, tmp: evaluate(made.bundle, made.dataset, weights="buy=2"), "have no types"),
        (lambda made, tmp: evaluate(made.bundle, made.dataset, weights="x=1", unseen="misses"), "do not work with"),
        (lambda made, tmp: evaluate(made.bundle, made.dataset, split="future"), "split must be"),  # type: ignore[arg-type]
        (lambda made, tmp: evaluate(made.bundle, made.dataset, unseen="hits"), "unseen must be"),  # type: ignore[arg-type]
        (lambda made, tmp: evaluate(made.bundle, made.dataset, split="validation", unseen="misses"), "leave --unseen"),
        (
            lambda made, tmp: evaluate(
                made.bundle, dataclasses.replace(made.dataset, preparation={"reader": "npz"}), unseen="misses"
            ),
            "formats npz and pickle have none",
        ),
        (lambda made, tmp: evaluate(made.bundle, made.dataset, slices="brand"), "slices must be a list of names"),
    ],
)
def test_misuse_is_refused(made: Made, tmp_path: Path, call: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        call(made, tmp_path)
    assert not (tmp_path / "d").exists()
    assert not (tmp_path / "b").exists()
