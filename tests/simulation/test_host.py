"""What is kept on disk goes through `system.host`, so that the simulation sees it."""

from __future__ import annotations

import re
from pathlib import Path

import mtaw_fast

ROOT = Path(mtaw_fast.__file__).parent
FILES = [*(ROOT / "online").rglob("*.py"), ROOT / "bundle/writer.py", ROOT / "storage/files.py"]
PAST_THE_HOST = re.compile(
    r"\bos\.(open|write|pwrite|fsync|fdatasync|rename|replace|unlink|mkdir|truncate|nice)\(|\bfcntl\.flock\("
    r"|\btime\.\w+\(|\buuid\.|\btempfile\.mkstemp|\bthreading\.Thread\(|\bsubprocess\.Popen\("
    r"|(?<!host)\.(open|unlink|mkdir|chmod|rmdir|iterdir|write_bytes|write_text|touch)\("
)


def test_no_other_code_calls_the_system() -> None:
    lines = [(path, line.partition("  # ")[0]) for path in FILES for line in path.read_text().splitlines()]
    assert not [f"{path.relative_to(ROOT)}: {line.strip()}" for path, line in lines if PAST_THE_HOST.search(line)]
