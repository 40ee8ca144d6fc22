"""A Recommender in a process that forks while other threads work: no child waits for a thread of the parent."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.ranking.encoders.native_encoder import NativeEncoder
from mtaw_fast.recommender import Recommender
from tests.support.forks import PATIENCE, child
from tests.support.online.recommenders import parts
from tests.support.random_bundle import save_random


@pytest.mark.parametrize("busy", ["add_items", "session"])
def test_children_of_a_busy_recommender_add_items_and_rank(
    tmp_path: Path, busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fork happens while another thread has the lock."""
    save_random(tmp_path, n_items=200, max_session_length=6)
    rec = Recommender.load(tmp_path)
    visit = rec.session(["sku-1", "sku-2"])
    expected = visit.recommend(5).items
    owner, name = (rec._served, "_updating") if busy == "add_items" else (visit, "_lock")
    locked, go = threading.Event(), threading.Event()

    def keep_lock() -> None:
        with getattr(owner, name):
            locked.set()
            go.wait(PATIENCE)

    thread = threading.Thread(target=keep_lock)
    thread.start()
    locked.wait()

    def work() -> None:
        rec.add_items(["fresh"], neighbors=[["sku-3", "sku-4"]])
        assert "fresh" in rec.recommend(["sku-3", "sku-4"], 200).items
        assert visit.click("sku-5").recommend(5).items

    assert child(work) == 0
    go.set()
    thread.join()
    assert visit.recommend(5).items == expected


def children_amid(work: Callable[[int], object], in_child: Callable[[], object], count: int = 8) -> list[int]:
    """Return the wait statuses of `count` children, forked while two threads repeat `work`."""
    stop = threading.Event()

    def again() -> None:
        for time in itertools.count():
            if stop.is_set():
                return
            work(time)

    threads = [threading.Thread(target=again) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        return [child(in_child) for _ in range(count)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_children_of_one_whose_memory_is_read_teach_it_and_rank(tmp_path: Path) -> None:
    Bundle.save(tmp_path, parts(), metrics={}, dataset={})
    rec = Recommender.load(tmp_path)
    rec.add_items(["first"], neighbors=[["sku-3"]])  # from here on rankings read a delta, under its lock

    def in_child() -> None:
        rec.add_items(["second"], neighbors=[["sku-3"]])
        assert "second" in rec.recommend(["sku-3"], 60).items

    batch = [["sku-1", "sku-3"]] * 200
    assert children_amid(lambda _: rec.recommend_batch(batch, 20), in_child) == [0] * 8


_ENDS_AMID_WORK = """
import sys, threading, time
from mtaw_fast import Recommender

rec = Recommender.load(sys.argv[1])

def rank():
    while True:
        rec.recommend(["sku-1", "sku-2"], 20)

for _ in range(2):
    threading.Thread(target=rank, daemon=True).start()
time.sleep(0.2)
"""


def test_a_process_may_end_while_a_daemon_thread_ranks(tmp_path: Path) -> None:
    save_random(tmp_path, n_items=2000)
    for _ in range(3):
        process = subprocess.run(
            [sys.executable, "-c", _ENDS_AMID_WORK, str(tmp_path)], capture_output=True, check=False
        )
        assert (process.returncode, process.stderr) == (0, b"")


_ENDS_WITH_WORK = """
import sys
from mtaw_fast import Recommender

def visits(rec):
    visit = rec.session(["sku-1"])
    try:
        while True:
            yield visit.recommend(5)
    finally:  # the interpreter closes it, in its end
        visit.click("sku-2")
        print(len(rec.recommend(["sku-1", "sku-2"], 5)))

visit = visits(Recommender.load(sys.argv[1]))
next(visit)
"""


def test_what_ends_with_the_process_may_still_rank(tmp_path: Path) -> None:
    save_random(tmp_path, n_items=200)
    command = [sys.executable, "-c", _ENDS_WITH_WORK, str(tmp_path)]
    process = subprocess.run(command, capture_output=True, check=False, timeout=PATIENCE)
    assert (process.returncode, process.stdout, process.stderr) == (0, b"5\n", b"")


@pytest.mark.parametrize("forks", [20, pytest.param(200, marks=pytest.mark.long(caught="here, more rarely"))])
def test_children_of_one_whose_session_is_encoded_ask_it(tmp_path: Path, forks: int) -> None:
    save_random(tmp_path, n_items=1000, max_session_length=400, embedding_dim=128)
    encoder = Recommender.load(tmp_path).encoder
    assert isinstance(encoder, NativeEncoder)
    session, clicks = encoder.session(), np.arange(400, dtype=np.int32)
    session.extend(clicks)

    def in_child() -> None:
        query, known = session.query(), session.clicks
        assert np.array_equal(query, encoder.encoder.encode(known, np.array([0, len(known)]))[0])
        session.extend(clicks[:7])

    # One fork in about a thousand came amid the exchange of the clicks.
    assert children_amid(lambda time: session.extend(np.roll(clicks, time)), in_child, count=forks) == [0] * forks


def test_forks_amid_real_work(tmp_path: Path) -> None:
    save_random(tmp_path, n_items=200, max_session_length=6)
    rec = Recommender.load(tmp_path)
    visit = rec.session(["sku-1"])

    def work(count: int) -> None:
        visit.click(f"sku-{count % 50}").recommend(5)
        if count % 10 == 0:
            rec.add_items([f"fresh-{threading.get_ident()}-{count}"], neighbors=[["sku-3"]])

    def in_child() -> None:
        rec.add_items([f"child-{os.getpid()}"], neighbors=[["sku-3"]])
        visit.click("sku-7").recommend(5)

    assert children_amid(work, in_child) == [0] * 8
