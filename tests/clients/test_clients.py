"""The clients of libmtaw: small forms of `make clients`, wrong calls, and the examples of their READMEs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.cli.config import library_file
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.recommender import Recommender
from tests.clients.calls import features, wrong_calls
from tests.clients.compare import (
    CLIENTS,
    COMMANDS,
    CannotRunError,
    answers_of,
    compare,
    complete_bundle,
    expected_of,
    go_environment,
)
from tests.libmtaw.test_answers import saved
from tests.libmtaw.test_interface import printed
from tests.support.cache import ROOT
from tests.support.random_bundle import bundle_parts, save_parts

SESSIONS = 1600
JAVASCRIPT = {"Node.js": CLIENTS / "node", "WebAssembly": CLIENTS / "wasm"}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return complete_bundle(tmp_path_factory.mktemp("clients") / "complete")


@pytest.fixture(scope="module", params=COMMANDS)
def client(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, list[str]]]:
    """The name of a client, and the command that makes its calls."""
    try:
        yield request.param, COMMANDS[request.param](tmp_path_factory.mktemp("program"))
    except CannotRunError as reason:
        pytest.skip(str(reason))


def test_answers_equal_those_of_the_package(client: tuple[str, list[str]], complete: Path, tmp_path: Path) -> None:
    for bundle in (complete, saved(tmp_path / "int", "int")):
        assert "all answers equal" in compare(*client, bundle, SESSIONS)


def test_a_wrong_call_is_one_line(client: tuple[str, list[str]], complete: Path, tmp_path: Path) -> None:
    """Or it cannot be written: the program's types, which a compiler checks, do not have it."""
    name, command = client
    wrong = wrong_calls(str(tmp_path / "log"))
    if name == "WebAssembly":  # it opens no folders, and appends to no log
        wrong = {what: entry for what, entry in wrong.items() if entry[0]["call"] not in ("open", "log")}
    if name == "Go":
        del wrong["no session"]  # nil is an empty one
    found = answers_of(command, complete, [call for call, _ in wrong.values()])
    assert sum("error" in said for said in found) > 20
    for (what, (_, part)), said in zip(wrong.items(), found, strict=True):
        message = said.get("error") or ("" if name in JAVASCRIPT else said.get("types"))
        assert message, f"{what}: {said}"
        assert "\n" not in message, what
        assert name not in JAVASCRIPT or part in message, f"{what}: {message}"


def test_the_table_of_what_each_client_has(client: tuple[str, list[str]], complete: Path, tmp_path: Path) -> None:
    name, command = client
    page = (ROOT / "docs" / "c-api.md").read_text()
    heading, *rows = re.findall(r"^\| (.*) \|$", page, re.MULTILINE)
    column = heading.split(" | ").index(name)
    documented = {row.split(" | ")[0]: row.split(" | ")[column] for row in rows[1:]}
    has = {}
    for feature, calls in features(str(tmp_path / "log")).items():
        found = answers_of(command, complete, calls)
        expected = [{"answers": []}] if "log" in feature else expected_of(name, complete, calls)
        assert found == expected or all("answers" not in one for one in found), feature
        has[feature] = "yes" if found == expected else "no"
    assert documented == has, "the table of docs/c-api.md and the client differ"


