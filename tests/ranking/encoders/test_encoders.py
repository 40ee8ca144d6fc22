"""Every encoder against MTAW's formulas, written out in float64 one click at a time."""

from __future__ import annotations

import logging
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.config import Config
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import DataError, MissingPackageError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.model.parameters import RECENT_CLICKS
from mtaw_fast.ranking.encoders import ENCODERS, Encoder, make_encoder
from tests.support.random_bundle import bundle_parts, save_parts, save_random

pytestmark = pytest.mark.slow


def formulas(clicks: np.ndarray, weights: dict[str, np.ndarray], config: Config) -> np.ndarray:
    """Return o_m / |o_m| float64[d] of one session, by the paper's formulas."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    d = config.model.embedding_dim

    def linear(name: str, v: np.ndarray) -> np.ndarray:
        return np.array([sum(w[f"{name}_weight"][o] * v) for o in range(d)]) + w[f"{name}_bias"]

    def attend(query: np.ndarray, keys: list[np.ndarray]) -> Any:
        scores = [sum(query * key) / math.sqrt(d) for key in keys]
        powers = [math.exp(score - max(scores)) for score in scores]
        return sum(power / sum(powers) * key for power, key in zip(powers, keys, strict=True))

    x = [
        w["item_embedding"][i] + w["position_embedding"][min(t, config.model.max_positions - 1)]
        for t, i in enumerate(clicks[-config.model.max_session_length :])
    ]
    interests = []
    for t in range(len(x)):
        tracked = attend(np.maximum(linear("itl_query", x[t]), 0), x[: t + 1])
        v = tracked + linear("ffn_out", np.maximum(linear("ffn_in", tracked), 0))
        spread = math.sqrt(sum((v - v.mean()) ** 2) / d + 1e-5)
        interests.append((v - v.mean()) / spread * w["norm_weight"] + w["norm_bias"])
    o = attend(np.maximum(linear("iel_query", interests[-1]), 0), interests)
    if config.model.recent_weight == 0:
        return o / math.sqrt(sum(o * o))
    late = clicks[-config.model.max_session_length :][-RECENT_CLICKS:][::-1]
    shares = [config.model.recent_decay**k for k in range(len(late))]
    for click, share in zip(late, shares, strict=True):
        row = w["item_embedding"][click]
        length = math.sqrt(sum(row * row))
        o = o + config.model.recent_weight * math.sqrt(d) * share / sum(shares) * (row / length if length else row)
    length = math.sqrt(sum(o * o))
    return o / length if length else o


NEEDS = {"torch": (("torch", "train"),), "onnx": (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu"))}
ALL = [*ENCODERS, "onnx"]


def ready(name: str, bundle: Bundle) -> Bundle:
    """Return the bundle with the parts that encoder `name` needs; skip if a package is missing."""
    for package, extra in NEEDS.get(name, ()):
        pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")
    if name != "onnx" or bundle.file("encoder") is not None:
        return bundle
    from mtaw_fast.export.onnx_model import export_onnx

    export_onnx(bundle.folder, ["float32"])
    return Bundle.load(bundle.folder)


RECENT = {"recent_weight": 1.5, "recent_decay": 0.8}

SETTINGS = [{"max_session_length": 9}, {"max_session_length": 9, **RECENT}, {"max_session_length": 20, **RECENT}]


@pytest.fixture(scope="module", params=SETTINGS, ids=str)
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return save_random(
        tmp_path_factory.mktemp("encoders") / "bundle", embedding_dim=10, max_positions=6, **request.param
    )


def sessions_of(lengths: list[int], n_items: int, seed: int = 0) -> Sessions:
    rng = np.random.default_rng(seed)
    return Sessions.from_lists([rng.integers(0, n_items, length) for length in lengths])


@pytest.mark.parametrize("name", ALL)
class TestEveryEncoder:
    """The contract of every encoder."""

    @pytest.fixture
    def encoder(self, name: str, bundle: Bundle) -> Encoder:
        return make_encoder(name, ready(name, bundle))

    def test_follows_the_formulas(self, encoder: Encoder, bundle: Bundle) -> None:
        """Lengths around the position rows (6), the recent clicks (16) and the longest session that counts (9, 20)."""
        sessions = sessions_of([1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 40, 1, 15, 16, 17, 19, 20, 21], bundle.n_items)
        vectors = encoder.encode(sessions)
        assert vectors.dtype == np.float32
        expected = [formulas(clicks, dict(bundle.weights), bundle.config) for clicks in sessions]
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=3e-6)
        np.testing.assert_allclose(np.linalg.norm(vectors.astype(np.float64), axis=1), 1, rtol=0, atol=2e-7)

    def test_only_the_last_clicks_count(self, encoder: Encoder, bundle: Bundle) -> None:
        sessions = sessions_of([30, 9], bundle.n_items)
        cut = sessions.keep_last(bundle.config.model.max_session_length)
        assert encoder.encode(sessions).tobytes() == encoder.encode(cut).tobytes()

    def test_a_vector_does_not_depend_on_the_batch(self, encoder: Encoder, bundle: Bundle) -> None:
        sessions = sessions_of([3, 9, 1, 20, 3, 4, 7], bundle.n_items)
        together = encoder.encode(sessions)
        for b in range(len(sessions)):
            assert encoder.encode(sessions.slice(b, b + 1)).tobytes() == together[b].tobytes()
        order = np.random.default_rng(1).permutation(len(sessions))
        assert encoder.encode(sessions.select(order)).tobytes() == together[order].tobytes()

    def test_no_sessions(self, encoder: Encoder) -> None:
        assert encoder.encode(Sessions.from_lists([])).shape == (0, 10)

    def test_wrong_sessions_are_refused(self, encoder: Encoder, bundle: Bundle) -> None:
        with pytest.raises(UsageError, match="session 1 to encode has no clicks"):
            encoder.encode(Sessions.from_lists([[1], [], [2]]))
        for bad in (-1, bundle.n_items):
            with pytest.raises(DataError, match=f"internal item id {bad}, outside"):
                encoder.encode(Sessions.from_lists([[1, bad]]))


PAPER_SESSIONS = Sessions.from_lists([*sessions_of([1, 10, 49, 50, 51, 64], 300), [5, 7, 7], [5, 7, 9]])


@pytest.fixture(scope="module", params=[{}, {"recent_weight": 3.0}], ids=str)
def paper_size(request: pytest.FixtureRequest) -> tuple[dict[str, Any], list[np.ndarray]]:
    """The parts of a bundle of the paper's size, and what the formulas give for PAPER_SESSIONS."""
    parts = bundle_parts(n_items=300, embedding_dim=100, **request.param)
    parts["weights"]["item_embedding"][7] = 0  # an item without a direction
    return parts, [formulas(clicks, parts["weights"], parts["config"]) for clicks in PAPER_SESSIONS]


@pytest.mark.parametrize("name", ALL)
def test_the_paper_size_and_a_zero_interest(
    name: str, paper_size: tuple[dict[str, Any], list[np.ndarray]], tmp_path: Path
) -> None:
    (parts, expected), sessions = paper_size, PAPER_SESSIONS
    bundle = ready(name, save_parts(tmp_path / "bundle", **parts))
    np.testing.assert_allclose(make_encoder(name, bundle).encode(sessions), expected, rtol=0, atol=1e-5)
    # log(gain) = 0 is a gain of 1: without directions of items there is nothing to weight.
    parts = {**parts, "weights": {part: array * 0 for part, array in bundle.weights.items()}}
    zero = ready(name, save_parts(tmp_path / "zero", **parts))
    assert not make_encoder(name, zero).encode(sessions).any()


def test_choice_of_encoder(bundle: Bundle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(
        UsageError, match="there is no encoder 'gpt'; choose one of auto, native, numpy, torch, onnx, onnx-cuda"
    ):
        make_encoder("gpt", bundle)
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        assert make_encoder("auto", bundle).name == "native"
    assert [record.getMessage() for record in caplog.records] == ["encoder: native (auto)"]
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("train"))):
        make_encoder("torch", bundle)
