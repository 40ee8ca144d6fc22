"""Check the prose: spelling (American), phrases that read as foreign, and invented words that must not come back.

    make prose        or: python .ci/prose.py [FILE ..]

Without a FILE it also prints how many words each page of docs has, and fails if they are more than MOST_WORDS together.
Pages of tables, in docs/results, are not counted.

Documents are read whole; of Python the strings and comments, of C++ the comments and strings. Names in code are held
against American spelling and the invented words too. Each finding is one line, `file:line: what is wrong`, and the exit
status is 1. The spelling is codespell's: `[tool.codespell]` in pyproject.toml says which dictionaries, and which words
are right here. A line that has to quote such a word ends in `prose: ignore`.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tempfile
import tokenize
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import codespell_lib

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (
    ".ci", ".github", "bench", "clients", "deploy", "docs", "examples", "export", "kernels", "libmtaw", "mtaw_fast",
    "tests",
)  # fmt: skip
LEFT_OUT = {
    "__pycache__", "node_modules", "clients/wasm/dist", "docs/results", "bench/results", "docs/assets", ".ci/prose.py",
    "examples/package-lock.json", "tests/docs/test_prose.py",
}  # fmt: skip
DOCUMENTS = {
    ".md", ".toml", ".yml", ".yaml", ".html", ".js", ".mjs", ".css", ".sh", ".ipynb", ".txt", "Makefile", "Dockerfile",
}  # fmt: skip
CODE = {".cpp", ".hpp", ".cc", ".h", ".cu"}
NOT_PROSE = {"constraints.txt"}
MOST_WORDS = 35_000  # as `wc -w` counts; a page that grows takes them from others

PHRASES = {  # what to avoid, and what to write
    r"anew": "again, or a verb with re-: rebuild, replay, retrain",
    r"beside": "next to, compared with, together with",
    r"(?:tell|tells|told) of": "describes, covers, lists",
    r"where one (?:asks|can|cannot|did|does|had|has|looks|may|must|needs|says|takes|wants)": "when, with a subject",
    r"for good": "permanently",
    r"let it be": "leave it unchanged",
    r"(?:is|are) due": "happens, follows, must be done",
    r"(?:has|have|had) against": "why it rejects",
    r"grown bundles?": "compacted bundle",
    r"floor[- ]plans?": "layout",
}
NAMES = {  # parts of identifiers; in lower case: in any case
    "pupil": "EventSink", "pupils": "EventSink", "Ledger": "EventProcessor", "roster": "ReplicaRegistry",
    "rosters": "ReplicaRegistry", "refuser": "GracefulDrain", "newcomer": "NewItem", "newcomers": "NewItems",
    "blanking": "redaction", "scrub": "redact", "scrubbed": "redacted", "scrubbing": "redaction",
}  # fmt: skip
_PHRASE = re.compile("|".join(rf"(?P<p{number}>\b{phrase}\b)" for number, phrase in enumerate(PHRASES)), re.I)
_HINTS = list(PHRASES.values())
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_CPP = re.compile(r"//[^\n]*|/\*.*?\*/|\"(?:\\.|[^\"\\\n])*\"|'(?:\\.|[^'\\\n])*'", re.S)
_STRING_TOKENS = {
    tokenize.COMMENT, tokenize.STRING,
    *(getattr(tokenize, name) for name in ("FSTRING_MIDDLE", "TSTRING_MIDDLE") if hasattr(tokenize, name)),
}  # fmt: skip


def main() -> int:
    """Print the findings."""
    requested = {Path(name).resolve() for name in sys.argv[1:]}
    paths = [path for path in files() if not requested or path in requested]
    texts = {path.relative_to(ROOT).as_posix(): path.read_text() for path in paths}
    prose = {name: prose_of(name, text) for name, text in texts.items()}
    findings = set(misspelled(prose))
    for name, text in texts.items():
        findings |= set(phrases(name, prose[name])) | set(names(name, text))
    reported = [
        finding for finding in sorted(findings) if "prose: ignore" not in texts[finding[0]].split("\n")[finding[1] - 1]
    ]
    for name, line, message in reported:
        print(f"{name}:{line}: {message}")
    if reported:
        print(f"{len(reported)} findings in {len({finding[0] for finding in reported})} files")
    return bool(reported) | (not requested and too_many_words())


def too_many_words() -> bool:
    """Print the words of each page of docs; return whether they are more than MOST_WORDS."""
    pages = [page for page in (ROOT / "docs").rglob("*.md") if "results" not in page.relative_to(ROOT).parts[1:-1]]
    words = {page.relative_to(ROOT).as_posix(): len(page.read_text().split()) for page in pages}
    for name, count in sorted(words.items(), key=lambda item: -item[1]):
        print(f"{count:7,} {name}")
    total = sum(words.values())
    print(f"{total:7,} words in docs, at most {MOST_WORDS:,}")
    return total > MOST_WORDS


def files() -> Iterator[Path]:
    """Every file with prose, symlinks not followed."""
    yield from (path for path in sorted(ROOT.iterdir()) if path.is_file() and kind(path))
    for folder in FOLDERS:
        for parent, subfolders, file_names in os.walk(ROOT / folder):
            relative = Path(parent).relative_to(ROOT)
            subfolders[:] = sorted(name for name in subfolders if not {name, (relative / name).as_posix()} & LEFT_OUT)
            for name in sorted(file_names):
                path = Path(parent, name)
                if kind(path) and (relative / name).as_posix() not in LEFT_OUT and not path.is_symlink():
                    yield path


def kind(path: Path) -> bool:
    """Whether a file is looked at."""
    known = DOCUMENTS | CODE | {".py"}
    return path.name not in NOT_PROSE and (path.suffix in known or path.name in known)


def prose_of(name: str, text: str) -> str:
    """A file's text with all that is not prose blanked out, lines and columns kept."""
    if name.endswith(".py"):
        spans = list(python_spans(text))
    elif Path(name).suffix in CODE:
        spans = [match.span() for match in _CPP.finditer(text)]
    else:
        return text
    blanked = re.sub(r"[^\n]", " ", text)
    for start, end in spans:
        blanked = blanked[:start] + text[start:end] + blanked[end:]
    return blanked


