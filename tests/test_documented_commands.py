"""Every `python -m ..` that the documents, the Makefile and docstrings name can be started."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"python3? -m ((?:mtaw_fast|bench|tests)(?:\.[a-z_]+)*+)(?!\.?\{)")
FOLDERS = ("bench", "docs", "examples", "export", "kernels", "mtaw_fast", "tests")


def documents() -> list[Path]:
    """The files that name commands."""
    inside = [path for name in FOLDERS for ending in ("md", "py") for path in (ROOT / name).rglob(f"*.{ending}")]
    return [*ROOT.glob("*.md"), ROOT / "Makefile", *(path for path in inside if "node_modules" not in path.parts)]


@pytest.mark.parametrize("module", sorted({name for path in documents() for name in COMMAND.findall(path.read_text())}))
def test_a_documented_command_is_there(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__") is not None
    else:
        assert 'if __name__ == "__main__":' in Path(str(spec.origin)).read_text()
