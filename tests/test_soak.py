"""A short soak, and proof that the soak would notice."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.recommender import Recommender
from tests import soak as soaking
from tests.soak import recommender, soak
from tests.soak_learning import learning_soak

_PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc/self/status")


@pytest.fixture
def rec(tmp_path: Path) -> Recommender:
    return recommender(tmp_path)


@pytest.mark.parametrize("memory", [False, True], ids=["alone", "memory"])
def test_nothing_grows_or_changes(tmp_path: Path, memory: bool) -> None:
    outcome = soak(recommender(tmp_path, memory), calls=20_000, seconds=60)
    assert outcome.calls > 1000
    assert outcome.changed == 0
    assert not outcome.grew, str(outcome)


def test_a_leak_and_a_changed_answer_are_noticed(rec: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    requests = soaking.requests

    def leaking(rec: Recommender) -> list[Callable[[], Any]]:
        def leak() -> Any:
            kept.append(mmap.mmap(-1, 1 << 14, flags=_PRIVATE))  # not from a heap that may have room left
            kept[-1].write(bytes(1 << 14))
            return rec.recommend([f"sku-{len(kept) % 7}"], 5)

        return [*requests(rec)[:1], leak]

    monkeypatch.setattr(soaking, "requests", leaking)
    outcome = soak(rec, calls=10_000, seconds=60)
    assert outcome.grew, str(outcome)
    assert outcome.rise_per_call > 100
    assert outcome.changed > 1000


def test_learning_keeps_memory_flat_and_answers_as_a_rebuild(tmp_path: Path) -> None:
    outcome = learning_soak(tmp_path, seconds=5, rate=2000)
    assert outcome.events > 5000
    assert outcome.rankings > 1000
    assert outcome.compactions > 0
    assert not outcome.failed, str(outcome)


def test_a_leak_while_learning_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[mmap.mmap] = []
    observe = Recommender.observe
    size = 1 << 18  # the process may be that of all tests, with more than a gigabyte of its own

    def leaking(rec: Recommender, session: str, items: list[int], at: int) -> str:
        kept.append(mmap.mmap(-1, size, flags=_PRIVATE))
        kept[-1].write(bytes(size))
        return observe(rec, session, items, at)

    monkeypatch.setattr(Recommender, "observe", leaking)
    outcome = learning_soak(tmp_path, seconds=1.5, rate=2000)
    assert outcome.grew, str(outcome)
    assert outcome.differing == 0
