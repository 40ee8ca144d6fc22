"""Which sessions make up each training step: bucketed by length, seeded, every session once an epoch."""

from __future__ import annotations

import numpy as np

# Sessions are sorted by length within runs of about this many batches: enough to pad little, few
# enough that the batches of one epoch are not those of the next.
_BATCHES_A_BUCKET = 64


def epoch_batches(lengths: np.ndarray, budget: int, seed: int, epoch: int) -> list[np.ndarray]:
    """Cut the sessions into batches of at most `budget` tokens, in a random order.

    lengths: int64[B], tokens (samples or clicks) of each session; one longer than the budget is a batch
    of its own. The same seed and epoch give the same batches on every machine.
    Returns int64 session numbers, one array a batch.
    """
    rng = np.random.default_rng([seed, epoch])
    shuffled = rng.permutation(len(lengths))
    bucket = np.cumsum(lengths[shuffled]) // (budget * _BATCHES_A_BUCKET)
    by_length = shuffled[np.lexsort((lengths[shuffled], bucket))]
    batches = _cut(by_length, lengths[by_length], budget)
    return [batches[k] for k in rng.permutation(len(batches))]


def _cut(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    batches = []
    begin, tokens = 0, 0
    for k, length in enumerate(lengths.tolist()):
        if tokens + length > budget and k > begin:
            batches.append(order[begin:k])
            begin, tokens = k, 0
        tokens += length
    if begin < len(order):
        batches.append(order[begin:])
    return batches
