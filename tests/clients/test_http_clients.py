"""The HTTP clients are made from the service's own OpenAPI document, and rank as Python does (`make http-clients`)."""

from __future__ import annotations

import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from clients.http.generate import CONTRACT, contract
from mtaw_fast import Recommender
from tests.support.cache import ROOT
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.service.running import Running

HTTP = ROOT / "clients" / "http"
N_ITEMS, SESSIONS = 200, 300
# The environment in which `make http-clients` has installed what the clients need.
PYTHON = Path(os.environ.get("MTAW_CLIENTS", "no clients")) / "bin" / "python"
PROGRAMS: dict[str, list[str | Path]] = {
    "python": [PYTHON, HTTP / "python" / "example.py"],
    "typescript": ["node", HTTP / "typescript" / "dist" / "example.js"],
}


def test_the_contract_is_the_services_document() -> None:
    assert CONTRACT.read_text() == contract(), (
        "run `python -m clients.http.generate --contract`, and look at what changed"
    )


@pytest.mark.skipif(not PYTHON.exists(), reason="the clients are not built: run 'make http-clients'")
def test_clients_rank_as_python_does(tmp_path: Path) -> None:
    draw = random.Random(0)
    sessions = [[f"sku-{draw.randrange(N_ITEMS + 5)}" for _ in range(draw.randint(0, 12))] for _ in range(SESSIONS)]
    save_parts(tmp_path / "bundle", **bundle_parts(n_items=N_ITEMS), **memory_parts(N_ITEMS))
    expected = [list(Recommender.load(tmp_path / "bundle").recommend(session, k=10).items) for session in sessions]
    with Running(tmp_path / "bundle", tmp_path / "log", 1) as service:
        for name, program in PROGRAMS.items():
            command = [*map(str, program), f"http://127.0.0.1:{service.port}"]
            text = "".join(f"{json.dumps(session)}\n" for session in sessions)
            completed = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=False)
            assert completed.returncode == 0, completed.stderr
            assert [json.loads(line) for line in completed.stdout.splitlines()] == expected, name
