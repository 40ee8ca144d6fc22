"""Histories that broke a promise once, each shrunk to what it needs; the defect behind it is mended."""

from __future__ import annotations

from typing import Any

from tests.simulation.history import Fault, History, Step, steps_of
from tests.simulation.search import PLAIN


def _history(*steps: str | Step, seed: int = 1, **settings: Any) -> History:
    parts = [steps_of(part) if isinstance(part, str) else [part] for part in ("A start", *steps)]
    return History(seed, {**PLAIN, **settings}, [step for part in parts for step in part])


def _set_items(
    who: str, mode: str, rows: dict[str, Any], kind: str = "number", *faults: Fault, availability: bool = False
) -> Step:
    return Step("set_items", who, {"mode": mode, "rows": rows, "kind": kind, "availability": availability}, [*faults])


_MANY = " ".join(f"sku-{number % 12}" for number in range(16))  # fill a segment

FOUND = {
    # The name of a new learning folder was not flushed: seed 0.
    "a power loss takes the folder": _history("A observe 1 sku-1, A power"),
    # The first compaction of a full disk ended with a traceback: seed 25.
    "a compaction on a full disk": _history("A stop, B compact !full 7"),
    # An item that only a forgotten session clicked was recommended, once a compaction had put it into the bundle: 61.
    "an item of a forgotten session": _history("A observe 1 new-1, A compact, A turn, A forget 1, A turn"),
    # An item that was removed by hand came back: seed 61, by reading on.
    "a removed item of a forgotten session": _history(
        "A observe 1 new-1, A turn, A remove new-1, A forget 1, A observe 2 new-1, A turn"
    ),
    # Disk errors while a bundle is written, and in a compaction, ended with a traceback: seeds 400, 444 and 486.
    "a disk error in a training": _history("A publish !error 5"),
    "a disk error in a compaction": _history("A observe 1 sku-1, A compact !error 9"),
    "a disk error after a compaction": _history("A observe 1 sku-1, A compact !error 265"),
    # A writer whose segment was deleted refused every event from then on: seed 203.
    "a segment is deleted under an idle writer": _history(
        f"B observe 1 sku-1, B observe 1 sku-2, A observe 2 {_MANY}, A observe 3 {_MANY}, A turn, A compact",
        "B observe 1 sku-3",
        segment_bytes=1200,
        max_log_bytes=100,
    ),
    # After a power loss the log ended before the compacted bundle's position, and no service started: seed 10053.
    "a bundle is ahead of its log": _history(
        "A observe 1 sku-1, A turn, A turn, A observe 2 sku-2, A compact !power 262 1, A observe 3 sku-4, A turn",
        fsync=False,
    ),
    # A reader that a compaction overtook gave new items other internal ids, and could not switch to it: seed 243.
    "a redaction overtakes a reader": _history(
        "B start, A observe 1 new-1, A forget 1, A observe 2 new-2, A compact, B turn"
    ),
    # Readers forgot a bot at the end of their read, so that those with other reads differed from them: seed 60127.
    "a bot in reads of different sizes": _history(
        "B show new-0, B flood 3 bot, A turn 400, B observe 0 new-2 sku-0 sku-5", guarded=True, read_events=7
    ),
    # The log is redacted, and the ids in the compacted bundle were not read once it was another training's: seed 2460.
    "a forgotten click comes again after a new training": _history(
        "A observe 1 sku-1, A forget 1, A compact, A publish, A resend 0"
    ),
    # So did one that came again before that compaction, after the request to forget.
    "a forgotten click came again before a new training": _history(
        "A observe 1 sku-1, A forget 1, A resend 0, A compact, A publish"
    ),
    # An item that was removed by hand came back when the click that had brought it was redacted: seed 114.
    "a removed item after a new training": _history(
        "A observe 1 new-1, A turn, A remove new-1, A forget 1, A compact, A publish",
        "A stop, A start, A compact, A observe 2 new-1",
    ),
    # A service that started while the log was redacted gave new items other internal ids than the bundle.
    "a redaction overtakes a start": _history(
        "A observe 1 new-1, A forget 1, A observe 2 new-2",
        Step("start", "B", {}, [Fault("steps", 20, steps=steps_of("A compact"))]),
        "B turn",
    ),
    # So did one that changed items before its own switch to the bundle.
    "a redaction overtakes a change of items": _history(
        "B start, A observe 1 new-1, A forget 1, A observe 2 new-2, A compact, B hide sku-1, B turn"
    ),
    # Readers with other reads took another availability from the same tables: seed 291, with changes of the item table.
    "an availability that an earlier table named": _history(
        _set_items("A", "patch", {"new-1": {"on": False}}, availability=True),
        "A observe 1 new-1",
        _set_items("A", "replace", {"new-1": {"on": False}}),
    ),
    # So it was with kinds of columns: a service that read both tables at once stopped learning.
    "a column takes another kind": _history(
        _set_items("A", "replace", {"sku-1": {"size": 1.0}}),
        "A compact, A turn",
        _set_items("A", "replace", {"sku-1": {"on": True}}),
        _set_items("A", "replace", {"sku-1": {"size": "size 1"}}, "category"),
        "B start",
    ),
    # A change that another one had made unfit was acknowledged, if a bundle was switched to before it was learned.
    "a refused table in a compacted bundle": _history(
        "B start, A observe 1 sku-2",
        _set_items(
            "A",
            "replace",
            {"sku-1": {"size": "size 1"}},
            "category",
            Fault("steps", 9, steps=[_set_items("B", "replace", {"sku-1": {"size": 1.0}})]),
            Fault("steps", 16, steps=steps_of("B compact")),
        ),
    ),
    # With trends, the last places of the fallback followed counts as of the last new catalog: seed 846.
    "a fallback with trends": _history(
        "A observe 0 sku-7, A observe 1 new-7, A observe 2 new-5, A turn 400, A observe 3 new-5, B start, A turn 400",
        timed=True,
    ),
    # With trends, a new item's first vector waited for the next catalog: seed 1219.
    "a first vector with trends": _history(
        "A observe 0 new-2, B start, B turn, A observe 5 sku-4 new-2, A turn", timed=True
    ),
    # The last events of a killed writer, in a segment that was full then, were flushed by nobody: seed 50442.
    "a killed writer in a full segment": _history(
        f"B start, A observe 1 {_MANY}, A kill, B observe 2 sku-1, A start, A turn 400, A turn 400, A power",
        fsync=False,
        segment_bytes=1200,
    ),
    # A segment whose creator was killed before its name was flushed was lost with the power: seed 11824.
    "a killed creator of a segment": _history(
        "A flood 5, A observe 7 new-3 sku-4 sku-4, A observe 5 sku-2 !kill 11, A observe 7 sku-0, A add new-5 sku-10",
        "A power",
        segment_bytes=1200,
    ),
    # A compaction flushed after a failed flush of another process, which had dropped what its bundle then held: the log
    # ended before the bundle's position after a power loss, and no service came up: seed 19759.
    "a flush that another process failed": _history(
        "B observe 7 sku-4, B show new-7 !error 6 after, A compact wait, A power"
    ),
}
