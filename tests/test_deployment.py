"""The image and the compose file, checked without a container engine; `.ci/run_dockerfile.py` runs the steps."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import mtaw_fast
from mtaw_fast.cli import _parser

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install pyyaml")
ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()


def program(name: str) -> str:
    """Return a program of this environment; skip the test without it."""
    path = shutil.which(name, path=str(Path(sys.executable).parent)) or shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def test_hadolint_accepts_the_dockerfile() -> None:
    process = subprocess.run([program("hadolint"), str(DEPLOY / "Dockerfile")], capture_output=True, text=True)
    assert (process.returncode, process.stdout) == (0, "")


def test_the_image_is_small_and_not_root() -> None:
    stages = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    last = DOCKERFILE[DOCKERFILE.rindex("FROM ") :]
    assert len(stages) == 3
    assert stages[-1].endswith("-slim-bookworm")
    assert re.search(r"^USER [1-9]\d*$", last, re.M)
    assert "HEALTHCHECK" in last
    assert "pip" not in last


def commands() -> list[list[str]]:
    (image,) = re.findall(r"^CMD (\[\"serve.*\])$", DOCKERFILE, re.M)
    return [yaml.safe_load(image), COMPOSE["services"]["service"]["command"]]


@pytest.mark.parametrize("command", commands(), ids=["image", "compose"])
def test_the_service_knows_its_flags(command: list[str]) -> None:
    arguments = _parser().parse_args([part.replace("redis:6379", "localhost:6379") for part in command])
    assert arguments.host == "0.0.0.0"


def test_the_ignore_file_allows_exactly_the_copied_files() -> None:
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"]
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)


def added_subdirectories() -> list[str]:
    """The folders that CMake adds outside every `if`: no build works without them."""
    folders, depth = [], 0
    for line in (ROOT / "CMakeLists.txt").read_text().splitlines():
        command, _, rest = line.split("#")[0].strip().partition("(")
        depth += {"if": 1, "endif": -1}.get(command.strip().lower(), 0)
        if command.strip().lower() == "add_subdirectory" and depth == 0:
            folders.append(rest.split(")")[0].split()[0])
    return folders


def test_the_image_copies_what_cmake_adds() -> None:
    copied = {name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]}
    folders = added_subdirectories()
    assert "libmtaw" in folders
    assert [folder for folder in folders if not copied & {folder, *map(str, Path(folder).parents)}] == []


def test_the_compose_file_is_valid() -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed: pip install compose-spec")
    text = re.sub(r"\$\{(\w+):\?[^}]+\}", r"/given/\1", (DEPLOY / "compose.yaml").read_text())
    assert set(compose_spec.PyCompose.from_yaml(text).service_names()) == set(COMPOSE["services"])


def test_mounted_files_exist() -> None:
    assert set(COMPOSE["services"]) == {"service", "redis", "prometheus", "grafana"}
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), (name, source)
            elif not source.startswith("$"):
                assert source in COMPOSE["volumes"]
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens on all addresses"
    assert (DEPLOY / COMPOSE["services"]["service"]["build"]["context"] / "pyproject.toml").exists()
    assert COMPOSE["services"]["service"]["image"] == f"mtaw-fast:{mtaw_fast.__version__}"


def test_prometheus_and_grafana_find_each_other() -> None:
    load: Any = yaml.safe_load
    (job,) = load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    (source,) = load((DEPLOY / "grafana/provisioning/datasources/prometheus.yaml").read_text())["datasources"]
    (provider,) = load((DEPLOY / "grafana/provisioning/dashboards/dashboards.yaml").read_text())["providers"]
    assert source["url"] == "http://prometheus:9090"
    mounts = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["grafana"]["volumes"])
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    for path in (DEPLOY / "grafana/dashboards").glob("*.json"):
        assert {panel["datasource"]["uid"] for panel in load(path.read_text())["panels"]} == {source["uid"]}
    rules = {volume.split(":")[1] for volume in COMPOSE["services"]["prometheus"]["volumes"]}
    (named,) = load((DEPLOY / "prometheus/prometheus.yml").read_text())["rule_files"]
    assert f"/etc/prometheus/{named}" in rules
