"""The loss: its passes with what they move and compute, every tile of the table, and other libraries.

A cross-entropy of every row gets the adaptive weight, L = (2 - 2 exp(-ce))^gamma ce. A mean alone is compared with
plain cross-entropy, for which ours has a row too. A peer that is not installed, cannot run here or is wrong is skipped
with the reason; ours is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from bench.gpu.setting import Loss, Setting, WrongResultError, errors_of, inputs, step_of
from mtaw_fast.kernels.aw_loss import aw_loss, configs

SCALE, GAMMA = 16.0, 2.0
_CHUNK = 512  # rows of a full batch that the chunked ones take at once


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


def tiles(setting: Setting) -> Iterator[dict[str, Any]]:
    """Time every tile of each pass, with the chosen tile in the other pass: the figures behind `configs.CHOSEN`."""
    q, e, targets = inputs(setting)
    first_queries, first_items = chosen = configs.CHOSEN
    pairs = [("queries", (tile, first_items)) for tile in configs.QUERIES_TILES]
    pairs += [("items", (first_queries, tile)) for tile in configs.ITEMS_TILES]
    try:
        for kind, pair in pairs:
            configs.CHOSEN = pair
            forward = kind == "queries"
            facts = {"pass": kind, "tile": pair[0 if forward else 1]}
            try:
                error = max(errors_of(setting, _ours, SCALE, GAMMA))
                work = (lambda: _ours(q, e, targets)) if forward else (lambda: step_of(_ours, q, e, targets))
                time = setting.time(work)
            except Exception as reason:  # this GPU lacks the memory or an instruction for the tile
                if pair == chosen or isinstance(reason, WrongResultError):
                    raise
                yield {**facts, "skipped": (str(reason).splitlines() or [type(reason).__name__])[0][:200]}
            else:
                timed = "forward" if forward else "forward and backward"
                yield {**facts, "timed": timed, "error": f"{error:.1e}", **time}
    finally:
        configs.CHOSEN = chosen


@dataclass(frozen=True, slots=True)
class Peer:
    """One way to compute the loss.

    loss: returns the mean loss of queries float32[B, d], items float32[N, d] and targets int64[B]. gamma: that of the
    loss it is compared with. items: the catalog is cut to a multiple of this. own: whether it is ours, never skipped.
    """

    name: str
    loss: Loss
    gamma: float = GAMMA
    items: int = 1
    own: bool = False


def peers(setting: Setting) -> Iterator[dict[str, Any]]:
    """Yield the figures of ours and of every installed peer."""
    for peer in all_peers(setting):
        facts: dict[str, Any] = {"peer": peer.name, "gamma": peer.gamma}
        count = setting.items // peer.items * peer.items
        try:
            error = max(errors_of(setting, peer.loss, SCALE, peer.gamma, peer.items))
            q, e, targets = inputs(setting, count)
            time = setting.time(lambda peer=peer, q=q, e=e, targets=targets: step_of(peer.loss, q, e, targets))
        except Exception as reason:  # of whatever kind: their compilers have errors of their own
            if peer.own:
                raise
            yield {**facts, "skipped": (str(reason).splitlines() or [type(reason).__name__])[0][:200]}
        else:
            yield {**facts, "N": count, "error": f"{error:.1e}", **time}


def all_peers(setting: Setting) -> list[Peer]:
    """Return all peers for a setting: ours, PyTorch's, and those of other packages."""
    return [
        Peer("ours", ours(GAMMA), own=True),
        Peer("ours, plain cross-entropy", ours(0.0), gamma=0.0, own=True),
        Peer("ours in eager PyTorch (chunked)", _chunked, own=True),
        Peer("torch, B x N in memory", _weighted(_dense)),
        Peer("torch.compile of it", _weighted(lambda q, e, t: _compiled(setting.dry)(q, e, t))),
        Peer("torch linear_cross_entropy", _weighted(_linear_ce)),
        Peer(f"torch linear_cross_entropy, {_CHUNK} rows a chunk", _weighted(_chunked_linear_ce)),
        Peer("cut-cross-entropy, exact", _weighted(lambda q, e, t: _cut_ce(q, e, t, None))),
        Peer("cut-cross-entropy, filtered", _weighted(lambda q, e, t: _cut_ce(q, e, t, "auto"))),
        Peer("liger, Triton", _weighted(_liger)),
        Peer("liger, SM90", _weighted(lambda q, e, t: _liger_sm90(q, e, t, setting.dry))),
        Peer("quack", _quack, gamma=0.0, items=128),
    ]


def ours(gamma: float) -> Loss:
    """Return our loss by Triton, in bf16."""
    return lambda q, e, targets: aw_loss(
        q, e, targets, scale=SCALE, gamma=gamma, compute_dtype=torch.bfloat16, backend="triton"
    )


_ours = ours(GAMMA)


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
def _compiled(dry: bool) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Compile the dense loss. Dry, the captured code runs as it is: compiling for a CPU takes half a minute."""
    return torch.compile(_dense, dynamic=False, backend="eager" if dry else "inductor")


def _linear_ce(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    return functional.linear_cross_entropy(q, e, targets, reduction="none")


def _chunked_linear_ce(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=min(_CHUNK, len(q)))
    return functional.linear_cross_entropy(q, e, targets, reduction="none", options=options)


def _cut_ce(q: Tensor, e: Tensor, targets: Tensor, filter_eps: str | None) -> Tensor:
    """Call cut-cross-entropy 25.1; 'auto' skips gradients under bf16's epsilon / 32."""
    from cut_cross_entropy import linear_cross_entropy  # type: ignore[import-not-found]

    return linear_cross_entropy(q, e, targets, reduction="none", filter_eps=filter_eps)


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


def _liger_sm90(q: Tensor, e: Tensor, targets: Tensor, dry: bool) -> Tensor:
    """Call liger-kernel 0.8 with nvidia-cutlass-dsl; on other GPUs the call is chunked PyTorch, which is no peer."""
    from liger_kernel.ops.fused_linear_scaled_cross_entropy import (  # type: ignore[import-not-found]
        LigerFusedLinearScaledCrossEntropyFunction,
    )

    if not dry and torch.cuda.get_device_capability() != (9, 0):
        raise NotImplementedError("it is written for sm_90")
    return LigerFusedLinearScaledCrossEntropyFunction.apply(q, e, targets)


def _quack(q: Tensor, e: Tensor, targets: Tensor) -> Tensor:
    """Call quack-kernels 0.6. TMA needs rows of a multiple of 16 bytes, so zeros pad d to a multiple of 8."""
    from quack.linear_cross_entropy import chunked_linear_cross_entropy  # type: ignore[import-not-found]

    q, e = (functional.pad(x, (0, -x.shape[1] % 8)) for x in _units(q, e))
    return chunked_linear_cross_entropy(q, e, targets, reduction="mean")
