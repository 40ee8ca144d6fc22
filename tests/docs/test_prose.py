"""The prose check finds what it is for, with file and line, in prose and names alike, and nothing in plain code."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.docs.pages import ROOT

pytest.importorskip("codespell_lib", reason="codespell is not installed: the extra dev")


@pytest.fixture(scope="module")
def prose() -> ModuleType:
    """`.ci/prose.py`."""
    spec = importlib.util.spec_from_file_location("prose", ROOT / ".ci/prose.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path, prose: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty tree with the settings of this one."""
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(prose, "ROOT", tmp_path)
    return tmp_path


def check(prose: ModuleType, path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """Its exit status on one file."""
    monkeypatch.setattr(sys, "argv", ["prose.py", str(path)])
    return prose.main()


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("docs/a.md", "One.\n\nTrain it anew.\n", "docs/a.md:3: 'anew'"),
        ("docs/a.md", "What is held\nagainst it, as it is\ndue.\n", "docs/a.md:2: 'is due'"),
        ("docs/a.md", "A colour.\n", "docs/a.md:1: colour ==> color"),
        ("docs/a.md", "Set `max_neighbours`.\n", "docs/a.md:1: 'max_neighbours'"),
        ("a.py", '"""Say.\n\nThe grown bundle.\n"""\n', "a.py:3: 'grown bundle'"),
        ("a.py", "x = 1  # beside the point\n", "a.py:1: 'beside'"),
        ("a.py", "class Roster:\n    pass\n", "a.py:1: 'Roster'"),
        ("a.cpp", "int x;  // told of\n", "a.cpp:1: 'told of'"),
    ],
)
def test_it_finds(
    prose: ModuleType, tree: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    name: str, text: str, found: str,
) -> None:  # fmt: skip
    (tree / name).write_text(text)
    assert check(prose, tree / name, monkeypatch) == 1
    assert capsys.readouterr().out.startswith(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.py", "beside = nd = fo = 1\n"),  # names of code are held against the invented words alone
        ("a.py", '"""Besides, a ledger is due_date."""\n'),
        ("a.md", "Train it anew. <!-- prose: ignore -->\n"),
        ("a.cpp", "int beside = anew;\n"),
    ],
)
def test_it_passes(prose: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    (tree / name).write_text(text)
    assert check(prose, tree / name, monkeypatch) == 0


def test_it_reads_documents_and_code_but_no_environment(prose: ModuleType, tree: Path) -> None:
    for name in ("README.md", "docs/a.md", "mtaw_fast/a.py", "docs/results/a.md", "examples/node_modules/a.md"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    paths = {path.relative_to(tree).as_posix() for path in prose.files()}
    assert paths == {"README.md", "pyproject.toml", "docs/a.md", "mtaw_fast/a.py"}
