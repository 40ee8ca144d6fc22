"""A training run's folder: lock, state, checkpoints and the record of its epochs.

run.lock              locked (flock) by the process that trains
state.json            phase, epochs done, best epoch, history; written last, so its files exist
checkpoint-*.safetensors   weights and Adam's moments after the last whole epoch of a phase
best-*.safetensors    weights of the best epoch of the search
ranker*.safetensors   the session memory's ranker
metrics.jsonl         the history, a line an epoch
curves.png            loss and validation curves
mlflow.json           the run in MLflow, if any
group.json            the launch of the group of processes that trains here, if any
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtaw_fast.errors import TrainingError, UsageError
from mtaw_fast.storage.files import read_json, write_bytes, write_json
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from mtaw_fast.training.steps.full_step import AnyStepper

FORMAT_VERSION = 3
_WRITTEN = (
    r"state\.json|metrics\.jsonl|curves\.png|(mlflow|group)\.json|ranker(-refit)?\.safetensors"
    r"|(checkpoint-(slice|search|slice-refit|refit)|best)-\d+\.safetensors"
)
_OURS = re.compile(rf"{_WRITTEN}|\.({_WRITTEN})\..*\.tmp")


class RunFolder:
    """Reads and writes a run folder; the caller has its `folder_lock`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._state_path = folder / "state.json"

    def load_state(self) -> dict[str, Any] | None:
        """Return the state of the run in the folder, or None."""
        if not self._state_path.exists():
            return None
        state = read_json(self._state_path, lambda reason: TrainingError(f"{reason}; start over with --overwrite"))
        if not isinstance(state, dict) or state.get("format_version") != FORMAT_VERSION:
            raise TrainingError(f"{self._state_path} has another format; start over with --overwrite")
        return state

    def clear(self) -> None:
        """Remove everything that a run writes. Raises UsageError and removes nothing if there is anything else."""
        for path in self.folder.iterdir():
            if not _OURS.fullmatch(path.name):
                raise UsageError(
                    f"{self.folder} has {path.name}, which no training wrote; choose another bundle folder"
                )
        for path in self.folder.iterdir():
            path.unlink()

    def sweep(self, state: Mapping[str, Any]) -> None:
        """Remove checkpoints that `state` does not name, and temporary files of a killed process."""
        names = (state.get("checkpoint"), state.get("best_checkpoint"), *state.get("kept", {}).values())
        for path in self.folder.iterdir():
            removable = path.suffix in (".safetensors", ".tmp") and _OURS.fullmatch(path.name)
            if removable and path.name not in names:
                path.unlink()

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state and the record of epochs, then remove checkpoints that it no longer names."""
        lines = "".join(json.dumps(line) + "\n" for line in state["history"])
        write_bytes(self.folder / "metrics.jsonl", lines.encode())
        write_json(self._state_path, {"format_version": FORMAT_VERSION, **state})
        self.sweep(state)

    def save_checkpoint(self, name: str, model: torch.nn.Module, stepper: AnyStepper | None) -> None:
        """Write weights and, with a stepper, Adam's moments to the file `name`."""
        tensors: dict[str, torch.Tensor] = {f"weight.{key}": value for key, value in model.named_parameters()}
        if stepper is not None:
            tensors |= stepper.moments()
        write_tensors(self.folder / name, {key: value.detach().cpu().numpy() for key, value in tensors.items()})

    def load_checkpoint(self, name: str, model: torch.nn.Module, stepper: AnyStepper | None) -> None:
        """Load what `save_checkpoint` wrote; raises TrainingError if the file does not fit the model."""
        arrays = map_tensors(self.folder / name, mapping="map")
        try:
            with torch.no_grad():
                for key, parameter in model.named_parameters():
                    parameter.copy_(torch.from_numpy(np.array(arrays[f"weight.{key}"])))
            if stepper is not None:
                stepper.load_moments(arrays)
        except (KeyError, RuntimeError) as error:
            raise TrainingError(
                f"{self.folder / name} does not fit the model ({error}); start over with --overwrite"
            ) from None
