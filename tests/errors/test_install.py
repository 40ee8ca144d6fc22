"""Errors name a command that installs the missing packages from the source of this package."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import json
import shlex
import shutil
import subprocess
import sys
from email.message import Message
from pathlib import Path

import pytest

from mtaw_fast.errors import MissingPackageError, require
from mtaw_fast.errors import install as module
from mtaw_fast.errors.install import install_command, install_packages

PIP = [sys.executable, "-m", "pip", "install"]


class Installed:
    """A stand-in for the package's metadata, with pip's record of its origin."""

    metadata = Message()

    def __init__(self, origin: dict | None) -> None:
        self.origin = origin

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.origin is None else json.dumps(self.origin)


@pytest.fixture(autouse=True)
def no_pip_on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")


def installed_from(monkeypatch: pytest.MonkeyPatch, origin: dict | None) -> None:
    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Installed(origin))


URL = "https://example.com/shop/mtaw_fast"


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ({"url": "{source}", "dir_info": {"editable": True}}, ["-e", "{path}[train]"]),
        ({"url": "{source}", "dir_info": {}}, ["{path}[train]"]),
        ({"url": "{source}", "archive_info": {}}, ["{path}[train]"]),  # a wheel
        ({"url": URL, "vcs_info": {"vcs": "git", "commit_id": "0" * 40}}, [f"mtaw-fast[train] @ git+{URL}"]),
        ({"url": f"{URL}.whl", "archive_info": {}}, [f"mtaw-fast[train] @ {URL}.whl"]),
        (None, ["mtaw-fast[train]"]),  # an index
    ],
    ids=["editable", "folder", "wheel", "repository", "address", "index"],
)
def test_the_source_is_named_as_it_was_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, origin: dict | None, words: list[str]
) -> None:
    path = tmp_path / "a shop's engine"
    path.touch()
    if origin is not None:
        origin = {**origin, "url": origin["url"].replace("{source}", path.as_uri())}
    installed_from(monkeypatch, origin)
    expected = [*PIP, *(word.replace("{path}", str(path)) for word in words)]
    assert shlex.split(install_command("train")) == expected
    assert shlex.split(install_command()) == [word.replace("[train]", "") for word in expected]


def test_where_the_source_is_gone_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed = [
        "numpy>=1",
        'pyarrow>=17; extra == "score"',
        'mtaw-fast[score]; extra == "ray"',
        'ray[data]>=2; extra == "ray"',
    ]
    installed_from(monkeypatch, {"url": (tmp_path / "gone.whl").as_uri(), "archive_info": {}})
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    assert shlex.split(install_command("ray"), comments=True) == [*PIP, "pyarrow>=17", "ray[data]>=2"]
    assert install_command("ray").endswith("  # mtaw-fast[ray]")


def test_a_checkout_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "distribution", missing)
    root = Path(module.__file__).resolve().parents[2]
    assert shlex.split(install_command("train")) == [*PIP, "-e", f"{root}[train]"]


def test_the_installer_is_that_of_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    pip = str(Path(sys.executable).parent / "pip")
    monkeypatch.setattr(shutil, "which", lambda name: pip)
    assert install_packages("pandas") == "pip install pandas"
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/pip")
    assert install_packages("pandas>=2") == f"{sys.executable} -m pip install 'pandas>=2'"
    monkeypatch.setattr(importlib.machinery.PathFinder, "find_spec", lambda name: None)
    assert install_packages("pandas") == f"uv pip install --python {sys.executable} pandas"


def test_an_error_names_the_command() -> None:
    with pytest.raises(MissingPackageError) as caught:
        require("no_such_package_of_ours", "train")
    assert str(caught.value) == f"the package 'no_such_package_of_ours' is not installed: {install_command('train')}"


def test_no_message_assumes_a_package_index() -> None:
    root = Path(module.__file__).resolve().parents[2]
    sources = [path for name in ("mtaw_fast", "kernels", "export") for path in (root / name).rglob("*.py")]
    assert len(sources) > 100
    assert [path for path in sources if "pip install 'mtaw" in path.read_text()] == []


def test_asking_for_it_leaves_setuptools_as_it_was() -> None:
    """setuptools replaces distutils in a process that looked for pip; torch.compile would fail after that."""
    pytest.importorskip("setuptools", reason="setuptools is not installed")
    code = (
        "from mtaw_fast.errors.install import install_command; install_command()\n"
        "import setuptools, distutils.core; print(distutils.core.__file__)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "setuptools" in run.stdout
