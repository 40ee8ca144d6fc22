"""The throughput benches end to end on a toy catalog: their JSON, their gate, their inputs."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest

pytest.importorskip("torch", reason="the throughput bench needs the extra 'train'")
pytest.importorskip("faiss", reason="the throughput bench needs the extra 'cpu'")

from bench.harness import workload
from bench.harness.comparison import Plan
from bench.harness.eager_faiss import EagerFaiss
from bench.throughput import __main__ as throughput
from bench.throughput import encoder, rates
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.data.sessions import Samples, Sessions
from mtaw_fast.memory import MemoryTables
from tests.support.bench.schema import rows_of
from tests.support.random_bundle import memory_parts, save_parts

N_ITEMS = 1003


@pytest.fixture
def toy(monkeypatch, cheap_timing):
    """Toy sizes and few calls, with everything else as it is."""
    tiny = Plan(rounds=3, burst=2, settle=1, warmup=1)
    for name in ("_QUICK_SERVING", "_QUICK_RATE"):
        monkeypatch.setattr(throughput, name, tiny)
    monkeypatch.setattr(throughput, "QUICK_SIZES", (N_ITEMS,))
    monkeypatch.setattr(throughput, "_RATE_CALLS", 4)
    monkeypatch.setattr(workload, "_SESSIONS", 128)
    monkeypatch.setattr(workload, "_PAST", 300)


def dataset(n_items: int = 300, seed: int = 0) -> Dataset:
    rng = np.random.default_rng(seed)
    train = Sessions.from_lists([rng.integers(0, n_items, rng.integers(2, 9)) for _ in range(200)])
    test = Samples.from_sessions(Sessions.from_lists([rng.integers(0, n_items, 6) for _ in range(40)]), 1)
    return Dataset("toy-shop", train, test, ItemIds.from_list([f"sku-{i}" for i in range(n_items)]))


@pytest.mark.usefixtures("toy")
def test_quick_writes_the_promised_cases_in_the_schema(tmp_path, capsys):
    assert throughput.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    rows = rows_of(tmp_path / "out.json")
    assert [(row["case"], row["baseline"]) for row in rows] == [
        ("recommend-times", "without-times"), ("recommend-types", "without-types"), ("recommend", "eager-faiss"),
        ("recommend", "onnx-graph"), ("encode", "eager-faiss"), ("retrieve", "eager-faiss"),
        *[("recommend-rate", None)] * 3,
    ]  # fmt: skip
    assert all((row["params"]["catalog"], row["params"]["threads"]) == (N_ITEMS, 1) for row in rows)
    recommend, rates = rows[2], [row["params"] for row in rows if row["case"] == "recommend-rate"]
    assert [(rate["workers"], rate["by"], rate["calls"]) for rate in rates] == [
        (1, "threads", 4), (2, "threads", 8), (2, "processes", 8)
    ]  # fmt: skip
    params = {"k": 20, "batch": 1, "clicks": 10, "encoder": "native", "index": "native"}
    assert params.items() <= recommend["params"].items()
    assert (recommend["metric"], recommend["n"]) == ("latency_us", 6)
    assert all(row["floor"] > 0 for row in rows[2:] if row["case"] != "recommend-rate")
    printed = capsys.readouterr().out
    assert "calls a second: 1 threads " in printed
    assert "pure read of the int8 bytes" in printed


@pytest.mark.usefixtures("toy")
def test_what_answers_wrong_gets_no_speed_and_fails_the_bench(tmp_path, monkeypatch, capsys):
    right, bursts = EagerFaiss.search, rates.bursts

    def wrong(self, queries, k):
        ids, logits = right(self, queries, k)
        return np.roll(ids, 1, axis=1), logits

    @contextmanager
    def reversed_threads(by, *arguments):
        with bursts(by, *arguments) as burst:
            yield (lambda: [items[::-1] for items in burst()]) if by == "threads" else burst

    monkeypatch.setattr(EagerFaiss, "search", wrong)
    monkeypatch.setattr(rates, "bursts", reversed_threads)
    assert throughput.main(["--quick", "--json", str(tmp_path / "out.json")]) == 1
    rows = rows_of(tmp_path / "out.json")
    assert "retrieve" not in {row["case"] for row in rows}
    assert [row["baseline"] for row in rows if row["case"] == "recommend"] == ["onnx-graph"]
    assert [row["params"]["by"] for row in rows if row["case"] == "recommend-rate"] == ["processes"]
    refusals = capsys.readouterr().err
    assert "refused: recommend: eager-faiss: session 0, rank 1" in refusals
    assert "refused: recommend-rate: ours: 2 threads give other answers than one" in refusals


@pytest.mark.usefixtures("toy")
def test_data_with_a_bundle_that_has_a_memory(tmp_path, monkeypatch):
    """Both are the user's, at two batch sizes."""
    monkeypatch.setattr(throughput, "QUICK_BATCHES", (1, 16))
    bundle = workload.generated(300, tmp_path / "plain").bundle
    data = dataset()
    data.save(tmp_path / "data")
    parts = {name: getattr(bundle, name) for name in ("config", "weights", "ids", "popularity", "metrics", "dataset")}
    parts |= memory_parts(300) | {"memory": MemoryTables.build(data.train, 300)}
    save_parts(tmp_path / "bundle", **parts)
    options = ["--data", str(tmp_path / "data"), "--bundle", str(tmp_path / "bundle"), "--json", f"{tmp_path}/out.json"]
    assert throughput.main(["--quick", *options]) == 0
    rows = {(row["case"], row["params"]["batch"]): row for row in rows_of(tmp_path / "out.json")}
    serving = {(case, batch) for case in ("recommend", "encode", "retrieve", "memory") for batch in (1, 16)}
    assert rows.keys() == serving | {("recommend-rate", 1)}
    assert {row["params"]["data"] for row in rows.values()} == {"toy-shop"}
    memory, recommend = rows["memory", 1], rows["recommend", 1]
    assert memory["baseline"] is None
    assert "the ranker over" in memory["floor_what"]
    assert "the ranker over" in recommend["floor_what"]


@pytest.fixture
def toy_encoder(monkeypatch, cheap_timing):
    """The encoder bench at toy sizes."""
    monkeypatch.setattr(encoder, "_QUICK_PLAN", Plan(rounds=3, burst=2, settle=1, warmup=1))
    monkeypatch.setattr(encoder, "CATALOG", 517)
    monkeypatch.setattr(encoder, "_SESSIONS", 16)
    monkeypatch.setattr(encoder, "QUICK_LENGTHS", (1, 4, 512))


@pytest.mark.usefixtures("toy_encoder")
def test_the_encoder_has_every_length_and_baseline(tmp_path):
    assert encoder.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    found = [(row["case"], row["params"]["clicks"], row["baseline"]) for row in rows_of(tmp_path / "out.json")]
    cases = [("encode", 1), ("append", 1), ("encode", 4), ("append", 4), ("encode", 512)]
    assert found == [(*case, name) for case in cases for name in ("torch-eager", "numpy")]
