"""The Triton backend of aw_loss against float64, an independent cross-entropy, and its own contract."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.aw_loss import aw_loss, catalog_sums, configs, loss_of_sums
from tests.support.kernels.aw_loss import TRITON_DEVICE as DEVICE
from tests.support.kernels.aw_loss import TRITON_DTYPES as DTYPES
from tests.support.kernels.aw_loss import TRITON_SHAPES as SHAPES
from tests.support.kernels.aw_loss import assert_as_close_as_eager, loss_and_gradients, worst
from tests.support.kernels.aw_loss import triton_problem as problem


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("dtype", "compute"), DTYPES, ids=str)
def test_as_close_to_float64_as_eager_is(
    dtype: torch.dtype, compute: torch.dtype | None, shape: tuple[int, int, int], poisoned_memory: None
) -> None:
    assert_as_close_as_eager(dtype, compute, problem(*shape), gamma=2.0)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 6.0])
@pytest.mark.parametrize(("dtype", "compute"), DTYPES, ids=str)
def test_every_gamma(dtype: torch.dtype, compute: torch.dtype | None, gamma: float, poisoned_memory: None) -> None:
    assert_as_close_as_eager(dtype, compute, problem(33, 90, 100, seed=3), gamma)


@given(
    rows=st.integers(1, 40),
    items=st.integers(1, 120),
    d=st.integers(1, 140),
    types=st.sampled_from(DTYPES),
    seed=st.integers(0, 1 << 20),
)
@settings(max_examples=8, deadline=None)
def test_any_shape(rows: int, items: int, d: int, types: tuple[torch.dtype, torch.dtype | None], seed: int) -> None:
    """Against float64, with an error bound that random inputs cannot break by luck as they can eager's own."""
    dtype, compute = types
    queries, catalog, targets, weights = problem(rows, items, d, seed)
    queries, catalog = (functional.normalize(x, dim=1).to(dtype).double() for x in (queries, catalog))
    exact = loss_and_gradients("reference", torch.float64, None, (queries, catalog, targets, weights.to(dtype)), 2.0)
    ours = loss_and_gradients("triton", dtype, compute, (queries, catalog, targets, weights), 2.0)
    # A cosine is off by 2 eps at most (two rounded operands), its logit by 2 eps scale, and so are, relatively,
    # the probabilities; log p moves by as much. The slopes of (2 - 2p)^2 log p are below 16, those of its slope 32.
    bound = 2 * 2 * torch.finfo(compute or dtype).eps * 16 * 32
    for truth, got in zip(exact, ours, strict=True):
        assert torch.isfinite(got).all()
        assert worst(got, truth) <= bound * max(truth.abs().max().item(), 1.0)


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 6.0])
def test_agrees_with_an_independent_cross_entropy(gamma: float) -> None:
    queries, catalog, targets, _ = problem(23, 211, 17)
    cosine = functional.cosine_similarity(queries[:, None], catalog[None], dim=2)
    ce = functional.cross_entropy(12 * cosine, targets, reduction="none")
    oracle = (2 - 2 * torch.exp(-ce)) ** gamma * ce
    got = aw_loss(queries.float(), catalog.float(), targets, scale=12, gamma=gamma, reduction="none", backend="triton")
    torch.testing.assert_close(got.double(), oracle, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("scale", [0.5, 40.0])
def test_extreme_scales_and_opposed_vectors(scale: float) -> None:
    """z from -scale to scale: sums and gradients stay within float32 without a running maximum."""
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]], device=DEVICE)
    e = torch.tensor([[-1.0, 0.0], [-3.0, 0.1], [2.0, 0.0]], device=DEVICE)
    targets = torch.tensor([0, 2], device=DEVICE)
    for gamma in (0.0, 6.0):
        truth, got = (
            loss_and_gradients(backend, dtype, None, (q, e, targets, torch.tensor([1e3, 1.0], device=DEVICE)), gamma)
            for backend, dtype in (("reference", torch.float64), ("triton", torch.float32))
        )
        for expected, ours in zip(truth, got, strict=True):
            torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())
    loss = aw_loss(q, e[:2], targets.clamp_max(1), scale=scale, gamma=0, reduction="none", backend="triton")
    assert torch.isfinite(loss).all()


