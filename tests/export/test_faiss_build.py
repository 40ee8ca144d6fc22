"""An index of FAISS, built and written."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle.additions import Addition, replace_parts
from mtaw_fast.errors import BundleError
from tests.support.export.indexes import contents

faiss = pytest.importorskip("faiss", reason="FAISS is not installed: pip install 'mtaw-fast[cpu]'")

from mtaw_fast.export import faiss_build  # noqa: E402


def test_a_full_disk_is_reported_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)

    class Full:
        def __init__(self, _: Callable[[bytes], int]) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(faiss, "PyCallbackIOWriter", Full)
    addition = Addition("faiss", lambda path: faiss_build.write_index(path, faiss.IndexFlatIP(4)))
    with pytest.raises(BundleError, match=r"cannot write .*index.*: No space left on device") as caught:
        replace_parts(folder, Bundle.load(folder).manifest, {"index": addition}, {"index": {}})
    assert "\n" not in str(caught.value)
    assert contents(folder) == before
