"""A short run of concurrent edits, with a killed worker."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.service.edits import edit

pytestmark = pytest.mark.long(caught="routes/test_item_table.py, routes/test_rules.py: one edit at a time")


def test_concurrent_edits_of_items_and_rules_fail_in_no_way(tmp_path: Path) -> None:
    edits = edit(tmp_path, 7.0)
    assert edits.answers.total() > 50
    assert edits.kills == 1
    assert not edits.wrong, str(edits)
