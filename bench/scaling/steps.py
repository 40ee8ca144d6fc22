"""A training step of any size, as the trainer takes it."""

from __future__ import annotations

import numpy as np

from bench.retrieval.clustered import clustered_vectors
from bench.scaling.inputs import sessions_of
from bench.scaling.point import Work

_BATCHES = 4
_LENGTH = 9  # clicks: 8 samples a session
_FULL_RATE = 1.0  # epochs done: past the warm-up


def step_work(n_items: int, samples: int, d: int, threads: int) -> Work:
    """Steps on `samples` prefixes (of 8 in each session, the last session cut) over N items of d dimensions."""
    import torch

    from mtaw_fast.config import preset
    from mtaw_fast.model.mtaw import MTAW
    from mtaw_fast.training.encoder.batch import Batch
    from mtaw_fast.training.plan.threads import Threads, training_threads
    from mtaw_fast.training.steps.full_step import Stepper

    config = preset("paper").replace(embedding_dim=d)
    model = MTAW(config, n_items)
    vectors = clustered_vectors(n_items, d, 1)[0]
    with torch.no_grad():
        model.item_embedding.copy_(torch.from_numpy(vectors))
    del vectors
    batches = []
    for number in range(_BATCHES):
        whole = sessions_of(n_items, _LENGTH, -(-samples // (_LENGTH - 1)))
        lengths = np.full(len(whole), _LENGTH)
        lengths[-1] -= len(whole) * (_LENGTH - 1) - samples
        clicks = np.roll(whole.items, number).reshape(-1, _LENGTH)
        sessions = type(whole).from_lists([row[:length] for row, length in zip(clicks, lengths, strict=True)])
        batches.append(Batch.of(sessions, 1, torch.device("cpu")))
    asked = Threads.of(threads)
    with training_threads(asked):
        stepper = Stepper(model, config)

    def call(number: int) -> None:
        with training_threads(asked):
            stepper.step(batches[number % _BATCHES], _FULL_RATE)

    return Work(call)
