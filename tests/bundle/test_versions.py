"""Bundles in a folder: promote and roll back by one name."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle, bundle_lock
from mtaw_fast.bundle.versions import HISTORY, current_in, promote, roll_back, versions_in
from mtaw_fast.cli import main
from mtaw_fast.errors import BundleError, UsageError
from tests.support.random_bundle import bundle_parts, edit_manifest, save_parts
from tests.support.service.running import eventually, good, running


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three bundles."""
    folder = tmp_path_factory.mktemp("versions")
    for number, name in enumerate(("a.bundle", "b.bundle", "c.bundle")):
        save_parts(folder / name, **bundle_parts(seed=number))
        edit_manifest(
            folder / name, lambda manifest, day=number: manifest.update(created=f"2026-11-0{day + 1}T00:00:00Z")
        )
    (folder / "notes").mkdir()
    return folder


@pytest.fixture
def folder(made: Path) -> Path:
    """The three bundles, none of them promoted."""
    for name in ("current", HISTORY):
        (made / name).unlink(missing_ok=True)
    return made


def test_bundles_are_listed_with_the_newest_first(folder: Path) -> None:
    promote(folder, "b.bundle")
    versions = versions_in(folder)
    assert [version.name for version in versions] == ["c.bundle", "b.bundle", "a.bundle"]
    assert [version.current for version in versions] == [False, True, False]
    assert [version.promoted is not None for version in versions] == [False, True, False]
    assert versions[0].metrics == {"MRR@20": 12.5}
    assert (versions[0].items, versions[0].dataset) == (60, "random")
    assert len({version.version for version in versions}) == 3


def test_rolling_back_goes_back_step_by_step(folder: Path) -> None:
    assert promote(folder, "a.bundle") is None
    assert promote(folder, "b.bundle") == "a.bundle"
    assert promote(folder, "b.bundle") == "b.bundle"
    promote(folder, "c.bundle")
    assert roll_back(folder) == ("c.bundle", "b.bundle")
    assert roll_back(folder) == ("b.bundle", "a.bundle")
    with pytest.raises(UsageError, match="from before the current one"):
        roll_back(folder)
    promote(folder, "c.bundle")
    with (folder / HISTORY).open("a") as file:  # a promotion that was killed before its last step
        file.write(json.dumps({"time": "", "bundle": "b.bundle", "version": "", "back": False}) + "\n")
    assert roll_back(folder) == ("c.bundle", "a.bundle")
    assert not list(folder.glob(".*"))


def test_a_line_that_was_cut_off_counts_for_nothing(folder: Path) -> None:
    promote(folder, "a.bundle")
    promote(folder, "b.bundle")
    history = (folder / HISTORY).read_bytes()
    line = history[history.index(b"\n") + 1 :]
    for length in (1, 30, len(line) - 1):
        (folder / HISTORY).write_bytes(history + line[:length])
        assert {version.name for version in versions_in(folder) if version.promoted} == {"a.bundle", "b.bundle"}
        assert promote(folder, "c.bundle") == "b.bundle"
        assert roll_back(folder) == ("c.bundle", "b.bundle")
        assert roll_back(folder) == ("b.bundle", "a.bundle")
        promote(folder, "b.bundle")


@pytest.mark.parametrize("back", [False, True])
def test_a_promotion_that_was_killed_before_its_last_step_counts_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, back: bool
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", lambda link, target: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            promote(folder, "c.bundle")
    assert not any(version.promoted for version in versions_in(folder))
    promote(folder, "a.bundle")
    with pytest.raises(UsageError, match="from before the current one"):
        roll_back(folder)
    promote(folder, "b.bundle")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "symlink_to", lambda link, target: pytest.fail("killed"))
        with pytest.raises(pytest.fail.Exception):
            roll_back(folder) if back else promote(folder, "c.bundle")
    assert {version.name for version in versions_in(folder) if version.promoted} == {"a.bundle", "b.bundle"}
    assert promote(folder, "b.bundle") == "b.bundle"
    assert roll_back(folder) == ("b.bundle", "a.bundle")


def test_one_promotion_at_a_time(folder: Path) -> None:
    promote(folder, "a.bundle")
    before = (folder / HISTORY).read_bytes()
    with bundle_lock(folder), pytest.raises(BundleError, match="is being written by another process"):
        promote(folder, "b.bundle")
    assert current_in(folder) == "a.bundle"
    assert (folder / HISTORY).read_bytes() == before


