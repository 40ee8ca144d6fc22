"""The native encoder and its session state against MTAW's formulas in float64, on every instruction set."""

from __future__ import annotations

import ctypes
import gc
import mmap
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtaw_fast.config import Config
from mtaw_fast.kernels.native import _native
from mtaw_fast.kernels.native.encoder import SessionEncoder
from mtaw_fast.kernels.native.rank import engine_of
from mtaw_fast.kernels.native.scan import Scanner, quantize
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.parameters import RECENT_CLICKS, parameter_shapes
from tests.support.random_bundle import bundle_parts

N = 83
TOLERANCE = 2e-6  # float32 against float64, on the coordinates of a unit vector
Weights = dict[str, np.ndarray]
Recent = dict[str, float]
NO_RECENT: Recent = {"recent": 0.0, "recent_decay": 0.0}


def weights_of(d: int, positions: int, seed: int = 0, n_items: int = N) -> Weights:
    """Weights of a trained model's size: rows of about unit length, layers that keep the scale."""
    rng = np.random.default_rng(seed)
    shapes = parameter_shapes(Config.of(embedding_dim=d, max_positions=positions), n_items)
    weights = {name: rng.normal(0, 1 / np.sqrt(d), shape).astype(np.float32) for name, shape in shapes.items()}
    weights["item_embedding"] *= 3
    weights["norm_weight"] += 1
    return weights


def reference(
    clicks: np.ndarray, weights: Mapping[str, np.ndarray], max_len: int, dtype: type, recent: Recent = NO_RECENT
) -> np.ndarray:
    """The query of one session at length 1, computed in `dtype`."""
    w = {name: array.astype(dtype) for name, array in weights.items()}
    clicks = clicks[-max_len:]
    m, d = len(clicks), w["norm_bias"].size

    def linear(name: str, values: np.ndarray) -> np.ndarray:
        return values @ w[f"{name}_weight"].T + w[f"{name}_bias"]

    def softmax(scores: np.ndarray) -> np.ndarray:
        powers = np.exp(scores - scores.max(axis=-1, keepdims=True))
        return powers / powers.sum(axis=-1, keepdims=True)

    shrink = dtype(1 / np.sqrt(d))
    positions = w["position_embedding"]
    x = w["item_embedding"][clicks] + positions[np.minimum(np.arange(m), len(positions) - 1)]
    past = np.tril(np.ones((m, m), dtype=bool))
    tracked = softmax(np.where(past, np.maximum(linear("itl_query", x), 0) @ x.T * shrink, -np.inf)) @ x
    v = tracked + linear("ffn_out", np.maximum(linear("ffn_in", tracked), 0))
    v = v - v.mean(axis=1, keepdims=True)
    interests = v / np.sqrt((v * v).mean(axis=1, keepdims=True) + dtype(1e-5)) * w["norm_weight"] + w["norm_bias"]
    o = softmax(np.maximum(linear("iel_query", interests[-1]), 0) @ interests.T * shrink) @ interests
    late = w["item_embedding"][clicks[::-1][:RECENT_CLICKS]]
    shares = recent["recent_decay"] ** np.arange(len(late))
    directions = late / np.linalg.norm(late, axis=1, keepdims=True)
    o = o + dtype(recent["recent"] * np.sqrt(d)) * (shares / shares.sum()).astype(dtype) @ directions
    return o / np.linalg.norm(o)


def encode(encoder: SessionEncoder, clicks: np.ndarray) -> np.ndarray:
    """The query float32[d] of one session."""
    return encoder.encode(clicks, np.array([0, len(clicks)]))[0]


def check(
    encoder: SessionEncoder, sessions: list[np.ndarray], weights: Weights, max_len: int, recent: Recent = NO_RECENT
) -> None:
    """The largest error is at most twice that of the same formulas in float32, and at common widths in the tolerance.

    LayerNorm over two or three numbers that nearly cancel is ill-conditioned in any float32 encoder.
    """
    error = plain = 0.0
    for clicks in sessions:
        truth = reference(clicks, weights, max_len, np.float64, recent)
        error = max(error, np.abs(encode(encoder, clicks) - truth).max())
        plain = max(plain, np.abs(reference(clicks, weights, max_len, np.float32, recent) - truth).max())
    assert error <= 2 * plain + 1.2e-7
    assert error <= TOLERANCE or weights["norm_bias"].size < 16


