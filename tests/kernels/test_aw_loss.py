"""Every backend of aw_loss against a float64 reference, an independent oracle, and its own contract."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.aw_loss import aw_loss, chunked
from mtaw_fast.kernels.aw_loss.interface import BACKENDS
from mtaw_fast.kernels.native.loss import multiplies_bfloat16
from tests.support.kernels import near_certainty
from tests.support.kernels.aw_loss import problem, worst

SHAPES = [(1, 1, 1), (1, 7, 3), (5, 2, 100), (37, 501, 20), (300, 129, 64), (3, 40727, 100)]
DTYPES = [torch.float32, torch.bfloat16]
FUSED = ["native", "chunked"]
ON_CPU = sorted(set(BACKENDS) - {"triton"})  # Triton's backend has tests of its own, under the interpreter


def skip_unsupported(backend: str, compute: torch.dtype) -> None:
    if backend == "native" and compute == torch.bfloat16 and not multiplies_bfloat16():
        pytest.skip("this CPU has no bfloat16 instructions, or MTAW_ISA hides them")


def loss_and_gradients(
    backend: str, dtype: torch.dtype, compute: torch.dtype | None, inputs: tuple[Tensor, ...], gamma: float
) -> list[Tensor]:
    queries, catalog, targets, weights = inputs
    q = queries.to(dtype, copy=True).requires_grad_()
    e = catalog.to(dtype, copy=True).requires_grad_()
    loss = aw_loss(
        q, e, targets, scale=16, gamma=gamma, weights=weights.to(dtype), reduction="none",
        compute_dtype=compute, backend=backend,
    )  # fmt: skip
    # Uneven gradients from above, so that row and sum cannot be mixed up.
    (loss * torch.linspace(0.5, 2, len(loss), dtype=dtype)).sum().backward()
    assert q.grad is not None
    assert e.grad is not None
    return [tensor.detach().double() for tensor in (loss, q.grad, e.grad)]


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compute", DTYPES, ids=str)
@pytest.mark.parametrize("backend", FUSED)
def test_is_as_close_to_float64_as_eager_is(
    backend: str, compute: torch.dtype, shape: tuple[int, int, int], gamma: float
) -> None:
    skip_unsupported(backend, compute)
    inputs = problem(*shape)
    exact = loss_and_gradients("reference", torch.float64, None, inputs, gamma)
    eager = loss_and_gradients("reference", torch.float32, compute, inputs, gamma)
    ours = loss_and_gradients(backend, torch.float32, compute, inputs, gamma)
    for name, truth, peer, got in zip(("loss", "d queries", "d items"), exact, eager, ours, strict=True):
        slack = torch.finfo(compute).eps * max(truth.abs().max().item(), 1e-3)
        assert worst(got, truth) <= 2 * worst(peer, truth) + slack, name


@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.0, 6.0])
@pytest.mark.parametrize("backend", ON_CPU)
def test_agrees_with_an_independent_cross_entropy(backend: str, gamma: float) -> None:
    queries, catalog, targets, _ = problem(23, 211, 17)
    q, e = queries.float(), catalog.float()
    cosine = functional.cosine_similarity(queries[:, None], catalog[None], dim=2)
    ce = functional.cross_entropy(12 * cosine, targets, reduction="none")
    oracle = (2 - 2 * torch.exp(-ce)) ** gamma * ce
    got = aw_loss(q, e, targets, scale=12, gamma=gamma, reduction="none", backend=backend)
    torch.testing.assert_close(got.double(), oracle, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("keep_bytes", [0, 1 << 30])
def test_recomputed_and_kept_exponentials_give_the_same_gradients(
    keep_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = problem(700, 300, 8)
    expected = loss_and_gradients("chunked", torch.float32, torch.bfloat16, inputs, 2.0)
    monkeypatch.setattr(chunked, "KEEP_BYTES", keep_bytes)
    for a, b in zip(loss_and_gradients("chunked", torch.float32, torch.bfloat16, inputs, 2.0), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("backend", ON_CPU)
def test_a_perfect_row_is_finite(backend: str, gamma: float) -> None:
    """p = 1 to rounding: one item, and 2 - 2p = 0 exactly."""
    q = torch.ones(2, 4, requires_grad=True)
    e = torch.ones(1, 4, requires_grad=True)
    loss = aw_loss(q, e, torch.zeros(2, dtype=torch.int64), scale=16, gamma=gamma, backend=backend)
    loss.backward()
    assert loss.item() == 0
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


@cache
def log_space_truth(scale: float, gamma: float, negatives: bool) -> list[Tensor]:
    """Return losses and gradients in float64, which takes a second, for all backends."""
    targets = near_certainty.inputs()[2]
    return near_certainty.loss_and_gradients(
        lambda q, e: near_certainty.oracle(q, e, targets, scale, gamma, negatives), torch.float64
    )


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("scale", [16.0, 40.0])
@pytest.mark.parametrize("negatives", [False, True])
@pytest.mark.parametrize("backend", ON_CPU)
def test_float32_keeps_its_digits_near_certainty(backend: str, negatives: bool, scale: float, gamma: float) -> None:
    """Against log space in float64. By 1 - p as a difference the gradients were wrong by up to 100%."""
    if negatives and backend == "chunked":
        pytest.skip("chunked has no negatives")
    targets = near_certainty.inputs()[2]
    got = near_certainty.loss_and_gradients(
        lambda q, e: aw_loss(
            q, e, targets, scale=scale, gamma=gamma, negatives=negatives, reduction="none", backend=backend
        ),
        torch.float32,
    )
    truths = log_space_truth(scale, gamma, negatives)
    for name, ours, truth in zip(("loss", "d queries", "d items"), got, truths, strict=True):
        assert near_certainty.worst(ours, truth) < 5e-5, name


@pytest.mark.parametrize("backend", ON_CPU)
def test_zero_vectors_have_finite_gradients(backend: str) -> None:
    q = torch.zeros(2, 4, requires_grad=True)
    e = torch.zeros(5, 4, requires_grad=True)
    loss = aw_loss(q, e, torch.tensor([0, 4]), scale=16, gamma=0, backend=backend)
    loss.backward()
    assert loss.item() == pytest.approx(math.log(5), rel=1e-6)
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


@pytest.mark.parametrize("backend", ON_CPU)
def test_gradients_of_the_reductions(backend: str) -> None:
    """The mean's and the sum's gradients against those of the weighted row losses."""
    queries, catalog, targets, weights = (x.float() if x.is_floating_point() else x for x in problem(45, 70, 10))
    gradients = {}
    for reduction in ("none", "sum", "mean"):
        q, e = queries.clone().requires_grad_(), catalog.clone().requires_grad_()
        out = aw_loss(q, e, targets, scale=9, gamma=2, weights=weights, reduction=reduction, backend=backend)
        (3 * out).sum().backward()
        gradients[reduction] = (q.grad, e.grad)
    rows = (weights != 0).sum()
    for by_row, of_sum, of_mean in zip(*gradients.values(), strict=True):
        torch.testing.assert_close(of_sum, by_row)
        torch.testing.assert_close(of_mean * rows, by_row)
        assert by_row.abs().max() > 0.1


@pytest.mark.parametrize("backend", ON_CPU)
def test_weights_have_gradients(backend: str) -> None:
    queries, catalog, targets, _ = (x.float() if x.is_floating_point() else x for x in problem(11, 30, 6))
    weights = torch.linspace(0.5, 2, 11, requires_grad=True)
    aw_loss(queries, catalog, targets, scale=16, gamma=2, weights=weights, backend=backend).backward()
    rows = aw_loss(queries, catalog, targets, scale=16, gamma=2, reduction="none", backend="reference")
    assert weights.grad is not None
    torch.testing.assert_close(weights.grad, rows / 11, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("backend", ON_CPU)
def test_reductions(backend: str) -> None:
    queries, catalog, targets, weights = (x.float() if x.is_floating_point() else x for x in problem(11, 30, 6))
    rows = aw_loss(queries, catalog, targets, scale=16, gamma=2, weights=weights, reduction="none", backend=backend)
    total = aw_loss(queries, catalog, targets, scale=16, gamma=2, weights=weights, reduction="sum", backend=backend)
    mean = aw_loss(queries, catalog, targets, scale=16, gamma=2, weights=weights, backend=backend)
    assert rows[weights == 0].abs().max() == 0
    torch.testing.assert_close(total, rows.sum())
    torch.testing.assert_close(mean, rows.sum() / (weights != 0).sum())
    assert aw_loss(queries[:0], catalog, targets[:0], scale=16, gamma=2, backend=backend) == 0


@given(
    rows=st.integers(1, 40),
    items=st.integers(1, 300),
    d=st.integers(1, 33),
    gamma=st.sampled_from([0.0, 1.0, 3.5]),
    seed=st.integers(0, 1 << 20),
)
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("backend", FUSED)
def test_any_shape(backend: str, rows: int, items: int, d: int, gamma: float, seed: int) -> None:
    inputs = problem(rows, items, d, seed)
    exact = loss_and_gradients("reference", torch.float64, None, inputs, gamma)
    eager = loss_and_gradients("reference", torch.float32, None, inputs, gamma)
    ours = loss_and_gradients(backend, torch.float32, None, inputs, gamma)
    # A gradient has up to 2^gamma * scale / |v| before the part along v is taken out; eps is relative to that.
    shortest = min(inputs[0].norm(dim=1).min().item(), inputs[1].norm(dim=1).min().item())
    slack = 4 * torch.finfo(torch.float32).eps * 2**gamma * 16 / min(shortest, 1.0)
    for truth, peer, got in zip(exact, eager, ours, strict=True):
        assert worst(got, truth) <= 2 * worst(peer, truth) + slack * max(truth.abs().max().item(), 1.0)


def test_gradcheck_of_the_reference() -> None:
    queries, catalog, targets, _ = problem(4, 9, 5)
    queries.requires_grad_()
    catalog.requires_grad_()
    for negatives in (False, True):
        assert torch.autograd.gradcheck(
            lambda q, e, n=negatives: aw_loss(
                q, e, targets, scale=4, gamma=2, reduction="none", negatives=n, backend="reference"
            ),
            (queries, catalog),
        )


def test_negative_term_by_hand() -> None:
    """Two items at cosines 1 and 0 and scale 1: y = (e, 1) / (e + 1)."""
    q, e = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    y = math.e / (math.e + 1)
    expected = -((2 - 2 * y) ** 2) * math.log(y) - (2 * (1 - y)) ** 2 * math.log(y)
    got = aw_loss(q, e, torch.tensor([0]), scale=1, gamma=2, negatives=True)
    assert got.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dtypes", [(torch.bfloat16, torch.float32), (torch.float32, torch.float64)], ids=str)
def test_queries_and_items_of_two_dtypes(dtypes: tuple[torch.dtype, torch.dtype]) -> None:
    queries, catalog, targets, _ = problem(5, 9, 7)
    for narrow, wide in (dtypes, dtypes[::-1]):
        q, e = queries.to(narrow, copy=True).requires_grad_(), catalog.to(wide, copy=True).requires_grad_()
        got = aw_loss(q, e, targets, scale=16, gamma=2)
        got.backward()
        assert q.grad is not None
        assert e.grad is not None
        assert (q.grad.dtype, e.grad.dtype) == (narrow, wide)
        truth = aw_loss(q.detach().double(), e.detach().double(), targets, scale=16, gamma=2)
        assert got.item() == pytest.approx(truth.item(), rel=2e-2 if torch.bfloat16 in dtypes else 1e-5)


def test_a_refusal_lists_every_reason() -> None:
    q, e, t = torch.randn(2, 3, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64), torch.tensor([0, 1])
    for backend, gamma, reason in (("chunked", 2, "negatives=True"), ("native", 65, "with negatives=True")):
        with pytest.raises(UnsupportedError, match=rf"queries torch.float64\[2, 3\].*{reason}.*must be float32"):
            aw_loss(q, e, t, scale=16, gamma=gamma, negatives=True, backend=backend)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 41}, "scale"),
        ({"scale": 0}, "scale"),
        ({"gamma": -1}, "gamma"),
        ({"reduction": "max"}, "reduction"),
        ({"targets": torch.tensor([0])}, "targets"),
        ({"weights": torch.ones(3)}, "weights"),
        ({"items": torch.ones(4, 2)}, "share d"),
        ({"backend": "magic"}, "no backend"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_malformed_arguments(change: dict, message: str) -> None:
    arguments = {"queries": torch.ones(2, 3), "items": torch.ones(4, 3), "targets": torch.tensor([0, 1])}
    with pytest.raises(UsageError, match=message):
        aw_loss(**({**arguments, "scale": 16, "gamma": 2} | change))


@pytest.mark.parametrize("backend", FUSED)
def test_a_gradient_of_a_gradient_is_refused(backend: str) -> None:
    """Its second derivative would miss the loss's own, without a word."""
    queries, catalog, targets, _ = problem(5, 9, 4)
    q = queries.float().requires_grad_()
    loss = aw_loss(q, catalog.float(), targets, scale=16, gamma=2, backend=backend)
    (gradient,) = torch.autograd.grad(loss**2, q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
