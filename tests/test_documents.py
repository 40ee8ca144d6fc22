"""What the documents name is there: every `python -m ..`, and every file with its folder."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMAND = re.compile(r"python3? -m ((?:mtaw_fast|bench|tests)(?:\.[a-z_]+)*+)(?!\.?\{)")
FILE = re.compile(r"`([\w-]+(?:/[\w.*-]+)+(?:/|\.(?:py|md|hpp|cpp|jsonl|mjs|png)))`")
FOLDERS = ("bench", "docs", "examples", "export", "kernels", "mtaw_fast", "tests")


def documents() -> list[Path]:
    """The files that name commands."""
    paths = [path for name in FOLDERS for ending in ("md", "py") for path in (ROOT / name).rglob(f"*.{ending}")]
    return [*ROOT.glob("*.md"), ROOT / "Makefile", *(path for path in paths if "node_modules" not in path.parts)]


@pytest.mark.parametrize("module", sorted({name for path in documents() for name in COMMAND.findall(path.read_text())}))
def test_a_documented_command_is_there(module: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{module}.__main__") is not None
    else:
        assert 'if __name__ == "__main__":' in Path(str(spec.origin)).read_text()


def test_the_named_files_are_there() -> None:
    texts = [path for path in documents() if path.suffix == ".md"]
    missing = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in texts
        for name in FILE.findall(path.read_text())
        if not any(list(base.glob(name)) for base in (ROOT, ROOT / "mtaw_fast", ROOT / "kernels/native", path.parent))
    ]
    assert len(texts) > 20
    assert missing == []