def test_rows_near_certainty_keep_their_digits() -> None:
    """1 - p of 1e-9 and more, where float32's p is 1: losses and gradients to a relative 1e-4."""
    angles = torch.linspace(0.3, 1.8, 6, dtype=torch.float64)
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for angle in angles.tolist():
        e = torch.tensor([[1.0, 1e-3], [math.cos(angle), math.sin(angle)]], dtype=torch.float64)
        inputs = [x.float().to(DEVICE) for x in (q, e)] + [torch.zeros(1, dtype=torch.int64, device=DEVICE)]
        inputs.append(torch.ones(1, device=DEVICE))
        truth = loss_and_gradients("reference", torch.float64, None, tuple(inputs), 0.0)
        for expected, got in zip(
            truth, loss_and_gradients("triton", torch.float32, None, tuple(inputs), 0.0), strict=True
        ):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_perfect_row_is_finite(gamma: float) -> None:
    """p = 1 to rounding: one item, and 2 - 2p = 0 exactly."""
    q = torch.ones(2, 4, requires_grad=True, device=DEVICE)
    e = torch.ones(1, 4, requires_grad=True, device=DEVICE)
    targets = torch.zeros(2, dtype=torch.int64, device=DEVICE)
    loss = aw_loss(q, e, targets, scale=16, gamma=gamma, backend="triton")
    loss.backward()
    assert loss.item() == 0
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


def test_zero_vectors_have_finite_gradients() -> None:
    q = torch.zeros(2, 4, requires_grad=True, device=DEVICE)
    e = torch.zeros(5, 4, requires_grad=True, device=DEVICE)
    loss = aw_loss(q, e, torch.tensor([0, 4], device=DEVICE), scale=16, gamma=0, backend="triton")
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)
    assert q.grad is not None
    assert e.grad is not None
    assert torch.isfinite(q.grad).all()
    assert torch.isfinite(e.grad).all()


def test_reductions_and_weights() -> None:
    queries, catalog, targets, weights = (x.float() if x.is_floating_point() else x for x in problem(11, 30, 6))
    queries.requires_grad_()
    rows, total, mean = (
        aw_loss(queries, catalog, targets, scale=16, gamma=2, weights=weights, reduction=reduction, backend="triton")
        for reduction in ("none", "sum", "mean")
    )
    assert (weights == 0).any()
    assert rows[weights == 0].abs().max() == 0
    torch.testing.assert_close(total, rows.sum())
    torch.testing.assert_close(mean, rows.sum() / (weights != 0).sum())
    mean.backward()
    assert queries.grad is not None
    assert queries.grad[weights == 0].abs().max() == 0
    assert queries.grad[weights != 0].abs().min() > 0


def test_repeated_targets_add_up() -> None:
    queries, catalog, _, weights = problem(50, 9, 20)
    targets = torch.full((50,), 4, device=DEVICE)
    assert_as_close_as_eager(torch.float32, None, (queries, catalog, targets, weights), gamma=2.0)
    assert_as_close_as_eager(torch.bfloat16, None, (queries, catalog, targets, weights), gamma=2.0)


def test_views_with_strides() -> None:
    queries, catalog, targets, _ = problem(8, 60, 10)
    wide_q, wide_e = queries.float(), catalog.float()
    cases = [
        (wide_q[::2, :7], wide_e[::3, :7], targets[::2] % 20),
        (wide_q.T.contiguous().T, wide_e.T.contiguous().T, targets),
        (wide_q[:1].expand(8, -1), wide_e, targets.repeat_interleave(2)[::2]),
    ]
    for q, e, t in cases:
        q, e = q.detach().requires_grad_(), e.detach().requires_grad_()
        results = []
        for a, b, c in ((q, e, t), (q.contiguous(), e.contiguous(), t.contiguous())):
            loss = aw_loss(a, b, c, scale=16, gamma=2, backend="triton")
            results.append((loss, *torch.autograd.grad(loss, (q, e))))
        for strided, dense in zip(*results, strict=True):
            assert torch.equal(strided, dense)


