"""What the readers must do, in plain Python over rows: dicts and loops, in the manner of the published scripts."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mtaw_fast.data.dataset import Dataset
from mtaw_fast.data.readers.options import ClickOptions, ScriptOptions

# A session: (end in ms, order among equal ends, [(item, ms), ...])
Session = tuple[int, int, list[tuple[Any, int]]]


def sessions_by_owner(rows: list[tuple[Any, Any, int]]) -> list[Session]:
    """rows: (session, item, ms) in file order."""
    by_owner: dict[Any, list[tuple[Any, int]]] = {}
    for owner, item, stamp in rows:
        by_owner.setdefault(owner, []).append((item, stamp))
    ordered = [sorted(clicks, key=lambda click: click[1]) for clicks in by_owner.values()]
    return [(clicks[-1][1], number, clicks) for number, clicks in enumerate(ordered)]


def sessions_by_gap(rows: list[tuple[int, Any, int, bool]], gap_ms: int) -> list[Session]:
    """rows: (user, item, ms, is a click) in file order; users are ints."""
    by_user: dict[int, list[tuple[Any, int, bool]]] = {}
    for user, item, stamp, is_click in rows:
        by_user.setdefault(user, []).append((item, stamp, is_click))
    sessions: list[list[tuple[Any, int, bool]]] = []
    for user in sorted(by_user):
        events = sorted(by_user[user], key=lambda event: event[1])
        for position, event in enumerate(events):
            if position == 0 or event[1] - events[position - 1][1] > gap_ms:
                sessions.append([])
            sessions[-1].append(event)
    clicks = [[(item, stamp) for item, stamp, is_click in session if is_click] for session in sessions]
    return [(session[-1][1], number, session) for number, session in enumerate(clicks) if session]


def prepare(sessions: list[Session], options: ClickOptions) -> dict[str, Any] | None:
    """External ids, timed train sessions and test samples; None where a reader must refuse.

    Sessions of too many clicks, before any filter, are bots, except to the published scripts.
    """
    min_session, min_support, min_prefix = options.min_session, options.min_support, options.min_prefix
    test_ms, is_script = round(options.test_days * 86_400_000), isinstance(options, ScriptOptions)
    longest = float("inf") if options.max_session is None else options.max_session
    most = float("inf") if is_script else longest
    sessions = [session for session in sessions if min_session <= len(session[2]) <= most]
    while True:
        support = Counter(item for _, _, clicks in sessions for item, _ in clicks)
        kept = [(end, tie, [c for c in clicks if support[c[0]] >= min_support]) for end, tie, clicks in sessions]
        kept = [session for session in kept if min_session <= len(session[2]) <= longest]
        settled = kept == sessions
        sessions = kept
        if settled or options.support_rounds == "once":
            break
    if not sessions:
        return None
    boundary = max(end for end, _, _ in sessions) - test_ms
    sessions.sort(key=lambda session: session[:2])
    train = [s for s in sessions if s[0] < boundary or (s[0] == boundary and not is_script)]
    ids = list(dict.fromkeys(item for _, _, clicks in train for item, _ in clicks))
    test = [[click for click in clicks if click[0] in set(ids)] for end, _, clicks in sessions if end > boundary]
    test = [session for session in test if len(session) > min_prefix]
    if not train or (test_ms and not test):
        return None
    cuts = [(s, session, k) for s, session in enumerate(test) for k in range(min_prefix, len(session))]
    return {
        "ids": ids,
        "train": [[item for item, _ in clicks] for _, _, clicks in train],
        "times": [stamp for _, _, clicks in train for _, stamp in clicks],
        "test": [(s, [item for item, _ in session[:k]], session[k][0]) for s, session, k in cuts],
        "test times": [([stamp for _, stamp in session[:k]], session[k][1]) for _, session, k in cuts],
    }


def contents(dataset: Dataset) -> dict[str, Any]:
    """A data set in the form of `prepare`."""
    ids = dataset.ids.external(np.arange(dataset.n_items))
    test = zip(dataset.test.session.tolist(), dataset.test.prefixes, dataset.test.targets.tolist(), strict=True)
    train_times, prefixes, target_times = dataset.train.times, dataset.test.prefixes, dataset.test.target_times
    test_times = None
    if prefixes.times is not None and target_times is not None:
        of_prefixes = np.split(prefixes.times, prefixes.offsets[1:-1]) if len(prefixes) else []
        test_times = list(zip([times.tolist() for times in of_prefixes], target_times.tolist(), strict=True))
    return {
        "ids": ids,
        "train": [[ids[i] for i in session] for session in dataset.train],
        "times": None if train_times is None else train_times.tolist(),
        "test": [(session, [ids[i] for i in prefix], ids[target]) for session, prefix, target in test],
        "test times": test_times,
    }