def draw(rng: np.random.Generator, m: int, n_items: int = N) -> np.ndarray:
    return rng.integers(0, n_items, m).astype(np.int32)


ISAS = ("portable", "neon", "avx2", "avx512")


def runs_here(isa: str) -> bool:
    """Whether this CPU has the instruction set."""
    try:
        SessionEncoder(weights_of(1, 1), 1, isa)
    except ValueError:
        return False
    return True


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    if not runs_here(request.param):
        pytest.skip(f"this CPU has no {request.param}: the best it has is {_native.cpu_isa()}")
    return request.param


@pytest.mark.parametrize("d", [1, 7, 16, 31, 100, 130])
def test_follows_the_formulas_whatever_the_width(isa: str, d: int) -> None:
    weights = weights_of(d, 20)
    encoder = SessionEncoder(weights, 70, isa)
    rng = np.random.default_rng(d)
    lengths = (1, 2, 3, 4, 5, 6, 7, 10, 13, 16, 17, 33, 48, 49, 69, 70, 71, 100)
    check(encoder, [draw(rng, m) for m in lengths], weights, 70)


def test_follows_the_formulas_at_every_length(isa: str) -> None:
    """Across all tiles' edges, the chunks' (48 rows), and max_len."""
    weights = weights_of(100, 512)
    encoder = SessionEncoder(weights, 512, isa)
    rng = np.random.default_rng(1)
    for m in (*range(1, 103), 255, 256, 257, 511, 512, 513, 700):
        check(encoder, [draw(rng, m)], weights, 512)


@pytest.mark.parametrize("decay", [0.0, 0.4, 0.99])
@pytest.mark.parametrize("d", [1, 7, 16, 31, 100, 130])
def test_recent_clicks_count_beside_the_interests(isa: str, d: int, decay: float) -> None:
    """Lengths around the 16 clicks that count, and a window (12) shorter than they are."""
    weights = weights_of(d, 20)
    rng = np.random.default_rng(d)
    for max_len in (70, 12):
        for gain in (0.01, 3.0, 1000.0):
            recent = {"recent": gain, "recent_decay": decay}
            encoder = SessionEncoder(weights, max_len, isa, **recent)
            check(encoder, [draw(rng, m) for m in (1, 2, 11, 12, 13, 15, 16, 17, 40)], weights, max_len, recent)


def test_recent_clicks_of_any_size_have_a_direction(isa: str) -> None:
    """Rows too large for the square of a float32, small ones, and a row shorter than 1e-12, which has next to none."""
    weights = weights_of(20, 4)
    for size in (1e-11, 1e30):
        items = weights["item_embedding"] * np.float32(size)
        alike = SessionEncoder({**weights, "item_embedding": items}, 9, isa, recent=1000.0, recent_decay=0.0)
        query = encode(alike, np.array([3, 4], dtype=np.int32)).astype(np.float64)
        row = items[4].astype(np.float64)
        np.testing.assert_allclose(query, row / np.linalg.norm(row), rtol=0, atol=5e-3)
    weights["item_embedding"][5] = np.float32(1e-44)
    plain = SessionEncoder(weights, 9, isa)
    silent = SessionEncoder(weights, 9, isa, recent=2.0, recent_decay=0.0)
    clicks = np.array([3, 5], dtype=np.int32)
    assert encode(silent, clicks).tobytes() == encode(plain, clicks).tobytes()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    d=st.integers(1, 70),
    positions=st.integers(1, 30),
    max_len=st.integers(1, 60),
    lengths=st.lists(st.integers(1, 80), max_size=5),
    recent=st.sampled_from([0.0, 2.5]),
)
def test_batches_and_appends_have_the_bits_of_the_session_alone(
    seed: int, d: int, positions: int, max_len: int, lengths: list[int], recent: float
) -> None:
    weights = weights_of(d, positions, seed)
    rng = np.random.default_rng(seed)
    sessions = [draw(rng, m) for m in lengths]
    items = np.concatenate([np.empty(0, np.int32), *sessions])
    offsets = np.cumsum([0, *lengths])
    for isa in filter(runs_here, ISAS):
        encoder = SessionEncoder(weights, max_len, isa, recent=recent, recent_decay=0.7)
        together = encoder.encode(items, offsets)
        assert together.shape == (len(lengths), d)
        for clicks, vector in zip(sessions, together, strict=True):
            assert encode(encoder, clicks).tobytes() == vector.tobytes()
            session = encoder.session()
            for begin, end in _pieces(rng, len(clicks)):
                query = session.extend(clicks[begin:end])
                assert query.tobytes() == encode(encoder, clicks[:end]).tobytes()
            assert session.query().tobytes() == vector.tobytes()
            assert session.clicks.tolist() == clicks[-max_len:].tolist()