def test_rows_further_apart_than_32_bits_count() -> None:
    """Row 2 begins 2^31 + 16 entries behind row 0. Only the pages that hold the three rows are touched."""
    stride = (1 << 30) + 8
    e = torch.empty(2 * stride + 4, dtype=torch.float16, device=DEVICE).as_strided((3, 4), (stride, 1))
    queries, catalog, targets, weights = problem(5, 3, 4)
    e.copy_(catalog)
    far, near = e.requires_grad_(), e.detach().contiguous().requires_grad_()
    q = queries.half()
    for items in (far, near):
        loss = aw_loss(q, items, targets, scale=16, gamma=2, weights=weights.half(), backend="triton")
        (gradient,) = torch.autograd.grad(loss, items)
        if items is far:
            expected = loss.detach(), gradient
    assert torch.equal(loss, expected[0])
    assert torch.equal(gradient, expected[1])


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits_on_every_run(compute: torch.dtype) -> None:
    inputs = problem(40, 150, 40)
    first = loss_and_gradients("triton", torch.float32, compute, inputs, 2.0)
    for again in (loss_and_gradients("triton", torch.float32, compute, inputs, 2.0) for _ in range(2)):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_four_slices_are_one(compute: torch.dtype) -> None:
    queries, catalog, targets, _ = problem(20, 203, 24)
    whole, sliced = [], []
    for edges, results in (((0, 203), whole), ((0, 50, 51, 130, 203), sliced)):
        q, e = queries.float().requires_grad_(), catalog.float().requires_grad_()
        parts = [
            catalog_sums(q, e[begin:end], targets, scale=16, first_item=begin, catalog_size=203, compute_dtype=compute)
            for begin, end in itertools.pairwise(edges)
        ]
        loss = loss_of_sums(sum(p[0] for p in parts), sum(p[1] for p in parts), scale=16, gamma=2)  # type: ignore[arg-type]
        loss.sum().backward()
        results += [loss.detach(), q.grad, e.grad]
    q, e = queries.float().requires_grad_(), catalog.float().requires_grad_()
    op = aw_loss(q, e, targets, scale=16, gamma=2, reduction="none", compute_dtype=compute, backend="triton")
    assert torch.equal(op, whole[0])
    # Rounded entries alone differ: a slice has other proportions. Sums of some 200 of them.
    for one, four in zip(whole, sliced, strict=True):
        torch.testing.assert_close(four, one, rtol=1e-5, atol=4 * torch.finfo(compute).eps * one.abs().max().item())
    torch.testing.assert_close(sliced[0], whole[0], rtol=1e-5, atol=1e-5)


def test_small_gradients_survive_fp16() -> None:
    """A mean over many rows: probabilities and weights far below what fp16 holds, which entries are lifted above."""
    inputs = problem(30, 150, 16)
    queries, catalog, targets, _ = inputs
    for factor in (1.0, 1e-6, 1e-20):
        q, e = queries.float().requires_grad_(), catalog.float().requires_grad_()
        loss = aw_loss(q, e, targets, scale=16, gamma=2, compute_dtype=torch.float16, reduction="sum", backend="triton")
        gradients = [g / factor for g in torch.autograd.grad(loss * factor, (q, e))]
        if factor == 1.0:
            expected = gradients
        for got, at_one in zip(gradients, expected, strict=True):
            torch.testing.assert_close(got, at_one, rtol=1e-2, atol=1e-3 * at_one.abs().max().item())


@pytest.mark.parametrize("scale", [16.0, 40.0])
def test_fp16_holds_sums_whose_exponentials_it_cannot(scale: float) -> None:
    """Items along and against the query, in an order that lets the largest come late: exp(z - scale / 2) is up to e^20
    and down to e^-60, where fp16 ends at e^11 and e^-17."""
    query = functional.normalize(torch.randn(1, 16, generator=torch.Generator().manual_seed(1)), dim=1)
    noise = 0.3 * torch.randn(150, 16, generator=torch.Generator().manual_seed(2))
    catalog = functional.normalize(torch.linspace(-1, 1, 150)[:, None] * query + noise, dim=1)
    targets = torch.tensor([3], device=DEVICE)
    q, e = query.half().to(DEVICE), catalog.half().to(DEVICE)
    gradients = []
    for backend, dtype in (("reference", torch.float64), ("triton", torch.float16)):
        leaf = q.to(dtype, copy=True).requires_grad_()
        aw_loss(leaf, e.to(dtype), targets, scale=scale, gamma=0, reduction="sum", backend=backend).backward()
        assert leaf.grad is not None
        gradients.append(leaf.grad.double())
    assert worst(gradients[1], gradients[0]) <= 4 * scale * torch.finfo(torch.float16).eps * gradients[0].abs().max()


