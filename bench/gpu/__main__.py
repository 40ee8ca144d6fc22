"""GPU: kernels and the device's limits, the training step, an epoch, other losses, serving; about ten minutes.

python -m bench.gpu [--only CASE,..] [--json FILE]
python -m bench.gpu --dry    every case at toy size through Triton's interpreter, without a GPU and without a figure
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from bench.harness.report import Report, chosen, command, parse, say
from mtaw_fast.errors import UnsupportedError, UsageError, require
from mtaw_fast.storage.files import write_json

# The cases and their modules, the most informative first. A case is a function of its name: it yields records.
CASES = {
    "kernels": "limits", "limits": "limits", "loss": "loss_cases",
    "encoder": "step_cases", "adam": "step_cases", "step": "step_cases", "epoch": "step_cases", "peers": "loss_cases",
    "serving": "serving_cases",
}  # fmt: skip


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the bench; return the exit status (1 if an answer was wrong, 2 without a GPU)."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=(__doc__ or "").splitlines()[0],
        epilog="example: python -m bench.gpu --only loss,peers --json gpu.json",
    )
    parser.add_argument("--only", metavar="CASES", help=f"some of {','.join(CASES)} (default: all)")
    parser.add_argument(
        "--dry", action="store_true", help="toy sizes through Triton's interpreter on the CPU: checks, and no figure"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there, after each case")
    options = parse(parser, argv)
    names = chosen("--only", options.only, CASES)
    if options.dry:
        if "triton" in sys.modules and os.environ.get("TRITON_INTERPRET") != "1":
            raise UsageError("--dry needs a process that has not imported Triton yet: run python -m bench.gpu --dry")
        os.environ["TRITON_INTERPRET"] = "1"  # Triton reads it when it is imported
    require("triton", "gpu")
    torch = require("torch", "train")
    if not options.dry and not torch.cuda.is_available():
        raise UnsupportedError(
            "bench.gpu: PyTorch sees no GPU here; run it on a host with one, or with --dry (toy sizes, no figures)"
        )
    return _run(names, options.dry, options.json)


def _run(names: Sequence[str], dry: bool, json: Path | None) -> int:
    from bench.gpu.setting import Setting, WrongResultError

    report, setting = Report("gpu", quick=dry), Setting.of(dry)
    for name in names:
        say(name)
        try:
            for record in getattr(import_module(f"bench.gpu.{CASES[name]}"), name)(setting):
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


if __name__ == "__main__":
    raise SystemExit(main())
