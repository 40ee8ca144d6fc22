"""A few hundred hostile clients, and requests generated from the service's OpenAPI document."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.service.edits import edit
from tests.service.hostile import N_ITEMS, OPTIONS, WORKERS, accompanied, attack
from tests.service.siege import lay_siege
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts, save_random
from tests.support.service.besieging import half, holding, idle, slow
from tests.support.service.hostile import BIG, Case, Reply, case, cycle, judged
from tests.support.service.running import ADMIN_TOKEN, Running

pytest.importorskip("uvicorn", reason="the service needs the extra 'serve'")
pytest.importorskip("psutil", reason="starting a service in tests needs the extra 'bench'")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    work = tmp_path_factory.mktemp("hostile")
    save_random(work / "bundle", n_items=N_ITEMS)
    with Running(work / "bundle", work / "log", WORKERS, OPTIONS) as running:
        yield running


def test_wrong_replies_are_noticed():
    whole = Case(1, "whole", [], refused=True)
    error = b'{"error": {"code": "invalid_json", "message": "not JSON; send JSON"}, "version": "0"}'
    assert judged(whole, Reply(400, error)) is None
    assert "status 500" in str(judged(whole, Reply(500, error)))
    assert "status 501" in str(judged(Case(1, "part", [], whole=False), Reply(501)))
    assert "instead of a client error" in str(judged(whole, Reply(200)))
    assert "instead of 200" in str(judged(Case(1, "good", [], accepted=True), Reply(400, error)))
    assert "no answer" in str(judged(whole, Reply(0)))
    assert "neither" in str(judged(whole, Reply(-1)))
    assert "not in the service's form" in str(judged(whole, Reply(400, b"Traceback")))
    assert "short line" in str(judged(whole, Reply(400, error.replace(b"not JSON", b"a\\nb"))))
    assert judged(Case(1, "part", [], whole=False), Reply(0)) is None


def test_the_service_survives_hostile_requests(service):
    outcome = attack(service, first=0, count=400)
    assert not outcome.wrong, str(outcome)
    assert outcome.cases == 400


def test_a_body_of_100_mb_is_refused_and_never_stored(service):
    before = service.peak_bytes()
    numbers = [number for number in range(5000) if case(number).kind == "100 MB"]
    for number in numbers:
        hostile_case = case(number)
        reply = cycle(service.address, hostile_case)
        assert judged(hostile_case, reply) is None
        assert reply.status == 413
    assert len(numbers) >= 5
    assert service.peak_bytes() - before < BIG / 10


@pytest.mark.parametrize("kinds", [(slow, holding(half, 60)), (holding(idle, 900),)], ids=["slow", "idle"])
def test_waiting_clients_delay_no_other(service, kinds):
    outcome = accompanied(service, kinds, 3)
    assert not outcome.wrong, str(outcome)


@pytest.mark.long(caught="the tests above, one kind of client at a time")
def test_honest_clients_get_right_answers_in_a_siege(tmp_path):
    siege = lay_siege(tmp_path, 5, round_seconds=5)
    assert not siege.wrong, str(siege)
    assert siege.failed == 0
    assert siege.asked > 200
    assert (siege.reloads, siege.kills) == (2, 1)
    assert len(siege.others) == 3


# Whether rows, rules and names of columns are valid depends on the item table, which the document does not know. So
# requests with those need only be answered without a 5xx.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("columns", "options", "selected"),
    [
        ("", ("--exclude-path", "/admin/items", "--exclude-path", "/admin/placements/{name}"), 22),
        ("any", ("--checks", "not_a_server_error"), 27),
    ],
    ids=["all checks", "columns"],
)
@pytest.mark.parametrize(
    ("phases", "examples"),
    [
        ("examples,fuzzing", 5),
        pytest.param(
            "examples,coverage,fuzzing,stateful", 200, marks=pytest.mark.long(caught="here, by fewer examples")
        ),
    ],
    ids=["few", "many"],
)
def test_the_service_matches_its_openapi_document(tmp_path, columns, options, selected, phases, examples):
    pytest.importorskip("schemathesis", reason="needs the extra 'dev'")
    save_parts(tmp_path / "bundle", **bundle_parts(n_items=N_ITEMS), **memory_parts(N_ITEMS))
    (tmp_path / "token").write_text(ADMIN_TOKEN)
    # A body limit large enough that one event too many is refused for the number of events.
    of_service = (
        *OPTIONS, "--sessions", "memory", "--admin-token-file", str(tmp_path / "token"), "--max-body", "4194304",
        "--learn", str(tmp_path / "learned"), "--max-backlog", "1000000", "--feedback", f"{tmp_path}/feedback/",
    )  # fmt: skip
    key = {"MTAW_FEEDBACK_KEY": "of the service and of the hooks, which send ids of rankings"}
    with Running(tmp_path / "bundle", tmp_path / "log", 1, of_service, environment=key) as running:
        document = f"http://127.0.0.1:{running.port}/openapi.json"
        environment = key | {
            "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.service.schemathesis_hooks",
            "MTAW_TEST_COLUMNS": columns,
        }  # fmt: skip
        command = [
            sys.executable, "-m", "schemathesis.cli", "run", document, "--header",
            f"Authorization: Bearer {ADMIN_TOKEN}", *options, "--phases", phases, "--max-examples", f"{examples}",
            "--seed", "1", "--no-color",
        ]  # fmt: skip
        completed = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | environment)
    assert completed.returncode == 0, completed.stdout[-6000:] + completed.stderr[-2000:]
    assert f"{selected} selected / 27 total" in completed.stdout


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'{"session": ["\xff"]}', "invalid_json"),
        (b'{"\xf0\x9f": 1}', "invalid_json"),
        (b'{"session": [], "%b": 1}' % (b"z" * 50_000), "invalid_request"),
        (b'{"session": [], "a\\u0000\\nb": 1}', "invalid_request"),
    ],
)
def test_requests_that_were_once_answered_badly(service, body, code):
    reply = service.ask("POST", "/v1/recommend", body)
    assert reply.status == 400
    error = reply.json["error"]
    assert error["code"] == code
    assert len(error["message"]) <= 500
    assert error["message"].isprintable()


@pytest.mark.long(caught="routes/test_item_table.py, routes/test_rules.py: one edit at a time")
def test_concurrent_edits_of_items_and_rules_fail_in_no_way(tmp_path: Path) -> None:
    edits = edit(tmp_path, 7.0)
    assert edits.answers.total() > 50
    assert edits.kills == 1
    assert not edits.wrong, str(edits)
