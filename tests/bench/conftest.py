"""What tests of benches share."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from bench.harness import comparison, floors


@pytest.fixture
def cheap_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip what makes a figure precise: collections of garbage before each case, and many repeats of a floor."""
    fastest = floors._fastest
    monkeypatch.setattr(floors, "_fastest", lambda key, run, repeats, seconds: fastest(key, run, 2, seconds))
    quiet = SimpleNamespace(collect=lambda: 0, freeze=lambda: None, unfreeze=lambda: None)
    monkeypatch.setattr(comparison, "gc", quiet)
    monkeypatch.setattr(comparison, "_RESAMPLES", 50)
