"""The command that installs an extra from the source of this package: a checkout, a wheel, a repository or an index."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

DISTRIBUTION = "mtaw-fast"


def install_command(extra: str = "") -> str:
    """Return the command that installs the packages of an extra.

    It names this interpreter if the `pip` of the shell belongs to another one. It names the folder, wheel or address
    that this package was installed from (pip's own record, PEP 610); without a record it was an index, which has the
    extra too. If the checkout or the wheel is gone, the command names the extra's packages themselves.

    extra: one of the extras in pyproject.toml; empty for the package alone.
    """
    return f"{_installer()} {_requirement(extra)}"


def install_packages(*packages: str) -> str:
    """Return the command that installs packages that are in no extra, given as pip takes them."""
    return " ".join([_installer(), *map(shlex.quote, packages)])


def _installer() -> str:
    """Return the command that installs into this interpreter's environment."""
    # importlib.util.find_spec would also call setuptools' finder, which then assumes that this process is pip and
    # replaces distutils: torch.compile fails after that.
    if importlib.machinery.PathFinder.find_spec("pip") is None:
        return f"uv pip install --python {shlex.quote(sys.executable)}"
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == Path(sys.executable).parent:
        return "pip install"
    return f"{shlex.quote(sys.executable)} -m pip install"


def _requirement(extra: str) -> str:
    bracket = f"[{extra}]" if extra else ""
    origin = _origin()
    if origin is None:
        return _quoted(f"{DISTRIBUTION}{bracket}")
    address = urlsplit(origin["url"])
    if address.scheme != "file":
        version_control = origin.get("vcs_info")
        url = f"{version_control['vcs']}+{origin['url']}" if version_control else origin["url"]
        return _quoted(f"{DISTRIBUTION}{bracket} @ {url}")
    path = Path(unquote(address.path))
    if not path.exists():
        packages = " ".join(map(_quoted, _packages(extra)))
        return f"{packages}  # {DISTRIBUTION}{bracket}" if packages else _quoted(DISTRIBUTION)
    editable = "-e " if origin.get("dir_info", {}).get("editable") else ""
    return f"{editable}{_quoted(f'{path}{bracket}')}"


def _quoted(requirement: str) -> str:
    return "'" + requirement.replace("'", "'\"'\"'") + "'"


def _origin() -> dict[str, Any] | None:
    """Return pip's record of the origin of this package; None without a record."""
    try:
        text = importlib.metadata.distribution(DISTRIBUTION).read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        checkout = Path(__file__).resolve().parents[2]
        return {"url": checkout.as_uri(), "dir_info": {"editable": True}}
    return None if text is None else json.loads(text)


def _packages(extra: str) -> list[str]:
    """Return the packages of the extra, including those of extras that it contains."""
    marker = f'extra == "{extra}"'
    packages: list[str] = []
    for requirement in importlib.metadata.requires(DISTRIBUTION) or []:
        package, _, condition = (part.strip() for part in requirement.partition(";"))
        if marker not in condition.replace("'", '"'):
            continue
        if package.startswith(f"{DISTRIBUTION}["):
            for inner in package.partition("[")[2].rstrip("]").split(","):
                packages.extend(_packages(inner.strip()))
        else:
            packages.append(package)
    return list(dict.fromkeys(packages))
