"""The native AW loss, with `negatives` too, on every instruction set this CPU has: accuracy, edges, determinism."""

from __future__ import annotations

import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from mtaw_fast.kernels.aw_loss import aw_loss
from mtaw_fast.kernels.native import loss as native_loss
from tests.support.kernels.native_loss import SHAPES, Problem, on_every_path, problem, reference, run

BOTH = pytest.mark.parametrize("negatives", [False, True], ids=["target", "all items"])
GAMMAS = [0.0, 0.5, 2.0, 6.0, 10.0]


def sizes(p: Problem, negatives: bool) -> dict[str, tuple[float, float]]:
    """What the outputs' errors are relative to: (their own rounding's, that of a relative error in the exponentials).

    A gradient counts before the part along v is taken out; the loss moves by its slope along the logits.
    """
    q, e = (torch.tensor(array).double() for array in (p.queries, p.items))
    unit_q, unit_e = (functional.normalize(v, dim=1).requires_grad_() for v in (q, e))
    targets = torch.tensor(p.targets)
    logits = p.scale * unit_q @ unit_e.T
    log_p = functional.log_softmax(logits, dim=1)
    target_loss = -log_p.gather(1, targets[:, None])[:, 0]
    loss = (-2 * torch.expm1(-target_loss)).clamp_min(1e-15) ** p.gamma * target_loss
    if negatives:
        y = log_p.exp()
        others = (2 * y) ** p.gamma * torch.log1p(-y.clamp_max(1 - 1e-15))
        loss = loss - others.scatter(1, targets[:, None], 0.0).sum(dim=1)
    slope = torch.autograd.grad(loss.sum(), logits, retain_graph=True)[0].abs().max().item()
    (loss * torch.tensor(p.row_weights)).sum().backward()
    bounds = {"loss": (max(loss.max().item(), 1e-3), slope)}
    for name, vectors, unit in (("d_queries", q, unit_q), ("d_items", e, unit_e)):
        assert unit.grad is not None
        size = (unit.grad.abs() / vectors.norm(dim=1, keepdim=True)).max().item()
        bounds[name] = (size, size)
    return bounds


def eager_errors(p: Problem, compute: str, truth: dict[str, np.ndarray], negatives: bool) -> dict[str, float]:
    """Eager's largest error of each output.

    On few queries or items eager may be lucky, and in one dimension it is exact. So the worst of eight equal problems
    counts there: the vectors are turned in a space of one more dimension, which changes their roundings alone.
    """
    problems, has_few = [p], min(len(p.queries), len(p.items)) < 16
    rng, d = np.random.default_rng(0), p.queries.shape[1]
    for _ in range(7 if has_few else 0):
        turn = np.linalg.qr(rng.normal(size=(d + 1, d + 1)))[0][:d]
        queries, items = (np.ascontiguousarray(array @ turn, dtype=np.float32) for array in (p.queries, p.items))
        problems.append(replace(p, queries=queries, items=items))
    errors = dict.fromkeys(truth, 0.0)
    for equal in problems:
        exact = truth if equal is p else reference(equal, torch.float64, None, negatives)
        for name, array in reference(equal, torch.float32, compute, negatives).items():
            errors[name] = max(errors[name], float(np.abs(array - exact[name]).max()))
    return errors


def check(p: Problem, isa: str, compute: str, threads: int, negatives: bool = False) -> None:
    truth, size = reference(p, torch.float64, None, negatives), sizes(p, negatives)
    eps = torch.finfo(getattr(torch, compute)).eps
    # From a float32 logit of up to `scale`; of the factors' rounding too where eager's luck may be good on few numbers.
    is_small = len(p.queries) * len(p.items) < 256
    exp_eps = p.scale * (eps if is_small else torch.finfo(torch.float32).eps)
    eager = eager_errors(p, compute, truth, negatives)
    for name, got in run(p, isa, compute, threads, negatives=negatives).items():
        slack = eps * size[name][0] + exp_eps * size[name][1]
        assert np.abs(got - truth[name]).max() <= 2 * eager[name] + slack, name


@on_every_path
@pytest.mark.parametrize(
    ("gamma", "negatives"),
    [*((gamma, False) for gamma in (0.0, 0.5, 2.0, 6.0)), *((gamma, True) for gamma in (0.5, 2.0, 10.0))],
)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_as_close_to_float64_as_eager_is(
    shape: tuple[int, int, int], gamma: float, negatives: bool, isa: str, compute: str
) -> None:
    check(problem(*shape, gamma=gamma), isa, compute, 2, negatives)


