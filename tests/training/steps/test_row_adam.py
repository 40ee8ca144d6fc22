"""Adam on the rows of a batch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mtaw_fast.training.steps.adam_state import BETAS
from mtaw_fast.training.steps.row_adam import RowAdam

ROWS, D = 40, 6


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_rows_go_the_way_of_adamw_over_the_whole_matrix(weight_decay: float) -> None:
    """Rows touched sometimes, rarely or never, with a checkpoint in between."""
    torch.manual_seed(0)
    start = torch.randn(ROWS, D)
    matrix, plain = start.clone(), torch.nn.Parameter(start.clone())
    adam = torch.optim.AdamW([plain], lr=1.0, betas=BETAS, weight_decay=weight_decay)
    rows, rng = RowAdam(matrix, BETAS, weight_decay), np.random.default_rng(0)
    for step in range(1200):
        touched = torch.from_numpy(rng.choice(ROWS - 1, 3, replace=False) if step % 700 < 100 else np.array([0, 1]))
        taken = rows.take(touched)
        # A tenth of one step, of hundreds applied at once: eps matters for a gradient near 0.
        torch.testing.assert_close(taken[0], plain.detach()[touched], rtol=0, atol=4e-4)
        gradient = torch.randn(len(touched), D) * 1e-3
        plain.grad = torch.zeros(ROWS, D)
        plain.grad[touched] = gradient
        lr = 2e-3 * (1 + np.cos(step / 1200 * np.pi))
        adam.param_groups[0]["lr"] = lr
        adam.step()
        rows.step(touched, taken, gradient, lr)
        if step == 650:
            rows.catch_up()
            mean, square, steps = rows.mean.clone(), rows.square.clone(), rows.steps
            rows = RowAdam(matrix, BETAS, weight_decay)
            rows.load(mean, square, steps)
    rows.catch_up()
    torch.testing.assert_close(matrix, plain.detach(), rtol=0, atol=4e-4)
    state = adam.state[plain]
    torch.testing.assert_close(rows.mean, state["exp_avg"], rtol=1e-3, atol=1e-12)
    torch.testing.assert_close(rows.square, state["exp_avg_sq"], rtol=1e-3, atol=1e-12)
    assert (start - matrix).abs().max() > 100 * 4e-4
