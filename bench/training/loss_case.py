"""The case `aw_loss`: forward and backward of the loss, its check, its floor, and everyone's peak memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.harness.agreement import step_error
from bench.harness.comparison import Case, Contender, Floor, Plan, limit_threads
from bench.harness.floors import exp_floor, flop_floor, sum_of
from bench.harness.peak_memory import peak_of_prepared
from bench.harness.report import Row
from bench.training.loss_peers import COMPILE, LossInputs, LossShape, Peer
from mtaw_fast.config import Config
from mtaw_fast.kernels.aw_loss import aw_loss, choose_backend
from mtaw_fast.kernels.aw_loss.request import LossRequest
from mtaw_fast.training.steps.full_step import compute_dtype

OURS = "ours"
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2}  # of loss and gradients, relative to their norms
_WARM = LossShape(rows=4, items=64)
_CPU = torch.device("cpu")


def our_dtype() -> torch.dtype:
    """Return the compute dtype that a training uses on this CPU."""
    return compute_dtype(Config(), _CPU) or torch.float32


def our_loss(inputs: LossInputs) -> Tensor:
    """Call the public op as the trainer does."""
    shape = inputs.shape
    return aw_loss(
        inputs.queries, inputs.items, inputs.targets, scale=shape.scale, gamma=shape.gamma, compute_dtype=our_dtype()
    )  # fmt: skip


def loss_floor(rows: int, items: int, d: int, what: str) -> Floor:
    """Return the floor of three products of 2 B N d operations and B N exponentials, at this machine's rates."""
    dtype = str(our_dtype()).removeprefix("torch.")
    return sum_of(
        flop_floor(6.0 * rows * items * d, f"three products {what}", dtype),
        exp_floor(float(rows) * items, "one pass over the logits"),
    )


def loss_case(inputs: LossInputs, peers: list[Peer], threads: int, plan: Plan) -> Case:
    """Compare ours with the peers on the same inputs; every contender is checked against float64 before."""

    shape = inputs.shape

    @cache
    def truth() -> tuple[float, list[np.ndarray]]:
        return inputs.truth()

    dtypes = {OURS: our_dtype(), **{peer.name: peer.dtype for peer in peers}}

    def check(contender: Contender) -> str | None:
        loss, *gradients = contender.run(0)
        arrays = [gradient.double().numpy() for gradient in gradients]
        return step_error(loss.item(), arrays, *truth(), TOLERANCE[dtypes[contender.name]])

    def contender(name: str, loss: Callable[[LossInputs], Tensor]) -> Contender:
        return Contender(name, lambda _: inputs.run(loss))

    return Case(
        "aw_loss",
        loss_params(inputs, threads),
        "latency_ms",
        contender(OURS, our_loss),
        [contender(peer.name, peer.loss()) for peer in peers],
        check,
        plan,
        loss_floor(shape.rows, shape.items, shape.d, "of the logits and both gradients"),
    )


def loss_params(inputs: LossInputs, threads: int) -> dict[str, Any]:
    """Return what every row says about a loss; its backend is the one that takes these inputs."""
    shape = inputs.shape
    request = LossRequest(
        queries=inputs.queries, items=inputs.items, targets=inputs.targets, scale=shape.scale, gamma=shape.gamma,
        negatives=False, compute_dtype=our_dtype(),
    )  # fmt: skip
    return {
        "catalog": shape.items, "d": shape.d, "batch": shape.rows, "gamma": shape.gamma, "threads": threads,
        "backend": choose_backend(request, "auto"), "compute_dtype": str(our_dtype()).removeprefix("torch."),
    }  # fmt: skip


def memory_rows(shape: LossShape, peers: list[Peer], params: Mapping[str, Any], threads: int) -> list[Row]:
    """Return the peak memory beyond the inputs, with gradients, of ours and of every peer: a row a peer, in MB.

    Each runs once in a new process, after its libraries are loaded and its code is compiled. The floor is the two
    gradients that everyone must return.
    """

    def peak(peer: Peer | None) -> float:
        return peak_of_prepared(prepare_loss, shape, peer, threads) / 1e6

    ours = peak(None)
    floor = 4 * shape.d * (shape.rows + shape.items) / 1e6, "the gradients of queries and items in float32"
    return [
        Row.of(
            "training", "aw_loss-memory", params, "peak_extra_mb", ours, baseline=(peer.name, peak(peer)), floor=floor
        )
        for peer in peers
    ]


def prepare_loss(shape: LossShape, peer: Peer | None, threads: int) -> Callable[[], Any]:
    """Make inputs and warm the code; return one forward and backward. A compiled loss is warmed at full size."""
    with limit_threads(threads):
        loss = our_loss if peer is None else peer.loss()
        inputs = LossInputs.of(shape)
        if peer is not None and peer.name == COMPILE:
            inputs.run(loss)
            inputs.queries.grad = inputs.items.grad = None
        else:
            LossInputs.of(_WARM).run(loss)

    def run() -> None:
        with limit_threads(threads):
            inputs.run(loss)

    return run
