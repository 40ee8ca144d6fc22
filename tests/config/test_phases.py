"""The phases of a training: what the progress line counts, and what --help explains."""

from __future__ import annotations

import pytest

from mtaw_fast.cli import main
from mtaw_fast.config import preset
from mtaw_fast.config.phases import EXPLAINED, phases_of


def test_the_phases_of_the_presets() -> None:
    full, paper = preset("full"), preset("paper")
    assert phases_of(full, True) == tuple(EXPLAINED)
    assert phases_of(full, False) == ("slice", "ranker", "search", "validate")
    assert phases_of(paper, True) == ("search", "refit")
    assert phases_of(paper, False) == ("search",)
    alone = full.replace(dense_candidates=0)
    assert phases_of(alone, True) == ("ranker", "search", "validate", "ranker-refit", "refit")


def test_help_explains_every_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    reported = " ".join(capsys.readouterr().out.split())
    for name, text in EXPLAINED.items():
        assert f"{name} {text}" in reported
