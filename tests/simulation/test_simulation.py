"""Histories of the learning log under crashes, failing disks and jumping clocks: no promise is broken."""

from __future__ import annotations

import copy
import itertools
import re
from pathlib import Path

import pytest

import mtaw_fast
from tests.simulation.bugs import BUGS, planted
from tests.simulation.found import FOUND
from tests.simulation.history import Fault, History, Step, drawn
from tests.simulation.oracle import BrokenPromiseError
from tests.simulation.search import failure_of, shrunk, stopped_everywhere

ROOT = Path(mtaw_fast.__file__).parent
FILES = [*(ROOT / "online").rglob("*.py"), ROOT / "bundle/writer.py", ROOT / "storage/files.py"]
PAST_THE_HOST = re.compile(
    r"\bos\.(open|write|pwrite|fsync|fdatasync|rename|replace|unlink|mkdir|truncate|nice)\(|\bfcntl\.flock\("
    r"|\btime\.\w+\(|\buuid\.|\btempfile\.mkstemp|\bthreading\.Thread\(|\bsubprocess\.Popen\("
    r"|(?<!host)\.(open|unlink|mkdir|chmod|rmdir|iterdir|write_bytes|write_text|touch)\("
)
SMOKE = 60  # histories: about 7 s of processor time; `make slow` runs 20,000
# The first seed whose history finds each planted bug: so many histories and one it takes from seed 0 on.
SEEDS = {
    "short-writes-count": 4,
    "no-fsync": 9,
    "segment-without-flushed-name": 21,
    "no-leading-newline": 4,
    "ids-forgotten": 23,
    "forgotten-in-tables-stay": 312,
    "redaction-marked-first": 765,
    "open-sessions-dropped": 1,
    "guards-start-over": 116,
    "vectors-follow-reads": 6,
    "old-training-served": 5,
    "tables-follow-reads": 407,
    "trained-ids-first": 13,
    "machines-forget-each-other": 57,
}


def test_a_seed_replays_to_the_same_story() -> None:
    history = next(
        candidate for candidate in map(drawn, itertools.count()) if any(step.faults for step in candidate.steps)
    )
    assert drawn(history.seed) == history
    before = copy.deepcopy(history)
    _, story = failure_of(history)
    assert history == before
    assert len(story) > len(history.steps)
    assert failure_of(history) == ("", story)


def test_random_histories_keep_every_promise() -> None:
    for seed in range(SMOKE):
        failure, story = failure_of(drawn(seed))
        assert not failure, "\n".join([f"seed {seed}: see docs/hardening.md", *story, failure])


@pytest.mark.parametrize("place", [4, 11])
def test_a_compaction_may_stop_at_any_call(place: int) -> None:
    stopped = 0
    for _, failure, story in stopped_everywhere(place, every=17):
        assert not failure, "\n".join([*story, failure])
        stopped += any(line.lstrip().startswith("* ") for line in story)
    assert stopped > 20


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found_stays_mended(name: str) -> None:
    failure, story = failure_of(FOUND[name])
    assert not failure, "\n".join([*story, failure])


@pytest.mark.parametrize("name", BUGS)
def test_planted_bugs_are_found(name: str) -> None:
    with planted(name):
        assert failure_of(drawn(SEEDS[name]))[0].startswith(BrokenPromiseError.__name__)


def test_a_failing_history_is_shrunk_to_a_short_one() -> None:
    bug = "segment-without-flushed-name"
    with planted(bug):
        short = shrunk(drawn(41))
        failure, story = failure_of(short)
    assert "which was acknowledged" in failure
    assert len(short.steps) <= 3, story
    names = {"History": History, "Step": Step, "Fault": Fault}
    assert eval(repr(short), names) == short, "it can be kept as it was printed"


def test_no_other_code_calls_the_system() -> None:
    """What is kept on disk goes through `system.host`, so that the simulation sees it."""
    lines = [(path, line.partition("  # ")[0]) for path in FILES for line in path.read_text().splitlines()]
    assert not [f"{path.relative_to(ROOT)}: {line.strip()}" for path, line in lines if PAST_THE_HOST.search(line)]
