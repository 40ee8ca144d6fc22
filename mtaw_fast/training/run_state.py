"""What a training run has done so far, kept in its folder after every whole piece of work."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.errors import UsageError
from mtaw_fast.training.checkpoints import RunFolder
from mtaw_fast.training.curves import plot_curves

_NEW: dict[str, Any] = {
    "epoch": 0,
    "best_epoch": 0,
    "best": None,
    "checkpoint": None,
    "best_checkpoint": None,
    "kept": {},
    "history": [],
    "seconds": 0.0,
    "intervals": None,
    "feature_importance": None,
    "plan": None,
}


def refuse_to_drop_finished(folder: Path) -> None:
    """Raise UsageError where a training in `folder` came to its end, and a new one would take its place.

    For who knows that its bundle is not there: a full disk or a kill came between the last epoch and the bundle.
    """
    found = RunFolder(folder).load_state() if folder.is_dir() else None
    if found is not None and found["phase"] == "done":
        raise UsageError(
            f"{folder} holds a finished training whose bundle is not there; write it with --resume "
            "or start anew with --overwrite"
        )


class RunState:
    """The state of a run as a mapping, and the one way to change it.

    phase: the work under way, 'done' after the last. epoch: whole epochs of it. checkpoint: file of weights and
    moments after them. best_epoch, best, best_checkpoint: the search's choice, its metrics and weights. kept: files
    that earlier phases left, by what they are. history: a record an epoch. seconds: of work that was kept. intervals:
    of `best`, where a phase made them. feature_importance: as `training.ranker.feature_importance` makes it, likewise. plan: what the
    run settled on (`training.plan.plan`).
    """

    def __init__(self, files: RunFolder, identity: Mapping[str, Any], first_phase: str) -> None:
        self.files = files
        self._identity, self._first = dict(identity), first_phase
        self._values: dict[str, Any] = {}
        self._counted = time.perf_counter()

    def open(self, resume: bool, overwrite: bool) -> None:
        """Begin a new run or take up the one that is in the folder; UsageError where that is another one's."""
        found = self.files.load_state() if resume or not overwrite else None
        if resume and found is not None:
            if found["identity"] != self._identity:
                raise UsageError(
                    f"{self.files.folder} holds a training with other settings or data; "
                    "repeat its settings to resume it, or start anew with --overwrite"
                )
            self._values = {**_NEW, **found}
            self.files.sweep(found)
            return
        if found is not None and found["phase"] != "done" and not overwrite:
            raise UsageError(
                f"{self.files.folder} holds an unfinished training; continue it with --resume "
                "or start anew with --overwrite"
            )
        self.files.clear()
        self._values = {"identity": self._identity, "phase": self._first, **_NEW}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def save(self, **changes: Any) -> None:
        """Change the state and write it; files that it no longer names are dropped."""
        now = time.perf_counter()
        self._values |= changes
        self._values["seconds"] += now - self._counted
        self._counted = now
        self.files.save(self._values)

    def close_epoch(self, epoch: int, checkpoint: str, record: Mapping[str, Any], **changes: Any) -> None:
        """Note a whole epoch: its checkpoint, its record and what else it changes."""
        self.save(epoch=epoch, checkpoint=checkpoint, history=[*self["history"], dict(record)], **changes)
        self.plot()

    def plot(self) -> None:
        """Draw what is known so far."""
        plot_curves(self["history"], self.files.folder / "curves.png", self["best"])

    def note(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add records of work without checkpoints of its own to the history; written with what follows."""
        self._values["history"] = [*self["history"], *map(dict, records)]

    def settle(self, plan: Mapping[str, Any]) -> None:
        """Keep the run's plan; written with what follows."""
        self._values["plan"] = dict(plan)

    def next_phase(self, phase: str, kept: Mapping[str, str]) -> None:
        """Begin `phase`; of the files so far those of `kept` stay."""
        self.save(phase=phase, epoch=0, checkpoint=None, best_checkpoint=None, kept=dict(kept))
