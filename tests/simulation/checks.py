"""What must hold at any moment: compares what processes answer and what files hold with the oracle."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from mtaw_fast import Recommender
from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.format import model_hash
from mtaw_fast.errors import DataError
from mtaw_fast.memory import MemoryTables
from mtaw_fast.memory.log_progress import LogProgress
from mtaw_fast.memory.trends import TrendTables
from mtaw_fast.online.settings import LearningSettings
from tests.simulation.oracle import Base, BrokenPromiseError, Expected, Oracle
from tests.simulation.world import Process

_ASKED = (["sku-1"], ["sku-2", "sku-3"], ["new-0"], ["new-1", "sku-0"])


def training_of(manifest: Mapping[str, Any]) -> str:
    """Return the hash of the training that a bundle is, or was compacted from."""
    return str(manifest.get("grown_from") or model_hash(manifest))


def manifest_in(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a bundle, None without one."""
    try:
        return json.loads((folder / "manifest.json").read_text())
    except OSError:
        return None


def counts_of(bundle: Bundle) -> Counter[str]:
    """Return the clicks that a bundle counts, by item."""
    names = bundle.ids.external(np.arange(bundle.n_items, dtype=np.int32))
    return Counter({name: count for name, count in zip(names, bundle.popularity.tolist(), strict=True) if count})


def redacted_until(folder: Path) -> str:
    """Return the position up to which a folder says that its log is, or may be, redacted."""
    manifest = manifest_in(folder / "bundle")
    if manifest is None:
        return ""
    try:
        return LogProgress.load(folder / "bundle" / manifest["files"]["learned"]["file"]).position
    except DataError:  # a power loss took it
        return ""


def base_of(bundle: Bundle) -> Base:
    """Return what a trained bundle says of itself."""
    progress, sessions = bundle.model.log_progress, bundle.model.sessions
    places = [] if progress is None else progress.sessions.tolist()
    training = training_of(bundle.manifest)
    until = bundle.model.learned_until or 0
    return Base(
        training, counts_of(bundle), until, tuple(tuple(bundle.ids.external(sessions[place])) for place in places)
    )


def popular(rec: Recommender) -> dict[str, int]:
    """Return what a recommender answers to an unknown visitor: all items that it recommends.

    With their clicks, but from a bundle with trends with other numbers.
    """
    answer = rec.recommend(["nobody"], k=rec.n_items)
    return {item: int(score) for item, score in zip(answer.items, answer.scores.tolist(), strict=True)}


def served(process: Process, oracle: Oracle, base: Base, exact: bool) -> None:
    """Check that a process answers what the events up to its position teach. exact: no limit has refused a click."""
    position, answer = process.rec.log_position, popular(process.rec)
    due = oracle.expected(position, base)
    if is_behind(process):
        return  # it does not find what was redacted, and has not read the requests to forget it
    if not exact:
        most = due.counts
        excess = {item: (count, most[item]) for item, count in answer.items() if count > most[item]}
        if excess:
            raise BrokenPromiseError(f"{process.name} at {position} counts more than was clicked: {excess}")
        return
    if answer.keys() != due.visible:
        raise BrokenPromiseError(
            f"{process.name} at {position} recommends {_sorted(answer.keys() - due.visible)}, which it must not, and "
            f"not {_sorted(due.visible - answer.keys())}, which it must"
        )
    _check_table(process, due)
    if process.rec.bundle.model.trends is not None:
        return
    wrong = {item: (count, due.counts[item]) for item, count in answer.items() if count != due.counts[item]}
    if wrong:
        raise BrokenPromiseError(f"{process.name} at {position} counts wrong (has, should have): {wrong}")


def _check_table(process: Process, want: Expected) -> None:
    """Check what a process knows about items, and its placements."""
    rec, table = process.rec, want.table
    placements = {name: [revision.content for revision in kept] for name, kept in rec.placements.items()}
    if placements != table.placements:
        raise BrokenPromiseError(f"{process.name} has the placements {placements}, which should be {table.placements}")
    kinds = {} if rec.items is None else rec.items.kinds
    if kinds != table.kinds:
        raise BrokenPromiseError(f"{process.name} has the columns {kinds} of items, which should be {table.kinds}")
    if kinds:
        answer = rec.recommend(["nobody"], k=rec.n_items, fields=[*kinds])
        for item, row in zip(answer.items, answer.fields, strict=True):
            if row != table.rows.get(item, {}):
                raise BrokenPromiseError(f"{process.name} says {row} of {item}, which is {table.rows.get(item, {})}")


def answers(rec: Recommender, at: int) -> None:
    """Check that rankings at a moment hold only items that may be recommended."""
    visible = popular(rec).keys()
    for session in _ASKED:
        hidden = set(rec.recommend(session, k=rec.n_items, at=at).items) - visible
        if hidden:
            raise BrokenPromiseError(f"a ranking for {session} holds {_sorted(hidden)}, which must not be recommended")


def is_behind(process: Process) -> bool:
    """Return whether a process reads a log that was redacted before it came there."""
    progress = process.rec.bundle.model.log_progress
    return process.behind > ("" if progress is None else progress.position)


def agree(one: Process, other: Process, at: int) -> bool:
    """Check that two processes with the same bundle and position answer the same at a moment, to the bit.

    Return whether they could be compared.
    """
    if one.rec.log_position != other.rec.log_position or one.rec.bundle.manifest != other.rec.bundle.manifest:
        return False
    for process in (one, other):
        if process.rec.learner.state.position != process.rec.log_position or is_behind(process):
            return False  # a click changes rankings before the position says so
    for session in _ASKED:
        left, right = (peer.rec.recommend(session, k=peer.rec.n_items, at=at) for peer in (one, other))
        if left.items != right.items or left.scores.tobytes() != right.scores.tobytes():
            raise BrokenPromiseError(
                f"{one.name} and {other.name} are both at {one.rec.log_position} and answer {session} differently: "
                f"{left.items[:6]} and {right.items[:6]}"
            )
    return True


