"""The encoder bench on toy sizes: its JSON and its gate."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch", reason="the encoder bench needs the extra 'train'")
pytest.importorskip("faiss", reason="the encoder bench needs the extra 'cpu'")

from bench.harness.comparison import Plan
from bench.throughput import encoder, encoder_cases
from mtaw_fast.kernels.native.encoder import SessionEncoder, SessionState
from tests.support.bench.schema import rows_of


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch, cheap_timing: None) -> None:
    """Toy sizes and few calls, with everything else as it is."""
    monkeypatch.setattr(encoder, "_QUICK_PLAN", Plan(rounds=3, burst=2, settle=1, warmup=1))
    monkeypatch.setattr(encoder, "CATALOG", 517)
    monkeypatch.setattr(encoder_cases, "_SESSIONS", 16)
    monkeypatch.setattr(encoder, "QUICK_LENGTHS", (1, 4, 512))


def rows(path: Path) -> list[tuple[str, int, str]]:
    return [(row["case"], row["params"]["clicks"], row["baseline"]) for row in rows_of(path)]


def test_every_length_and_baseline(tmp_path: Path) -> None:
    assert encoder.main(["--quick", "--json", str(tmp_path / "out.json")]) == 0
    cases = [("encode", 1), ("append", 1), ("encode", 4), ("append", 4), ("encode", 512)]
    assert rows(tmp_path / "out.json") == [(*case, name) for case in cases for name in ("torch-eager", "numpy")]


@pytest.mark.parametrize(
    ("kind", "method", "left"), [(SessionEncoder, "encode", "append"), (SessionState, "append", "encode")]
)
def test_a_wrong_vector_gets_no_speed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, method: str, left: str
) -> None:
    monkeypatch.setattr(encoder, "QUICK_LENGTHS", (4,))
    right = getattr(kind, method)
    monkeypatch.setattr(kind, method, lambda *arguments: right(*arguments) * 1.001)
    assert encoder.main(["--quick", "--json", str(tmp_path / "out.json")]) == 1
    assert {case for case, _, _ in rows(tmp_path / "out.json")} == {left}
