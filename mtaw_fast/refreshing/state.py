"""What a refresh knows from one run to the next, and from one step to the next, in one file next to the bundles."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mtaw_fast.errors import MtawError, UsageError
from mtaw_fast.storage.files import folder_lock, read_json, remedy_of, remove_temporary, write_bytes, write_json

_STATE, _METRICS, _FORMAT = "state.json", "metrics/refresh.prom", 2
_KEPT_RUNS = 400
# How a run ends. The last two: the new bundle is current, but the service does not serve it, or did not answer.
PROMOTED, KEPT, ROLLED_BACK, FAILED = "promoted", "kept", "rolled back", "failed"
NOT_RELOADED, NOT_WATCHED = "not reloaded", "not watched"
IN_SERVICE = (PROMOTED, NOT_RELOADED, NOT_WATCHED)


class RefreshState:
    """The state of the refresh of a folder of bundles; `metrics/refresh.prom` next to it is for Prometheus.

    folder: `refresh/` in the folder of bundles. days: by period, {'facts': ..} or {'refused': [..]}. runs: the finished
    ones, the last one last. run: the one in progress, with what its finished steps returned as `done`; None without
    one. item_ids: the kind of the log's item ids. reading: the options that the periods' files were read with. live:
    P@20 of live clicks, as `live` keeps it. Every change is on disk before it returns.
    """

    def __init__(self, bundles: Path) -> None:
        self.folder = bundles / "refresh"
        self.days: dict[str, Any] = {}
        self.runs: list[dict[str, Any]] = []
        self.run: dict[str, Any] | None = None
        self.item_ids = "auto"
        self.reading: dict[str, Any] | None = None
        self.live: dict[str, Any] = {}
        if (self.folder / _STATE).exists():
            values = read_json(self.folder / _STATE, MtawError)
            try:
                if values["format"] != _FORMAT:
                    raise KeyError("format")
                self.days, self.runs = values["days"], values["runs"]
                self.run, self.item_ids = values["run"], values["item_ids"]
                self.reading, self.live = values["reading"], values["live"]
            except (KeyError, TypeError):
                raise MtawError(
                    f"{self.folder / _STATE} is damaged, or not of this release; move {self.folder} away to start over"
                ) from None

    @property
    def days_folder(self) -> Path:
        """The folder of the accepted periods."""
        return self.folder / "days"

    @property
    def work(self) -> Path:
        """The folder of the run in progress."""
        return self.folder / "work"

    def file_of(self, day: str) -> Path:
        """Return the file of an accepted period."""
        return self.days_folder / f"{day}.parquet"

    @staticmethod
    def begin_of(day: str) -> int:
        """Return the begin of a period in Unix milliseconds, from its name."""
        form = "%Y-%m-%dT%H-%M" if "T" in day else "%Y-%m-%d"
        return round(datetime.datetime.strptime(day, form).replace(tzinfo=datetime.UTC).timestamp() * 1000)

    def accepted(self) -> list[str]:
        """Return the names of the accepted periods, in order."""
        return sorted(day for day, known in self.days.items() if "facts" in known)

    def save(self) -> None:
        """Write the state."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / _STATE, {
            "format": _FORMAT, "item_ids": self.item_ids, "days": self.days, "runs": self.runs[-_KEPT_RUNS:],
            "run": self.run, "reading": self.reading, "live": self.live,
        })  # fmt: skip
        (self.folder / _METRICS).parent.mkdir(exist_ok=True)
        write_bytes(self.folder / _METRICS, self.metrics().encode())

    def metrics(self) -> str:
        """Return when what happened last, in Unix seconds, in Prometheus' text format."""
        last = {
            "refusal": (known["time"] for known in self.days.values() if "refused" in known),
            "promotion": (run["time"] for run in self.runs if run["outcome"] in IN_SERVICE),
            "roll_back": (run["time"] for run in self.runs if run["outcome"] == ROLLED_BACK),
            "failure": (run["time"] for run in self.runs if run["outcome"] == FAILED),
            "unwatched": (run["time"] for run in self.runs if run["outcome"] == NOT_WATCHED),
            "unserved": (run["time"] for run in self.runs if run["outcome"] == NOT_RELOADED),
        }
        lines = ["# TYPE mtaw_refresh_last_seconds gauge"]
        lines += [
            f'mtaw_refresh_last_seconds{{what="{what}"}} {max(times, default=0):.0f}' for what, times in last.items()
        ]
        return "\n".join(lines) + "\n"

    def finish(self, record: dict[str, Any]) -> None:
        """Note the end of the run in progress."""
        self.runs.append(record)
        self.run = None
        self.save()


@contextlib.contextmanager
def only_one(bundles: Path) -> Iterator[None]:
    """Keep another refresh of a folder of bundles out, and remove what one that was killed was writing.

    Raises UsageError if one is running, and an OSError of the block as a one-line MtawError.
    """
    bundles.mkdir(parents=True, exist_ok=True)
    with folder_lock(
        bundles / "refresh", lambda _: UsageError(f"another refresh of {bundles} is running; wait until it has ended")
    ):
        state = bundles / "refresh"
        for folder in (state, state / "days", (state / _METRICS).parent):
            remove_temporary(folder)
        for draft in (state / "days").glob(".*.draft"):
            draft.unlink()
        try:
            yield
        except OSError as error:
            reason = f"{error.filename2 or error.filename or bundles}: {error.strerror or error}"
            raise MtawError(f"{reason}; {remedy_of(error, 'check the path and its permissions')}") from None
