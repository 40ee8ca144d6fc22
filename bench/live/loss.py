"""Kill a process that observes clicks at random moments, and check what it had acknowledged."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.live.inputs import ALL, make_shop
from bench.live.observer import SESSION
from mtaw_fast.errors import MtawError
from mtaw_fast.online.log.event_log import START
from mtaw_fast.online.log.events import Click
from mtaw_fast.online.log.file_log import FileLog
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.online.state.session_tracker import key_of
from mtaw_fast.recommender import Recommender

_N_ITEMS, _PAST = 1000, 20_000
_MAX_ACKS, _MAX_DELAY = 300, 0.003
_AGAIN = 3  # acknowledged events that the next process sends again, as a client in doubt does
_READ = 10_000


@dataclass(frozen=True, slots=True)
class Loss:
    """The result of some kills.

    acknowledged: events. lost: those of them that are not in the log, or not learned in their session. doubled: clicks
    that a session learned in excess of its events. damaged: records that a kill cut short. reopen: seconds to learn
    the whole log again.
    """

    kills: int
    acknowledged: int
    lost: int
    doubled: int
    damaged: int
    reopen: float

    def __str__(self) -> str:
        return (
            f"{self.kills} kills: {self.acknowledged} events acknowledged, {self.lost} lost, {self.doubled} counted "
            f"twice, {self.damaged} torn records skipped; reopened in {self.reopen:.2f} s"
        )


def kill_while_observing(kills: int, folder: Path, say: Callable[[str], None], seed: int = 0) -> Loss:
    """Kill `kills` observers of one folder, one after another. Raises MtawError if one ended before."""
    bundle = make_shop(_N_ITEMS, _PAST, 100).saved(folder / "bundle")
    learned = folder / "learned"
    rng = np.random.default_rng(seed)
    acknowledged: set[int] = set()
    for kill in range(kills):
        if kill % 10 == 9:
            say(f"kill {kill + 1} of {kills}")
        first = max(acknowledged) + 1 - _AGAIN if len(acknowledged) > _AGAIN else 0
        command = [sys.executable, "-m", "bench.live.observer", str(bundle), str(learned), str(first)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(int(rng.integers(1, _MAX_ACKS)))]
            time.sleep(rng.uniform(0, _MAX_DELAY))
            process.kill()
            lines += process.stdout.read().splitlines(keepends=True)
        if process.returncode != -signal.SIGKILL:
            raise MtawError(f"loss: an observer ended by itself, with status {process.returncode}; see its error above")
        acknowledged.update(int(line) for line in lines if line.endswith("\n"))
    begin = time.perf_counter()
    recommender = Recommender.load(bundle, learn=LearningSettings(learned, compact=False, limits=ALL), verify=False)
    reopened = time.perf_counter() - begin
    assert recommender.learner is not None
    state = recommender.learner.state
    logged, damaged = _kept(learned)
    handles, _, offsets = state.delta.ordered()
    length = dict(zip(handles.tolist(), np.diff(offsets).tolist(), strict=True))
    expected = Counter(f"s{int(name[1:]) // SESSION}" for name in logged)
    keys = state.event_processor.tracker.keys
    learned_counts = {
        name: sum(length.get(handle, 0) for handle in np.flatnonzero(keys == np.uint64(key_of(name))).tolist())
        for name in expected
    }
    recommender.close()
    lost = len({f"e{number}" for number in acknowledged} - logged)
    lost += sum(max(count - learned_counts[name], 0) for name, count in expected.items())
    doubled = sum(max(learned_counts[name] - count, 0) for name, count in expected.items())
    return Loss(kills, len(acknowledged), lost, doubled, damaged, reopened)


def _kept(folder: Path) -> tuple[set[str], int]:
    """Return the ids of the events in the log, and the number of damaged records."""
    log, position, ids = FileLog(folder), START, set[str]()
    while entries := log.read(position, _READ):
        position = entries[-1].position
        ids.update(entry.event.id for entry in entries if isinstance(entry.event, Click) and entry.event.id is not None)
    log.close()
    return ids, log.damaged
