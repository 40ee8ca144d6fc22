"""A short run of concurrent edits, with a killed worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service import edits as edits_module
from tests.service.edits import edit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seconds", [2.0, pytest.param(7.0, marks=pytest.mark.long(caught="here, in 2 seconds"))])
def test_concurrent_edits_of_items_and_rules_fail_in_no_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    monkeypatch.setattr(edits_module, "BETWEEN_KILLS", 0.6 * seconds)
    edits = edit(tmp_path, seconds)
    assert edits.answers.total() > 50
    assert edits.kills == 1
    assert not edits.wrong, str(edits)