def _pieces(rng: np.random.Generator, m: int) -> list[tuple[int, int]]:
    cuts = np.unique(np.append(rng.integers(0, m + 1, 4), [0, m]))
    return list(zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True))


@pytest.mark.parametrize(("d", "max_len"), [(100, 512), (7, 64)])
def test_appending_click_by_click_to_the_end_of_the_window(isa: str, d: int, max_len: int) -> None:
    encoder = SessionEncoder(weights_of(d, 50), max_len, isa)
    clicks = draw(np.random.default_rng(3), max_len + 5)
    session = encoder.session()
    for m, click in enumerate(clicks.tolist(), start=1):
        query = session.append(click)
        if m < 60 or m % 16 < 2 or m > max_len - 2:
            assert query.tobytes() == encode(encoder, clicks[:m]).tobytes(), m


def test_a_click_takes_at_most_512_bytes() -> None:
    session = SessionEncoder(weights_of(100, 50), 512).session()
    assert session.n_bytes == 0
    for m, click in enumerate(draw(np.random.default_rng(5), 530).tolist(), start=1):
        session.append(click)
        assert session.n_bytes <= 512 * min(m, 512)


def test_threads_on_one_session_and_on_many() -> None:
    """Appends of one item from many threads come in some order: their queries are those of lengths 1, 2, 3, .."""
    encoder = SessionEncoder(weights_of(100, 512), 400)
    shared = encoder.session()
    rng = np.random.default_rng(6)
    sessions = [draw(rng, 40) for _ in range(8)]

    def work(clicks: np.ndarray) -> tuple[list[bytes], list[bytes], list[bytes]]:
        session = encoder.session()
        appended, grown, whole = [], [], []
        for m, click in enumerate(clicks.tolist(), start=1):
            appended.append(shared.append(11).tobytes())
            grown.append(session.append(click).tobytes())
            whole.append(encode(encoder, clicks[:m]).tobytes())
            assert set(shared.clicks.tolist()) == {11}
            assert shared.query().size == 100
        return appended, grown, whole

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, sessions))
    for _, grown, whole in results:
        assert grown == whole
    elevens = np.full(320, 11, dtype=np.int32)
    expected = [encode(encoder, elevens[:m]).tobytes() for m in range(1, 321)]
    assert sorted(query for appended, _, _ in results for query in appended) == sorted(expected)
    assert len(shared.clicks) == 320


def test_the_arrays_live_as_long_as_they_are_read(isa: str) -> None:
    weights = weights_of(33, 7)
    truth = reference(np.array([1, 2, 3]), weights, 9, np.float64)
    session = SessionEncoder(weights, 9, isa).session()
    del weights
    gc.collect()
    ballast = [np.full((N, 33), np.nan, dtype=np.float32) for _ in range(50)]
    query = session.extend(np.array([1, 2, 3], dtype=np.int32))
    assert len(ballast) == 50
    np.testing.assert_allclose(query, truth, rtol=0, atol=TOLERANCE)


