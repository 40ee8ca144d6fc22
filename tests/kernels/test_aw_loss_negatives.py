"""`negatives=True` in the native loss, on every instruction set: accuracy, near-certain misses, determinism."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtaw_fast.errors import UnsupportedError
from mtaw_fast.kernels.aw_loss import aw_loss
from tests.support.kernels import native_loss
from tests.support.kernels.native_loss import SHAPES, Problem, on_every_path, problem

GAMMAS = [0.0, 0.5, 2.0, 6.0, 10.0]
run, reference = (partial(outputs, negatives=True) for outputs in (native_loss.run, native_loss.reference))


def by_hand(logits: Tensor, targets: Tensor, gamma: float) -> Tensor:
    """The loss of every row from its definition, in float64."""
    p = logits.softmax(dim=1)
    target_p = p.gather(1, targets[:, None])[:, 0]
    others = (2 * p) ** gamma * torch.log1p(-p)
    others = others.scatter(1, targets[:, None], 0.0).sum(dim=1)
    return -((2 - 2 * target_p) ** gamma) * target_p.log() - others


def sizes(p: Problem) -> dict[str, tuple[float, float]]:
    """What errors are relative to: (the outputs' own rounding's, that of a relative error in the exponentials)."""
    q, e = (torch.tensor(array).double() for array in (p.queries, p.items))
    unit_q, unit_e = (functional.normalize(v, dim=1).requires_grad_() for v in (q, e))
    targets = torch.tensor(p.targets)
    logits = p.scale * unit_q @ unit_e.T
    log_p = functional.log_softmax(logits, dim=1)
    target_loss = -log_p.gather(1, targets[:, None])[:, 0]
    y = log_p.exp()
    others = (2 * y) ** p.gamma * torch.log1p(-y.clamp_max(1 - 1e-15))
    loss = (-2 * torch.expm1(-target_loss)).clamp_min(1e-15) ** p.gamma * target_loss
    loss = loss - others.scatter(1, targets[:, None], 0.0).sum(dim=1)
    slope = torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0].abs().max().item()
    (loss * torch.tensor(p.row_weights)).sum().backward()
    bounds = {"loss": (max(loss.max().item(), 1e-3), slope)}
    for name, vectors, unit in (("d_queries", q, unit_q), ("d_items", e, unit_e)):
        assert unit.grad is not None
        size = (unit.grad.abs() / vectors.norm(dim=1, keepdim=True)).max().item()
        bounds[name] = (size, size)
    return bounds


def check(p: Problem, isa: str, compute: str, threads: int) -> None:
    truth, eager, size = reference(p, torch.float64, None), reference(p, torch.float32, compute), sizes(p)
    eps = torch.finfo(getattr(torch, compute)).eps
    is_small = len(p.queries) * len(p.items) < 256
    exp_eps = p.scale * (eps if is_small else torch.finfo(torch.float32).eps)
    for name, got in run(p, isa, compute, threads).items():
        peer = np.abs(eager[name] - truth[name]).max()
        slack = eps * size[name][0] + exp_eps * size[name][1]
        assert np.abs(got - truth[name]).max() <= 2 * peer + slack, name


@on_every_path
@pytest.mark.parametrize("gamma", [0.5, 2.0, 10.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_as_close_to_float64_as_eager_is(shape: tuple[int, int, int], gamma: float, isa: str, compute: str) -> None:
    check(problem(*shape, gamma=gamma), isa, compute, threads=2)


@on_every_path
@settings(max_examples=10, deadline=None)
@given(
    rows=st.integers(1, 150),
    items=st.integers(1, 420),
    d=st.integers(1, 140),
    gamma=st.sampled_from([0.0, 0.7, 1.0, 3.5, 10.0]),
    seed=st.integers(0, 1 << 20),
)
def test_any_shape(isa: str, compute: str, rows: int, items: int, d: int, gamma: float, seed: int) -> None:
    check(problem(rows, items, d, seed, gamma), isa, compute, threads=2)


def of_cosines(cosines: list[list[float]], targets: list[int], gamma: float, scale: float) -> Problem:
    """Rows with these cosines: the items are the axes, with one more that takes up the rest of a row's length."""
    given_cosines = np.array(cosines)
    rest = np.sqrt(1 - (given_cosines**2).sum(axis=1, keepdims=True))
    queries = np.concatenate([given_cosines, rest], axis=1).astype(np.float32)
    items = np.eye(given_cosines.shape[1], queries.shape[1], dtype=np.float32)
    return Problem(queries, items, np.array(targets), np.ones(len(targets), np.float32), gamma, scale)


