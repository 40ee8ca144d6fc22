"""Reuse the refit of a run of the published protocol.

Such a run trains on all training sessions under the settings' own schedule. After the epoch that validation chose it
is, to the bit, the model that `train` would refit. So it keeps the weights of that epoch (of every epoch until there is
a validation record of the same settings and seed), and the finalist uses them: two protocols cost one training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from bench.quality import records
from bench.quality.records import HELD_OUT, PUBLISHED, Finalist, Places
from mtaw_fast.data.dataset import Dataset
from mtaw_fast.model.model import Model
from mtaw_fast.storage.tensor_file import map_tensors, write_tensors
from mtaw_fast.training import TrainedModel
from mtaw_fast.training.checkpoints import RunFolder


def shared_refit(finalist: Finalist, dataset: Dataset, places: Places) -> TrainedModel | None:
    """Return what `train` would make of the finalist, from a validation record and a published run, or None."""
    if finalist.split != "test" or finalist.protocol != HELD_OUT or finalist.config.memory.enabled:
        return None
    chosen = chosen_by_validation(finalist, dataset, places)
    if chosen is None:
        return None
    epoch, folder = chosen["best_epoch"], work_folder(replace(finalist, protocol=PUBLISHED), places)
    weights, state = _weights_file(folder, epoch), RunFolder(folder / "run").load_state()
    if state is None or not weights.exists():
        return None
    refit = [{name: value for name, value in line.items() if name != "test" and "@" not in name}
             for line in state["history"][:epoch]]  # fmt: skip
    return TrainedModel(
        model=model_of(finalist, dataset, map_tensors(weights)),
        metrics=chosen["validation"],
        history=[*chosen["history"], *refit],
        best_epoch=epoch,
        refit=True,
        seconds=chosen["seconds"] + sum(line["seconds"] for line in refit),
    )


def chosen_by_validation(finalist: Finalist, dataset: Dataset, places: Places) -> dict[str, Any] | None:
    """Return the part "training" of the validation record of the finalist's settings and seed, or None."""
    of = replace(finalist, split="validation", protocol=HELD_OUT)
    record = records.load(places.results / of.file_name(), of, dataset.fingerprint)
    return None if record is None else record.get("training")


def keep(weights: Mapping[str, np.ndarray], epoch: int, chosen: int | None, folder: Path) -> None:
    """Save weights after `epoch` for `shared_refit`. chosen: the only epoch to keep, if known."""
    if chosen in (None, epoch):
        write_tensors(_weights_file(folder, epoch), weights)
    if chosen is not None:
        for path in folder.glob("epoch-*.safetensors"):
            if path != _weights_file(folder, chosen):
                path.unlink()


def work_folder(finalist: Finalist, places: Places) -> Path:
    """Return the folder of the finalist's running training."""
    return places.work / finalist.file_name().removesuffix(".json")


def model_of(finalist: Finalist, dataset: Dataset, weights: Mapping[str, np.ndarray]) -> Model:
    """Return the model without a memory from weights trained on all training sessions."""
    popularity = np.bincount(dataset.train.items, minlength=dataset.n_items).astype(np.int64)
    return Model.of(config=finalist.config, weights=weights, ids=dataset.ids, popularity=popularity)


def _weights_file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch-{epoch}.safetensors"
