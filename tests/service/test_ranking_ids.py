"""Ids of rankings: nobody can tell how many there are, or make one without the key. Reports on them count once."""

from __future__ import annotations

import itertools
import os
import random
import re
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mtaw_fast.errors import UsageError
from mtaw_fast.online.settings import LearningSettings
from mtaw_fast.service.observability.counters import REPORT_CELLS
from mtaw_fast.service.observability.metrics import Metrics
from mtaw_fast.service.ranking_ids import (
    EXAMPLE,
    KEY_VARIABLE,
    PATTERN,
    is_id,
    load_key,
    new_id,
    session_code,
    session_code_in,
    use_key,
    version_in,
)  # fmt: skip
from mtaw_fast.service.recording import CountedReports
from mtaw_fast.service.settings import Settings
from tests.support.redis_server import Redis
from tests.support.service.running import eventually, good, refused, running

VERSION = "0123456789abcdef"
KEY = bytes(range(32))


def test_ids_made_by_threads_at_once_differ_and_do_not_count_up() -> None:
    with ThreadPoolExecutor(4) as pool:
        made = [*pool.map(lambda _: [new_id(VERSION) for _ in range(2000)], range(4))]
    assert len({name for names in made for name in names}) == 8000
    assert all(re.fullmatch(PATTERN, name) for names in made for name in names)
    numbers = [int(name[17:37], 16) for name in made[0][:64]]
    assert numbers != sorted(numbers)
    assert min(abs(first - second) for first, second in itertools.pairwise(numbers)) > 1 << 32


def test_only_the_key_makes_an_id() -> None:
    use_key(KEY)
    name = new_id(VERSION)
    assert re.fullmatch(PATTERN, EXAMPLE)
    assert is_id(name)
    assert version_in(name) == VERSION
    for place, digit in enumerate(name):
        if digit != "-":
            other = "0" if digit != "0" else "1"
            assert not is_id(name[:place] + other + name[place + 1 :])
    assert not any(map(is_id, (EXAMPLE, name.upper(), f"{name}\n", name[:-1], f"{VERSION}-" + "0" * 36, "")))
    use_key(KEY[::-1])
    assert not is_id(name)
    use_key(KEY)
    assert is_id(name)


def test_only_the_key_tells_the_session_of_an_id() -> None:
    use_key(KEY)
    names = [new_id(VERSION, session) for session in ("a", "\ud800", "a")] + [new_id(VERSION)]
    codes = [session_code(session) for session in ("a", "\ud800", "a")]
    assert [session_code_in(name) for name in names[:3]] == codes
    assert all(map(is_id, names))
    assert len({name[27:37] for name in names}) == len(names)
    use_key(KEY[::-1])
    assert not {session_code_in(name) for name in names} & {*codes, session_code("a")}


@pytest.mark.parametrize("kept", ["feedback/", "new/feedback/", "feedback.jsonl", "learned"])
def test_the_key_is_kept_for_its_owner(tmp_path: Path, kept: str) -> None:
    where = f"{tmp_path}/{kept}"
    if kept == "learned":
        settings = Settings(tmp_path, learn=LearningSettings(Path(where)))
    else:
        settings = Settings(tmp_path, feedback=where)
    key = load_key(settings)
    assert load_key(settings) == key
    (path,) = (file for file in tmp_path.rglob("*") if file.is_file())
    assert path.name in ("ranking-ids.key", "feedback.jsonl.key")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    assert load_key(settings) == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_text("nonsense")
    with pytest.raises(UsageError, match="64 hex digits"):
        load_key(settings)


def test_services_that_start_at_once_get_one_key(tmp_path: Path) -> None:
    settings = Settings(tmp_path, feedback=f"{tmp_path}/feedback/")
    with ThreadPoolExecutor(16) as pool:
        assert len(set(pool.map(lambda _: load_key(settings), range(16)))) == 1


def test_a_key_that_cannot_be_kept_is_a_random_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    for settings in (
        Settings(tmp_path, feedback=f"{tmp_path}/file/below/"),
        Settings(tmp_path, feedback="redis://127.0.0.1:1/0"),
        Settings(tmp_path),
    ):
        assert load_key(settings) != load_key(settings)
        assert len(load_key(settings)) == 32
    monkeypatch.setenv(KEY_VARIABLE, "the same on every host")
    assert load_key(Settings(tmp_path)) == load_key(Settings(tmp_path, feedback=f"{tmp_path}/file/below/"))


def test_the_key_of_redis_is_shared(redis: Redis, tmp_path: Path) -> None:
    key = load_key(Settings(tmp_path, feedback=f"{redis.url}?stream=reported"))
    assert load_key(Settings(tmp_path, feedback=f"{redis.url}?stream=reported")) == key
    assert load_key(Settings(tmp_path, feedback=redis.url)) != key


def test_ids_are_good_in_every_worker_and_after_a_restart(text_bundle: Path, tmp_path: Path) -> None:
    flags = ("--feedback", f"{tmp_path}/feedback/")
    with running(text_bundle, *flags, workers=2) as service:
        name = good(service.ask("POST", "/v1/recommend", {"session": ["sku-11"]}))["recommendation"]
        for _ in range(8):
            good(service.ask("POST", "/v1/feedback", {"recommendation": name, "shown": ["sku-11"]}))
        (victim, *_) = service.worker_pids()
        os.kill(victim, 9)
        eventually(lambda: victim not in service.worker_pids() and len(service.worker_pids()) == 2)
        for _ in range(8):
            good(service.ask("POST", "/v1/feedback", {"recommendation": name}))
    with running(text_bundle, *flags) as service:
        good(service.ask("POST", "/v1/feedback", {"recommendation": name}))
        forged = f"{name[:-1]}{'0' if name[-1] != '0' else '1'}"
        refused(service.ask("POST", "/v1/feedback", {"recommendation": forged}), 400, "invalid_request")


def test_a_report_counts_once_in_all_workers() -> None:
    memory = Metrics.make(2)
    first, second = (CountedReports(Metrics.open(memory, 2, row).counters.reports) for row in range(2))
    name, other = new_id("0" * 16), new_id("0" * 16)
    items: list[int | str] = ["a", "b", 7, -(2**63), "\ud800"]
    fresh = first.fresh(name, "clicked", items)
    assert list(fresh) == items
    first.count([fresh["a"], fresh[7]])
    for worker in (first, second):
        assert list(worker.fresh(name, "clicked", items)) == ["b", -(2**63), "\ud800"]
        assert list(worker.fresh(name, "bought", items)) == items
        assert list(worker.fresh(other, "clicked", items)) == items


def test_many_reports_do_not_hide_each_other() -> None:
    counted = CountedReports(memoryview(bytearray(8 * REPORT_CELLS)).cast("q"))
    items = [f"item-{number}" for number in range(20)]
    generator = random.Random(0)
    # The first number is of a ranking whose CRCs have the same 19 low bits for 8 pairs of these items.
    for digits in [0x6258CE894634EDFF, *(generator.getrandbits(64) for _ in range(3_000))]:
        name = f"{'0' * 16}-{digits:036x}"
        fresh = counted.fresh(name, "shown", items)
        assert len(fresh) == 20
        counted.count(fresh.values())
        assert len(counted.fresh(name, "shown", items)) <= 1  # two marks of one ranking seldom share a cell