@on_every_path
@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(1, 150),
    items=st.integers(1, 420),
    d=st.integers(1, 140),
    kind=st.sampled_from([(gamma, False) for gamma in (0.0, 1.0, 3.5)] + [(gamma, True) for gamma in (0.0, 0.7, 10.0)]),
    threads=st.integers(1, 3),
    seed=st.integers(0, 1 << 20),
)
@example(rows=1, items=292, d=3, kind=(0.0, True), threads=1, seed=3)  # where eager is lucky
def test_any_shape(
    isa: str, compute: str, rows: int, items: int, d: int, kind: tuple[float, bool], threads: int, seed: int
) -> None:
    gamma, negatives = kind
    check(problem(rows, items, d, seed, gamma), isa, compute, threads, negatives)


@on_every_path
def test_agrees_with_an_independent_cross_entropy(isa: str, compute: str) -> None:
    """L = (2 - 2 exp(-ce))^gamma ce, and its gradients, over torch's cross-entropy in float64."""
    p = problem(77, 611, 31, gamma=2.0)
    q, e = (torch.tensor(array).double().requires_grad_() for array in (p.queries, p.items))
    logits = p.scale * functional.normalize(q, dim=1) @ functional.normalize(e, dim=1).T
    ce = functional.cross_entropy(logits, torch.tensor(p.targets), reduction="none")
    oracle = (2 - 2 * torch.exp(-ce)) ** p.gamma * ce
    (oracle * torch.tensor(p.row_weights)).sum().backward()
    assert q.grad is not None
    assert e.grad is not None
    got = run(p, isa, compute, threads=2)
    # bfloat16 keeps 8 bits of each factor of a logit of up to 16.
    relative = 2e-5 if compute == "float32" else 2e-2
    for name, truth in (("loss", oracle.detach()), ("d_queries", q.grad), ("d_items", e.grad)):
        worst = np.abs(got[name] - truth.numpy()).max()
        assert worst <= relative * truth.abs().max().item(), name


@on_every_path
@pytest.mark.parametrize(("negatives", "gamma"), [(False, 2.0), (True, 2.0), (True, 2.5)])
@pytest.mark.parametrize("shape", [(333, 1500, 37), (600, 3500, 6)], ids=["one piece", "2 groups, 2 parts"])
def test_the_bits_depend_on_neither_threads_nor_run_nor_what_else_is_asked(
    isa: str, compute: str, shape: tuple[int, int, int], negatives: bool, gamma: float
) -> None:
    p = problem(*shape, gamma=gamma)
    first = run(p, isa, compute, threads=1, negatives=negatives)
    for threads in (1, 2, 3, 7):
        for name, again in run(p, isa, compute, threads, negatives=negatives).items():
            assert again.tobytes() == first[name].tobytes(), (name, threads)
    for gradients in ("", "q", "e"):
        for name, again in run(p, isa, compute, threads=2, gradients=gradients, negatives=negatives).items():
            assert again.tobytes() == first[name].tobytes(), (name, gradients)


@BOTH
@on_every_path
def test_more_rows_than_a_chunk_holds(isa: str, compute: str, negatives: bool) -> None:
    """Rows in chunks give each row the same bits as rows alone, and item gradients the same sums."""
    p = problem(2200, 50, 8)
    whole = run(p, isa, compute, threads=2, negatives=negatives)
    parts = [
        run(Problem(p.queries[rows], p.items, p.targets[rows], p.row_weights[rows]), isa, compute, negatives=negatives)
        for rows in (slice(0, 700), slice(700, 2200))
    ]
    for name in ("loss", "d_queries"):
        assert np.array_equal(whole[name], np.concatenate([part[name] for part in parts])), name
    summed = sum(part["d_items"].astype(np.float64) for part in parts)
    # The rows meet other partners in the products' groups: equal to float32's rounding.
    assert np.abs(whole["d_items"] - summed).max() <= 1e-5 * np.abs(summed).max()


@on_every_path
def test_every_row_has_the_same_target(isa: str, compute: str) -> None:
    p = problem(150, 400, 20)
    check(Problem(p.queries, p.items, np.full(150, 399), p.row_weights), isa, compute, threads=2)


