"""GPU: kernels and their roofs, the training step and an epoch, peers, tiles, serving; under ten minutes in all.

python -m bench.gpu [--only CASE,..] [--json FILE] [--patient]
python -m bench.gpu --dry    every case at toy size through Triton's interpreter, without a GPU and without a figure

Each case has a budget of seconds. When it is spent, measurements that have not started are skipped, with a record.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.gpu.budgets import BUDGETS
from bench.harness.report import Report, command, parse
from mtaw_fast.errors import UnsupportedError, UsageError, require
from mtaw_fast.storage.files import write_json

CASES = tuple(BUDGETS)


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong, 2 without a GPU)."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m bench.gpu --only loss,tiles --json gpu.json",
    )
    parser.add_argument("--only", metavar="CASES", help=f"some of {','.join(CASES)} (default: all)")
    parser.add_argument(
        "--dry", action="store_true", help="toy sizes through Triton's interpreter on the CPU: checks, and no figure"
    )
    parser.add_argument("--patient", action="store_true", help="let every case finish, however long it takes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, after each case")
    options = parse(parser, argv)
    names = _chosen(options.only)
    if options.dry:
        _interpret()
    require("triton", "gpu")
    torch = require("torch", "train")
    if not options.dry and not torch.cuda.is_available():
        raise UnsupportedError(
            "bench.gpu: PyTorch sees no GPU here; run it on a host with one, or with --dry (toy sizes, no figures)"
        )
    return _run(names, options.dry, options.patient, options.json)


def _chosen(only: str | None) -> list[str]:
    names = list(CASES) if only is None else only.split(",")
    for name in names:
        if name not in CASES:
            raise UsageError(f"--only {only}: there is no case {name!r}; choose from {', '.join(CASES)}")
    return names


def _interpret() -> None:
    """Make Triton interpret; it reads the environment when it is imported."""
    if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
        raise UsageError("--dry needs a process that has not imported Triton yet: run python -m bench.gpu --dry")
    os.environ["TRITON_INTERPRET"] = "1"


def _run(chosen: list[str], dry: bool, patient: bool, json: Path | None) -> int:
    from bench.gpu.cases import BY_NAME
    from bench.gpu.setting import Setting, WrongResultError

    report, setting = Report("gpu", quick=dry), Setting.of(dry, hurried=not (dry or patient))
    for name in chosen:
        print(f"{name} ..", file=sys.stderr, flush=True)
        try:
            for record in within(BUDGETS[name] if setting.hurried else math.inf, BY_NAME[name](setting)):
                report.records.append({"case": name, "dry": dry, **record})
                report.notes.append(f"{name}: " + ", ".join(f"{key} {value}" for key, value in record.items()))
        except WrongResultError as error:
            report.refuse(f"{name}: {error}; no speed is reported")
        except Exception as error:  # the other cases can still run
            traceback.print_exc()
            report.refuse(f"{name}: it ended with {type(error).__name__} ({(str(error).splitlines() or [''])[0]})")
        if json is not None:
            write_json(json, report.as_json())
    return report.finish(json)


def within(seconds: float, records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield a case's records until its seconds are spent, then a record that says so if more would follow."""
    end = time.monotonic() + seconds
    for record in records:
        yield record
        if time.monotonic() > end:
            yield {"skipped": f"the rest: its {seconds:g} s are spent; see --patient"}
            return
