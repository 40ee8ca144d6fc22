"""The graph of the whole recommender has no features of context and content: their bundles are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import UsageError
from mtaw_fast.export.onnx_model import export_onnx
from tests.support.ranking.context_model import context_model


def test_a_bundle_whose_ranker_reads_context_is_refused_in_one_line(tmp_path: Path) -> None:
    Bundle.save(tmp_path / "bundle", context_model(), metrics={}, dataset={"name": "x", "fingerprint": "y"})
    with pytest.raises(UsageError, match="--part encoder") as caught:
        export_onnx(tmp_path / "bundle", ["float32"])
    assert "\n" not in str(caught.value)