@on_every_path
def test_a_sure_target_keeps_its_precision(isa: str, compute: str) -> None:
    """p - 1 of 1e-6 and less, which would drown in bfloat16's or float32's rounding of p."""
    d = 64
    items = np.eye(d, dtype=np.float32)
    p = Problem(items[:5].copy(), items, np.arange(5), np.ones(5, np.float32), gamma=0.0, scale=20.0)
    got = run(p, isa, compute)
    expected = np.log1p((d - 1) * np.exp(-20.0))
    np.testing.assert_allclose(got["loss"], expected, rtol=3e-5)


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
    truth = reference(p, torch.float64, None, negatives=True)
    got = run(p, isa, compute, negatives=True)
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
    assert run(p, isa, compute, negatives=True)["loss"][0] == pytest.approx(of_target + 80 * 2**gamma, rel=1e-3)
    for catalog in (items[:2], items):
        other = replace(p, items=catalog, queries=items[2:] if len(catalog) == 3 else p.queries)
        got = run(other, isa, compute, negatives=True)
        assert all(np.isfinite(array).all() for array in got.values())


@on_every_path
def test_without_other_items_nothing_is_added(isa: str, compute: str) -> None:
    got = run(problem(3, 1, 4), isa, compute, negatives=True)
    assert (got["loss"] == 0).all()
    assert all(np.isfinite(array).all() for array in got.values())


@BOTH
@on_every_path
def test_zero_vectors_and_zero_weights(isa: str, compute: str, negatives: bool) -> None:
    p = problem(40, 300, 9)
    p.queries[3] = 0
    p.items[[7, 299]] = 0
    p.targets[3:6] = (7, 7, 299)
    p.row_weights[3:6] = 0
    got = run(p, isa, compute, negatives=negatives)
    assert all(np.isfinite(array).all() for array in got.values())
    assert got["loss"][3] > 0
    assert np.abs(got["d_queries"][p.row_weights == 0]).max() == 0
    only_zero = run(replace(p, row_weights=np.zeros(40, np.float32)), isa, compute, negatives=negatives)
    assert np.abs(only_zero["d_items"]).max() == 0


@BOTH
@on_every_path
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_are_not_finite_show_in_the_loss(isa: str, compute: str, negatives: bool, bad: float) -> None:
    p = problem(70, 300, 9)
    p.queries[66, 2] = bad
    loss = run(p, isa, compute, negatives=negatives)["loss"]
    assert np.isnan(loss[66])
    assert np.isfinite(np.delete(loss, 66)).all()
    p = problem(70, 300, 9)
    p.items[299, 8] = bad  # no row's target
    p.targets[:] = 5
    assert np.isnan(run(p, isa, compute, threads=2, negatives=negatives)["loss"]).all()


def test_no_rows() -> None:
    p = problem(0, 5, 3)
    assert (run(p)["d_items"] == 0).all()


def test_what_is_kept_is_found_again_and_given_back() -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not show resident memory")
    native_loss.release_kept_blocks()
    before = resident()
    matrix = native_loss.kept_matrix(500_000, 100)
    place = matrix.ctypes.data
    matrix[:] = 1
    del matrix
    assert resident() > before + 150e6
    assert native_loss.kept_matrix(500_000, 100).ctypes.data == place
    native_loss.release_kept_blocks()
    assert resident() < before + 50e6
    p = problem(8, 50, 16)  # what comes after gets fresh memory
    assert np.array_equal(run(p)["loss"], run(p)["loss"])


def test_calls_at_the_same_time() -> None:
    from concurrent.futures import ThreadPoolExecutor

    problems = [problem(100 + 40 * k, 700, 24, seed=k) for k in range(4)]
    expected = [run(p) for p in problems]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            for got, truth in zip(pool.map(run, problems), expected, strict=True):
                assert all(np.array_equal(got[name], truth[name]) for name in truth)


def test_a_target_outside_the_catalog_is_refused() -> None:
    p = problem(4, 5, 3)
    for bad in (-1, 5, 1 << 40):
        p.targets[2] = bad
        with pytest.raises(IndexError, match=f"target {bad} of row 2 is outside the catalog of 5 items"):
            run(p)


