"""AdamW for a matrix of which a step touches few rows: the steps that a row missed are applied when it is next touched.

A row without a gradient still moves under Adam by its fading momentum, and its moments decay. Over the missed steps
both have closed forms: after j steps the moments are m beta1^j and v beta2^j, and the row has moved by

    sum_j  lr_s sqrt(1 - beta2^s) / (1 - beta1^s) (beta1 / sqrt(beta2))^j  m / (sqrt(v) + eps'),   s = its last step + j

The factor depends only on the row's last step, so one number a step is enough. The weights are those of AdamW over the
whole matrix (except for eps, which does not grow with the gap here, and rounding), at a cost that does not depend on N.
Decoupled weight decay is applied for missed steps too.

Axes: N rows, R rows of a step, d.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

_EPS = 1e-8
_REMEMBERED = 512  # steps after which momentum has faded: (beta1 / sqrt(beta2))^512 is 1e-23
_CHUNK = 1 << 14  # rows updated at once


class RowAdam:
    """AdamW's state of a matrix, updated row by row.

    matrix: float32[N, d], the weights; changed in place. Rows are current after `take` or `catch_up`. weight_decay:
    decoupled.
    """

    def __init__(self, matrix: Tensor, betas: tuple[float, float], weight_decay: float) -> None:
        self._matrix, self._weight_decay = matrix, weight_decay
        self._beta1, self._beta2 = betas
        self.mean, self.square = torch.zeros_like(matrix), torch.zeros_like(matrix)
        self.steps = 0  # taken so far
        self._fading = (self._beta1 / math.sqrt(self._beta2)) ** np.arange(_REMEMBERED, 0, -1)
        self._restart()

    def take(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(weights, mean, square), float32[R, d] each, of distinct rows int64[R], current at this step."""
        weights, mean, square = self._matrix[rows], self.mean[rows], self.square[rows]
        last = self._last[rows.numpy()]
        missed = self.steps - self._base - last
        if missed.any():
            move, keep = self._column(self._move[last]), self._column(self._keep[last])
            weights *= keep
            weights -= move * mean / (square.sqrt() + self._column(self._eps_of[last]))
            mean *= self._column(self._beta1**missed)
            square *= self._column(self._beta2**missed)
        return weights, mean, square

    def step(self, rows: Tensor, state: tuple[Tensor, Tensor, Tensor], gradient: Tensor, lr: float) -> None:
        """Take a step of AdamW. gradient: float32[R, d] of these rows, zero elsewhere. state: the result of `take`."""
        weights, mean, square = state
        self.steps += 1
        rate, eps = self._rate(lr), self._eps()
        mean.lerp_(gradient, 1 - self._beta1)
        square.mul_(self._beta2).addcmul_(gradient, gradient, value=1 - self._beta2)
        if self._weight_decay > 0:
            weights *= 1 - lr * self._weight_decay
        weights.addcdiv_(mean, square.sqrt().add_(eps), value=-rate)
        for matrix, values in ((self._matrix, weights), (self.mean, mean), (self.square, square)):
            matrix.index_copy_(0, rows, values)
        self._record(rate, eps, lr)
        self._last[rows.numpy()] = self.steps - self._base

    def catch_up(self) -> None:
        """Apply the missed steps of every row."""
        for begin in range(0, len(self._matrix), _CHUNK):
            rows = torch.arange(begin, min(begin + _CHUNK, len(self._matrix)))
            chunk = slice(begin, begin + _CHUNK)
            self._matrix[chunk], self.mean[chunk], self.square[chunk] = self.take(rows)
        self._restart()

    def load(self, mean: Tensor, square: Tensor, steps: int) -> None:
        """Continue from moments that are current after `steps` steps."""
        self.mean.copy_(mean)
        self.square.copy_(square)
        self.steps = steps
        self._restart()

    def _restart(self) -> None:
        """Count from here: every row is current now."""
        self._base = self.steps
        self._last = np.zeros(len(self._matrix), dtype=np.int64)
        # By a row's last step: how far it has moved since, the factor of its weight decay, and eps.
        self._move, self._keep, self._eps_of = np.zeros(1), np.ones(1), np.full(1, self._eps())

    def _rate(self, lr: float) -> float:
        """Return the factor of mean / sqrt(square) in this step, with both bias corrections."""
        return lr * math.sqrt(1 - self._beta2**self.steps) / (1 - self._beta1**self.steps)

    def _eps(self) -> float:
        """Return eps for sqrt(square) without bias correction."""
        return max(_EPS * math.sqrt(1 - self._beta2**self.steps), 1e-30)

    def _record(self, rate: float, eps: float, lr: float) -> None:
        """Record what a step does to rows that it does not touch."""
        n_steps = len(self._move)
        if self._weight_decay > 0:
            self._move *= 1 - lr * self._weight_decay
            self._keep *= 1 - lr * self._weight_decay
        recent = min(n_steps, _REMEMBERED)
        self._move[n_steps - recent :] += rate * self._fading[_REMEMBERED - recent :]
        self._move, self._keep = np.append(self._move, 0.0), np.append(self._keep, 1.0)
        self._eps_of = np.append(self._eps_of, eps)

    @staticmethod
    def _column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(values.astype(np.float32))[:, None]