@on_every_path
@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("miss", [0.5, 0.26, 0.24, 1e-2, 1e-4, 2e-6, 5e-7, 1e-12, 1e-19])
def test_a_sure_miss_keeps_its_precision(miss: float, gamma: float, isa: str, compute: str) -> None:
    """An item that is not the target with p of 1 - miss; 1 - p would drown in the rounding of p."""
    scale = 40.0
    # Cosines that bfloat16 holds: c, -c and -c, with exp(2 scale c) / 2 = (1 - miss) / miss.
    c = float(np.log(2 * (1 - miss) / miss) / (2 * scale))
    c = float(torch.tensor(c).bfloat16())
    p = of_cosines([[c, -c, -c]], [1], gamma, scale)
    truth = reference(p, torch.float64, None)
    got = run(p, isa, compute)
    relative = 3e-5 if compute == "float32" else 0.03  # of bfloat16's unit query, the others' cosines are rounded too
    for name, expected in truth.items():
        worst = np.abs(got[name] - expected).max()
        assert worst <= relative * (1 + gamma) * np.abs(expected).max() + 1e-6, name


@on_every_path
@pytest.mark.parametrize("gamma", [*GAMMAS, 64.0])
def test_the_surest_miss_is_finite(gamma: float, isa: str, compute: str) -> None:
    """The target as far from the query as an angle goes, another item on it: 1 - p is exp(-80)."""
    items = np.array([[1, 0], [-1, 0], [0.6, 0.8]], np.float32)
    p = Problem(items[:1].copy(), items[:2], np.array([1]), np.ones(1, np.float32), gamma, scale=40.0)
    of_target = 80 * 2**gamma  # (2 - 2p)^gamma -log p
    assert run(p, isa, compute)["loss"][0] == pytest.approx(of_target + 80 * 2**gamma, rel=1e-3)
    for catalog in (items[:2], items):
        got = run(replace(p, items=catalog, queries=items[2:] if len(catalog) == 3 else p.queries), isa, compute)
        assert all(np.isfinite(array).all() for array in got.values())


@on_every_path
@pytest.mark.parametrize("gamma", GAMMAS)
def test_gradients_are_finite_differences_of_the_loss(gamma: float, isa: str, compute: str) -> None:
    p = problem(20, 90, 7, seed=5, gamma=gamma)
    got = run(p, isa, compute, threads=2)
    q, e, targets = torch.tensor(p.queries).double(), torch.tensor(p.items).double(), torch.tensor(p.targets)

    def total(step: float, of_q: Tensor, of_e: Tensor) -> float:
        logits = p.scale * functional.normalize(q + step * of_q, dim=1) @ functional.normalize(e + step * of_e, dim=1).T
        return (by_hand(logits, targets, gamma) * torch.tensor(p.row_weights)).sum().item()

    generator = torch.Generator().manual_seed(1)
    for _ in range(5):
        along = [torch.randn(v.shape, generator=generator, dtype=torch.float64) for v in (q, e)]
        step = 1e-6
        expected = (total(step, *along) - total(-step, *along)) / (2 * step)
        derivative = sum(
            (torch.tensor(got[name]).double() * v).sum().item()
            for name, v in zip(("d_queries", "d_items"), along, strict=True)
        )
        size = float(sum(np.linalg.norm(got[name]) for name in ("d_queries", "d_items")))
        assert derivative == pytest.approx(expected, abs=(1e-4 if compute == "float32" else 3e-2) * size)


