"""Keeps Triton's own cache of compiled kernels in the test cache: see `tests.support.cache`."""

from __future__ import annotations

import os

from tests.support.cache import cache_folder

os.environ.setdefault("TRITON_CACHE_DIR", str(cache_folder() / "triton"))
