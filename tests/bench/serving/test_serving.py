"""The serving bench end to end on toy catalogs: its JSON, its gates, its inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the serving bench needs the extra 'serve'")
pytest.importorskip("psutil", reason="the serving bench needs the extra 'bench'")

from bench.harness.comparison import limit_threads
from bench.serving import __main__ as serving
from bench.serving import inputs as serving_inputs
from bench.serving.inputs import catalog_bundle
from mtaw_fast.bundle import Bundle
from tests.support.bench.schema import rows_of

N_ITEMS = 2003


@pytest.fixture
def toy(monkeypatch, tmp_path) -> Path:
    """Toy sizes, and every answer checked instead of one in a hundred."""
    monkeypatch.setattr(serving, "RATES", {N_ITEMS: 120.0})
    monkeypatch.setattr(serving, "QUICK_SIZE", N_ITEMS)
    monkeypatch.setattr(serving, "_CHECKED", 1.0)
    for name, value in (("RAMP", 0.2), ("WORKERS", 1), ("CONNECTIONS", 8), ("CACHE", tmp_path / "cache")):
        monkeypatch.setattr(serving, name, value)
    return tmp_path / "cache"


def run(tmp_path: Path, *arguments: str) -> tuple[int, list[dict]]:
    status = serving.main(["--seconds", "0.8", "--json", str(tmp_path / "out.json"), *arguments])
    return status, rows_of(tmp_path / "out.json")


def test_quick_writes_the_promised_row_in_the_schema(toy, tmp_path, capsys):
    status, rows = run(tmp_path, "--quick")
    assert status == 0
    (row,) = rows
    assert (row["bench"], row["case"], row["metric"]) == ("serving", "poisson", "latency_ms")
    assert (row["params"]["catalog"], row["params"]["rate"], row["params"]["index"]) == (N_ITEMS, 120.0, "native")
    assert row["p50"] <= row["p90"] <= row["p95"] <= row["p99"] <= row["p999"]
    assert row["errors"] == 0
    assert row["checked"] >= row["n"] > 60
    assert row["recall"] == 1.0
    assert row["server_cpu_us"] > 0
    assert row["client_cpu_us"] > 0
    printed = capsys.readouterr().out
    assert "client and service share the machine's" in printed
    assert "answers are those of offline rankings, recall@20 1.0000" in printed
    assert "errors: none" in printed


def test_a_wrong_answer_gets_no_row_and_fails_the_bench(toy, tmp_path, monkeypatch, capsys):
    bundle = catalog_bundle(N_ITEMS, toy, lambda _: None)
    other = catalog_bundle(N_ITEMS, toy, lambda _: None, seed=1)
    # The service serves another bundle than the one that its answers are compared with.
    from bench.serving import service_process

    right = service_process.Service.__init__
    monkeypatch.setattr(
        service_process.Service,
        "__init__",
        lambda self, _, *arguments, **options: right(self, other, *arguments, **options),
    )
    assert bundle != other
    status, rows = run(tmp_path, "--quick")
    assert (status, rows) == (1, [])
    assert "no latency is reported" in capsys.readouterr().err


def test_a_curve_goes_up_in_rate_and_ends(toy, tmp_path, monkeypatch):
    monkeypatch.setattr(serving, "CURVE_FROM", 30.0)
    monkeypatch.setattr(serving, "_CURVE_MAX", 50.0)
    status, rows = run(tmp_path, "--curve", "--items", str(N_ITEMS))
    assert status == 0
    assert [row["params"]["rate"] for row in rows] == [30, 45]


def test_an_approximate_index_is_built_once_and_states_its_recall(tmp_path, monkeypatch):
    pytest.importorskip("faiss", reason="FAISS needs the extra 'cpu'")
    monkeypatch.setattr(serving_inputs, "_HELD_OUT", 20_000)
    plain = catalog_bundle(2000, tmp_path, lambda _: None)
    lines: list[str] = []
    monkeypatch.setattr("mtaw_fast.export.index.EXACT_ITEMS", 1000)
    with limit_threads(1):  # the threads of FAISS wait for each other for seconds where others use the cores
        folder = serving_inputs.with_ann_index(plain, 0.9, lines.append)
    assert lines
    lines.clear()
    assert serving_inputs.with_ann_index(plain, 0.9, lines.append) == folder
    assert not lines
    bundle = Bundle.load(folder)
    assert bundle.manifest["index"]["recall"]["sessions"] >= 0.9
    assert "etude" in bundle.manifest["index"]["recall"]["source"]
    assert Bundle.load(plain).manifest.get("index") is None
