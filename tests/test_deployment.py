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
REFRESH = yaml.safe_load((DEPLOY / "compose.refresh.yaml").read_text())
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
    assert "-slim-bookworm@" in stages[-1]
    assert re.search(r"^USER [1-9]\d*$", last, re.M)
    assert "HEALTHCHECK" in last
    assert "pip" not in last


def commands() -> list[list[str]]:
    (image,) = re.findall(r"^CMD (\[\"serve.*\])$", DOCKERFILE, re.M)
    return [yaml.safe_load(image), *(file["services"]["service"]["command"] for file in (COMPOSE, REFRESH))]


@pytest.mark.parametrize("command", commands(), ids=["image", "compose", "refresh"])
def test_the_service_knows_its_flags(command: list[str]) -> None:
    arguments = _parser().parse_args([part.replace("redis:6379", "localhost:6379") for part in command])
    assert arguments.host == "0.0.0.0"
    assert (arguments.trusted_host == ["service"]) == ("--trusted-host=service" in command)


def test_the_ignore_file_allows_exactly_the_copied_files() -> None:
    allowed = [line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split() if line[0] == "!"]
    copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M) for name in line.split()[:-1]]
    assert sorted(copied) == sorted(allowed)
    assert all((ROOT / name).exists() for name in copied)


def test_every_image_and_every_package_has_a_hash() -> None:
    images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    images += [service["image"] for service in COMPOSE["services"].values() if "build" not in service]
    assert len(images) == 6
    for image in images:
        assert re.fullmatch(r"[a-z/]+:v?[0-9.]+(-slim)?(-bookworm)?@sha256:[0-9a-f]{64}", image)
    installs = re.findall(r"pip install (.*?)(?: &&|\n\n)", DOCKERFILE.replace("\\\n", ""), re.S)
    assert [re.findall(r"--(?:require-hashes|no-index)", command) for command in installs] == [
        ["--require-hashes"], ["--require-hashes"], ["--no-index"],
    ]  # fmt: skip
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    marks = {line.partition("==")[0]: line.partition("  # ")[2].split() for line in lines}
    for extra, names in (
        ("serve", {"numpy", "litestar", "msgspec", "uvicorn", "uvloop", "httptools", "redis"}),
        ("cpu", {"numpy", "faiss-cpu", "onnxruntime"}), ("build", {"scikit-build-core", "pybind11", "cmake", "ninja"}),
    ):  # fmt: skip
        chosen = {name for name, of_name in marks.items() if extra in of_name}
        assert names <= chosen
        assert chosen.isdisjoint({"ray", "mkdocs", "ruff", "mypy", "pytest"})


def test_every_container_is_confined() -> None:
    for name in ("refresh", "refresh-metrics"):
        service = REFRESH["services"][name]
        assert (service["cap_drop"], service["read_only"], service["networks"]) == (["ALL"], True, ["metrics"])
        assert service["security_opt"] == ["no-new-privileges:true"]
    for name, service in COMPOSE["services"].items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert name == "service" or service["mem_limit"].endswith("m")
        assert service["networks"] == {"service": ["sessions", "metrics"], "redis": ["sessions"]}.get(name, ["metrics"])
    assert COMPOSE["networks"]["sessions"]["internal"]


def test_redis_takes_its_password_from_a_pipe(tmp_path: Path) -> None:
    """Run its command with a `redis-server` that shows what it was given."""
    shell, flag, text = COMPOSE["services"]["redis"]["command"]
    (tmp_path / "redis_password").write_text("a secret")
    (tmp_path / "redis-server").write_text('#!/bin/sh\necho "$@"; cat\n')
    (tmp_path / "redis-server").chmod(0o755)
    text = text.replace("$$", "$").replace("/run/secrets", str(tmp_path))
    process = subprocess.run(
        [shell, flag, text], capture_output=True, text=True, env={"PATH": f"{tmp_path}:/bin:/usr/bin"}, check=True
    )
    assert process.stdout.splitlines() == [
        "-", 'requirepass "a secret"', 'save ""', "maxmemory 256mb", "maxmemory-policy volatile-ttl",
    ]  # fmt: skip
    assert "${" not in str(COMPOSE["services"]["redis"])


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


@pytest.mark.parametrize(("name", "services"), [("compose.yaml", COMPOSE), ("compose.refresh.yaml", REFRESH)])
def test_the_compose_file_is_valid(name: str, services: dict[str, Any]) -> None:
    compose_spec = pytest.importorskip("compose_spec", reason="compose-spec is not installed: pip install compose-spec")
    text = re.sub(r"\$\{(\w+):\?[^}]+\}", r"/given/\1", (DEPLOY / name).read_text())
    text = yaml.safe_dump(yaml.safe_load(text))  # compose-spec knows neither merge keys nor a tag before a digest
    text = re.sub(r":[^:\s]+@sha256:", "@sha256:", text)
    assert set(compose_spec.PyCompose.from_yaml(text).service_names()) == set(services["services"])


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


def test_the_timer_and_the_cron_job_call_the_command() -> None:
    job = yaml.safe_load((DEPLOY / "refresh/cronjob.yaml").read_text())["spec"]
    (container,) = job["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    unit = (DEPLOY / "refresh/mtaw-refresh.service").read_text()
    (words,) = re.findall(r"^ExecStart=\S+/mtaw-fast (.+)$", unit, re.M)
    for command in (container["args"], words.split()):
        assert _parser().parse_args(command).config.suffix == ".toml"
    assert container["image"] == REFRESH["services"]["refresh"]["image"]
    assert job["concurrencyPolicy"] == "Forbid"


def test_prometheus_and_grafana_find_each_other() -> None:
    load: Any = yaml.safe_load
    job, refresh = load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["service:8000"]}]
    (targets,) = (f"/etc/prometheus/{name}" for name in refresh["file_sd_configs"][0]["files"])
    assert targets in REFRESH["services"]["prometheus"]["volumes"][0].split(":")
    (target,) = load((DEPLOY / "prometheus/refresh.json").read_text())[0]["targets"]
    assert target.split(":")[0] in REFRESH["services"]
    assert target.split(":")[1] in REFRESH["services"]["refresh-metrics"]["entrypoint"]
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
