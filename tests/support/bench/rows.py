"""Rows of result files, and their machine."""

from __future__ import annotations

from typing import Any

MACHINE = {
    "cpu": "AMD EPYC", "cpu_family": "26", "cpu_model": "2", "flags": ["avx2", "avx512_bf16"], "cores": 2,
    "arch": "x86_64", "gpus": [], "packages": {"numpy": "2.4.0", "mtaw-fast": "0.1.0"},
}  # fmt: skip


def row(ratio: float | None = 4.0, spread: float | None = 0.05, **changed: Any) -> dict[str, Any]:
    """A row whose ratio's interval reaches `spread` of it to both sides."""
    fields: dict[str, Any] = {
        "bench": "retrieval", "case": "exact", "params": {"catalog": 1000, "threads": 1}, "metric": "latency_us",
        "p50": 50.0, "p95": 60.0, "p99": 70.0, "n": 100, "baseline": None if ratio is None else "faiss-flat",
        "ratio": ratio, "floor": None, "floor_what": None,
    }  # fmt: skip
    if ratio is not None and spread is not None:
        fields |= {"ratio_low": ratio * (1 - spread), "ratio_high": ratio * (1 + spread)}
    return fields | changed
