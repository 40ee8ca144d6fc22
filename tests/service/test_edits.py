"""A short run of concurrent edits, with a killed worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.edits import edit

pytestmark = pytest.mark.slow


def test_concurrent_edits_of_items_and_rules_fail_in_no_way(tmp_path: Path) -> None:
    found = edit(tmp_path, 7.0)
    assert found.answers.total() > 50
    assert found.kills == 1
    assert not found.wrong, str(found)
