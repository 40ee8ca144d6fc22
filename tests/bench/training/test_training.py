"""The training bench end to end on toy sizes: its JSON, its gates, its peers and its stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module

import numpy as np
import pytest

pytest.importorskip("torch", reason="the training bench needs the extra 'train'")


from bench.harness.comparison import Plan
from bench.training import __main__ as training
from bench.training import loss_case, loss_peers
from bench.training.loss_peers import EAGER_BF16, EAGER_FP32, LINEAR_CE, LossShape, Peer
from mtaw_fast.config import Config
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from tests.support.bench.schema import rows_of

SHAPE = LossShape(rows=24, items=307, d=12)


@pytest.fixture
def toy(monkeypatch, cheap_timing):
    """Toy sizes and few calls; nothing is compiled, and memory is a fixed figure after running the work."""
    tiny = Plan(rounds=3, burst=1, settle=0, warmup=1)
    monkeypatch.setattr(training, "_LOSS", tiny)
    monkeypatch.setattr(training, "_QUICK_LOSS", tiny)
    monkeypatch.setattr(training, "SHAPES", (asdict(SHAPE), asdict(SHAPE) | {"gamma": 0.0}))
    import_module("torch._inductor.config")  # reads CXX once, when it is imported
    monkeypatch.setenv("CXX", "no-such-compiler")

    def run_here(prepare: Callable[..., Callable[[], None]], shape: LossShape, peer: Peer | None, *rest) -> int:
        prepare(shape, peer, *rest)()
        return 2_000_000 if peer is None else 6_000_000

    monkeypatch.setattr(loss_case, "peak_of_prepared", run_here)


def dataset(n_items: int = 120, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    train = Sessions.from_lists([rng.integers(0, n_items, rng.integers(2, 9)) for _ in range(60)])
    test = Samples.from_sessions(Sessions.from_lists([rng.integers(0, n_items, 6) for _ in range(5)]), 1)
    return Dataset("toy-shop", train, test, ItemIds.from_list([f"sku-{i}" for i in range(n_items)]))


@pytest.mark.usefixtures("toy")
def test_one_row_a_peer_with_speed_and_memory(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert training.main(["--quick", "--threads", "1", "--json", str(out)]) == 0
    rows = rows_of(out)
    peers = {EAGER_FP32, EAGER_BF16, LINEAR_CE}
    for case, metric in (("aw_loss", "latency_ms"), ("aw_loss-memory", "peak_extra_mb")):
        case_rows = [row for row in rows if row["case"] == case]
        assert {row["baseline"] for row in case_rows} == peers
        for row in case_rows:
            assert (row["bench"], row["metric"]) == ("training", metric)
            params = row["params"]
            assert (params["catalog"], params["batch"], params["d"], params["threads"]) == (307, 24, 12, 1)
            assert params["backend"] in ("chunked", "native")
            assert row["floor"] > 0
    memory = [row for row in rows if row["metric"] == "peak_extra_mb"]
    assert {(row["p50"], row["ratio"]) for row in memory} == {(2.0, 3.0)}
    printed = capsys.readouterr().out
    assert "torch-compile is left out: the C++ compiler 'no-such-compiler' does not exist" in printed
    assert "rows a chunk" in printed
    assert "epoch: left out; give it a data set with --data" in printed


@pytest.mark.usefixtures("toy")
def test_the_whole_bench_adds_shapes_and_the_epoch_with_its_floor(tmp_path):
    dataset().save(tmp_path / "data")
    out = tmp_path / "out.json"
    arguments = ["--threads", "1", "--data", str(tmp_path / "data"), "--json", str(out)]
    assert training.main(arguments) == 0
    rows = rows_of(out)
    assert {row["params"]["gamma"] for row in rows if row["case"] == "aw_loss"} == {0.0, 2.0}
    (epoch,) = [row for row in rows if row["case"] == "epoch"]
    assert (epoch["metric"], epoch["baseline"], epoch["n"]) == ("epoch_s", None, 1)
    assert epoch["params"]["samples"] == int((dataset().train.lengths - 1).sum())
    assert epoch["params"]["batch"] == Config().optimizer.batch_prefixes
    assert 0 < epoch["floor"] < epoch["p50"]
    assert "exponentials" in epoch["floor_what"]


@pytest.mark.usefixtures("toy")
def test_a_wrong_peer_gets_no_speed_and_fails_the_bench(tmp_path, monkeypatch, capsys):
    right = loss_peers._dense_ce
    monkeypatch.setattr(loss_peers, "_dense_ce", lambda q, e, y, reduction: 1.05 * right(q, e, y, reduction))
    assert training.main(["--quick", "--threads", "1", "--json", str(tmp_path / "out.json")]) == 1
    assert {row["baseline"] for row in rows_of(tmp_path / "out.json")} == {LINEAR_CE}
    assert "refused: aw_loss: torch-eager-fp32: the loss is" in capsys.readouterr().err


def test_a_whole_training_has_its_time_on_the_clock_and_on_the_processor(tmp_path):
    dataset().save(tmp_path / "data")
    out = tmp_path / "out.json"
    assert (
        training.main(["--preset", "paper", "--threads", "1", "--data", str(tmp_path / "data"), "--json", str(out)])
        == 0
    )
    assert {(row["case"], row["metric"]) for row in rows_of(out)} == {
        ("train", "train_s"), ("train", "train_processor_s")
    }  # fmt: skip
    assert {row["params"]["preset"] for row in rows_of(out)} == {"paper"}
