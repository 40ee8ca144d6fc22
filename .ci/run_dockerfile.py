"""Runs the steps of deploy/Dockerfile without a container engine, then its command, until its health check passes.

    python .ci/run_dockerfile.py BUNDLE                 # a few minutes: it builds the native module
    python .ci/run_dockerfile.py BUNDLE --keep dist     # and keeps the wheel
    python .ci/run_dockerfile.py BUNDLE --wheel dist/mtaw_fast-*.whl     # with this one, and does not build

Each stage is a folder of its own: COPY copies into it, obeying the ignore file, and every absolute path of a RUN step,
of ENV and of the command becomes one below it. Python is this one's version, in a fresh environment that has nothing
but pip; a stage from a slim image sees no compiler. What needs an image's own system (useradd,
chown) is skipped and named.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import venv
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile_parse import DockerfileParser

ROOT = Path(__file__).resolve().parent.parent
SYSTEM = ("useradd", "chown")
PATHS = re.compile(r"(?<![\w/.$}:])/(source|wheels|opt|learned|bundle)\b")


@dataclass
class Stage:
    """What the steps so far have made of an image."""

    root: Path
    slim: bool
    folder: str = "/"
    user: str = "root"
    variables: dict[str, str] = field(default_factory=dict)
    entry: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)

    def inside(self, text: str) -> str:
        """The text with absolute paths of the image below this stage's folder."""
        return PATHS.sub(lambda match: f"{self.root}{match[0]}", text)

    def environment(self) -> dict[str, str]:
        """Variables of a step."""
        python_bin = f"{self.root}/python/bin"
        system = "/bin:/usr/bin" if not self.slim else str(tools(self.root))
        path = self.variables.get("PATH", "$PATH").replace("$PATH", f"{python_bin}:{system}")
        inherited = {name: value for name, value in os.environ.items() if name in ("LANG", "PIP_FIND_LINKS")}
        variables = {name: self.inside(value) for name, value in self.variables.items()}
        return {**inherited, **variables, "HOME": str(self.root), "PATH": self.inside(path)}


def tools(root: Path) -> Path:
    """A folder with what a slim image has of programs, as far as the steps use them."""
    folder = root / "tools"
    folder.mkdir(exist_ok=True)
    for name in ("sh", "ls", "mkdir", "cat", "uname", "grep"):
        if not (folder / name).exists():
            (folder / name).symlink_to(str(shutil.which(name)))
    return folder


def main() -> None:
    """Build every stage, then run the last one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="copy the wheel there")
    parser.add_argument("--wheel", type=Path, metavar="FILE", help="in place of the stage that builds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mtaw-fast-image-") as name:
        stages = build(Path(name), options.wheel)
        if options.keep:
            options.keep.mkdir(exist_ok=True)
            for wheel in (stages["build"].root / "wheels").glob("*.whl"):
                shutil.copy(wheel, options.keep)
        serve(list(stages.values())[-1], options.bundle.resolve())


def build(folder: Path, wheel: Path | None) -> dict[str, Stage]:
    """All stages by name, the last one under ''. wheel: what the stage `build` would make."""
    stages: dict[str, Stage] = {}
    stage = Stage(folder, False)
    for step in DockerfileParser(str(ROOT / "deploy/Dockerfile"), cache_content=True).structure:
        value, kind = step["value"], step["instruction"]
        if kind == "FROM":
            image, _, name = value.partition(" AS ")
            stage = Stage(folder / (name or "last"), "slim" in image)
            stage.root.mkdir()
            venv.create(stage.root / "python", with_pip=True, symlinks=True)
            stages[name] = stage
        elif kind == "COPY":
            copy(stage, stages, value.split())
        elif kind == "RUN" and wheel is not None and stage is stages.get("build"):
            (stage.root / "wheels").mkdir()
            shutil.copy(wheel, stage.root / "wheels")
        elif kind == "RUN":
            print(f"RUN {value}", flush=True)
            start = time.monotonic()
            command = " && ".join(part for part in map(str.strip, value.split("&&")) if not skipped(part))
            arguments = ["/bin/sh", "-ec", stage.inside(command)]
            working_folder = stage.root / stage.folder.lstrip("/")
            subprocess.run(arguments, cwd=working_folder, env=stage.environment(), check=True)
            print(f"  {time.monotonic() - start:.0f} s", flush=True)
        elif kind == "WORKDIR":
            stage.folder = value
            (stage.root / value.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif kind in ("ENV", "ARG"):
            stage.variables.update(pair.split("=", 1) for pair in value.split())
        elif kind == "USER":
            stage.user = value
        elif kind == "ENTRYPOINT":
            stage.entry = json.loads(value)
        elif kind == "CMD":
            stage.command = json.loads(value)
        elif kind == "HEALTHCHECK":
            stage.health = json.loads(value.partition("CMD ")[2])
        elif kind not in ("COMMENT", "EXPOSE", "STOPSIGNAL"):
            sys.exit(f"deploy/Dockerfile: {kind} is not known here")
    return stages


def skipped(part: str) -> bool:
    """Whether the step changes the system's own files; it is named."""
    if part.split()[0] in SYSTEM:
        print(f"  (left out: {part})", flush=True)
        return True
    return False


def copy(stage: Stage, stages: dict[str, Stage], words: list[str]) -> None:
    """COPY, from the checkout or another stage."""
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].root
    *names, target = words
    path = stage.root / (target if target.startswith("/") else f"{stage.folder}/{target}").lstrip("/")
    for name in names:
        origin = source / name.lstrip("/")
        if source == ROOT:
            assert allowed(name), f"{name} is not in the build context (deploy/Dockerfile.dockerignore)"
        if origin.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "*.so") if source == ROOT else None
            shutil.copytree(origin, path, symlinks=True, ignore=unwanted, dirs_exist_ok=True)
        else:
            destination = path / origin.name if target.endswith("/") else path
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(origin, destination)


def allowed(name: str) -> bool:
    """Whether the ignore file lets it into the build context."""
    lines = (ROOT / "deploy/Dockerfile.dockerignore").read_text().split()
    return any(fnmatch.fnmatch(name, line[1:]) for line in lines if line.startswith("!"))


def serve(stage: Stage, bundle: Path) -> None:
    """Run the image's command on a free port, hold its health check against it, ask once, and stop it."""
    assert stage.user not in ("root", "0"), "the image runs as root"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    (stage.root / "bundle").symlink_to(bundle)
    environment = stage.environment()
    program, *arguments = [stage.inside(word) for word in [*stage.entry, *stage.command]]
    executable = shutil.which(program, path=environment["PATH"])
    assert executable, f"{program} is not in the image"
    # An environment that was copied names the stage it was made in: containers have both at the same path.
    interpreter = stage.root / "opt/mtaw-fast/bin/python"
    command = [interpreter, executable, *arguments, "--port", port]
    process = subprocess.Popen(command, env=environment)
    try:
        health = [interpreter, *stage.health[1:-1], stage.health[-1].replace(":8000", f":{port}")]
        deadline = time.monotonic() + 60
        while subprocess.run(health, env=environment, capture_output=True, check=False).returncode:
            assert process.poll() is None, f"the service ended with {process.returncode}"
            assert time.monotonic() < deadline, "the health check never passed"
            time.sleep(0.5)
        request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/recommend", b'{"session": [], "k": 3}')
        with urllib.request.urlopen(request, timeout=10) as answer:
            print(f"healthy; answers {answer.read().decode()}", flush=True)
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(timeout=60)
    assert code == 0, f"the service ended with {code}"


if __name__ == "__main__":
    main()