def test_other_added_items_by_the_same_encoder(isa: str) -> None:
    """Enlarged once or twice, it is the encoder that was made with these items, and the one before stays as it was."""
    weights = weights_of(20, 7)
    rng = np.random.default_rng(6)
    first, others = (rng.normal(0, 0.5, (n, 20)).astype(np.float32) for n in (3, 5))
    base = SessionEncoder(weights, 9, isa)
    old = np.array([1, N - 1, 4], dtype=np.int32), np.array([0, 2, 3])
    before = base.encode(*old).tobytes()
    once = base.extended(first)
    for encoder, added in ((once, first), (once.extended(others), others), (once.extended(first[:0]), first[:0])):
        fresh = SessionEncoder({**weights, "added_embedding": added}, 9, isa)
        ids = np.array([2, *range(N, N + len(added)), 1], dtype=np.int32)
        assert (
            encoder.encode(ids, np.array([0, len(ids)])).tobytes()
            == fresh.encode(ids, np.array([0, len(ids)])).tobytes()
        )
        with pytest.raises(IndexError, match=f"outside 0..{N + len(added) - 1}"):
            encoder.encode(np.array([N + len(added)], dtype=np.int32), np.array([0, 1]))
    assert base.encode(*old).tobytes() == once.encode(*old).tobytes() == before
    with pytest.raises(IndexError):
        base.encode(np.array([N], dtype=np.int32), np.array([0, 1]))
    with pytest.raises(ValueError, match=r"added must be \[.., 20\], not \[3, 19\]"):
        base.extended(np.ones((3, 19), dtype=np.float32))
    with pytest.raises(ValueError, match="added must be a C-contiguous float32 matrix"):
        base.extended(first.astype(np.float64))


def test_a_session_with_clicks_that_only_another_encoder_knows() -> None:
    """A session that an engine over more items advanced past its own encoder is refused."""
    bundle = bundle_parts(n_items=N, embedding_dim=8, text=False)
    weights = bundle["weights"]
    encoder = SessionEncoder(weights, 9)
    added = np.ones((2, 8), dtype=np.float32)
    rows, added_rows = normalized(weights["item_embedding"]), normalized(added)
    scanner, side = Scanner(rows, quantize(rows)), Scanner(added_rows, quantize(added_rows))
    ids = bundle["ids"].table.extended({5: N, 6: N + 1}, (5, 6))
    engine = engine_of(ids, encoder.extended(added), scanner, 16.0, side=side)
    session = encoder.session()
    clicks = np.array([1, N + 1, 2], dtype=np.int32)
    engine.recommend(clicks[:1], 3, state=session.native, n_new=1)
    session.query()
    advanced = engine.recommend(clicks, 3, state=session.native, n_new=2)
    assert advanced[1].tobytes() == engine.rank(clicks, np.array([0, 3]), 3)[1].tobytes()
    for call in (session.query, lambda: session.append(1), lambda: session.extend(clicks[:1])):
        with pytest.raises(ValueError, match="the session has clicks that its own encoder does not know"):
            call()
    assert engine.recommend(clicks, 3, state=session.native, n_new=0)[1].tobytes() == advanced[1].tobytes()