def compacted(settings: LearningSettings, oracle: Oracle, base_of: Callable[[str], Base], whole: bool) -> None:
    """Check a compacted bundle just written. whole: nothing failed meanwhile, so the log must be redacted too."""
    bundle = Bundle.load(settings.folder / "bundle")
    base, progress, tables = base_of(training_of(bundle.manifest)), bundle.model.log_progress, bundle.memory
    assert progress is not None
    assert tables is not None
    expected = oracle.expected(progress.position, base)
    learned = learned_visits(bundle)
    exact = settings.limits.session_clicks > 1000
    if exact:
        due, held = Counter([*base.updates, *(tuple(visit.items) for visit in expected.visits)]), Counter(learned)
        if due != held:
            raise BrokenPromiseError(
                f"the compacted bundle at {progress.position} lacks the sessions {_sorted((due - held).elements())} "
                f"and holds {_sorted((held - due).elements())} instead"
            )
        _check_counts(bundle, base, settings)
    _check_equal(tables, MemoryTables.build(tables.sessions, bundle.n_items, tables.settings))
    trends, once = bundle.model.trends, tables.settings.once_from
    if trends is not None:
        times = bundle.model.clicked_at
        assert times is not None
        _check_equal(trends, TrendTables.build(tables.sessions, times, bundle.n_items, trends.settings, once_from=once))
    if whole:
        _check_redacted(settings, oracle, progress.position)


def _check_equal(tables: Any, rebuilt: Any) -> None:
    for name, array in rebuilt.arrays().items():
        if not np.array_equal(getattr(tables, name), array):
            raise BrokenPromiseError(f"the compacted bundle's {name} differ from those of a rebuild")


def learned_visits(bundle: Bundle) -> list[tuple[str, ...]]:
    """Return the items of each session of the log that a bundle holds, in its tables or carried along."""
    progress, sessions = bundle.model.log_progress, bundle.model.sessions
    assert progress is not None
    visits = [tuple(bundle.ids.external(sessions[place])) for place in progress.sessions.tolist()]
    carried: dict[str, list[str]] = {}
    for line in bytes(progress.carried).splitlines():
        event = json.loads(line)
        if "table" in event:  # a part of a change that is not complete
            continue
        carried.setdefault(event["session"], []).append(event["item"])
    return visits + [tuple(items) for items in carried.values()]


def _check_counts(bundle: Bundle, base: Base, settings: LearningSettings) -> None:
    """Check that the bundle's popularity counts the sessions of its tables, each item of one once."""
    progress, sessions = bundle.model.log_progress, bundle.model.sessions
    assert progress is not None
    expected = base.counts - sum((Counter(set(items)) for items in base.updates), Counter[str]())
    for place in progress.sessions.tolist():
        expected.update(set(bundle.ids.external(sessions[place])))
    counts = counts_of(bundle)
    if +expected != counts:
        raise BrokenPromiseError(
            f"the compacted bundle in {settings.folder} counts {counts - expected} too much, lacks {expected - counts}"
        )


def _check_redacted(settings: LearningSettings, oracle: Oracle, until: str) -> None:
    tokens = oracle.forgotten_tokens(until)
    if not tokens:
        return
    for path in sorted(settings.folder.rglob("*")):
        if path.is_file():
            data = path.read_bytes()
            for token in tokens:
                if token in data:
                    raise BrokenPromiseError(f"{path.name} still holds the click {token.decode()}, which was forgotten")


def redacted(
    records: Iterable[Mapping[str, Any]], oracle: Oracle, places: Sequence[tuple[Path, LearningSettings]]
) -> None:
    """Check that the log holds no click that was forgotten before every bundle of it was compacted."""
    until = min(redacted_until(settings.folder) for _, settings in places)
    tokens = {token.decode().strip('"') for token in oracle.forgotten_tokens(until)}
    if left := tokens.intersection(record.get("id") for record in records):
        raise BrokenPromiseError(f"the log still holds the clicks {_sorted(left)}, which were forgotten")


def guarded(settings: LearningSettings, oracle: Oracle) -> None:
    """Check the learning limits: what one session, and sessions together, may move."""
    bundle, limits = Bundle.load(settings.folder / "bundle"), settings.limits
    learned = learned_visits(bundle)
    longest = max(map(len, learned), default=0)
    if longest > limits.session_clicks:
        raise BrokenPromiseError(f"a session has {longest} learned clicks, and the limit is {limits.session_clicks}")
    pairs = Counter(pair for items in learned for pair in combinations(sorted(set(items)), 2))
    for (first, second), count in pairs.items():
        if first.startswith("new") and second.startswith("new") and count > limits.pair_floor:
            raise BrokenPromiseError(
                f"{count} sessions taught {first} with {second}, and the limit is {limits.pair_floor}"
            )
    taught = {item for items in learned for item in items}
    bursts = Counter(
        (record.event["item"], record.event["arrived"]) for record in oracle.clicks if record.event["item"][:3] == "bot"
    )
    for (item, _), count in bursts.items():
        if count > limits.burst_clicks and item in taught:
            raise BrokenPromiseError(f"a bot with {count} clicks at once taught {item}")


def _sorted(values: Any) -> list[Any]:
    return sorted(values)[:6]
