"""A second node of a Ray cluster: another raylet on this host."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.support.service.running import eventually


@contextlib.contextmanager
def second_node(ray: Any, resource: str, cpus: int = 2) -> Iterator[subprocess.Popen]:
    """A node with one of a `resource` of that name, in the cluster that this process is connected to."""
    address, before = ray.get_runtime_context().gcs_address, nodes(ray)
    command = [str(Path(sys.executable).with_name("ray")), "start", "--address", address, "--block"]
    command += ["--node-ip-address", "127.0.0.1", "--num-cpus", str(cpus), "--resources", json.dumps({resource: 1})]
    command += ["--object-store-memory", str(100 << 20), "--disable-usage-stats"]
    node = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        eventually(lambda: nodes(ray) - before, 180)  # one that died may still count as there
        yield node
    finally:
        kill_node(node)


def kill_node(node: subprocess.Popen) -> None:
    """Kill the node and all its processes at once, as a power failure would."""
    with contextlib.suppress(psutil.NoSuchProcess):
        processes = psutil.Process(node.pid).children(recursive=True)
        for process in (*processes, psutil.Process(node.pid)):
            with contextlib.suppress(psutil.NoSuchProcess):
                os.kill(process.pid, signal.SIGKILL)
    node.wait()


def nodes(ray: Any) -> set[str]:
    """The nodes that are there, or were until a moment ago."""
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}
