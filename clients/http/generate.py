"""Generate the HTTP clients from the service's OpenAPI document.

    python -m clients.http.generate [--contract]

Writes `openapi.json`, then `python/mtaw_fast_client` with openapi-python-client and `typescript/src/schema.ts` with
openapi-typescript, both of which git ignores. --contract: only `openapi.json`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mtaw_fast.service.app import whole_document

HERE = Path(__file__).resolve().parent
CONTRACT = HERE / "openapi.json"


def contract() -> str:
    """Return the OpenAPI document of a service with every route, a line for each route and each schema."""
    return f"{_lines(json.loads(whole_document()), 3)}\n"


def _lines(value: Any, depth: int) -> str:
    if not isinstance(value, dict) or not depth:
        return json.dumps(value, sort_keys=True)
    parts = [f"{json.dumps(key)}: {_lines(one, depth - 1)}" for key, one in sorted(value.items())]
    return "{\n" + ",\n".join(parts) + "\n}"


def main() -> int:
    """Run the command; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--contract", action="store_true", help="write openapi.json alone")
    only_contract = parser.parse_args().contract
    CONTRACT.write_text(contract())
    if only_contract:
        return 0
    python, typescript = HERE / "python", HERE / "typescript"
    commands: tuple[tuple[list[str | Path], Path], ...] = (
        (["openapi-python-client", "generate", "--path", CONTRACT, "--meta", "none",
          "--output-path", python / "mtaw_fast_client", "--overwrite", "--fail-on-warning"], python),
        (["npm", "run", "--silent", "generate"], typescript),
    )  # fmt: skip
    for command, folder in commands:
        subprocess.run(command, cwd=folder, check=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