@on_every_path
@pytest.mark.parametrize("shape", [(1, 7, 3), (2, 193, 1), (65, 385, 15), (129, 191, 100), (40, 6300, 9)], ids=str)
def test_an_item_with_a_weight_is_so_many_items(shape: tuple[int, int, int], isa: str, compute: str) -> None:
    p = problem(*shape)
    weights = np.random.default_rng(1).integers(0, 4, len(p.items))
    weights[p.targets] = 1
    copies = np.repeat(np.arange(len(p.items)), weights)
    repeated = replace(p, items=p.items[copies], targets=np.searchsorted(copies, p.targets))
    truth, eager = reference(repeated, torch.float64, None), reference(repeated, torch.float32, compute)
    for arrays in (truth, eager):
        gradient = np.zeros(p.items.shape)
        np.add.at(gradient, copies, arrays["d_items"])
        arrays["d_items"] = gradient
    size = sizes(repeated, negatives=False)
    eps, exp_eps = torch.finfo(getattr(torch, compute)).eps, p.scale * torch.finfo(torch.float32).eps
    for name, got in run(p, isa, compute, 2, item_weights=weights.astype(np.float32)).items():
        slack = 3 * (eps * size[name][0] + exp_eps * size[name][1])  # of three copies of an item
        assert np.abs(got - truth[name]).max() <= 2 * np.abs(eager[name] - truth[name]).max() + slack, name


@on_every_path
def test_a_row_s_target_counts_once_and_weights_of_one_change_no_bit(isa: str, compute: str) -> None:
    p = problem(70, 400, 20)
    p = replace(p, targets=np.full(70, 7))
    plain = run(p, isa, compute)
    ones = np.ones(400, np.float32)
    for weights in (ones, np.where(np.arange(400) == 7, np.float32(5.0), ones)):
        for name, got in run(p, isa, compute, item_weights=weights).items():
            assert np.array_equal(got, plain[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"item_weights": np.ones(4, np.float32)}, "there are 5 items but 4 item_weights"),
        ({"item_weights": np.ones(5)}, "item_weights must be a C-contiguous float32 vector"),
        ({"item_weights": np.ones(5, np.float32), "negatives": True}, "item_weights and negatives exclude each other"),
        ({"queries": np.ones((4, 3))}, "queries must be a C-contiguous float32 matrix, not float64"),
        ({"items": np.ones((3, 5), np.float32).T}, "items must be a C-contiguous float32 matrix"),
        ({"items": np.ones((5, 2), np.float32)}, "queries have 3 dimensions, the items 2"),
        ({"targets": np.zeros(4, np.int32)}, "targets must be a C-contiguous int64 vector"),
        ({"targets": np.zeros(3, np.int64)}, "there are 4 queries but 3 targets"),
        ({"loss": np.zeros(3, np.float32)}, "loss must have the shape"),
        ({"d_items": np.zeros((4, 3), np.float32)}, "d_items must have the shape"),
        ({"scale": 41.0}, "scale must be in"),
        ({"gamma": -0.5}, "gamma must be at least 0"),
        ({"gamma": 65.0, "negatives": True}, "gamma must be at most 64 with negatives"),
        ({"compute": "float16"}, "compute must be 'float32' or 'bfloat16', not 'float16'"),
        ({"compute": "bfloat16", "isa": "portable"}, "'portable' has no bfloat16 products"),
        ({"isa": "sse9"}, "there is no instruction set 'sse9'"),
    ],
    ids=lambda value: str(list(value)) if isinstance(value, dict) else "",
)
def test_wrong_arguments_are_refused(change: dict, message: str) -> None:
    arguments = {
        "queries": np.ones((4, 3), np.float32), "items": np.ones((5, 3), np.float32),
        "targets": np.zeros(4, np.int64), "row_weights": np.ones(4, np.float32), "scale": 16.0, "gamma": 2.0,
        "loss": np.empty(4, np.float32), "d_queries": None, "d_items": np.empty((5, 3), np.float32),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        native_loss.aw_loss(**(arguments | change))


def test_a_read_only_output_is_refused() -> None:
    p = problem(2, 3, 4)
    loss = np.empty(2, np.float32)
    loss.flags.writeable = False
    with pytest.raises(ValueError, match="loss must be writeable"):
        native_loss.aw_loss(
            p.queries, p.items, p.targets, p.row_weights, scale=1, gamma=0, loss=loss, d_queries=None, d_items=None
        )


def test_a_second_backward_pass_is_refused() -> None:
    q, e = torch.ones(2, 3, requires_grad=True), torch.ones(4, 3, requires_grad=True)
    loss = aw_loss(q, e, torch.tensor([0, 1]), scale=16, gamma=2, backend="native")
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        loss.backward()
