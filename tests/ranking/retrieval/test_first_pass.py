"""Which codes the first pass reads: measured once a machine and size, overridable, and without effect on results."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native.scan import is_nested, nested, quantize
from mtaw_fast.ranking.retrieval import first_pass, make_index
from mtaw_fast.ranking.retrieval.first_pass import VARIABLE, kept_file, with_first_pass

N = first_pass.MIN_ITEMS


@pytest.fixture(scope="module")
def catalog() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((N, 12)).astype(np.float32)


@pytest.fixture(scope="module")
def quantized(catalog: np.ndarray) -> dict[str, np.ndarray]:
    return quantize(catalog)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "mtaw-fast" / "first-pass.json"


def test_a_measurement_is_kept(catalog, quantized, cache, monkeypatch) -> None:
    calls = []
    monkeypatch.setattr(first_pass, "measure", lambda *_: calls.append(1) or 0.7)
    for reason in ("measured now", "measured on this machine before"):
        codes, choice = with_first_pass(catalog, quantized)
        assert is_nested(codes)
        assert str(choice) == f"4-bit codes ({reason}; 4-bit take 0.70 of the time of int8)"
    assert calls == [1]
    assert kept_file() == cache
    (name,) = json.loads(cache.read_text())
    assert name.endswith("12 dimensions, about 16384 items")


@pytest.mark.parametrize(("ratio", "codes"), [(0.9, "4-bit"), (0.96, "int8"), (1.3, "int8")])
@pytest.mark.parametrize("stored", [False, True])
def test_the_faster_codes_are_read(catalog, quantized, monkeypatch, ratio, codes, stored) -> None:
    monkeypatch.setattr(first_pass, "measure", lambda *_: ratio)
    arrays, choice = with_first_pass(catalog, nested(quantized) if stored else quantized)
    assert choice.codes == codes
    assert is_nested(arrays) == (codes == "4-bit")


def test_what_is_kept_can_be_asked_without_a_measurement(catalog, quantized, cache, monkeypatch) -> None:
    with monkeypatch.context() as unmeasured:
        unmeasured.setattr(first_pass, "measure", None)
        assert first_pass.kept_first_pass(catalog) is None
        assert str(first_pass.kept_first_pass(catalog[:9])).startswith("int8 codes (fewer")
        few = catalog[:-1]
        assert str(with_first_pass(few, quantize(few))[1]) == "int8 codes (fewer than 16,384 items)"
        assert not cache.exists()
    monkeypatch.setattr(first_pass, "measure", lambda *_: 0.5)
    with_first_pass(catalog, quantized)
    assert first_pass.kept_first_pass(catalog).codes == "4-bit"
    monkeypatch.setattr(first_pass, "__version__", "another release")
    assert first_pass.kept_first_pass(catalog) is None


def test_the_measurement_is_the_median_of_searches_in_turn(catalog, quantized, monkeypatch) -> None:
    clock, costs = [0], []

    class Timed:
        def __init__(self, _: np.ndarray, codes: dict[str, np.ndarray]) -> None:
            self.cost = 6 if is_nested(codes) else 8

        def search(self, *_: object) -> None:
            costs.append(self.cost)
            clock[0] += self.cost

    monkeypatch.setattr(first_pass, "Scanner", Timed)
    monkeypatch.setattr(first_pass.time, "thread_time_ns", lambda: clock[0])
    assert first_pass.measure(catalog, quantized, nested(quantized)) == 0.75
    assert costs[:4] == [8, 6, 8, 6]


@pytest.mark.parametrize("codes", ["int8", "4-bit"])
def test_the_variable_decides(catalog, quantized, cache, monkeypatch, codes) -> None:
    monkeypatch.setenv(VARIABLE, codes)
    monkeypatch.setattr(first_pass, "measure", None)
    for n_items in (N, 100):
        few = catalog[:n_items]
        arrays, choice = with_first_pass(few, quantize(few))
        assert (choice.codes, choice.reason) == (codes, "$MTAW_FIRST_PASS")
        assert is_nested(arrays) == (codes == "4-bit")
    assert not cache.exists()


def test_a_wrong_variable_is_named(catalog, quantized, monkeypatch) -> None:
    monkeypatch.setenv(VARIABLE, "int4")
    with pytest.raises(
        UsageError, match=r"\$MTAW_FIRST_PASS is 'int4'; set it to auto, int8, 4-bit, or leave it unset"
    ):
        make_index("native", catalog, quantized)


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": "b"}', '{"a": -1.0}'])
def test_a_damaged_cache_is_measured_over(catalog, quantized, cache, monkeypatch, text) -> None:
    monkeypatch.setattr(first_pass, "measure", lambda *_: 0.5)
    cache.parent.mkdir()
    cache.write_text(text)
    assert with_first_pass(catalog, quantized)[1].ratio == 0.5
    assert list(json.loads(cache.read_text()).values()) == [0.5]


def test_a_cache_that_cannot_be_written_costs_nothing(catalog, quantized, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(first_pass, "measure", lambda *_: 0.5)
    (tmp_path / "mtaw-fast").write_text("a file")
    assert with_first_pass(catalog, quantized)[1].reason == "measured now"
