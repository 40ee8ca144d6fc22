"""The loss of a catalog in slices, in eager PyTorch: sums that add up, and gradients, against the whole op."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.aw_loss import aw_loss, catalog_sums, chunked_sums, loss_of_sums
from tests.support.kernels.aw_loss import problem, worst

GAMMAS = [0.0, 0.5, 2.0, 6.0]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Next to other work, PyTorch's threads wait for one another longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sliced(
    inputs: tuple[Tensor, ...], edges: list[int], dtype: torch.dtype, compute: torch.dtype | None, gamma: float
) -> list[Tensor]:
    """Loss and gradients in float64, as `test_aw_loss.loss_and_gradients`, of slices between the edges."""
    queries, catalog, targets, weights = inputs
    q, e = (t.to(dtype, copy=True).requires_grad_() for t in (queries, catalog))
    parts = [
        catalog_sums(
            q, e[begin:end], targets, scale=16, first_item=begin, catalog_size=len(e), compute_dtype=compute,
            backend="chunked",
        )
        for begin, end in itertools.pairwise(edges)
    ]  # fmt: skip
    others, cosines = (torch.stack(column).sum(dim=0) for column in zip(*parts, strict=True))
    loss = loss_of_sums(others, cosines, scale=16, gamma=gamma, backend="chunked") * weights.to(dtype)
    (loss * torch.linspace(0.5, 2, len(loss), dtype=dtype)).sum().backward()
    assert q.grad is not None
    assert e.grad is not None
    return [tensor.detach().double() for tensor in (loss, q.grad, e.grad)]


def whole(inputs: tuple[Tensor, ...], dtype: torch.dtype, compute: torch.dtype | None, gamma: float) -> list[Tensor]:
    queries, catalog, targets, weights = inputs
    q, e = (t.to(dtype, copy=True).requires_grad_() for t in (queries, catalog))
    loss = aw_loss(
        q, e, targets, scale=16, gamma=gamma, weights=weights.to(dtype), reduction="none", compute_dtype=compute,
        backend="reference",
    )  # fmt: skip
    (loss * torch.linspace(0.5, 2, len(loss), dtype=dtype)).sum().backward()
    assert q.grad is not None
    assert e.grad is not None
    return [tensor.detach().double() for tensor in (loss, q.grad, e.grad)]


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked_sums, "ROWS", 16)
    monkeypatch.setattr(chunked_sums, "ITEMS", 64)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("edges", [[0, 203], [0, 50, 51, 51, 130, 203]], ids=["one", "several, one of them empty"])
@pytest.mark.usefixtures("small_tiles")
def test_in_float64_it_is_the_reference(edges: list[int], gamma: float) -> None:
    inputs = problem(37, 203, 20)
    for truth, got in zip(
        whole(inputs, torch.float64, None, gamma), sliced(inputs, edges, torch.float64, None, gamma), strict=True
    ):
        torch.testing.assert_close(got, truth, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 3), (37, 501, 20), (300, 129, 64), (3, 40000, 100)], ids=str)
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_is_as_close_to_float64_as_eager_is(compute: torch.dtype, shape: tuple[int, int, int], gamma: float) -> None:
    inputs, items = problem(*shape), shape[1]
    exact, eager = whole(inputs, torch.float64, None, gamma), whole(inputs, torch.float32, compute, gamma)
    ours = sliced(inputs, [0, items // 3, items // 2, items], torch.float32, compute, gamma)
    for name, truth, peer, got in zip(("loss", "d queries", "d items"), exact, eager, ours, strict=True):
        slack = torch.finfo(compute).eps * max(truth.abs().max().item(), 1e-3)
        assert worst(got, truth) <= 2 * worst(peer, truth) + slack, name


@pytest.mark.usefixtures("small_tiles")
def test_slices_of_other_sizes_differ_by_rounding_alone() -> None:
    inputs = problem(100, 500, 32)
    one, four = (sliced(inputs, edges, torch.float32, None, 2.0) for edges in ([0, 500], [0, 125, 250, 375, 500]))
    for a, b in zip(one, four, strict=True):
        assert worst(a, b) <= 4e-6 * a.abs().max().item()


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_the_same_bits_on_every_run(compute: torch.dtype) -> None:
    inputs = problem(300, 700, 24)
    first = sliced(inputs, [0, 300, 700], torch.float32, compute, 2.0)
    for again in (sliced(inputs, [0, 300, 700], torch.float32, compute, 2.0) for _ in range(2)):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_perfect_row_is_finite(gamma: float) -> None:
    """p = 1: the target is the only item there is."""
    q, e = torch.ones(2, 4, requires_grad=True), torch.ones(1, 4, requires_grad=True)
    targets = torch.zeros(2, dtype=torch.int64)
    sums = catalog_sums(q, e, targets, scale=16, first_item=0, catalog_size=1, backend="chunked")
    loss = loss_of_sums(*sums, scale=16, gamma=gamma, backend="chunked")
    loss.sum().backward()
    assert loss.tolist() == [0, 0]
    assert q.grad is not None
    assert torch.isfinite(q.grad).all()


def test_sums_at_the_largest_scale_are_finite() -> None:
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    e = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], requires_grad=True)
    targets = torch.tensor([0, 1])
    sums = catalog_sums(q, e, targets, scale=40, first_item=0, catalog_size=2, backend="chunked")
    loss = loss_of_sums(*sums, scale=40, gamma=2, backend="chunked")
    torch.testing.assert_close(loss.detach(), torch.tensor([0.0, 4 * 80.0]))
    loss.sum().backward()
    assert e.grad is not None
    assert torch.isfinite(e.grad).all()


def test_a_target_outside_the_catalog_gives_nan() -> None:
    q, e = torch.ones(2, 3), torch.ones(4, 3)
    _, cosines = catalog_sums(q, e, torch.tensor([11, 10]), scale=16, first_item=0, catalog_size=11, backend="chunked")
    assert torch.isnan(cosines).tolist() == [True, False]


def test_no_gradient_is_made_that_nobody_asks_for() -> None:
    q, e = torch.ones(2, 3), torch.ones(4, 3, requires_grad=True)
    others, _ = catalog_sums(q, e, torch.tensor([0, 1]), scale=16, first_item=0, catalog_size=4, backend="chunked")
    others.sum().backward()
    assert q.grad is None
    assert e.grad is not None


def test_refusals_say_why() -> None:
    q, e, t = torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1])
    with pytest.raises(UsageError, match=r"items 8\.\.11 are not within a catalog of 11"):
        catalog_sums(q, e, t, scale=16, first_item=8, catalog_size=11)
    with pytest.raises(UnsupportedError, match="must be float32, or both float64"):
        catalog_sums(q.double(), e, t, scale=16, first_item=0, catalog_size=4, backend="chunked")
    with pytest.raises(UnsupportedError, match="or bfloat16"):
        catalog_sums(q, e, t, scale=16, first_item=0, catalog_size=4, compute_dtype=torch.float16, backend="chunked")
    with pytest.raises(UsageError, match="no backend 'native'"):
        catalog_sums(q, e, t, scale=16, first_item=0, catalog_size=4, backend="native")
