"""What a training run has done so far, written to its folder after every epoch or phase."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mtaw_fast.errors import UsageError
from mtaw_fast.evaluation.curves import figure_of
from mtaw_fast.storage.files import atomic_path
from mtaw_fast.training.checkpoints import RunFolder

_NEW: dict[str, Any] = {
    "epoch": 0,
    "best_epoch": 0,
    "best": None,
    "checkpoint": None,
    "best_checkpoint": None,
    "kept": {},
    "history": [],
    "seconds": 0.0,
    "processor_seconds": {},
    "intervals": None,
    "served_later": None,
    "feature_importance": None,
    "plan": None,
}


def refuse_to_drop_finished(folder: Path) -> None:
    """Raise UsageError if `folder` has a finished training, which a new one would replace.

    For a caller whose bundle is missing: a full disk or a kill came between the last epoch and the bundle.
    """
    state = RunFolder(folder).load_state() if folder.is_dir() else None
    if state is not None and state["phase"] == "done":
        raise UsageError(
            f"{folder} has a finished training whose bundle is missing; write it with --resume "
            "or start over with --overwrite"
        )


class RunState:
    """The state of a run as a mapping, and the methods that change and save it.

    phase: the current phase, 'done' after the last. epoch: its whole epochs. checkpoint: file of weights and moments
    after them. best_epoch, best, best_checkpoint: the search's choice, its metrics and weights. kept: files of earlier
    phases, by their role. history: a record an epoch. seconds: of work that is saved. processor_seconds: the same by
    phase, over all threads of this process, not of others of its group. intervals: of `best`, with a session memory.
    feature_importance: see `training.ranker.feature_importance`, likewise. served_later: see `TrainedModel`. plan: what
    the run decided (`training.plan.plan`).
    """

    def __init__(self, files: RunFolder, identity: Mapping[str, Any], first_phase: str) -> None:
        self.files = files
        self._identity, self._first = dict(identity), first_phase
        self._values: dict[str, Any] = {}
        self._writes = True
        self._counted, self._used = time.perf_counter(), time.process_time()

    @classmethod
    def following(cls, files: RunFolder, values: Mapping[str, Any]) -> RunState:
        """Return a copy of another process's state. It follows the same changes and writes nothing."""
        state = cls(files, {}, "")
        state._values, state._writes = {"history": [], "seconds": 0.0, **values}, False
        return state

    def open(self, resume: bool, overwrite: bool) -> None:
        """Start a new run or resume the one in the folder; raises UsageError if that one is another."""
        state = self.files.load_state() if resume or not overwrite else None
        if resume and state is not None:
            if state["identity"] != self._identity:
                raise UsageError(
                    f"{self.files.folder} has a training with other settings or data; "
                    "repeat its settings to resume it, or start over with --overwrite"
                )
            self._values = state
            self.files.sweep(state)
            return
        if state is not None and state["phase"] != "done" and not overwrite:
            raise UsageError(
                f"{self.files.folder} has an unfinished training; continue it with --resume "
                "or start over with --overwrite"
            )
        self.files.clear()
        self._values = {"identity": self._identity, "phase": self._first, **_NEW}

    def __getitem__(self, name: str) -> Any:
        return self._values[name]

    def save(self, **changes: Any) -> None:
        """Change the state and write it; files that it no longer names are removed."""
        now, used = time.perf_counter(), time.process_time()
        spent, phase = dict(self._values.get("processor_seconds", {})), self._values.get("phase", "")
        spent[phase] = spent.get(phase, 0.0) + used - self._used
        self._values |= {**changes, "processor_seconds": spent}
        self._values["seconds"] += now - self._counted
        self._counted, self._used = now, used
        if self._writes:
            self.files.save(self._values)

    def close_epoch(self, epoch: int, checkpoint: str, record: Mapping[str, Any], **changes: Any) -> None:
        """Save a whole epoch: its checkpoint, its record and other changes."""
        self.save(epoch=epoch, checkpoint=checkpoint, history=[*self["history"], dict(record)], **changes)
        self.plot()

    def plot(self) -> None:
        """Draw the curves so far to curves.png."""
        if self._writes:
            plot_curves(self["history"], self.files.folder / "curves.png", self["best"])

    def add_history(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Add the records of a phase without checkpoints; written with the next save."""
        self._values["history"] = [*self["history"], *map(dict, records)]

    def set_plan(self, plan: Mapping[str, Any]) -> None:
        """Set the run's plan; written with the next save. Making it belongs to no phase."""
        self._values["plan"] = dict(plan)
        self._used = time.process_time()

    def next_phase(self, phase: str, kept_files: Mapping[str, str]) -> None:
        """Start `phase`. Only the files in `kept_files` stay."""
        self.save(phase=phase, epoch=0, checkpoint=None, best_checkpoint=None, kept=dict(kept_files))


def plot_curves(history: Sequence[Mapping[str, Any]], path: Path, best: Mapping[str, float] | None = None) -> None:
    """Draw a training to a PNG file; arguments as for `evaluation.curves.figure_of`."""
    figure = figure_of(history, best)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
