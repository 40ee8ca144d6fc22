"""Bundles: they load as they were saved, and saving refuses what does not fit."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle, bundle_lock, refuse_existing
from mtaw_fast.bundle.format import OPTIONAL_PARTS, PARTS
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.model.item_vectors import normalized
from tests.support.random_bundle import (
    bundle_parts,
    contents,
    edit_manifest,
    memory_parts,
    refused,
    save_parts,
    save_random,
)

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("verify", [True, False])
def test_round_trip(tmp_path: Path, text: bool, verify: bool) -> None:
    parts = bundle_parts(text=text, gamma=6.0)
    save_parts(tmp_path / "deep" / "bundle", **parts)
    bundle = Bundle.load(str(tmp_path / "deep" / "bundle"), verify=verify)
    assert bundle.config == parts["config"]
    assert bundle.metrics == parts["metrics"]
    assert bundle.dataset == parts["dataset"]
    assert set(bundle.weights) == set(parts["weights"])
    for name, array in parts["weights"].items():
        assert bundle.weights[name].tobytes() == array.tobytes()
        assert not bundle.weights[name].flags.writeable
    assert bundle.popularity.tolist() == parts["popularity"].tolist()
    everything = np.arange(bundle.n_items)
    assert bundle.ids.external(everything) == parts["ids"].external(everything)
    assert bundle.item_vectors.tobytes() == normalized(parts["weights"]["item_embedding"]).tobytes()


def test_manifest_and_file_names(tmp_path: Path) -> None:
    bundle = save_random(tmp_path / "bundle", n_items=60, embedding_dim=12, max_positions=5)
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["parameters"] == 60 * 12 + 5 * 12 + 4 * (12 * 12 + 12) + 2 * 12
    assert (manifest["n_items"], manifest["d"], manifest["format_version"]) == (60, 12, 3)
    assert manifest["versions"]["numpy"] == np.__version__
    assert set(manifest["versions"]) == {"mtaw_fast", "python", "numpy", "torch"}
    assert manifest["git_commit"] is None or len(manifest["git_commit"].removesuffix("-dirty")) == 40
    hashes = {entry["file"]: entry["sha256"] for entry in manifest["files"].values()}
    files = contents(tmp_path / "bundle")
    del files["manifest.json"]
    assert files == hashes
    for part, entry in manifest["files"].items():
        assert entry["file"] == f"{part}-{entry['sha256'][:16]}.safetensors"
        assert bundle.file(part) == tmp_path / "bundle" / entry["file"]
    assert bundle.file("encoder") is None


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_manifest_names_the_commit_of_a_checkout(tmp_path: Path) -> None:
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    commit = save_random(tmp_path / "bundle").manifest["git_commit"]
    assert commit is not None
    assert commit.removesuffix("-dirty") == head.strip()


def test_a_session_memory_comes_back(tmp_path: Path) -> None:
    parts = bundle_parts() | memory_parts()
    save_parts(tmp_path, **parts)
    bundle = Bundle.load(tmp_path)
    for part in ("memory", "ranker_net"):
        for name, array in parts[part].arrays().items():
            stored = getattr(bundle, part).arrays()[name]
            assert stored.tobytes() == array.tobytes()
            assert not stored.flags.writeable
    assert bundle.memory is not None
    assert bundle.memory.settings == parts["memory"].settings
    save_parts(tmp_path, **bundle_parts(), overwrite=True)
    assert Bundle.load(tmp_path).memory is None
    assert not list(tmp_path.glob("memory-*")) + list(tmp_path.glob("ranker-*"))


def test_half_a_session_memory_or_another_catalog_s_is_refused(tmp_path: Path) -> None:
    memory = memory_parts()
    for part, name in (("memory", "memory"), ("ranker_net", "ranker")):
        with pytest.raises(BundleError, match=f"a '{name}' without its"):
            save_parts(tmp_path / "half", **bundle_parts(), **{part: memory[part]})
    with pytest.raises(BundleError, match="memory is of 59 items, not 60"):
        save_parts(tmp_path / "other", **(bundle_parts() | memory_parts(n_items=59)))
    assert not (tmp_path / "half").exists()
    save_parts(tmp_path / "bundle", **(bundle_parts() | memory))
    edit_manifest(tmp_path / "bundle", lambda m: m["files"].pop("ranker"))
    assert "a 'memory' without its 'ranker'" in refused(tmp_path / "bundle")
    edit_manifest(tmp_path / "bundle", lambda m: m["files"].update(ranker=m["files"]["memory"]))
    assert "is not an array of this file" in refused(tmp_path / "bundle")


def test_an_existing_bundle_needs_overwrite(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    refuse_existing(folder)
    save_random(folder)
    before = contents(folder)
    for attempt in (lambda: refuse_existing(folder), lambda: save_random(folder, seed=1)):
        with pytest.raises(UsageError, match="already contains a bundle; pass --overwrite"):
            attempt()
    assert contents(folder) == before
    refuse_existing(folder, overwrite=True)


def test_overwriting_removes_old_files_and_leftovers_only(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    old = save_random(folder, seed=1)
    edit_manifest(folder, lambda m: m["files"].update(encoder={"file": "encoder-1.onnx", "sha256": "0"}))
    foreign = ["notes.txt", "weights.safetensors", "weights-mine.safetensors", "sub"]
    leftovers = [
        "encoder-1.onnx",
        "weights-0123456789abcdef.safetensors",
        ".items.safetensors.draft",
        "..weights.safetensors.draft.ab12.tmp",
        ".manifest.json.ab12.tmp",
    ]
    for name in [*foreign[:3], *leftovers]:
        (folder / name).write_text("x")
    (folder / "sub").mkdir()
    new = save_parts(folder, **bundle_parts(seed=2), overwrite=True)
    parts = {path.name for part in (*PARTS, *OPTIONAL_PARTS) if (path := new.file(part))}
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *foreign, *parts}
    # A reader of the old bundle keeps its maps after the files are removed.
    assert old.weights["item_embedding"].tobytes() == bundle_parts(seed=1)["weights"]["item_embedding"].tobytes()
    assert Bundle.load(folder).weights["norm_bias"].tobytes() == bundle_parts(seed=2)["weights"]["norm_bias"].tobytes()


def test_overwriting_repairs_a_damaged_bundle_and_keeps_other_folders(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    damaged = save_random(folder).file("weights")
    assert damaged is not None
    damaged.write_bytes(b"\0" * damaged.stat().st_size)
    save_parts(folder, **bundle_parts(), overwrite=True)
    Bundle.load(folder)
    (folder / "manifest.json").write_text("{")
    save_parts(folder, **bundle_parts(), overwrite=True)
    Bundle.load(folder)
    (folder / "manifest.json").write_text('{"format": "mtaw_fast dataset"}')
    with pytest.raises(UsageError, match="contains something other than a bundle"):
        save_parts(folder, **bundle_parts(), overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(UsageError, match="is a file; choose a folder"):
        save_parts(tmp_path / "file", **bundle_parts(), overwrite=True)
    with pytest.raises(BundleError, match="cannot make the folder"):
        save_parts(tmp_path / "file" / "bundle", **bundle_parts())


def test_two_writers(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    with bundle_lock(folder):
        with pytest.raises(BundleError, match="is being written by another process"):
            save_random(folder)
        assert list(folder.iterdir()) == []
    assert not folder.exists()
    save_random(folder)
    with bundle_lock(folder):
        Bundle.load(folder)
    assert folder.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p["weights"].pop("norm_bias"), r"'norm_bias' \(float32\[12\]\) is missing"),
        (lambda p: p["weights"].update(extra=np.zeros(1, np.float32)), "'extra' is not an array of this model"),
        (lambda p: p["weights"].update(recent=np.zeros(2, np.float32)), "'recent' is not an array of this model"),
        (lambda p: p["weights"].update(norm_bias=np.zeros(12)), r"must be float32\[12\], not float64\[12\]"),
        (lambda p: p["weights"].update(norm_bias=np.zeros(3, np.float32)), r"must be float32\[12\], not float32\[3\]"),
        (lambda p: p.update(ids=ItemIds.from_list(["a"])), r"must be float32\[1, 12\], not float32\[60, 12\]"),
        (lambda p: p.update(popularity=np.zeros(4, np.int64)), r"'popularity' must be int64\[60\]"),
        (lambda p: np.put(p["weights"]["item_embedding"], 77, np.nan), "'item_embedding' has a value that is not"),
        (lambda p: np.put(p["weights"]["ffn_in_bias"], 0, -np.inf), "'ffn_in_bias' has a value that is not finite"),
    ],
)
def test_arrays_that_do_not_fit_are_not_saved(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    parts = bundle_parts()
    change(parts)
    with pytest.raises(BundleError, match=message):
        save_parts(tmp_path / "bundle", **parts)
    assert list(tmp_path.iterdir()) == []
