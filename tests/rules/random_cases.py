"""Compare rankings under random rules with their definition: `python -m tests.rules.random_cases --cases 10000`.

Each seed makes another catalog. `test_ruled_rankings` is the short form.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tests.rules.test_ruled_rankings import Shop, check_cases


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Compare rankings under random rules with their definition.")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--cases", type=int, default=10_000, help="of each seed")
    arguments = parser.parse_args()
    for seed in range(arguments.seeds):
        kind = ("memory", "text-ids", "int-ids", "times")[seed % 4]
        with tempfile.TemporaryDirectory() as folder:
            check_cases(
                Shop(Path(folder) / "bundle", kind, "native", ("native", "numpy")[seed % 2], seed), arguments.cases
            )
        print(f"seed {seed}: {arguments.cases:,} cases equal their definition", flush=True)


if __name__ == "__main__":
    main()
