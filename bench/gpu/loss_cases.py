"""The loss: its passes with what they move and compute, and other libraries.

A cross-entropy of every row gets the adaptive weight, L = (2 - 2 exp(-ce))^gamma ce. A peer that is not installed,
cannot run here or is wrong is skipped with the reason; ours is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu.setting import Loss, Setting, errors_of, inputs, step_of
from mtaw_fast.kernels.aw_loss import aw_loss, configs

SCALE, GAMMA = 16.0, 2.0


def loss(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time the forward pass without and with the queries' sums, and a whole step of the loss."""
    q, e, targets = inputs(setting)
    errors = errors_of(setting, _ours, SCALE, GAMMA)
    b, n, columns = setting.rows, setting.items, configs.power_of_two(setting.d)
    vectors = 2 * n * configs.width(setting.d)  # bytes of the catalog's unit vectors
    input_bytes = 4 * n * setting.d
    for part, work, products, bytes_moved in (
        ("forward, no gradient", lambda: _ours(q.detach(), e.detach(), targets), 1, input_bytes + 2 * vectors),
        ("forward", lambda: _ours(q, e, targets), 2, input_bytes + 2 * vectors),
        ("forward and backward", lambda: step_of(_ours, q, e, targets), 4, 3 * input_bytes + 3 * vectors),
    ):
        time = setting.time(work)
        rates = {}
        if time:
            seconds = time["p50_us"] * 1e-6
            rates = {
                "tflops": round(2 * products * b * n * columns / seconds * 1e-12, 1),
                "gexp_s": round(max(1, products // 2) * b * n / seconds * 1e-9, 1),
                "gb_s": round(bytes_moved / seconds * 1e-9, 1),
            }
        yield {"part": part, "B": b, "N": n, "d": setting.d, "error": f"{max(errors):.1e}", **time, **rates}


def peers(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the figures of ours, and of every other way that is installed."""
    for name, of in WAYS.items():
        try:
            error = max(errors_of(setting, of, SCALE, GAMMA))
            q, e, targets = inputs(setting)
            time = setting.time(lambda of=of, q=q, e=e, targets=targets: step_of(of, q, e, targets))
        except Exception as reason:  # of whatever kind: their compilers have errors of their own
            if name.startswith("ours"):
                raise
            yield {"peer": name, "skipped": (str(reason).splitlines() or [type(reason).__name__])[0][:200]}
        else:
            yield {"peer": name, "N": setting.items, "error": f"{error:.1e}", **time}


def _ours(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return aw_loss(q, e, targets, scale=SCALE, gamma=GAMMA, compute_dtype=torch.bfloat16, backend="triton")


def _chunked(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return aw_loss(q, e, targets, scale=SCALE, gamma=GAMMA, compute_dtype=torch.bfloat16, backend="chunked")


def _units(q: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Return the factors of the logits in bf16: unit queries times the scale, unit items."""
    return (SCALE * functional.normalize(q, dim=1)).bfloat16(), functional.normalize(e, dim=1).bfloat16()


def _weighted(each: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Loss:
    """Return the adaptive loss over a cross-entropy of every row."""

    def loss(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
        ce = each(*_units(q, e), targets).float()
        return ((-2 * torch.expm1(-ce)) ** GAMMA * ce).mean()

    return loss


def _dense(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy((q @ e.T).float(), targets, reduction="none")


@cache
def _compiled() -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Compile the dense loss. On a CPU the captured code runs as it is: compiling would take half a minute."""
    return torch.compile(_dense, dynamic=False, backend="inductor" if torch.cuda.is_available() else "eager")


def _linear_ce(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return functional.linear_cross_entropy(q, e, targets, reduction="none")


def _cut_ce(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    """Call cut-cross-entropy 25.1, which skips no gradient."""
    from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

    return linear_cross_entropy(q, e, targets, reduction="none", filter_eps=None)


def _liger(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    """Call liger-kernel 0.8's fused linear cross-entropy, its inner loss by Triton even if a CuTe one is installed."""
    from liger_kernel.ops.fused_linear_cross_entropy import (  # type: ignore[import-not-found]
        LigerFusedLinearCrossEntropyFunction,
    )

    no_bias, no_weight, ignored, smoothing, softcap = None, None, -100, 0.0, None
    return LigerFusedLinearCrossEntropyFunction.apply(
        q, e, targets, no_bias, no_weight, ignored, 0.0, smoothing, "none", softcap, False, torch.float32, False, False,
        False, "nvidia-triton", None,
    )[0]  # fmt: skip


WAYS: dict[str, Loss] = {
    "ours": _ours,
    "ours in eager PyTorch (chunked)": _chunked,
    "torch, B x N in memory": _weighted(_dense),
    "torch.compile of it": _weighted(lambda q, e, targets: _compiled()(q, e, targets)),
    "torch linear_cross_entropy": _weighted(_linear_ce),
    "cut-cross-entropy": _weighted(_cut_ce),
    "liger": _weighted(_liger),
}
