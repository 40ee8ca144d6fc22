"""Histories that broke a promise once, each shrunk to what it needs; the defect behind it is mended."""

from __future__ import annotations

from typing import Any

from tests.simulation.history import Fault, History, Step
from tests.simulation.search import PLAIN


def _history(*steps: Step, seed: int = 1, **settings: Any) -> History:
    return History(seed, {**PLAIN, **settings}, [Step("start", "A"), *steps])


def _observe(who: str, session: int, *items: str) -> Step:
    return Step("observe", who, {"session": session, "items": [*items]})


def _table(
    mode: str, rows: dict[str, dict[str, Any]], kind: str = "number", availability: bool = False
) -> dict[str, Any]:
    return {"mode": mode, "rows": rows, "kind": kind, "availability": availability}


def _set_items(who: str, *change: Any, **more: Any) -> Step:
    return Step("set_items", who, _table(*change, **more))


def _compact(*faults: Fault) -> Step:
    return Step("compact", "A", {"wait": False}, [*faults])


def _turn(who: str, ms: int = 1100) -> Step:
    return Step("turn", who, {"ms": ms})


_POWER = Step("power", "A")
_MANY = [f"sku-{number % 12}" for number in range(16)]  # fill a segment

FOUND = {
    # The name of a new learning folder was not flushed: seed 0.
    "a power loss takes the folder": _history(_observe("A", 1, "sku-1"), _POWER),
    # The first compaction of a full disk ended with a traceback: seed 25.
    "a compaction on a full disk": _history(
        Step("stop", "A"), Step("compact", "B", {"wait": False}, [Fault("full", 7)])
    ),
    # An item that only a forgotten session clicked was recommended, once a compaction had put it into the bundle: 61.
    "an item of a forgotten session": _history(
        _observe("A", 1, "new-1"), _compact(), _turn("A"), Step("forget", "A", {"session": 1}), _turn("A")
    ),
    # An item that was removed by hand came back: seed 61, by reading on.
    "a removed item of a forgotten session": _history(
        _observe("A", 1, "new-1"),
        _turn("A"),
        Step("remove", "A", {"item": "new-1"}),
        Step("forget", "A", {"session": 1}),
        _observe("A", 2, "new-1"),
        _turn("A"),
    ),
    # Disk errors while a bundle is written, and in a compaction, ended with a traceback: seeds 400, 444 and 486.
    "a disk error in a training": _history(Step("publish", "A", {}, [Fault("error", 5)])),
    "a disk error in a compaction": _history(_observe("A", 1, "sku-1"), _compact(Fault("error", 9))),
    "a disk error after a compaction": _history(_observe("A", 1, "sku-1"), _compact(Fault("error", 265))),
    # A writer whose segment was deleted refused every event from then on: seed 203.
    "a segment is deleted under an idle writer": _history(
        _observe("B", 1, "sku-1"),
        _observe("B", 1, "sku-2"),
        _observe("A", 2, *_MANY),
        _observe("A", 3, *_MANY),
        _turn("A"),
        _compact(),
        _observe("B", 1, "sku-3"),
        segment_bytes=1200,
        max_log_bytes=100,
    ),
    # After a power loss the log ended before the compacted bundle's position, and no service started: seed 10053.
    "a bundle is ahead of its log": _history(
        _observe("A", 1, "sku-1"),
        _turn("A"),
        _turn("A"),
        _observe("A", 2, "sku-2"),
        _compact(Fault("power", 262, seed=1)),
        _observe("A", 3, "sku-4"),
        _turn("A"),
        fsync=False,
    ),
    # A reader that a compaction overtook gave new items other internal ids, and could not switch to it: seed 243.
    "a redaction overtakes a reader": _history(
        Step("start", "B"),
        _observe("A", 1, "new-1"),
        Step("forget", "A", {"session": 1}),
        _observe("A", 2, "new-2"),
        _compact(),
        _turn("B"),
    ),
    # Readers forgot a bot at the end of their read, so that those with other reads differed from them: seed 60127.
    "a bot in reads of different sizes": _history(
        Step("show", "B", {"item": "new-0"}),
        Step("flood", "B", {"sessions": 3, "bot": True}),
        _turn("A", 400),
        _observe("B", 0, "new-2", "sku-0", "sku-5"),
        guarded=True,
        read_events=7,
    ),
    # The log is redacted, and the ids in the compacted bundle were not read once it was another training's: seed 2460.
    "a forgotten click comes again after a new training": _history(
        _observe("A", 1, "sku-1"),
        Step("forget", "A", {"session": 1}),
        _compact(),
        Step("publish", "A"),
        Step("resend", "A", {"back": 0}),
    ),
    # So did one that came again before that compaction, after the request to forget.
    "a forgotten click came again before a new training": _history(
        _observe("A", 1, "sku-1"),
        Step("forget", "A", {"session": 1}),
        Step("resend", "A", {"back": 0}),
        _compact(),
        Step("publish", "A"),
    ),
    # An item that was removed by hand came back when the click that had brought it was redacted: seed 114.
    "a removed item after a new training": _history(
        _observe("A", 1, "new-1"),
        _turn("A"),
        Step("remove", "A", {"item": "new-1"}),
        Step("forget", "A", {"session": 1}),
        _compact(),
        Step("publish", "A"),
        Step("stop", "A"),
        Step("start", "A"),
        _compact(),
        _observe("A", 2, "new-1"),
    ),
    # A service that started while the log was redacted gave new items other internal ids than the bundle.
    "a redaction overtakes a start": _history(
        _observe("A", 1, "new-1"),
        Step("forget", "A", {"session": 1}),
        _observe("A", 2, "new-2"),
        Step("start", "B", {}, [Fault("steps", 20, steps=[_compact()])]),
        _turn("B"),
    ),
    # So did one that changed items before its own switch to the bundle.
    "a redaction overtakes a change of items": _history(
        Step("start", "B"),
        _observe("A", 1, "new-1"),
        Step("forget", "A", {"session": 1}),
        _observe("A", 2, "new-2"),
        _compact(),
        Step("hide", "B", {"item": "sku-1"}),
        _turn("B"),
    ),
    # Readers with other reads took another availability from the same tables: seed 291, with changes of the item table.
    "an availability that an earlier table named": _history(
        _set_items("A", "patch", {"new-1": {"on": False}}, availability=True),
        _observe("A", 1, "new-1"),
        _set_items("A", "replace", {"new-1": {"on": False}}),
    ),
    # So it was with kinds of columns: a service that read both tables at once stopped learning.
    "a column takes another kind": _history(
        _set_items("A", "replace", {"sku-1": {"size": 1.0}}),
        _compact(),
        _turn("A"),
        _set_items("A", "replace", {"sku-1": {"on": True}}),
        _set_items("A", "replace", {"sku-1": {"size": "size 1"}}, "category"),
        Step("start", "B"),
    ),
    # A change that another one had made unfit was acknowledged, if a bundle was switched to before it was learned.
    "a refused table in a compacted bundle": _history(
        Step("start", "B"),
        _observe("A", 1, "sku-2"),
        Step(
            "set_items",
            "A",
            _table("replace", {"sku-1": {"size": "size 1"}}, "category"),
            [
                Fault("steps", 9, steps=[_set_items("B", "replace", {"sku-1": {"size": 1.0}})]),
                Fault("steps", 16, steps=[Step("compact", "B", {"wait": False})]),
            ],
        ),
    ),
    # With trends, the last places of the fallback followed counts as of the last new catalog: seed 846.
    "a fallback with trends": _history(
        _observe("A", 0, "sku-7"),
        _observe("A", 1, "new-7"),
        _observe("A", 2, "new-5"),
        _turn("A", 400),
        _observe("A", 3, "new-5"),
        Step("start", "B"),
        _turn("A", 400),
        timed=True,
    ),
    # With trends, a new item's first vector waited for the next catalog: seed 1219.
    "a first vector with trends": _history(
        _observe("A", 0, "new-2"),
        Step("start", "B"),
        _turn("B"),
        _observe("A", 5, "sku-4", "new-2"),
        _turn("A"),
        timed=True,
    ),
    # The last events of a killed writer, in a segment that was full then, were flushed by nobody: seed 50442.
    "a killed writer in a full segment": _history(
        Step("start", "B"),
        _observe("A", 1, *_MANY),
        Step("kill", "A"),
        _observe("B", 2, "sku-1"),
        Step("start", "A"),
        _turn("A", 400),
        _turn("A", 400),
        _POWER,
        fsync=False,
        segment_bytes=1200,
    ),
    # A segment whose creator was killed before its name was flushed was lost with the power: seed 11824.
    "a killed creator of a segment": _history(
        Step("flood", "A", {"sessions": 5, "bot": False}),
        _observe("A", 7, "new-3", "sku-4", "sku-4"),
        Step("observe", "A", {"session": 5, "items": ["sku-2"]}, [Fault("kill", 11)]),
        _observe("A", 7, "sku-0"),
        Step("add", "A", {"item": "new-5", "near": "sku-10"}),
        _POWER,
        segment_bytes=1200,
    ),
    # A compaction flushed after a failed flush of another process, which had dropped what its bundle then held: the log
    # ended before the bundle's position after a power loss, and no service came up: seed 19759.
    "a flush that another process failed": _history(
        _observe("B", 7, "sku-4"),
        Step("show", "B", {"item": "new-7"}, [Fault("error", 6, after=True)]),
        Step("compact", "A", {"wait": True}),
        _POWER,
    ),
}
