"""Saving a bundle: after a failure, a kill or a full disk there is the old bundle or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle import writer as bundle_writer
from mtaw_fast.errors import BundleError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.storage import files
from tests.support.random_bundle import bundle_parts, contents, save_parts, save_random

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent

_STEPS = ("write_tensors", "sha256_of", "flush_folder", "_git", "write_json")


def assert_holds(folder: Path, seed: int) -> None:
    weights = bundle_parts(seed=seed)["weights"]
    loaded = Bundle.load(folder).weights
    assert all((loaded[name] == weights[name]).all() for name in weights)


@pytest.mark.parametrize("existing", [True, False])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()])
def test_a_failure_at_any_step_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool, error: BaseException
) -> None:
    folder = tmp_path / "bundle"
    if existing:
        save_random(folder, seed=1)
        (folder / "notes.txt").write_text("mine")
    before = contents(folder) if existing else None
    # Half the parts equal the old bundle's, so that a clean-up could remove files still in use.
    parts = bundle_parts(seed=1) | {"weights": bundle_parts(seed=2)["weights"]}
    calls, fail_at = 0, 0

    def failing(step: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == fail_at:
                raise error
            return step(*arguments)

        return call

    for name in _STEPS:
        monkeypatch.setattr(bundle_writer, name, failing(getattr(bundle_writer, name)))
    monkeypatch.setattr(Path, "rename", failing(Path.rename))
    while True:
        calls, fail_at = 0, fail_at + 1
        with contextlib.suppress(BundleError if isinstance(error, OSError) else KeyboardInterrupt):
            save_parts(folder, **parts, overwrite=True)
            break
        assert (contents(folder) if folder.exists() else None) == before
    assert fail_at > 15
    Bundle.load(folder)


@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_failure_after_the_manifest_took_its_place_leaves_the_new_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    folder = tmp_path / "bundle"
    save_random(folder, seed=1)
    real, before = files._fsync, (folder / "manifest.json").read_bytes()

    def failing(path: Path) -> None:
        real(path)
        if path == folder and (folder / "manifest.json").read_bytes() != before:
            raise error

    monkeypatch.setattr(files, "_fsync", failing)
    with pytest.raises((BundleError, KeyboardInterrupt)):
        save_parts(folder, **bundle_parts(seed=2), overwrite=True)
    monkeypatch.undo()
    assert_holds(folder, seed=2)


def test_a_name_that_is_promoted_meanwhile_damages_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed, name in enumerate(("old", "next")):
        save_random(tmp_path / name, seed=seed)
    before = contents(tmp_path / "next")
    current, flush = tmp_path / "current", bundle_writer.flush_folder
    current.symlink_to("old")

    def promoting(folder: Path) -> None:
        current.unlink()
        current.symlink_to("next")
        flush(folder)

    monkeypatch.setattr(bundle_writer, "flush_folder", promoting)
    save_parts(current, **bundle_parts(seed=2), overwrite=True)
    assert contents(tmp_path / "next") == before
    assert_holds(tmp_path / "old", seed=2)


@pytest.mark.parametrize("existing", [True, False])
def test_files_that_cannot_be_opened_after_the_manifest_took_its_place_cost_no_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, existing: bool
) -> None:
    folder = tmp_path / "bundle"
    if existing:
        save_random(folder, seed=1)
    replace, real_open, placed = Path.replace, os.open, False

    def replacing(self: Path, target: Path) -> Path:
        nonlocal placed
        result = replace(self, target)
        placed = placed or target == folder / "manifest.json"
        return result

    def opening(*arguments: Any, **named: Any) -> int:
        if placed:
            raise OSError(errno.EMFILE, "Too many open files")
        return real_open(*arguments, **named)

    monkeypatch.setattr(Path, "replace", replacing)
    monkeypatch.setattr(os, "open", opening)
    with pytest.raises(BundleError, match="Too many open files"):
        save_parts(folder, **bundle_parts(seed=2), overwrite=True)
    monkeypatch.undo()
    assert_holds(folder, seed=2)
    save_parts(folder, **bundle_parts(seed=3), overwrite=True)
    assert len(contents(folder)) == 6, "files of the bundle before stay"


def test_a_manifest_of_which_nobody_can_tell_keeps_the_new_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bundle"
    real, gone = Path.stat, False

    def failing(path: Path, value: Any) -> None:
        nonlocal gone
        files.write_json(path, value)
        gone = True
        raise OSError(errno.EIO, "Input/output error")

    def stat(self: Path, **named: Any) -> os.stat_result:
        if gone and self.name == "manifest.json":
            raise OSError(errno.EIO, "Input/output error")
        return real(self, **named)

    monkeypatch.setattr(bundle_writer, "write_json", failing)
    monkeypatch.setattr(Path, "stat", stat)
    with pytest.raises(BundleError, match="Input/output error"):
        save_parts(folder, **bundle_parts(seed=2))
    monkeypatch.undo()
    Bundle.load(folder)


_KILLED_SAVES = """
import os, sys
from pathlib import Path
from mtaw_fast.bundle import writer as bundle_writer
from mtaw_fast.storage import files
from mtaw_fast.bundle import Bundle
from tests.support.random_bundle import bundle_parts, save_parts

