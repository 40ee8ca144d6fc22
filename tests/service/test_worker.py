"""Workers: start and stop, replacement, shared counters and bundles, and the command line of the service."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.cli import main, serve
from mtaw_fast.errors import MtawError
from mtaw_fast.service import supervisor
from mtaw_fast.service.settings import Settings
from tests.support.service.running import Running, eventually, running, traffic


def ask(client: int, number: int) -> tuple[str, Any]:
    return "/v1/recommend", {"session": [f"sku-{10 + (client + number) % 50}"]}


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_only_its_requests_fail(text_bundle: Path) -> None:
    with running(text_bundle, workers=2) as service:
        with traffic(service, ask, clients=6) as records:
            for kill in range(3):
                eventually(lambda: all(len(record.replies) > 50 * (kill + 1) for record in records))  # noqa: B023
                os.kill(min(service.worker_pids()), signal.SIGKILL)
                eventually(lambda: len(service.events("worker_started")) == 3 + kill)  # noqa: B023
            eventually(lambda: all(len(record.replies) > 200 for record in records))
        assert sum(len(record.lost) for record in records) <= 3 * len(records)
        for record in records:
            # A connection loses at most the request in progress.
            assert len(record.lost) <= 3
            assert {reply.status for _, reply in record.replies} == {200}
        assert len(service.events("worker_died")) == 3
        assert len(service.worker_pids()) == 2
        # The counts of dead workers remain.
        answered = sum(len(record.replies) for record in records)
        assert service.metric("mtaw_answers_total") >= answered
        assert service.metric("mtaw_worker_starts_total") == 5
        version = service.ask("GET", "/healthz").version
        assert service.metric(f'mtaw_workers{{version="{version}"}}') == 2


def test_two_workers_sum_their_counts_and_share_one_copy_of_the_bundle(text_bundle: Path) -> None:
    with running(text_bundle, workers=2) as service:
        for number in range(40):
            service.ask("POST", *ask(0, number))
        for _ in range(6):  # either worker answers
            assert service.metric("mtaw_answers_total") == 40
        assert service.metric('mtaw_requests_total{route="/v1/recommend",status="200"}') == 40
        assert service.metric('mtaw_stage_seconds_count{stage="queue"}') == 40
        copies = [
            {
                line.split()[4]
                for line in Path(f"/proc/{pid}/maps").read_text().splitlines()
                if "/memfd:mtaw-" in line and "mtaw-counters" not in line
            }
            for pid in service.worker_pids()
        ]
        assert len(copies[0]) == len(list(text_bundle.glob("*.safetensors")))
        assert copies[0] == copies[1]


def test_a_killed_supervisor_leaves_no_worker_and_no_file(text_bundle: Path, tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    with running(text_bundle, workers=2, environment={"TMPDIR": str(folder)}) as service:
        workers = service.worker_pids()
        assert all("mtaw-counters" in Path(f"/proc/{pid}/maps").read_text() for pid in workers)
        service.process.kill()  # which leaves no time to clean up
        service.process.wait()
        eventually(lambda: not any(alive(pid) for pid in workers))
    assert not folder.exists()


def alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def failure(status: int, *arguments: str) -> str:
    """Run a command that must fail; return the error after its log."""
    command = [sys.executable, "-m", "mtaw_fast", "serve", *arguments]
    completed = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert completed.returncode == status, completed.stderr
    *log, error = completed.stderr.splitlines()
    assert error.startswith("mtaw-fast: ")
    for line in log:
        json.loads(line)
    return error


def test_a_failed_start_says_why(tmp_path: Path, text_bundle: Path, text_service: Running) -> None:
    assert "mtaw-fast train" in failure(1, str(tmp_path / "none"), "--port", "0")
    assert "choose another --port" in failure(1, str(text_bundle), "--port", str(text_service.port))
    assert "choose another --host" in failure(1, str(text_bundle), "--host", "no such host")
    for host in ("...", "a" * 70):
        with pytest.raises(MtawError, match="choose another --host"), supervisor._listening(Settings(tmp_path, host)):
            pass
    assert "give redis://host:6379/0" in failure(2, str(text_bundle), "--port", "0", "--sessions", "redis://h:port")
    assert "there is no encoder" in failure(2, str(text_bundle), "--port", "0", "--encoder", "none")


@pytest.mark.parametrize(
    ("flags", "remedy"),
    [
        (["--workers", "2", "--sessions", "memory"], "--sessions redis://"),
        (["--workers", "0"], "--workers must be at least 1"),
        (["--max-k", "0"], "--max-k must be above 0"),
        (["--micro-batch", "0"], "--micro-batch must be above 0"),
        (["--deadline", "nan"], "--deadline must be above 0 and finite"),
        (["--shutdown-timeout", "inf"], "--shutdown-timeout must be above 0 and finite"),
        (["--port", "70000"], "0..65535"),
        (["--reload-interval", "0"], "--reload-interval must be above 0"),
        (["--max-sessions-bytes", "0"], "--max-sessions-bytes must be above 0"),
        (["--sessions", "disk"], "redis:// address"),
        (["--sessions", "redis://h:6379/0?no_such_option=1&password=x"], "--sessions-password-file"),
        (["--sessions-password-file", "/dev/null"], "has no password"),
        (["--max-connections", "0"], "--max-connections must be above 0"),
        (["--admin-token-file", "/dev/null"], "has no token"),
        (["--learn", "log", "--events-token-file", "/dev/null"], "leave --events-token-file out"),
        (["--learn", "log", "--open-events"], "--open-events goes with --events-token-file"),
        (["--learn", "log", "--proxy", "proxy.example"], "write it as in 10.0.0.7 or 10.0.0.0/24"),
        (["--learn", "log", "--proxy", "10.0.0.7", "--proxy-header", "Forwarded"], "must be a header that lists"),
        (["--proxy", "10.0.0.7"], "--proxy goes with --learn"),
        (["--open-events"], "--open-events goes with --learn"),
    ],
)
def test_bad_options_are_explained(
    text_bundle: Path, capsys: pytest.CaptureFixture[str], flags: list[str], remedy: str
) -> None:
    assert main(["serve", str(text_bundle), *flags]) == 2
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize("where", ["redis://:s3cret@h:6379/0", "redis://u:s3cret@[h", "redis://h?password=s3cret"])
def test_a_password_is_not_taken_from_the_command_line(
    text_bundle: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    assert main(["serve", str(text_bundle), "--sessions", where]) == 2
    error = capsys.readouterr().err
    assert "$MTAW_REDIS_PASSWORD" in error
    assert "s3cret" not in error


@pytest.mark.parametrize(
    ("token", "reason"),
    [
        *((f"{part} and as long as it must", "must be printable ASCII without spaces") for part in ("two words", "ü")),
        ("as-long-as\tit-must", "must be printable ASCII without spaces"),
        ("x", "has 1 characters, the fewest are 16"), ("x" * 15, "has 15 characters, the fewest are 16"),
    ],
)  # fmt: skip
def test_a_token_that_no_header_carries_or_anyone_guesses(
    text_bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    token: str,
    reason: str,
) -> None:
    (tmp_path / "token").write_text(token)
    command = ["serve", str(text_bundle), "--learn", str(tmp_path / "learned")]
    for kind in ("admin", "events"):
        assert main([*command, f"--{kind}-token-file", str(tmp_path / "token")]) == 2
        with monkeypatch.context() as patched:
            patched.setenv(f"MTAW_{kind.upper()}_TOKEN", token)
            assert main(command) == 2
    error = capsys.readouterr().err
    assert error.count(reason) == error.count("\n") == 4
    assert len(token) < 3 or token not in error


def test_the_token_of_events_is_another_than_that_of_operators(
    text_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("MTAW_ADMIN_TOKEN", "MTAW_EVENTS_TOKEN"):
        monkeypatch.setenv(name, "one-token-for-both")
    assert main(["serve", str(text_bundle), "--learn", str(tmp_path / "learned")]) == 2
    error = capsys.readouterr().err
    assert "write another one" in error
    assert "one-token-for-both" not in error


def test_workers_may_be_as_many_as_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "usable_cpus", lambda: 3)
    assert (serve._workers("auto"), serve._workers("2")) == (3, 2)


def test_it_listens_on_the_loopback_address_by_default_and_needs_no_torch(text_service: Running) -> None:
    assert text_service.events("ready")[0]["url"].startswith("http://127.0.0.1:")
    (pid,) = text_service.worker_pids()
    assert "torch" not in Path(f"/proc/{pid}/maps").read_text()
