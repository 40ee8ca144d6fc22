"""An admin asks for a compaction: after it, no file of the folder holds a forgotten session's clicks."""

from __future__ import annotations

from pathlib import Path

from tests.service.routes.test_events import PLENTY, folder_of, teach, visitors
from tests.support.service.running import WITH_TOKEN, Running, eventually, good, refused, running


def test_a_compaction_redacts_the_log(memory_bundle: Path, tmp_path: Path) -> None:
    flags = ("--learn", str(tmp_path / "learned"), *PLENTY)
    with running(memory_bundle, *flags, workers=2, environment={"MTAW_ADMIN_TOKEN": "s3cret"}) as service:
        refused(service.ask("POST", "/admin/compact"), 401, "unauthorized")
        teach(service, *visitors("gone-", 1), *visitors("kept-", 3))
        segment = next(folder_of(service).glob("events-*.log"))
        position = good(service.ask("DELETE", "/v1/sessions/gone-0"))["log_position"]
        assert b'"session":"gone-0"' in segment.read_bytes()
        reply = service.ask("POST", "/admin/compact", headers=WITH_TOKEN)
        assert reply.status == 202
        assert reply.json["log_position"] >= position
        eventually(lambda: b'"session":"gone-0"' not in segment.read_bytes(), 120)
        assert b'"session":"kept-0"' in segment.read_bytes()
        service.assert_no_error()


def test_without_learning_there_is_no_such_route(text_service: Running) -> None:
    refused(text_service.ask("POST", "/admin/compact", headers=WITH_TOKEN), 404, "not_found")
