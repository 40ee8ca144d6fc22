"""The whole graph against the Recommender on every test sample: python -m tests.export.real_sets [FOLDER]

Prepares and trains Tmall and RetailRocket from MTAW_DATA with the default preset, and the synthetic demo, exports each
with --dataset (which fails where a promise is missed) and prints what it says. FOLDER keeps what was made. By hand: a
quarter of an hour on two idle cores.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from mtaw_fast.cli import main
from mtaw_fast.data import synthetic_log

_SETS = ("tmall", "retailrocket")


def run(folder: Path) -> int:
    """Return the exit status: 1 if anything failed."""
    log = folder / "clicks.csv"
    if not log.exists():
        synthetic_log.main([str(log), "--items", "3000", "--sessions", "20000"])
    commands = {"demo": ["prepare", "clicks", str(log), str(folder / "demo.dataset"), "--test-days", "3"]}
    data = os.environ.get("MTAW_DATA")
    if data is None:
        print("MTAW_DATA is not set: without Tmall and RetailRocket", file=sys.stderr)
    for name in _SETS if data is not None else ():
        assert data is not None
        commands[name] = ["prepare", "npz", str(Path(data) / name), str(folder / f"{name}.dataset")]
    failed = 0
    for name, prepare in commands.items():
        bundle, dataset = str(folder / f"{name}.bundle"), str(folder / f"{name}.dataset")
        steps = [] if Path(dataset).exists() else [prepare]
        steps += [] if Path(bundle).exists() else [["train", dataset, bundle]]
        print(f"{name}:", flush=True)
        failed += any(main(step) for step in [*steps, ["export", bundle, "--onnx", "--dataset", dataset]])
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(run(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-real-sets-") as made_here:
        sys.exit(run(Path(made_here)))