def python_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where a Python file's strings and comments are."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in _STRING_TOKENS:
            yield starts[token.start[0] - 1] + token.start[1], starts[token.end[0] - 1] + token.end[1]


def phrases(name: str, text: str) -> Iterator[tuple[str, int, str]]:
    """Phrases to avoid, also where a line ends within one."""
    flat = re.sub(r"\n[ \t]*(?:#|//|\*|>)?[ \t]*", lambda match: "\n" + " " * (len(match[0]) - 1), text)
    joined = re.sub(r"\s", " ", flat)
    squeezed = re.compile(_PHRASE.pattern.replace(r"\ ", " ").replace(" ", r" +"), re.I)
    for match in squeezed.finditer(joined):
        hint = _HINTS[int(str(match.lastgroup)[1:])]
        words = " ".join(match[0].split())
        yield name, text.count("\n", 0, match.start()) + 1, f"'{words}': write {hint}"


def names(name: str, text: str) -> Iterator[tuple[str, int, str]]:
    """Invented words, in names and in prose; British spelling in parts of names, which codespell does not see."""
    for number, line in enumerate(text.split("\n"), 1):
        for match in _NAME.finditer(line):
            parts = _PART.findall(match[0])
            for part in parts:
                better = NAMES.get(part) or NAMES.get(part.lower())
                if better:
                    yield name, number, f"'{match[0]}': invented word, write {better}"
                elif len(parts) > 1 and part.lower() in american():
                    yield name, number, f"'{match[0]}': {part} ==> {american()[part.lower()]}"


@cache
def american() -> dict[str, str]:
    """British spellings with their American ones, from codespell's dictionary."""
    path = Path(codespell_lib.__file__).parent / "data/dictionary_en-GB_to_en-US.txt"
    pairs = (line.strip().split("->") for line in path.read_text().splitlines() if "->" in line)
    right = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["codespell"]["ignore-words-list"].split(",")
    return {british: spelling for british, spelling in pairs if british not in right}


def misspelled(prose: dict[str, str]) -> Iterator[tuple[str, int, str]]:
    """What codespell finds, in copies that hold the prose alone."""
    with tempfile.TemporaryDirectory(prefix="prose-") as folder:
        for name, text in prose.items():
            copy = Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
        command = [sys.executable, "-m", "codespell_lib", "--toml", str(ROOT / "pyproject.toml"), "--check-hidden", "."]
        result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 65):
        sys.exit(f"codespell failed: {result.stderr}")
    for line in result.stdout.splitlines():
        match = re.fullmatch(r"\./(.+?):(\d+): (.+)", line)
        if match:
            yield match[1], int(match[2]), match[3]


if __name__ == "__main__":
    sys.exit(main())
