"""Short soaks, and proof that a soak notices leaks. Each runs in a process of its own, without other tests' memory."""

from __future__ import annotations

import dataclasses
import mmap
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import pytest

from mtaw_fast.recommender import Recommender
from tests import soak as soak_module
from tests.soak import Outcome, recommender, soak
from tests.soak_learning import LearningOutcome, learning_soak

P = ParamSpec("P")
T = TypeVar("T")
pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc/self/status")


@pytest.mark.parametrize("memory", [False, True], ids=["alone", "memory"])
def test_nothing_grows_or_changes(tmp_path: Path, memory: bool) -> None:
    outcome = _in_new_process(_soak, tmp_path, memory)
    assert outcome.calls > 1000
    assert outcome.changed == 0
    assert not outcome.grew, str(outcome)


def test_a_leak_and_a_changed_answer_are_noticed(tmp_path: Path) -> None:
    outcome = _in_new_process(_leaking_soak, tmp_path)
    assert outcome.grew, str(outcome)
    assert outcome.rise_per_call > 100
    assert outcome.changed > 1000


def test_learning_keeps_memory_flat_and_answers_as_a_rebuild(tmp_path: Path) -> None:
    outcome = _in_new_process(learning_soak, tmp_path, 3.0, 2000.0)
    assert outcome.events > 1000
    assert outcome.rankings > 1000
    assert not outcome.failed, str(outcome)


def test_a_peak_that_rises_fails_a_soak_that_learns() -> None:
    good = LearningOutcome(9000, 0, 9000, 3.0, 5, 0, 100 << 20, 110 << 20, 1.0, 0)
    assert not good.failed
    assert dataclasses.replace(good, later=119 << 20).failed
    assert dataclasses.replace(good, differing=1).failed
    assert dataclasses.replace(good, agreement=0.98).failed


@pytest.mark.long(caught="test_a_peak_that_rises_fails_a_soak_that_learns, with numbers instead of a leak")
def test_a_leak_while_learning_is_noticed(tmp_path: Path) -> None:
    outcome = _in_new_process(_leaking_learning_soak, tmp_path)
    assert outcome.grew, str(outcome)
    assert outcome.differing == 0


def _in_new_process(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call the function in a fresh interpreter and return its result."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _soak(folder: Path, memory: bool) -> Outcome:
    return soak(recommender(folder, memory), calls=75_000, seconds=60, warm_up=0.67)


def _leaking_soak(folder: Path) -> Outcome:
    kept: list[mmap.mmap] = []
    requests = soak_module.requests

    def leaking(rec: Recommender) -> list[Callable[[], Any]]:
        def leak() -> Any:
            _leak(kept, 1 << 14)
            return rec.recommend([f"sku-{len(kept) % 7}"], 5)

        return [*requests(rec)[:1], leak]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(soak_module, "requests", leaking)
        return soak(recommender(folder), calls=10_000, seconds=60)


def _leaking_learning_soak(folder: Path) -> LearningOutcome:
    kept: list[mmap.mmap] = []
    latest, recommend = [0.0], Recommender.recommend

    def leaking(rec: Recommender, *args: Any, **kwargs: Any) -> Any:
        compacted = rec.bundle.model.log_progress is not None  # before that, nothing is compared
        if compacted and time.monotonic() - latest[0] > 0.02:
            latest[0] = time.monotonic()
            _leak(kept, 1 << 20)
        return recommend(rec, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Recommender, "recommend", leaking)
        return learning_soak(folder, seconds=1.5, rate=2000)


def _leak(kept: list[mmap.mmap], size: int) -> None:
    # A mapping, not the heap: that may have free space for it.
    kept.append(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
    kept[-1].write(bytes(size))
