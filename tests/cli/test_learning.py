"""The options of `--learn`, and `mtaw-fast compact`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import _parser, main
from mtaw_fast.cli.learning_options import learning_settings
from mtaw_fast.errors import UsageError
from mtaw_fast.export.page import export_page
from tests.support.online.recommenders import MODEL, parts, until_learned
from tests.support.random_bundle import save_random


@pytest.mark.parametrize(
    ("given", "min_clicks"), [([], 1), (["--min-clicks", "3"], 3), (["--learn-limit", "min_clicks=4"], 4),
    (["--min-clicks", "3", "--learn-limit", "min_clicks=4"], 4)],
)  # fmt: skip
def test_a_learn_limit_wins_over_min_clicks(given: list[str], min_clicks: int) -> None:
    arguments = _parser().parse_args(["serve", "shop.bundle", "--learn", "log", "--learn-limit", "late=7", *given])
    settings = learning_settings(arguments)
    assert settings is not None
    assert (settings.limits.min_clicks, settings.limits.late) == (min_clicks, 7)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--learn", ""], "--learn is empty"),  # an unset variable of a shell must not mean the working folder
        (["--learn", "log", "--retention", "nand"], "must be above 0"),
        (["--learn", "log", "--learn-folder", "other"], "--learn-folder goes with --learn redis://"),
        (["--fsync"], "--fsync goes with --learn; give --learn, or leave --fsync out"),
        (["--retention", "12h"], "--retention goes with --learn"),
        (["--learn-limit", "late=7"], "--learn-limit goes with --learn"),
        (["--learn-folder", "log"], "--learn-folder goes with --learn"),
    ],
)
def test_values_without_a_meaning_are_refused(given: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        learning_settings(_parser().parse_args(["serve", "shop.bundle", *given]))


@pytest.mark.parametrize(
    "command",
    [
        ["serve", "shop.bundle", "--state", ""],
        ["serve", "shop.bundle", "--learn", "redis://localhost:6379/0", "--learn-folder", ""],
        ["items", "shop.bundle", "items.csv", "--state", ""],
        ["items", "shop.bundle", "items.csv", "--learn", ""],
    ],
    ids=" ".join,
)
def test_an_empty_folder_is_not_the_working_folder(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command) == 2
    assert "is empty" in capsys.readouterr().err


def test_a_folder_of_compacted_bundles_is_not_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["items", "shop.bundle", "items.csv", "--learn-folder", "log"]) == 2
    assert "--learn-folder goes with --learn; " in capsys.readouterr().err


@pytest.mark.parametrize("command", [["items", "items.csv"], ["items", "--new"], ["placements"]], ids=" ".join)
@pytest.mark.parametrize("kept", ["--state", "--learn"])
def test_a_mistyped_folder_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: list[str], kept: str
) -> None:
    Bundle.save(tmp_path / "bundle", MODEL, metrics={}, dataset={"name": "x", "fingerprint": ""})
    missing = tmp_path / "shop.stat"
    assert main([command[0], f"{tmp_path}/bundle", *command[1:], kept, str(missing)]) == 2
    assert f"{str(missing)!r} does not exist; name the folder of a service" in capsys.readouterr().err
    assert not missing.exists()


def test_compact_redacts_what_was_forgotten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle, learned = tmp_path / "bundle", tmp_path / "learned"
    Bundle.save(bundle, MODEL, metrics={}, dataset={"name": "x", "fingerprint": ""})
    rec = Recommender.load(bundle, learn=learned)
    rec.observe("gone", ["sku-1", "sku-2"])
    until_learned(rec, rec.forget("gone"))
    rec.close()
    segment = next(learned.glob("events-*.log"))
    assert b'"session":"gone"' in segment.read_bytes()
    assert main(["compact", str(bundle), "--learn", str(learned), "--retention", "infd"]) == 0
    assert capsys.readouterr().out == f"wrote {learned / 'bundle'}\n"
    assert b'"session":"gone"' not in segment.read_bytes()


def test_compact_needs_a_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compact", str(tmp_path)]) == 2
    assert "--learn" in capsys.readouterr().err


def test_compact_makes_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Bundle.save(tmp_path / "bundle", MODEL, metrics={}, dataset={"name": "x", "fingerprint": ""})
    assert main(["compact", str(tmp_path / "bundle"), "--learn", str(tmp_path / "another")]) == 2
    assert "another does not exist; name the folder of a service" in capsys.readouterr().err
    assert not (tmp_path / "another").exists()


def test_compact_takes_no_bundle_that_cannot_learn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "learned").mkdir()
    save_random(tmp_path / "plain")
    whole = Bundle.save(tmp_path / "whole", MODEL, metrics={}, dataset={"name": "x", "fingerprint": ""})
    export_page(whole, tmp_path / "page")
    for name, reason in (("plain", "has no session memory"), ("page", "was made for a page")):
        assert main(["compact", str(tmp_path / name), "--learn", str(tmp_path / "learned")]) == 2
        assert f"{name} {reason}, so it cannot learn" in capsys.readouterr().err
        assert not (tmp_path / "learned" / "bundle").exists()


def test_compact_overwrites_no_bundle_of_another_training_that_is_served(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a command with the name of the bundle from before a promotion would."""
    learned = tmp_path / "learned"
    for name, model in (("old", parts(4)), ("new", MODEL)):
        Bundle.save(tmp_path / name, model, metrics={}, dataset={"name": "x", "fingerprint": ""})
    rec = Recommender.load(tmp_path / "new", learn=learned)
    assert main(["compact", str(tmp_path / "new"), "--learn", str(learned)]) == 0
    compacted = (learned / "bundle" / "manifest.json").read_bytes()
    assert main(["compact", str(tmp_path / "old"), "--learn", str(learned)]) == 2
    assert f"{learned} is served with {tmp_path / 'new'}" in capsys.readouterr().err
    assert (learned / "bundle" / "manifest.json").read_bytes() == compacted
    rec.close()
    assert main(["compact", str(tmp_path / "old"), "--learn", str(learned)]) == 0
