"""The peers bench end to end with a tiny peer: trained, interrupted, resumed, ranked; messages for a missing peer."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from bench.peers import __main__ as command
from bench.peers import records
from bench.peers.environments import DRIVERS, ENVIRONMENTS
from bench.peers.knn import ItemKnn
from bench.peers.records import trained
from bench.peers.running import Folders, run
from bench.peers.systems import SYSTEMS, System
from bench.quality.table import quoted_figures
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, MtawError
from tests.support.training.ring import ring_dataset

pytest.importorskip("torch", reason="the drivers need PyTorch")

from tests.support.bench import tiny_driver

TINY = System(
    "tiny", "Tiny", None, str(Path(tiny_driver.__file__)), {"epochs": 3, "patience": 3, "batch": 64, "lr": 0.05}, "this"
)
FOREVER, ONE_STEP = 10.0, 1e-9


def folders_of(folder: Path) -> Folders:
    return Folders(folder / "results", folder / "work", folder / "environments", None)


@pytest.mark.slow
def test_a_peer_is_trained_cut_resumed_and_ranked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset, folders = ring_dataset(), folders_of(tmp_path)
    record = run(TINY, dataset, folders, ONE_STEP, test=False)
    assert record["training"]["step"] == 1
    assert record["reads"] == []
    assert "metrics" not in record
    assert all("metrics" not in result for result in trained(folders.results))
    record = run(TINY, dataset, folders, FOREVER, test=True)
    training = record["training"]
    assert (training["epochs_done"], training["epochs_asked"], training["ended"]) == (3, 3, "epochs")
    assert [read["why"] for read in record["reads"]] == ["the best of 3 epochs done, of 3 asked"]
    assert record["repeat"]["samples"] + record["non_repeat"]["samples"] == record["samples"] == len(dataset.test)
    assert record["metrics"]["P@20"] > 50
    assert record["validation"]["MRR@20"] == pytest.approx(training["best"]["MRR@20"])
    assert record["versions"]["torch"]
    assert record["made"]["machine"]["cores"] >= 1
    entry = records.entry_of(folders.results, "ring", TINY)
    # The weights are those that were read: the test set is left alone.
    assert run(TINY, dataset, folders, FOREVER, test=True)["reads"] == record["reads"]
    # A shorter training elsewhere, from its start, leaves the record as it is.
    longer = dataclasses.replace(TINY, settings={**TINY.settings, "epochs": 6})
    record, elsewhere = entry.read(), dataclasses.replace(folders, work=tmp_path / "longer")
    assert run(longer, dataset, elsewhere, ONE_STEP, test=True) == record == entry.read()
    assert "tiny: its record has a training of 57 steps, this one has 1; the record stays" in capsys.readouterr().err
    # Other settings are another training, whose figures are not those of before; the reads stay.
    other = dataclasses.replace(TINY, settings={**TINY.settings, "lr": 0.04})
    record = run(other, dataset, dataclasses.replace(folders, work=tmp_path / "again"), ONE_STEP, test=False)
    assert "metrics" not in record
    assert (record["training"]["step"], record["settings"]["lr"], len(record["reads"])) == (1, 0.04, 1)
    with pytest.raises(DataError, match="made from other data"):
        run(TINY, dataclasses.replace(dataset, fingerprint="ring-2"), folders, FOREVER, test=True)


def test_a_driver_that_fails_is_told_and_leaves_no_figures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    failing = dataclasses.replace(TINY, settings={**TINY.settings, "fails": True})
    with pytest.raises(MtawError, match="tiny: its driver ended with 1"):
        run(failing, ring_dataset(), folders_of(tmp_path), FOREVER, test=True)
    assert "the tiny peer fails, as asked" in capfd.readouterr().err
    assert not trained(tmp_path / "results")
    with pytest.raises(MtawError, match="nothing was trained yet; give it --minutes"):
        run(TINY, ring_dataset(), folders_of(tmp_path / "other"), 0, test=True)


def test_the_command_skips_ranks_and_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.support.bench.quality import write_ring

    data = ["--data", str(write_ring(tmp_path / "data")), "--dataset", "ring", "--work", str(tmp_path / "work"),
            "--results", str(tmp_path / "results")]  # fmt: skip
    monkeypatch.setattr(command, "ENVIRONMENTS", tmp_path / "none")
    assert command.main([*data, "--system", "all"]) == 0
    shown = capsys.readouterr()
    assert shown.err.count("skipped ") == len(SYSTEMS) - 1
    assert "ring Item-KNN, 1 of 1 epochs: P@20 " in shown.out
    assert [record["system"] for record in trained(tmp_path / "results")] == ["item-knn"]
    assert command.main(["--table", "--results", str(tmp_path / "results")]) == 0
    assert "### ring: quality" in capsys.readouterr().out
    for wrong, says in (
        ([], "give --data and --system"),
        (["--quick", "--system", "gru4rec"], "leave --system out"),
        ([*data, "--system", "gru4rec", "--minutes", "-1"], "give 0 or more"),
        ([*data, "--system", "nobody"], "there is no system 'nobody'"),
    ):
        assert command.main(wrong) == 2
        assert says in capsys.readouterr().err
    out = tmp_path / "peers.json"
    assert command.main(["--quick", "--json", str(out)]) == 0
    (result,) = json.loads(out.read_text())["results"]
    assert (result["bench"], result["system"], result["reads"][0]["why"]) == (
        "peers", "item-knn", "fitted on all training sessions",
    )  # fmt: skip


def test_item_knn_is_the_damped_cosine_of_the_last_click() -> None:
    sessions = Sessions.from_lists([[0, 1, 2], [1, 2, 1], [3, 0], [4, 4]])
    support = np.bincount(sessions.items, minlength=5) + 20.0
    counts = np.zeros((5, 5))
    for clicks in sessions:
        for click in clicks:
            for other in clicks:
                counts[click, other] += click != other
    expected = counts / (support[None] ** 0.25 * support[:, None] ** 0.75)
    knn = ItemKnn.fit(sessions, 5, neighbors=3, shrink=20, alpha=0.25)
    ids, scores = knn.rank(Sessions.from_lists([[4, 0], [1], [4]]), 4)
    for row, last in enumerate((0, 1, 4)):
        order = [item for item in np.argsort(-expected[last], kind="stable") if expected[last, item] > 0][:3]
        assert ids[row, : len(order)].tolist() == order
        assert scores[row, : len(order)] == pytest.approx(expected[last, order], rel=1e-6)
        assert (ids[row, len(order) :] == -1).all()
        assert np.isneginf(scores[row, len(order) :]).all()


def test_the_graph_of_gce_gnn_is_that_of_its_authors() -> None:
    import gce_gnn  # in the drivers' folder, which `tiny_driver` put in the path

    generator = np.random.default_rng(3)
    sessions = Sessions.from_lists([generator.integers(0, 25, length) for length in generator.integers(1, 9, 120)])
    near: list[dict[int, int]] = [{} for _ in range(26)]
    for clicks in sessions:  # as their build_graph.py walks
        for reach in range(1, 4):
            for position in range(len(clicks) - reach):
                item, neighbor = int(clicks[position]) + 1, int(clicks[position + reach]) + 1
                for a, b in ((item, neighbor), (neighbor, item)):
                    near[a][b] = near[a].get(b, 0) + 1
    expected = [sorted(neighbors.items(), key=lambda pair: pair[1], reverse=True)[:12] for neighbors in near]
    ids, counts = gce_gnn.global_graph(sessions.items, sessions.offsets, 25)
    assert [list(zip(*pair, strict=True)) for pair in zip(ids, counts, strict=True)] == expected


def test_the_systems_are_whole() -> None:
    assert len({system.name for system in SYSTEMS}) == len(SYSTEMS) == 12
    for system in SYSTEMS:
        settings, source = system.settings_for("tmall")
        assert source
        assert "{" not in source
        if system.driver is not None:
            assert (DRIVERS / system.driver).exists()
            assert system.environment in ENVIRONMENTS
            assert settings["epochs"] >= 10
    for figures in quoted_figures().values():
        assert {system.title for system in SYSTEMS} & set(figures)
        assert all(0 < mrr < precision < 100 for precision, mrr in figures.values())
