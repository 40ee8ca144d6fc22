"""Services that many tests share: one over text ids, one over integers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtaw_fast.data.item_ids import ItemIds
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.redis_server import redis as redis
from tests.support.service.running import Running, running

N_ITEMS = 60
ODD_IDS = ["", " ", "a b", "a+b", "50%", "ä/ö?x=1&y=2#z", "日本\u0000", 'quote"\\', "7", "🙂"]
BIG = 2**63 - 1
INT_IDS = [0, -5, 7, 2**53 + 1, BIG, -(2**63)]
LIMITS = [
    "--max-k", "50", "--max-clicks", "40", "--max-batch", "5", "--max-results", "200", "--max-body", "4096",
    "--read-timeout", "1",
]  # fmt: skip
SESSIONS = ["--sessions", "memory", "--trusted-host", "Shop.Example"]


@pytest.fixture(scope="session")
def text_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 items with text ids, ten of them unusual."""
    folder = tmp_path_factory.mktemp("text") / "bundle"
    ids = ItemIds.from_list([*ODD_IDS, *(f"sku-{i}" for i in range(len(ODD_IDS), N_ITEMS))])
    save_parts(folder, **{**bundle_parts(n_items=N_ITEMS), "ids": ids})
    return folder


@pytest.fixture(scope="session")
def int_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 items with integer ids, among them the limits of int64."""
    folder = tmp_path_factory.mktemp("int") / "bundle"
    ids = ItemIds.from_list([*INT_IDS, *range(1000, 1000 + N_ITEMS - len(INT_IDS))])
    save_parts(folder, **{**bundle_parts(n_items=N_ITEMS), "ids": ids})
    return folder


@pytest.fixture(scope="session")
def memory_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 items with a session memory, as trainings make it by default."""
    folder = tmp_path_factory.mktemp("memory") / "bundle"
    save_parts(folder, **bundle_parts(n_items=N_ITEMS), **memory_parts(N_ITEMS))
    return folder


@pytest.fixture(scope="session")
def text_service(text_bundle: Path) -> Iterator[Running]:
    """One worker over text ids, with tight limits and sessions in memory."""
    with running(text_bundle, *LIMITS, *SESSIONS) as service:
        yield service


@pytest.fixture(scope="session")
def memory_service(memory_bundle: Path) -> Iterator[Running]:
    """One worker over a bundle with a session memory, with sessions in memory."""
    with running(memory_bundle, "--sessions", "memory") as service:
        yield service


@pytest.fixture(scope="session")
def int_service(int_bundle: Path) -> Iterator[Running]:
    """One worker over integer ids, without sessions and token."""
    with running(int_bundle, environment={"MTAW_ADMIN_TOKEN": ""}) as service:
        yield service