@on_every_path
@pytest.mark.parametrize("gamma", [2.0, 2.5])
@pytest.mark.parametrize("shape", [(333, 1500, 37), (600, 3500, 6)], ids=["one piece", "2 groups, 2 parts"])
def test_the_bits_depend_on_neither_threads_nor_run_nor_what_else_is_asked(
    isa: str, compute: str, shape: tuple[int, int, int], gamma: float
) -> None:
    p = problem(*shape, gamma=gamma)
    first = run(p, isa, compute, threads=1)
    for threads in (1, 2, 3, 7):
        for name, again in run(p, isa, compute, threads).items():
            assert again.tobytes() == first[name].tobytes(), (name, threads)
    for gradients in ("", "q", "e"):
        for name, again in run(p, isa, compute, threads=2, gradients=gradients).items():
            assert again.tobytes() == first[name].tobytes(), (name, gradients)


@on_every_path
def test_more_rows_than_a_chunk_holds(isa: str, compute: str) -> None:
    p = problem(2200, 50, 8)
    whole = run(p, isa, compute, threads=2)
    parts = [
        run(Problem(p.queries[rows], p.items, p.targets[rows], p.row_weights[rows]), isa, compute)
        for rows in (slice(0, 700), slice(700, 2200))
    ]
    for name in ("loss", "d_queries"):
        assert np.array_equal(whole[name], np.concatenate([part[name] for part in parts])), name
    summed = sum(part["d_items"].astype(np.float64) for part in parts)
    assert np.abs(whole["d_items"] - summed).max() <= 1e-5 * np.abs(summed).max()


@on_every_path
def test_without_other_items_nothing_is_added(isa: str, compute: str) -> None:
    got = run(problem(3, 1, 4), isa, compute)
    assert (got["loss"] == 0).all()
    assert all(np.isfinite(array).all() for array in got.values())


@on_every_path
def test_zero_vectors_and_zero_weights(isa: str, compute: str) -> None:
    p = problem(40, 300, 9)
    p.queries[3] = 0
    p.items[[7, 299]] = 0
    p.row_weights[3:6] = 0
    got = run(p, isa, compute)
    assert all(np.isfinite(array).all() for array in got.values())
    assert np.abs(got["d_queries"][p.row_weights == 0]).max() == 0


@on_every_path
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_show_in_the_loss(isa: str, compute: str, bad: float) -> None:
    p = problem(70, 300, 9)
    p.queries[66, 2] = bad
    loss = run(p, isa, compute)["loss"]
    assert np.isnan(loss[66])
    assert np.isfinite(np.delete(loss, 66)).all()
    p = problem(70, 300, 9)
    p.items[299, 8] = bad  # no row's target
    p.targets[:] = 5
    assert np.isnan(run(p, isa, compute, threads=2)["loss"]).all()


def test_the_op_takes_it_with_weights_and_every_reduction() -> None:
    p = problem(45, 70, 10)
    targets, weights = torch.tensor(p.targets), torch.tensor(p.row_weights)
    results: dict[tuple[str, str], list[Tensor]] = {}
    for backend in ("auto", "native", "reference"):
        for reduction in ("none", "sum", "mean"):
            q, e = (torch.tensor(array).requires_grad_() for array in (p.queries, p.items))
            out = aw_loss(
                q, e, targets, scale=9, gamma=2, weights=weights, reduction=reduction, negatives=True, backend=backend
            )
            (3 * out).sum().backward()
            assert q.grad is not None
            assert e.grad is not None
            results[backend, reduction] = [out.detach(), q.grad, e.grad]
    for (backend, reduction), result in results.items():
        for got, native, expected in zip(
            result, results["native", reduction], results["reference", reduction], strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
            if backend == "auto":
                assert torch.equal(got, native)


def test_a_gamma_that_float32_cannot_hold_is_refused() -> None:
    p = replace(problem(4, 5, 3), gamma=65.0)
    with pytest.raises(ValueError, match="gamma must be at most 64 with negatives"):
        run(p)
    q, e = torch.tensor(p.queries), torch.tensor(p.items)
    with pytest.raises(UnsupportedError, match="gamma must be at most 64 with negatives=True"):
        aw_loss(q, e, torch.tensor(p.targets), scale=16, gamma=65, negatives=True, backend="native")
    assert math.isfinite(aw_loss(q, e, torch.tensor(p.targets), scale=16, gamma=65, negatives=True).item())
