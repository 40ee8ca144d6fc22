"""`mtaw-fast compare`: what it prints, its JSON, and what it refuses."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from mtaw_fast import Dataset, compare
from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from mtaw_fast.data.sessions import Samples
from mtaw_fast.errors import DataWarning
from tests.support.cli import TINY, failure


@pytest.fixture(scope="module")
def other(work: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of later sessions alone, so that its catalog is another and it knows less."""
    folder = tmp_path_factory.mktemp("compare")
    lines = (work / "clicks.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[1:] if "sku-7é" not in line]
    (folder / "clicks.csv").write_text("\n".join([lines[0], *kept[len(kept) // 2 :]]) + "\n", encoding="utf-8")
    assert main(["prepare", "clicks", f"{folder}/clicks.csv", f"{folder}/dataset", "--test-days", "2"]) == 0
    assert main(["train", f"{folder}/dataset", f"{folder}/other", "--epochs", "1", *TINY, "--json"]) == 0
    return folder / "other"


def test_the_command_says_which_bundle_finds_more(work: Path, other: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["compare", f"{work}/bundle", f"{other}", f"{work}/dataset", "--examples", "3"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines()[0].endswith(".")
    assert "of 100 targets than bundle" in captured.out.splitlines()[0]
    assert "P@20 by slice" in captured.out
    assert "are shown by A alone" in captured.out
    assert "warning: other: this bundle was not trained on the training part of clicks" in captured.err
    assert main(["compare", f"{work}/bundle", f"{other}", f"{work}/dataset", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    assert comparison["verdict"] == captured.out.splitlines()[0]
    assert comparison["samples"] == len(Dataset.load(work / "dataset").test)
    assert comparison["lists"]["only_first"] >= 1  # the item that the other has not
    for example in comparison["examples"]:
        ranks = [example[name]["rank"] for name in ("first", "second")]
        assert (ranks[0] is None) != (ranks[1] is None)
        for name, rank in zip(("first", "second"), ranks, strict=True):
            items = example[name]["items"]
            assert len(set(items)) == 5
            if rank is not None and rank <= 5:
                assert example["target"] in items
            if rank is None:
                assert example["target"] not in items


def test_a_bundle_equals_itself(work: Path) -> None:
    comparison = compare(work / "bundle", work / "bundle", work / "dataset", split="test", examples=1)
    assert (comparison.first, comparison.second) == ("bundle (A)", "bundle (B)")
    assert comparison.verdict.startswith("No difference is shown: bundle (B) finds 0.00 more")
    assert (comparison.lists.overlap, comparison.lists.same_list, comparison.lists.new_share) == (100, 100, 0)
    assert comparison.examples == []


def test_validation_is_what_both_bundles_held_out(work: Path, tmp_path: Path) -> None:
    bundle, data = Bundle.load(work / "bundle"), Dataset.load(work / "dataset")
    held_out_more = bundle.model.config.replace(validation_fraction=0.4)
    model = dataclasses.replace(bundle.model, config=held_out_more)
    other = Bundle.save(tmp_path / "other", model, metrics={"refit": False}, dataset=bundle.dataset)
    _, held_out = data.train.split_last(bundle.config.optimizer.validation_fraction)
    expected = len(Samples.from_sessions(held_out, data.min_prefix))
    for pair in ((bundle, other), (other, bundle)):
        with pytest.warns(DataWarning, match="^bundle: this bundle was refit on the validation sessions"):
            assert compare(*pair, data, split="validation", examples=0).samples == expected


def test_misuse_is_one_line(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = ["compare", f"{work}/bundle", f"{work}/bundle", f"{work}/dataset"]
    assert "examples must be at least 0" in failure([*pair, "--examples", "-1"], 2, capsys)
    assert "no slice 'brand'" in failure([*pair, "--slices", "brand"], 2, capsys)
    assert "no slice 'brand'" in failure(["evaluate", *pair[2:], "--slices", "brand"], 2, capsys)