@pytest.fixture(scope="module")
def odd_ids(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Bundles with zero bytes in ids, and with large numbers."""
    work = tmp_path_factory.mktemp("ids")
    texts = [f"é-{i}" if i % 2 else f"a\0é-{i}" for i in range(8)]
    numbers = [2**60 + 1, 2**60 + 2, -(2**63), 2**63 - 1, -5, 5, 2**32, 2**53 + 1]
    for name, ids in (("texts", texts), ("numbers", numbers)):
        save_parts(work / name, **bundle_parts(n_items=8) | {"ids": ItemIds.from_list(ids)})
    return work / "texts", work / "numbers"


@pytest.mark.parametrize("name", JAVASCRIPT)
def test_objects_of_javascript(name: str, complete: Path, odd_ids: tuple[Path, Path], tmp_path: Path) -> None:
    command_or_skip(name, tmp_path)
    script, environment = Path(__file__).with_name("objects.mjs"), os.environ | {"MTAW_LIBRARY": str(library_file())}
    found = json.loads(printed("node", script, JAVASCRIPT[name], complete, *odd_ids, env=environment))
    texts, numbers = (Recommender.load(folder) for folder in odd_ids)
    assert found == [texts.recommend(["é-1"], 8).items, [str(item) for item in numbers.recommend([2**60 + 1], 8).items]]


def test_ids_with_zero_bytes(client: tuple[str, list[str]], odd_ids: tuple[Path, Path]) -> None:
    calls: list[Any] = [
        {"call": "recommend", "session": ["a\0é-2", "a\0", "a"], "options": {"k": 8}},
        {
            "call": "recommend",
            "session": ["é-1"],
            "options": {"exclude": ["a\0é-4"], "allow": ["a\0é-4", "a\0é-6", "a"]},
        },
    ]
    assert answers_of(client[1], odd_ids[0], calls) == expected_of(client[0], odd_ids[0], calls)


def command_or_skip(name: str, folder: Path) -> list[str]:
    try:
        return COMMANDS[name](folder)
    except CannotRunError as reason:
        pytest.skip(str(reason))


def test_objects_of_go(complete: Path, tmp_path: Path) -> None:
    command_or_skip("Go", tmp_path)
    printed("go", "test", "-count=1", ".", env=go_environment() | {"MTAW_BUNDLE": str(complete)}, cwd=CLIENTS / "go")


def test_koffi_makes_the_type_of_an_array_once(complete: Path, tmp_path: Path) -> None:
    """It never frees one."""
    command_or_skip("Node.js", tmp_path)
    (tmp_path / "made.mjs").write_text(
        """
        const [client, bundle] = process.argv.slice(2);
        const { default: koffi } = await import(`${client}/node_modules/koffi/index.js`);
        const makeArray = koffi.array;
        let made = 0;
        koffi.array = (...given) => (made++, makeArray(...given));
        const shop = (await import(`${client}/index.mjs`)).open(bundle);
        const ask = () => shop.recommend(["sku-1", "sku-7"], { k: 40, reasons: true });
        ask();
        const before = made;
        ask();
        console.log(before > 1, made - before);
        """
    )
    environment = os.environ | {"MTAW_LIBRARY": str(library_file())}
    assert printed("node", tmp_path / "made.mjs", CLIENTS / "node", complete, env=environment) == "true 0\n"


@pytest.mark.parametrize("name", ["Go", "Node.js"])
def test_a_library_of_another_abi_is_refused(name: str, complete: Path, tmp_path: Path) -> None:
    command = command_or_skip(name, tmp_path)
    functions = (ROOT / "libmtaw" / "symbols.txt").read_text().split()
    (tmp_path / "other.c").write_text("".join(f"int {function}(void) {{ return 2; }}\n" for function in functions))
    library = tmp_path / library_file().name
    printed("gcc", "-shared", "-fPIC", tmp_path / "other.c", f"-Wl,-soname,{library.name}", "-o", library)
    environment = os.environ | {"MTAW_LIBRARY": str(library), "LD_LIBRARY_PATH": str(tmp_path)}
    completed = subprocess.run([*command, complete], env=environment, capture_output=True, text=True, check=False)
    assert completed.returncode != 0
    assert "libmtaw has MTAW_ABI 2, this client needs 1; use those of one release" in completed.stderr


@pytest.mark.parametrize("name", ["go", "node"])
def test_the_example_of_a_readme_runs(name: str, tmp_path: Path) -> None:
    command_or_skip({"go": "Go", "node": "Node.js"}[name], tmp_path)
    text = (CLIENTS / name / "README.md").read_text()
    (command,) = [shlex.split(line) for line in re.findall(r"^(?:go run|node) .*$", text, re.MULTILINE)]
    bundle = saved(tmp_path / "bundle", "withheld")
    command = [str(bundle) if part.endswith("shop.bundle") else part for part in command]
    environment = go_environment() | {"MTAW_LIBRARY": str(library_file())}
    lines = [line.split() for line in printed(*command, env=environment, cwd=CLIENTS / name).splitlines()]
    expected = Recommender.load(bundle).recommend(["sku-9", "sku-4"], 5, exclude_seen=True)
    assert [line[1] for line in lines] == expected.items
    assert [line[2] for line in lines] == [f"{score:.4f}" for score in expected.scores]
