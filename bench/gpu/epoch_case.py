"""A whole epoch of training as `mtaw-fast train` runs it: batches made ahead, steps on the device."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.gpu.setting import Setting, WrongResultError
from mtaw_fast.config import Config
from mtaw_fast.data.readers import npz
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.model.mtaw import MTAW
from mtaw_fast.training.encoder.prefetch import made_ahead
from mtaw_fast.training.steps.batch import Batch, epoch_batches, sample_counts
from mtaw_fast.training.steps.choice import make_stepper
from mtaw_fast.training.steps.full_step import AnyStepper
from mtaw_fast.training.steps.static_step import StaticStep

_EPOCHS = 3  # the first compiles and captures


def epoch(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the seconds of each epoch, on $MTAW_DATA/tmall if it exists, else on similar drawn sessions."""
    name, sessions, n_items = _sessions(setting)
    config = Config.of(embedding_dim=setting.d, epochs=_EPOCHS, train_step="auto", batch_prefixes=setting.rows)
    torch.manual_seed(0)
    model = MTAW(config, n_items).draw_weights(0).to(setting.device).train()
    # StaticStep is what a GPU's graphs capture.
    stepper = StaticStep(model, config) if setting.dry else make_stepper(model, config, sessions)
    samples = sample_counts(sessions, 1)
    facts = {"data": name, "sessions": len(sessions), "samples": int(samples.sum()), "N": n_items, "d": setting.d}
    before = math.inf
    for number in range(1, (1 if setting.dry else _EPOCHS) + 1):
        batches = epoch_batches(samples, config.optimizer.batch_prefixes, config.optimizer.seed, number)
        begin = time.perf_counter()
        loss = _run(stepper, sessions, batches, number)
        seconds = time.perf_counter() - begin
        if not loss < before:
            raise WrongResultError(f"the mean loss of epoch {number} is {loss:.4f}, after {before:.4f}")
        before = loss
        figures = {} if setting.dry else {"epoch_s": round(seconds, 3), "loss": round(loss, 4)}
        taken = {"steps": len(batches), "stepper": type(stepper).__name__, "error": "the loss falls"}
        yield {"epoch": number, **facts, **taken, **figures}


def _run(stepper: AnyStepper, sessions: Sessions, batches: list[np.ndarray], number: int) -> float:
    """Train one epoch as `Fitting._epoch` does, without reports and checkpoints; return the mean loss."""

    def made(numbers: np.ndarray) -> Any:
        return stepper.stage(Batch.of(sessions.select(numbers), 1, stepper.input_device))

    for step, (_, batch) in enumerate(made_ahead(made, batches, stepper.ahead)):
        stepper.step(batch, number - 1 + step / len(batches))
    return stepper.end_epoch()


def _sessions(setting: Setting) -> tuple[str, Sessions, int]:
    folder = os.environ.get("MTAW_DATA")
    if folder and not setting.dry and (Path(folder) / "tmall" / "train.npz").exists():
        dataset = npz.read(Path(folder) / "tmall")
        return "tmall", dataset.train.select(np.flatnonzero(dataset.train.lengths > 1)), dataset.n_items
    count, n_items = setting.sessions, setting.items
    rng = np.random.default_rng(0)  # 6.4 clicks a session, as Tmall's
    lengths = np.minimum(2 + rng.geometric(1 / 4.4, count) - 1, 40)
    shares = 1 / np.arange(10, n_items + 10) ** 0.8
    items = rng.choice(n_items, int(lengths.sum()), p=shares / shares.sum())
    return "drawn", Sessions.from_lists(np.split(items, np.cumsum(lengths)[:-1])), n_items