@pytest.mark.skipif(sys.platform != "linux", reason="guards a page with Linux's mprotect")
@pytest.mark.parametrize("d", [1, 5, 16, 100, 130])
def test_nothing_past_the_last_item_is_read(isa: str, d: int) -> None:
    """The embedding ends where a page that must not be touched begins."""
    weights = weights_of(d, 3)
    size = -(-weights["item_embedding"].nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    whole = np.frombuffer(memory, dtype=np.uint8)
    libc = ctypes.CDLL(None, use_errno=True)
    guard = ctypes.c_void_p(whole.ctypes.data + size)
    assert libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    try:
        items = whole[size - weights["item_embedding"].nbytes : size].view(np.float32).reshape(N, d)
        items[:] = weights["item_embedding"]
        recent = {"recent": 2.0, "recent_decay": 0.5}
        encoder = SessionEncoder({**weights, "item_embedding": items}, 9, isa, **recent)
        check(encoder, [np.array([N - 1, 0, N - 1], dtype=np.int32)], weights, 9, recent)
    finally:
        assert libc.mprotect(guard, ctypes.c_size_t(mmap.PAGESIZE), mmap.PROT_READ | mmap.PROT_WRITE) == 0


def test_scores_far_apart(isa: str) -> None:
    """A softmax whose other terms vanish, with scores up to 10^5."""
    weights = weights_of(24, 5)
    weights["item_embedding"] *= 100
    check(SessionEncoder(weights, 20, isa), [draw(np.random.default_rng(8), 20)], weights, 20)


def test_a_zero_interest_stays_zero(isa: str) -> None:
    silent = {name: array * 0 for name, array in weights_of(20, 4).items()}
    assert not SessionEncoder(silent, 9, isa).encode(np.array([1, 2], dtype=np.int32), np.array([0, 1, 2])).any()


@pytest.mark.parametrize("bad", [-1, N])
def test_an_item_outside_the_catalog_is_refused(bad: int) -> None:
    encoder = SessionEncoder(weights_of(12, 4), 2)
    with pytest.raises(IndexError, match=rf"click 1 has internal item id {bad}, outside 0\.\.{N - 1}"):
        encode(encoder, np.array([0, bad, 3, 4, 5], dtype=np.int32))
    session = encoder.session()
    before = session.append(3).tobytes()
    with pytest.raises(IndexError, match=f"click 0 has internal item id {bad}"):
        session.append(bad)
    with pytest.raises(IndexError, match=f"click 2 has internal item id {bad}"):
        session.extend(np.array([1, 2, bad], dtype=np.int32))
    assert session.clicks.tolist() == [3]
    assert session.query().tobytes() == before


def test_wrong_sessions_are_refused() -> None:
    encoder = SessionEncoder(weights_of(12, 4), 9)
    clicks = np.array([1, 2, 3], dtype=np.int32)
    for offsets in ([], [0], [0, 2], [1, 3], [0, 4]):
        with pytest.raises(ValueError, match="offsets must run from 0 to 3"):
            encoder.encode(clicks, np.array(offsets, dtype=np.int64))
    for offsets in ([0, 2, 1, 3], [0, 4, 3], [0, 2**62, 3], [0, -(2**62), 3]):
        with pytest.raises(ValueError, match="offsets must not decrease"):
            encoder.encode(clicks, np.array(offsets, dtype=np.int64))
    with pytest.raises(ValueError, match="has no clicks"):
        encoder.encode(clicks, np.array([0, 2, 2, 3]))
    with pytest.raises(ValueError, match="items must be a C-contiguous int32 vector, not int64"):
        encoder.encode(clicks.astype(np.int64), np.array([0, 3]))
    session = encoder.session()
    with pytest.raises(ValueError, match="the session has no clicks yet"):
        session.query()
    with pytest.raises(ValueError, match="no click to append"):
        session.extend(clicks[:0])


def test_wrong_weights_are_refused() -> None:
    weights = weights_of(12, 4)
    for name, array in weights.items():
        with pytest.raises(ValueError, match=f"the encoder's weights lack '{name}'"):
            SessionEncoder({key: value for key, value in weights.items() if key != name}, 9)
        with pytest.raises(ValueError, match=f"{name} must be a C-contiguous float32"):
            SessionEncoder({**weights, name: array.astype(np.float64)}, 9)
        with pytest.raises(ValueError, match=f"{name} must be an array of numpy"):
            SessionEncoder({**weights, name: array.tolist()}, 9)
        if name != "item_embedding":
            with pytest.raises(ValueError, match=rf"{name} must be \["):
                SessionEncoder({**weights, name: np.ones((5,) * array.ndim, dtype=np.float32)}, 9)
    with pytest.raises(ValueError, match="max_len must be at least 1, not 0"):
        SessionEncoder(weights, 0)
    for name, value in (("recent", -0.1), ("recent", 1000.5), ("recent", np.nan), ("recent_decay", 1.0)):
        with pytest.raises(ValueError, match=f"the encoder's {name} must be in"):
            SessionEncoder(weights, 9, None, **{"recent": 1.0, "recent_decay": 0.5, name: value})
    with pytest.raises(ValueError, match="n_items must be at least 1, not 0"):
        SessionEncoder({**weights, "item_embedding": weights["item_embedding"][:0]}, 9)
    with pytest.raises(ValueError, match="n_positions must be at least 1, not 0"):
        SessionEncoder({**weights, "position_embedding": weights["position_embedding"][:0]}, 9)
    with pytest.raises(ValueError, match="there is no instruction set 'mmx'"):
        SessionEncoder(weights, 9, "mmx")
