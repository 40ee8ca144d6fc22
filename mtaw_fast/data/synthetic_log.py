"""Writes a synthetic click log as CSV: `python -m mtaw_fast.data.synthetic_log clicks.csv --items 3000`."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from mtaw_fast.data.sessions import Sessions
from mtaw_fast.data.synthetic import generate
from mtaw_fast.storage.files import atomic_path

_BEGIN = 1_700_000_000  # seconds since 1970
_DAY = 86_400
_BETWEEN_CLICKS = 30


def write_click_log(path: Path, n_items: int, n_sessions: int, seed: int, days: float = 30.0) -> int:
    """Write the clicks of `synthetic.generate`, spread over `days`; returns their number.

    Columns session_id, item_id ('item-1', ..), timestamp (seconds since 1970); rows in order of sessions.
    """
    dataset = generate(n_items, n_sessions, seed)
    longest = {int(session): k for k, session in enumerate(dataset.test.session)}  # a session's last row is its longest
    held_out = [np.append(dataset.test.prefixes[k], dataset.test.targets[k]) for k in longest.values()]
    sessions = Sessions.concatenate([dataset.train, Sessions.from_lists(held_out)])
    step = days * _DAY / max(len(sessions), 1)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        log = csv.writer(stream)
        log.writerow(["session_id", "item_id", "timestamp"])
        for number, session in enumerate(sessions):
            begin = _BEGIN + int(number * step)
            log.writerows(
                (number, f"item-{item + 1}", begin + _BETWEEN_CLICKS * t) for t, item in enumerate(session.tolist())
            )
    return sessions.n_clicks


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m mtaw_fast.synthetic_log", description="Write a synthetic click log."
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--items", type=int, default=3000)
    parser.add_argument("--sessions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    clicks = write_click_log(arguments.path, arguments.items, arguments.sessions, arguments.seed)
    print(f"wrote {arguments.path}: {clicks:,} clicks")


if __name__ == "__main__":
    main()
