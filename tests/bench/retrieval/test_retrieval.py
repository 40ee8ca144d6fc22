"""The retrieval bench end to end on toy catalogs: its JSON, its gates, its curve."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("faiss", reason="the retrieval bench needs the extra 'bench'")
pytest.importorskip("rich", reason="the retrieval bench needs the extra 'bench'")

from bench.harness import machine
from bench.harness.comparison import Plan, WrongAnswerError, compare, limit_threads
from bench.harness.floors import scan_floor
from bench.retrieval import __main__ as retrieval
from bench.retrieval import vectors as retrieval_data
from bench.retrieval.cases import K, RetrievalCases
from bench.retrieval.vectors import VectorSet, generated_set
from mtaw_fast.ranking.retrieval import make_index
from tests.support.bench.schema import rows_of

N = 2500
TINY = Plan(rounds=3, burst=2, settle=1, warmup=1)


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch, cheap_timing: None) -> Iterator[None]:
    for name in ("_PLAN", "_BATCH_PLAN", "_QUICK_PLAN"):
        monkeypatch.setattr(retrieval, name, TINY)
    monkeypatch.setattr(retrieval, "QUICK_SIZES", (N,))
    monkeypatch.setattr(retrieval, "_ANN_ITEMS", N)
    monkeypatch.setattr(retrieval_data, "QUERIES", 600)
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    with limit_threads(1):  # the threads of FAISS wait for each other for seconds where others use the cores
        yield


def test_quick_is_the_batch_1_case_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert retrieval.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    row, panorama = rows_of(tmp_path / "out.json")
    assert (row["bench"], row["case"], row["metric"], row["baseline"]) == (
        "retrieval", "exact", "latency_us", "faiss-flat",
    )  # fmt: skip
    assert panorama["baseline"] == "faiss-panorama"
    assert row["params"] == {
        "catalog": N, "d": 100, "data": "clustered", "k": K, "batch": 1, "threads": 1, "index": "native",
    }  # fmt: skip
    assert "pure read of the int8 bytes" in row["floor_what"]
    assert "no approximate index over 2,500 items" in capsys.readouterr().out


def test_all_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "_CACHE", tmp_path / "cache")
    command = ["--items", str(N), "--json", str(tmp_path / "out.json")]
    assert retrieval.main(command) == 0
    rows = rows_of(tmp_path / "out.json")
    assert [(row["case"], row["baseline"]) for row in rows] == [
        ("exact", "faiss-flat"),
        ("exact", "faiss-panorama"),
        ("exact-batch", "faiss-flat"),
        ("exact-batch", "faiss-flat-blas1"),
        ("exact-batch", "faiss-panorama"),
        ("ladder", "faiss-flat"),
        ("ladder", "exact-native"),
    ]
    assert rows[-1]["params"]["recall"] >= 0.99
    assert rows[-1]["params"]["kind"] == "ivfpq"


def toy_cases(vectors: VectorSet) -> RetrievalCases:
    exact = make_index("native", vectors.catalog, vectors.codes)
    blocks = vectors.codes["blocks"]
    return RetrievalCases(vectors, exact, scan_floor(blocks, repeats=2), TINY)


def test_a_wrong_exact_index_gets_no_row() -> None:
    vectors = generated_set(N, d=20)
    cases = toy_cases(vectors)
    assert compare(cases.exact_case(1, TINY)).ours.n == 6

    class Off:
        name = "off"

        def search(self, *arguments, **options):
            ids, scores = cases.exact.search(*arguments, **options)
            return ids, np.nextafter(scores, np.float32(2))  # one bit too high

    for batch in (1, 64):
        with pytest.raises(WrongAnswerError, match="not those of float64 brute force"):
            compare(dataclasses.replace(cases, exact=Off()).exact_case(batch, TINY))
