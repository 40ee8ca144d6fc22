"""The log: JSON lines about what happened, never about what a request contained."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mtaw_fast.service.observability.service_log import JsonLines, LogWriter
from tests.support.service.running import Running, ask_on, eventually, running

SECRET = "very-private-item"
TOKEN = "the-token-of-admins"


def test_requests_are_logged_without_their_content(text_bundle: Path) -> None:
    flags = ["--access-log", "--sessions", "memory", "--max-clicks", "3"]
    with running(text_bundle, *flags, environment={"MTAW_ADMIN_TOKEN": TOKEN}) as service:
        body = {"session": [SECRET, "sku-11"], "exclude": [SECRET]}
        reply = service.ask("POST", "/v1/recommend", body)
        (line,) = eventually(lambda: service.events("request"))
        assert {"time", "level", "event", "pid", "method", "route", "status", "ms", "version"} == set(line)
        assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/recommend", 200)
        assert line["version"] == reply.version
        assert line["ms"] > 0
        service.ask("POST", "/v1/recommend", {"session": [SECRET], SECRET: 1})
        service.ask("POST", "/v1/recommend", {"session": [SECRET] * 4})
        service.ask("POST", "/v1/recommend", {"session": SECRET})
        service.ask("POST", f"/v1/sessions/{SECRET}/click", {"items": [SECRET]})
        service.ask("GET", f"/v1/similar?item={SECRET}")
        service.ask("GET", f"/{SECRET}", headers={SECRET: SECRET})
        service.ask("POST", "/admin/reload", headers={"Authorization": f"Bearer {SECRET}"})
        service.ask("POST", "/admin/reload", headers={"Authorization": f"Bearer {TOKEN}"})
        with service.raw() as connection:
            connection.sendall(SECRET.encode() + b"\r\n\r\n")
            connection.recv(1000)
        eventually(lambda: len(service.events("request")) == 9)
        lines = [json.dumps(line) for line in service.events()]
        assert not [line for line in lines if SECRET in line or TOKEN in line or "sku-11" in line]


def test_requests_are_not_logged_by_default(text_service: Running) -> None:
    text_service.ask("GET", "/healthz")
    assert not text_service.events("request")


def test_an_exception_is_logged_without_its_message() -> None:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ValueError(SECRET) from error
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    line = JsonLines().format(record)
    assert SECRET not in line
    assert "\n" not in line
    assert json.loads(line)["exception"] == "ValueError"
    assert "test_an_exception" in json.loads(line)["where"][0]
    assert json.loads(line)["cause"]["exception"] == "KeyError"


def test_an_unread_log_blocks_nothing(text_bundle: Path) -> None:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    command = [sys.executable, "-m", "mtaw_fast", "serve", str(text_bundle), "--port", "0", "--access-log"]
    with subprocess.Popen(command, stderr=theirs) as process, os.fdopen(ours, "rb") as log:
        os.close(theirs)
        ready = next(json.loads(line) for line in log if b'"ready"' in line)
        address = ("127.0.0.1", urlsplit(ready["url"]).port)
        with contextlib.closing(http.client.HTTPConnection(*address, timeout=10)) as connection:
            for _ in range(80):  # lines of far more bytes than the pipe holds
                assert ask_on(connection, "GET", "/healthz").status == 200
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_lines_wait_for_space_on_a_full_disk(tmp_path: Path) -> None:
    with Path("/dev/full").open("wb", buffering=0) as full, (tmp_path / "log").open("wb", buffering=0) as disk:
        descriptor = os.dup(full.fileno())
        writer = LogWriter(descriptor, lambda count: f"{count} lost")
        logger = logging.Logger("test")
        logger.addHandler(writer)
        logger.warning("into the void")
        eventually(writer._lines.empty)  # it is being written, in vain
        for number in range(12_000):
            logger.warning("line %d", number)
        os.dup2(disk.fileno(), descriptor)
        eventually(lambda: not writer._lines.unfinished_tasks)
        first, *lines = (tmp_path / "log").read_text().splitlines()
        os.close(descriptor)
    assert first == "into the void"
    lost = [int(line.split()[0]) for line in lines if line.endswith(" lost")]
    kept = [line for line in lines if not line.endswith(" lost")]
    assert sum(lost) == 2_000
    assert kept == [f"line {number}" for number in range(10_000)]


@pytest.mark.parametrize(("blocking", "count"), [(True, 600), (False, 60)])
def test_processes_that_share_a_slow_pipe_write_whole_lines(blocking: bool, count: int) -> None:
    ours, theirs = os.pipe()
    fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, 4096)
    os.set_blocking(theirs, blocking)
    batches = [[f"{name} {number} {'x' * 300}" for number in range(count)] for name in "ab"]
    for lines in batches:
        logger = logging.Logger("test")
        logger.addHandler(LogWriter(theirs, lambda count: f"{count} lost"))
        for line in lines:
            logger.warning(line)
    with os.fdopen(ours, "rb") as log:
        read = [log.readline().decode().rstrip("\n") for _ in range(2 * count)]
    os.close(theirs)
    assert [[line for line in read if line.startswith(name)] for name in "ab"] == batches
