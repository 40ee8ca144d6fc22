"""The backends of aw_loss on a CPU: against float64, an independent oracle, and the op's contract; slices of a catalog.

`test_aw_loss_native.py` has the native one's accuracy, and `on_triton` Triton's.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from mtaw_fast.errors import UnsupportedError, UsageError
from mtaw_fast.kernels.aw_loss import aw_loss, catalog_sums, chunked, loss_of_sums
from mtaw_fast.kernels.aw_loss.interface import BACKENDS
from tests.support.kernels import near_certainty
from tests.support.kernels.aw_loss import (
    Inputs,
    loss_and_gradients,
    problem,
    with_gradients,
    worst,
)  # fmt: skip

SHAPES = [(1, 1, 1), (1, 7, 3), (5, 2, 100), (37, 501, 20), (300, 129, 64), (3, 40727, 100)]
FUSED = ["native", "chunked"]
ON_CPU = sorted(set(BACKENDS) - {"triton"})


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Next to other work, PyTorch's threads wait for one another longer than they compute."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_is_as_close_to_float64_as_eager_is(compute: torch.dtype, shape: tuple[int, int, int], gamma: float) -> None:
    inputs = problem(*shape)
    exact = loss_and_gradients("reference", torch.float64, None, inputs, gamma)
    eager = loss_and_gradients("reference", torch.float32, compute, inputs, gamma)
    ours = loss_and_gradients("chunked", torch.float32, compute, inputs, gamma)
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
def test_any_shape(rows: int, items: int, d: int, gamma: float, seed: int) -> None:
    inputs = problem(rows, items, d, seed)
    exact = loss_and_gradients("reference", torch.float64, None, inputs, gamma)
    eager = loss_and_gradients("reference", torch.float32, None, inputs, gamma)
    ours = loss_and_gradients("chunked", torch.float32, None, inputs, gamma)
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
    q, e, t = torch.randn(2, 3, dtype=torch.float64), torch.randn(4, 3), torch.tensor([0, 1])
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


def sliced(
    inputs: Inputs, edges: list[int], dtype: torch.dtype, compute: torch.dtype | None, gamma: float
) -> list[Tensor]:
    """The results of `loss_and_gradients`, from slices between the edges."""
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
    return with_gradients(loss, q, e)


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunked, "ROWS", 16)
    monkeypatch.setattr(chunked, "ITEMS", 64)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 6.0])
@pytest.mark.parametrize("edges", [[0, 203], [0, 50, 51, 51, 130, 203]], ids=["one", "several, one of them empty"])
@pytest.mark.usefixtures("small_tiles")
def test_slices_in_float64_are_the_reference(edges: list[int], gamma: float) -> None:
    inputs = problem(37, 203, 20)
    truths = loss_and_gradients("reference", torch.float64, None, inputs, gamma)
    for truth, got in zip(truths, sliced(inputs, edges, torch.float64, None, gamma), strict=True):
        torch.testing.assert_close(got, truth, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("small_tiles")
def test_slices_of_other_sizes_differ_by_rounding_alone() -> None:
    inputs = problem(100, 500, 32)
    one, four = (sliced(inputs, edges, torch.float32, None, 2.0) for edges in ([0, 500], [0, 125, 250, 375, 500]))
    for a, b in zip(one, four, strict=True):
        assert worst(a, b) <= 4e-6 * a.abs().max().item()


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16], ids=str)
def test_slices_have_the_same_bits_on_every_run(compute: torch.dtype) -> None:
    inputs = problem(300, 700, 24)
    first = sliced(inputs, [0, 300, 700], torch.float32, compute, 2.0)
    for again in (sliced(inputs, [0, 300, 700], torch.float32, compute, 2.0) for _ in range(2)):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


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


def test_of_slices_a_target_outside_the_catalog_gives_nan() -> None:
    q, e = torch.ones(2, 3), torch.ones(4, 3)
    _, cosines = catalog_sums(q, e, torch.tensor([11, 10]), scale=16, first_item=0, catalog_size=11, backend="chunked")
    assert torch.isnan(cosines).tolist() == [True, False]


def test_of_slices_no_gradient_is_made_that_nobody_asks_for() -> None:
    q, e = torch.ones(2, 3), torch.ones(4, 3, requires_grad=True)
    others, _ = catalog_sums(q, e, torch.tensor([0, 1]), scale=16, first_item=0, catalog_size=4, backend="chunked")
    others.sum().backward()
    assert q.grad is None
    assert e.grad is not None


def test_refusals_of_slices_say_why() -> None:
    q, e, t = torch.ones(2, 3), torch.ones(4, 3), torch.tensor([0, 1])
    with pytest.raises(UsageError, match=r"items 8\.\.11 are not within a catalog of 11"):
        catalog_sums(q, e, t, scale=16, first_item=8, catalog_size=11)
    with pytest.raises(UnsupportedError, match="must be float32, or both float64"):
        catalog_sums(q.double(), e, t, scale=16, first_item=0, catalog_size=4, backend="chunked")
    with pytest.raises(UnsupportedError, match="or bfloat16"):
        catalog_sums(q, e, t, scale=16, first_item=0, catalog_size=4, compute_dtype=torch.float16, backend="chunked")
    with pytest.raises(UsageError, match="no backend 'native'"):
        catalog_sums(q, e, t, scale=16, first_item=0, catalog_size=4, backend="native")
