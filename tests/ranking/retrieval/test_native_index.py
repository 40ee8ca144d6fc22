"""The native index: its int8 codes."""

from __future__ import annotations

import logging

import pytest

from mtaw_fast.errors import BundleError
from mtaw_fast.kernels.native.scan import quantize
from mtaw_fast.ranking.retrieval import make_index
from tests.support.ranking.catalogs import unit_rows


def test_a_catalog_without_codes_is_quantized_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    catalog = unit_rows(70, 4)
    with caplog.at_level(logging.INFO, logger="mtaw_fast"):
        built = make_index("native", catalog)
    assert "the bundle has no quantized catalog; quantizing 70 items at load" in caplog.text
    stored = make_index("native", catalog, quantize(catalog))
    for array, expected in zip(built.search(catalog[:9], 20), stored.search(catalog[:9], 20), strict=True):
        assert array.tobytes() == expected.tobytes()


def test_codes_of_another_catalog_are_refused() -> None:
    with pytest.raises(BundleError, match="the bundle's quantized catalog does not fit it"):
        make_index("native", unit_rows(70, 4), quantize(unit_rows(71, 4)))
    with pytest.raises(BundleError, match="the bundle's quantized catalog does not fit it"):
        make_index("native", unit_rows(70, 4), quantize(-unit_rows(70, 4)))
