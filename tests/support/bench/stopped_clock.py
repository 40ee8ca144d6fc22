"""The cases of the GPU bench as on a GPU, at toy size in Triton's interpreter: every branch that has figures.

Run by `test_gpu.py` in a process of its own. The clock gives the same time for everything, FAISS and ONNX Runtime serve
on the CPU, and the captured step runs without a capture.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from bench.gpu import serving_cases
from bench.gpu.__main__ import CASES as MODULES
from bench.gpu.setting import Setting
from mtaw_fast.recommender import Recommender

CASES = ("limits", "loss", "adam", "step", "epoch", "serving")
STAND_INS = {"onnx-cuda": "onnx", "faiss-gpu": "faiss-flat"}


class Loads:
    """Recommender with the stand-ins."""

    @staticmethod
    def load(folder: Path, encoder: str, index: str, verify: bool) -> Recommender:
        return Recommender.load(folder, STAND_INS.get(encoder, encoder), STAND_INS.get(index, index), verify)


def stopped(_: Setting, work: Any) -> dict[str, float]:
    work()
    return {"p50_us": 100.0, "p95_us": 100.0, "calls": 1}


def main(file: Path) -> None:
    # What a module asks the device through.
    for module, name, stand_in in (
        (Setting, "time", stopped),
        (Setting, "host_time", stopped),
        (serving_cases, "Recommender", Loads),
    ):
        assert hasattr(module, name)
        setattr(module, name, stand_in)
    setting = Setting(False, torch.device("cpu"), rows=24, items=66, d=20, lengths=(5, 2), large=300, sessions=3)
    modules = {name: import_module(f"bench.gpu.{MODULES[name]}") for name in CASES}
    records = [{"case": name, **record} for name in CASES for record in getattr(modules[name], name)(setting)]
    file.write_text(json.dumps(records))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