folder, stride, old, new = Path(sys.argv[1]), int(sys.argv[2]), bundle_parts(seed=1), bundle_parts(seed=2)
bundle_writer._git = lambda *_: None  # it takes most of a save, and writes nothing

def killed_save(step):
    '''Save the new bundle in a child that dies, with no clean-up, before or after its n-th step.'''
    child = os.fork()
    if child == 0:
        calls = 0
        def mortal(function):
            def call(*arguments, **named):
                nonlocal calls
                calls += 1
                if calls == step:
                    os._exit(9)
                result = function(*arguments, **named)
                calls += 1
                if calls == step:
                    os._exit(9)
                return result
            return call
        for module, name in [(os, "replace"), (os, "fsync"), (Path, "rename"), (Path, "unlink"), (Path, "write_bytes"),
                             (Path, "chmod"), (bundle_writer, "write_tensors"), (bundle_writer, "sha256_of")]:
            setattr(module, name, mortal(getattr(module, name)))
        save_parts(folder, **new, overwrite=True)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

step, seen = 0, {"old": 0, "new": 0}
while True:
    step += stride
    save_parts(folder, **old, overwrite=True)
    assert len(list(folder.iterdir())) == 6, sorted(folder.iterdir())
    code = killed_save(step)
    bundle = Bundle.load(folder)
    matches = {name: all(bundle.weights[w].tobytes() == parts["weights"][w].tobytes() for w in bundle.weights)
               and bundle.popularity.tobytes() == parts["popularity"].tobytes()
               for name, parts in (("old", old), ("new", new))}
    assert sum(matches.values()) == 1, (step, matches)
    seen["old" if matches["old"] else "new"] += 1
    if code == 0:
        break
    assert code == 9, code
print(step, seen["old"], seen["new"])
"""


def run_python(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, text=True, env=environment, check=False
    )


@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.long(caught="here, at every fifth step")), 5])
def test_a_kill_at_any_step_leaves_a_whole_bundle(tmp_path: Path, stride: int) -> None:
    completed = run_python(_KILLED_SAVES, str(tmp_path / "bundle"), str(stride))
    assert completed.returncode == 0, completed.stderr
    steps, old, new = map(int, completed.stdout.split())
    assert steps > 40
    assert old * stride > 20
    assert new * stride > 5


_FULL_DISK = """
import resource, sys
from mtaw_fast.errors import BundleError
from tests.support.random_bundle import bundle_parts, save_parts

resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    save_parts(sys.argv[1], **bundle_parts(seed=2), overwrite=True)
except BundleError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [0, 100, 5000])
def test_a_full_disk(tmp_path: Path, limit: int) -> None:
    completed = run_python(_FULL_DISK, str(tmp_path / "new"), str(limit))
    assert completed.stderr == ""
    assert completed.stdout.count("\n") == 1
    assert "cannot write" in completed.stdout
    assert "free some space" in completed.stdout
    assert list(tmp_path.iterdir()) == []
    save_random(tmp_path / "old", seed=1)
    before = contents(tmp_path / "old")
    assert "cannot write" in run_python(_FULL_DISK, str(tmp_path / "old"), str(limit)).stdout
    assert contents(tmp_path / "old") == before


def test_readers_see_the_old_bundle_or_the_new_one(tmp_path: Path) -> None:
    versions = [bundle_parts(seed=seed) for seed in (1, 2)]
    save_parts(tmp_path / "bundle", **versions[0])
    writing = threading.Event()
    writing.set()

    def write() -> None:
        try:
            for turn in range(12):
                save_parts(tmp_path / "bundle", **versions[turn % 2], overwrite=True)
        finally:
            writing.clear()

    writer = threading.Thread(target=write)
    writer.start()
    loads = 0
    while writing.is_set() or loads == 0:
        bundle = Bundle.load(tmp_path / "bundle")
        seed = int(bundle.weights["norm_bias"].tobytes() != versions[0]["weights"]["norm_bias"].tobytes())
        assert bundle.popularity.tobytes() == versions[seed]["popularity"].tobytes()
        assert bundle.item_vectors.tobytes() == normalized(versions[seed]["weights"]["item_embedding"]).tobytes()
        loads += 1
    writer.join()
    Bundle.load(tmp_path / "bundle")
