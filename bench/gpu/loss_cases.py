"""The loss: forward and backward with what they move and compute, every tile of the table, and peers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu.setting import Setting, WrongResultError, gate
from mtaw_fast.kernels.aw_loss import aw_loss, configs

SCALE, GAMMA = 16.0, 2.0
_TOLERANCE = 3e-2  # of bf16 products, of the largest entry
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def loss(setting: Setting) -> Iterator[dict[str, Any]]:
    """Forward without and with the queries' sums, and a whole step of the loss; beside them the device's own rates."""
    q, e, targets = _inputs(setting)
    errors = _check(setting, _ours)
    b, n, columns = setting.rows, setting.items, configs.power_of_two(setting.d)
    vectors = 2 * n * configs.width(setting.d)  # bytes of the catalog's unit vectors
    given = 4 * n * setting.d
    for part, work, products, bytes_moved in (
        ("forward, no gradient", lambda: _ours(q.detach(), e.detach(), targets), 1, given + 2 * vectors),
        ("forward", lambda: _ours(q, e, targets), 2, given + 2 * vectors),
        ("forward and backward", lambda: _step(_ours, q, e, targets), 4, 3 * given + 3 * vectors),
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
    size = 64 if setting.dry else 8192
    a = setting.normal(size, size).bfloat16()
    product, copy = setting.time(lambda: a @ a), setting.time(lambda: a.clone())
    limits = {}
    if product:
        limits["tflops"] = round(2 * size**3 / product["p50_us"] * 1e-6, 1)
        limits["gb_s"] = round(4 * size**2 / copy["p50_us"] * 1e-3, 1)
    yield {"part": f"the device's limits: a bf16 product of {size}^3, a copy of as much", **limits}


def tiles(setting: Setting) -> Iterator[dict[str, Any]]:
    """Every tile of the table for each pass, the other pass with the chosen one: what `configs.CHOSEN` should be."""
    q, e, targets = _inputs(setting)
    first_queries, first_items = chosen = configs.CHOSEN
    pairs = [("queries", (tile, first_items)) for tile in configs.QUERIES_TILES]
    pairs += [("items", (first_queries, tile)) for tile in configs.ITEMS_TILES]
    try:
        for kind, pair in pairs:
            configs.CHOSEN = pair
            error = max(_check(setting, _ours))
            forward = kind == "queries"
            time = setting.time((lambda: _ours(q, e, targets)) if forward else (lambda: _step(_ours, q, e, targets)))
            what = "forward" if forward else "forward and backward"
            yield {"pass": kind, "tile": pair[0 if forward else 1], "timed": what, "error": f"{error:.1e}", **time}
    finally:
        configs.CHOSEN = chosen


def peers(setting: Setting) -> Iterator[dict[str, Any]]:
    """Forward and backward of the same loss on other people's cross-entropies, in bf16; ours beside them.

    A peer that cannot run, or is wrong, is skipped with the reason; ours is not.
    """
    q, e, targets = _inputs(setting)
    for name, loss_of in _PEERS.items():
        try:
            error = max(_check(setting, loss_of))
            time = setting.time(lambda loss_of=loss_of: _step(loss_of, q, e, targets))
        except WrongResultError as wrong:
            if loss_of in _OWN:
                raise
            yield {"peer": name, "skipped": str(wrong)}
        except (ImportError, AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError) as reason:
            if loss_of in _OWN:
                raise
            yield {"peer": name, "skipped": (str(reason).splitlines() or [type(reason).__name__])[0]}
        else:
            yield {"peer": name, "error": f"{error:.1e}", **time}


def _inputs(setting: Setting) -> tuple[Tensor, Tensor, Tensor]:
    targets = torch.randint(0, setting.items, (setting.rows,), generator=setting.generator()).to(setting.device)
    e = setting.normal(setting.items, setting.d)
    q = e[targets] + setting.normal(setting.rows, setting.d)
    return q.requires_grad_(), e.requires_grad_(), targets


def _ours(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return aw_loss(q, e, targets, scale=SCALE, gamma=GAMMA, compute_dtype=torch.bfloat16, backend="triton")


def _chunked(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return aw_loss(q, e, targets, scale=SCALE, gamma=GAMMA, compute_dtype=torch.bfloat16, backend="chunked")


def _by_cross_entropy(q: Tensor, e: Tensor, targets: Tensor, each: Loss) -> Tensor:
    q, e = ((factor * functional.normalize(x, dim=1)).bfloat16() for x, factor in ((q, SCALE), (e, 1.0)))
    ce = each(q, e, targets).float()
    return ((-2 * torch.expm1(-ce)) ** GAMMA * ce).mean()


def _dense(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return _by_cross_entropy(
        q, e, targets, lambda a, b, t: functional.cross_entropy((a @ b.T).float(), t, reduction="none")
    )


def _linear_ce(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return _by_cross_entropy(q, e, targets, lambda a, b, t: functional.linear_cross_entropy(a, b, t, reduction="none"))


def _cut_ce(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

    return _by_cross_entropy(
        q, e, targets, lambda a, b, t: linear_cross_entropy(a, b, t, reduction="none", filter_eps=None)
    )


_PEERS: dict[str, Loss] = {
    "ours": _ours,
    "ours in eager PyTorch (chunked)": _chunked,
    "torch, B x N in memory": _dense,
    "torch linear_cross_entropy": _linear_ce,
    "cut-cross-entropy, exact": _cut_ce,
}
_OWN = (_ours, _chunked)  # these are never skipped


def _step(loss_of: Loss, q: Tensor, e: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    value = loss_of(q, e, targets)
    return value, *torch.autograd.grad(value, (q, e))


def _check(setting: Setting, loss_of: Loss) -> list[float]:
    """Errors of loss and gradients against float64 on the first rows and items."""
    q, e, _ = _inputs(setting)
    rows, items = min(setting.rows, 64), min(setting.items, 2000)
    targets = torch.arange(rows, device=setting.device) * 7 % items
    results = []
    for dtype, of in ((torch.float64, _reference), (torch.float32, loss_of)):
        a, b = (x.detach()[:count].to(dtype).requires_grad_() for x, count in ((q, rows), (e, items)))
        results.append(_step(of, a, b, targets))
    names = ("the loss", "the queries' gradient", "the items' gradient")
    return [gate(name, got, truth, _TOLERANCE) for name, truth, got in zip(names, *results, strict=True)]


def _reference(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return aw_loss(q, e, targets, scale=SCALE, gamma=GAMMA, backend="reference")
