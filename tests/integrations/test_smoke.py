"""The quick run of everything on Ray (`make ray-smoke`); `make ray` has the long forms."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("ray", reason="Ray is not installed: pip install 'mtaw-fast[ray]'")

_PATIENCE = 560.0  # seconds: an idle host takes a tenth of it


@pytest.mark.ray
@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_everything_on_a_ray_of_its_own(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-m", "tests.support.integrations.smoke", str(tmp_path)]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        output, _ = running.communicate(timeout=_PATIENCE)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
    assert running.returncode == 0, output
    assert "replicas" in output