def test_queries_gradient_is_a_sum_of_the_forward_pass() -> None:
    """dq = g scale U + h e_target in float64, for any weights on the rows: what the kernels rest on."""
    queries, catalog, targets, weights = problem(9, 70, 12)
    q, e = functional.normalize(queries, dim=1).requires_grad_(), functional.normalize(catalog, dim=1)
    scale, gamma = 16.0, 2.0
    z = scale * q @ e.T
    p = z.softmax(dim=1).gather(1, targets[:, None])[:, 0]
    ((2 - 2 * p) ** gamma * -p.log() * weights).sum().backward()
    with torch.no_grad():
        exps = (z - scale / 2).exp()
        target = exps.gather(1, targets[:, None])[:, 0]
        others = exps.scatter(1, targets[:, None], 0.0)
        slope = (2 - 2 * p) ** gamma - 2 * gamma * p * (2 - 2 * p) ** (gamma - 1) * p.log()
        total = others.sum(dim=1) + target
        g, h = weights * slope / total, -weights * slope * scale * others.sum(dim=1) / total
        by_sums = (g * scale)[:, None] * (others @ e) + h[:, None] * e[targets]
    assert q.grad is not None
    assert worst(by_sums, q.grad) <= 1e-12


def test_vectors_are_summed_only_for_queries_that_want_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtaw_fast.kernels.aw_loss import launchers

    requested = []
    forward = launchers.catalog_sums

    def watched(*arguments: Any) -> launchers.Sums:
        sums = forward(*arguments)
        requested.append(sums.vectors is not None)
        return sums

    monkeypatch.setattr(launchers, "catalog_sums", watched)
    queries, catalog, targets, _ = problem(5, 20, 6)
    q, e = queries.float().requires_grad_(), catalog.float().requires_grad_()
    losses = [aw_loss(a, e, targets, scale=16, gamma=2, backend="triton") for a in (q, q.detach())]
    with torch.no_grad():
        losses.append(aw_loss(q, e, targets, scale=16, gamma=2, backend="triton"))
    assert requested == [True, False, False]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(losses[0], losses[2])


def test_a_side_without_gradient() -> None:
    queries, catalog, targets, _ = problem(6, 20, 5)
    q, e = queries.float(), catalog.float()
    expected = loss_and_gradients("triton", torch.float32, None, (q, e, targets, torch.ones_like(q[:, 0])), 2.0)
    upstream = torch.linspace(-0.5, 2, 6, device=DEVICE)
    for k, wanted in enumerate((q, e)):
        wanted.requires_grad_()
        loss = aw_loss(q, e, targets, scale=16, gamma=2, reduction="none", backend="triton")
        (gradient,) = torch.autograd.grad(loss, wanted, upstream)
        assert torch.equal(gradient.double(), expected[k + 1])
        wanted.requires_grad_(False)


def test_a_target_outside_the_catalog_is_nan_and_touches_nothing() -> None:
    queries, catalog, _, _ = problem(3, 5, 4)
    targets = torch.tensor([1, 5, -1], device=DEVICE)
    loss = aw_loss(queries.float(), catalog.float(), targets, scale=16, gamma=2, reduction="none", backend="triton")
    assert torch.isnan(loss).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"queries": torch.ones(2, 3, dtype=torch.float64)}, "must be float32, bfloat16 or float16"),
        ({"compute_dtype": torch.float64}, "compute_dtype must be float32, bfloat16 or float16"),
        ({"items": torch.ones(0, 3)}, "no rows, no items or no columns"),
        ({"items": torch.ones(4, 3, device="meta")}, "several devices"),
        ({"items": torch.ones(1, 3).to(DEVICE).expand(1 << 31, 3)}, "more than 2147479552 rows or items"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_refusals_say_why(change: dict, reason: str) -> None:
    arguments = {"queries": torch.ones(2, 3), "items": torch.ones(4, 3), "targets": torch.tensor([0, 1])}
    arguments = {name: value.to(DEVICE) for name, value in arguments.items()}
    with pytest.raises(UnsupportedError, match=reason):
        aw_loss(**({**arguments, "scale": 16, "gamma": 2, "backend": "triton"} | change))


def test_slices_outside_the_catalog_are_refused() -> None:
    q, e, t = torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1])
    with pytest.raises(UsageError, match=r"items 8\.\.11 are not within a catalog of 11"):
        catalog_sums(q, e, t, scale=16, first_item=8, catalog_size=11)
    with pytest.raises(UnsupportedError, match="must be float32"):
        catalog_sums(q.double(), e, t, scale=16, first_item=0, catalog_size=4)


@given(rows=st.integers(1, 100_000), items=st.integers(1, 1 << 31), d=st.integers(1, 2000))
def test_splits_cover_the_catalog(rows: int, items: int, d: int) -> None:
    for dtype in ("fp32", "bf16"):
        launch = configs.knobs(d, dtype, "cuda").queries
        splits, tiles_a_split = configs.splits(rows, items, launch)
        tiles = -(-items // launch.items)
        assert 1 <= splits <= configs.MAX_SPLITS
        assert (splits - 1) * tiles_a_split < tiles <= splits * tiles_a_split
