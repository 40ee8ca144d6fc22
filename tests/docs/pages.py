"""The commands of the docs' pages: fenced blocks, in order."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


@dataclass(frozen=True)
class Block:
    """One fenced block. kind: sh and python are run by the tests; console is to be typed elsewhere; text is output."""

    kind: str
    text: str


def blocks(page: Path) -> list[Block]:
    """All blocks of a page."""
    return [Block(kind, text) for kind, text in _BLOCK.findall(page.read_text())]


def tutorial() -> tuple[list[Block], list[Block]]:
    """The tutorial's blocks: of its section Install, and all after it."""
    text = (DOCS / "tutorial.md").read_text()
    before, rest = text.split("\n## Install\n")
    install, rest = rest.split("\n## ", 1)
    assert not _BLOCK.search(before)
    sections = [[Block(*groups) for groups in _BLOCK.findall(part)] for part in (install, rest)]
    return sections[0], sections[1]


def script(found: list[Block]) -> str:
    """What a reader types, as one shell script that ends at the first failure."""
    parts = ["set -eu -o pipefail"]
    for block in found:
        if block.kind == "sh":
            parts.append(block.text)
        elif block.kind == "python":
            parts.append(f"python - <<'THE_END'\n{block.text}THE_END\n")
    return "\n".join(parts)


def commands(text: str) -> list[list[str]]:
    """Every `mtaw-fast ..` of a shell text, its words after the name, without what the shell takes."""
    calls = []
    for line in text.replace("\\\n", " ").splitlines():
        if "mtaw-fast " not in line:
            continue
        words = shlex.split(line, comments=True)
        if any(re.fullmatch(r"[A-Z]|.*\[.*", word) for word in words):
            continue  # N, [options]: a form, not a command
        for place, word in enumerate(words):
            if word == "mtaw-fast" and all("=" in before for before in words[:place]):
                rest = words[place + 1 :]
                ends = [end for end, term in enumerate(rest) if term in ("&", "&&", "|", ";", ">", "2>", "<")]
                calls.append(rest[: ends[0]] if ends else rest)
    return calls
