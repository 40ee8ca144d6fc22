"""The bench of ablations: what it removes is gone, and every variant has a line, also after a stop."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="bench.quality needs the extra 'train'")

from bench.quality import ablations
from bench.quality.ablations import ENCODER, ENCODERS, RANKERS
from bench.quality.table import ablations as table
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.memory_query import feature_names
from tests.support.bench.quality import TINY, write_ring

SETTINGS = [one for one in TINY[: TINY.index("--threads")] if one != "--set"]


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> ablations.Study:
    folder = tmp_path_factory.mktemp("ablations")
    write_ring(folder / "data")
    return ablations.Study(ablations.prepared(folder / "data", "ring", folder / "work"), folder / "work")


def test_parameters_fixed_at_zero_stay_there_and_others_learn(study: ablations.Study) -> None:
    config = ablations.preset(ENCODER).override(SETTINGS)
    for variant in ENCODERS.values():
        for name, weights in study._encoder(config, study.train_sessions, variant.fixed).items():
            assert (not weights.any()) == (name in variant.fixed), name


def test_a_set_with_times_is_refused(study: ablations.Study, tmp_path: Path) -> None:
    """Its models would have no trends, while the ranker's samples have."""
    train = replace(study.dataset.train, times=np.arange(study.dataset.train.n_clicks, dtype=np.int64))
    with pytest.raises(UsageError, match="ring has click times: ablations are measured"):
        ablations.Study(replace(study.dataset, train=train), tmp_path)


def test_left_out_features_exist() -> None:
    names = feature_names()
    for variant in RANKERS.values():
        assert set(variant.excluded) <= set(names)


def test_every_variant_has_a_line_and_a_second_run_trains_nothing(
    study: ablations.Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    out = tmp_path / "out.jsonl"
    work = study._folder.parent
    options = ["--data", str(work.parent / "data"), "--dataset", "ring", "--work", str(work), "--seeds", "1"]
    tiny = [*SETTINGS, "ranker_epochs=1", "ranker_samples=100"]
    call = [*options, "--out", str(out), "--threads", "1", *(part for one in tiny for part in ("--set", one))]
    assert ablations.main(call) == 0
    lines = out.read_text()
    found = {line["variant"]: line for line in map(json.loads, lines.splitlines())}
    assert list(found) == [*ENCODERS, *RANKERS]
    assert len({line["samples"] for line in found.values()}) == 1
    for name, line in found.items():
        assert ("difference" in line) == (name not in ("paper", "full"))
        assert ("difference_deviation" in line) == ("difference" in line)
        assert 0 < line["MRR@20"] <= line["P@20"] <= 100
    monkeypatch.setattr(ablations, "fit_encoder", None)
    monkeypatch.setattr(ablations, "fit_samples", None)
    assert ablations.main(call) == 0
    assert out.read_text() == lines
    capsys.readouterr()
    assert ablations.main(["--table", "--out", str(out)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + len(found)


def test_the_spread_over_seeds(study: ablations.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    count = len(study.samples)
    gains = {("full", 0): 50.0, ("full", 1): 52.0, ("learning", 0): 51.0, ("learning", 1): 56.0}
    monkeypatch.setattr(
        ablations.Study, "gains", lambda self, name, seed: np.tile([gains[name, seed], 10.0 + seed], (count, 1))
    )
    lines = list(ablations.lines_of(study, 2, ["full", "learning"]))
    whole, learning = lines
    assert whole["deviation"] == {"P@20": round(2**0.5, 2), "MRR@20": round(0.5**0.5, 2)}
    assert learning["difference_deviation"] == {"P@20": round(3 * 0.5**0.5, 2), "MRR@20": 0.0}
    rows = table(lines).splitlines()
    assert "| 51.00 ± 1.41 / 10.50 ± 0.71 " in rows[2]
    assert "| +2.50 ± 2.12 [+2.50, +2.50] / +0.00 ± 0.00 [+0.00, +0.00] " in rows[3]