@pytest.mark.parametrize("line", [b"5", b"null", b"{}", b"\xff\xfe", b'{"time": 1, "bundle": ["a"], "back": false}'])
def test_a_damaged_line_counts_for_nothing(folder: Path, line: bytes) -> None:
    promote(folder, "a.bundle")
    with (folder / HISTORY).open("ab") as file:
        file.write(line + b"\n")
    promote(folder, "b.bundle")
    assert roll_back(folder) == ("b.bundle", "a.bundle")


@pytest.mark.parametrize(
    "change", [{"metrics": [1]}, {"metrics": {"validation": None}}, {"n_items": "many"}, {"dataset": None}]
)
def test_a_damaged_manifest_is_named(folder: Path, change: dict[str, object]) -> None:
    manifest = folder / "c.bundle" / "manifest.json"
    before = manifest.read_bytes()
    try:
        edit_manifest(folder / "c.bundle", lambda values: values.update(change))
        with pytest.raises(BundleError, match=r"c\.bundle/manifest\.json is damaged"):
            versions_in(folder)
    finally:
        manifest.write_bytes(before)


def test_a_step_back_from_a_bundle_that_is_no_longer_current_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another bundle is promoted while the one before is verified: the step back would be two steps."""
    promote(folder, "a.bundle")
    promote(folder, "b.bundle")
    real = Bundle.load

    def overtaken(*arguments: Any) -> Bundle:
        monkeypatch.undo()
        promote(folder, "c.bundle")
        return real(*arguments)

    monkeypatch.setattr(Bundle, "load", overtaken)
    with pytest.raises(BundleError, match="was changed by another process meanwhile"):
        roll_back(folder)
    assert current_in(folder) == "c.bundle"
    assert roll_back(folder) == ("c.bundle", "b.bundle")


def test_what_cannot_be_served_is_not_promoted(folder: Path, tmp_path: Path) -> None:
    promote(folder, "a.bundle")
    for name in ("nothing.bundle", "../a.bundle", "notes", "", "current"):
        with pytest.raises(UsageError, match=r"it has c\.bundle, b\.bundle, a\.bundle"):
            promote(folder, name)
    save_parts(folder / "d.bundle", **bundle_parts(seed=9))
    victim = next((folder / "d.bundle").glob("weights-*"))
    victim.write_bytes(victim.read_bytes()[:-8])
    with pytest.raises(BundleError):
        promote(folder, "d.bundle")
    assert current_in(folder) == "a.bundle"
    for path in (folder / "d.bundle").iterdir():
        path.unlink()
    (folder / "d.bundle").rmdir()
    with pytest.raises(UsageError, match="holds no bundle"):
        versions_in(tmp_path)
    (tmp_path / "current").mkdir()
    with pytest.raises(UsageError, match="not a symlink"):
        versions_in(tmp_path)


def test_the_service_follows_the_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bundles", str(folder), "--promote", "a.bundle"]) == 0
    versions = {version.name: version.version for version in versions_in(folder)}
    with running(folder / "current", "--reload-interval", "0.2") as service:
        url = f"http://127.0.0.1:{service.port}"
        assert good(service.ask("GET", "/v1/bundle"))["version"] == versions["a.bundle"]
        assert main(["bundles", str(folder), "--promote", "c.bundle"]) == 0
        eventually(lambda: service.ask("GET", "/healthz").version == versions["c.bundle"])
        capsys.readouterr()
        assert main(["bundles", str(folder), "--service", url]) == 0
        [line] = [line for line in capsys.readouterr().out.splitlines() if "served by" in line]
        assert line.startswith("* c.bundle")
        assert main(["bundles", str(folder), "--roll-back", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["current"] == "a.bundle"
        eventually(lambda: service.ask("GET", "/healthz").version == versions["a.bundle"])
        service.assert_no_error()
    assert main(["bundles", str(folder), "--service", url]) == 2
    assert "no service answers there" in capsys.readouterr().err


@pytest.mark.parametrize(
    "reply", [b"HTTP/1.0 200 OK\r\n\r\n{}", b"HTTP/1.0 200 OK\r\n\r\n[]", b"-ERR unknown command\r\n"]
)
def test_a_service_that_is_none_is_named_before_anything_changes(
    folder: Path, capsys: pytest.CaptureFixture[str], reply: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            with listener.accept()[0] as client:
                client.recv(4096)
                client.sendall(reply)

        answering = threading.Thread(target=answer)
        answering.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert main(["bundles", str(folder), "--promote", "a.bundle", "--service", url]) == 2
        answering.join()
    assert f"--service {url}: no service answers there" in capsys.readouterr().err
    assert current_in(folder) is None
