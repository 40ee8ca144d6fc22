"""Bundles: they load as they were saved, older formats load, and damage is refused."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle, bundle_lock, refuse_existing
from mtaw_fast.bundle.format import MEMORY_PARTS, OPTIONAL_PARTS, PARTS
from mtaw_fast.config import Config
from mtaw_fast.config.former_names import to_former
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.model.item_vectors import normalized
from mtaw_fast.model.model import most_clicked_first
from mtaw_fast.model.parameters import parameter_shapes
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.tensor_file import map_tensors
from tests.support.random_bundle import (
    bundle_parts,
    contents,
    edit_manifest,
    memory_parts,
    replace_part,
    save_as_format_1,
    save_parts,
    save_random,
)

ROOT = Path(__file__).parent.parent.parent


def refused(folder: Path, verify: bool = True) -> str:
    """Return the one-line message with which the folder is refused."""
    with pytest.raises(BundleError) as caught:
        Bundle.load(folder, verify=verify)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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
    named = {entry["file"]: entry["sha256"] for entry in manifest["files"].values()}
    found = contents(tmp_path / "bundle")
    del found["manifest.json"]
    assert found == named
    for part, entry in manifest["files"].items():
        assert entry["file"] == f"{part}-{entry['sha256'][:16]}.safetensors"
        assert bundle.file(part) == tmp_path / "bundle" / entry["file"]
    assert bundle.file("encoder") is None


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout")
def test_the_manifest_names_the_commit_of_a_checkout(tmp_path: Path) -> None:
    head = subprocess.run(["git", "-C", ROOT, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout
    named = save_random(tmp_path / "bundle").manifest["git_commit"]
    assert named is not None
    assert named.removesuffix("-dirty") == head.strip()


def test_a_session_memory_comes_back(tmp_path: Path) -> None:
    parts = bundle_parts() | memory_parts()
    save_parts(tmp_path, **parts)
    found = Bundle.load(tmp_path)
    for part in ("memory", "ranker_net"):
        for name, array in parts[part].arrays().items():
            kept = getattr(found, part).arrays()[name]
            assert kept.tobytes() == array.tobytes()
            assert not kept.flags.writeable
    assert found.memory is not None
    assert found.memory.settings == parts["memory"].settings
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
    assert "is not an array of a ranker" in refused(tmp_path / "bundle") or "is missing" in refused(tmp_path / "bundle")


def test_normalized_rows() -> None:
    rows = np.random.default_rng(0).standard_normal((70_000, 3)).astype(np.float32)
    rows[5] = 0
    rows[6] = [1e-40, 0, 0]
    rows[7] = [3e38, 3e38, 3e38]
    wide = rows.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(1))
    expected = np.divide(wide, lengths[:, None], where=lengths[:, None] > 0, out=np.zeros_like(wide))
    out = normalized(rows)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, expected, rtol=1e-7, atol=0)
    assert out[5].tolist() == [0, 0, 0]


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


@pytest.mark.parametrize("part", [*PARTS, *OPTIONAL_PARTS, *MEMORY_PARTS])
def test_one_flipped_byte_is_refused(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "bundle"
    path = save_parts(folder, **(bundle_parts() | memory_parts())).file(part)
    assert path is not None
    data = bytearray(path.read_bytes())
    data[-4 if part != "ranker" else len(data) // 2] ^= 1  # a ranker ends in names, which are always read
    path.write_bytes(data)
    assert f"{path} is damaged (its SHA-256 differs); restore it" in refused(folder)
    Bundle.load(folder, verify=False)  # without checking the hashes


@pytest.mark.parametrize("verify", [True, False])
def test_missing_and_truncated_files_are_refused(tmp_path: Path, verify: bool) -> None:
    folder = tmp_path / "bundle"
    path = save_random(folder).file("catalog")
    assert path is not None
    whole = path.read_bytes()
    path.write_bytes(whole[:-9])
    assert str(path) in refused(folder, verify)
    path.unlink()
    assert f"{path} is missing; restore it" in refused(folder, verify)


def test_not_a_bundle(tmp_path: Path) -> None:
    assert "is " in refused(tmp_path / "nowhere")
    assert "does not exist" in refused(tmp_path)
    for text in ("", "{", "[]", "null", '{"format": "other"}', "\xff"):
        (tmp_path / "manifest.json").write_text(text, encoding="latin-1")
        refused(tmp_path)
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    refused(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(format_version=4), "has bundle format 4, this release reads 1, 2 and 3; upgrade mtaw-fast"),
        (lambda m: m.update(format_version="1"), "has bundle format '1'"),
        (lambda m: m.pop("files"), "is damaged"),
        (lambda m: m.update(files=[]), "is damaged"),
        (lambda m: m["files"].update(weights=None), "is damaged"),
        (lambda m: m["files"]["weights"].pop("sha256"), "is damaged"),
        (lambda m: m.pop("metrics"), "is damaged"),
        (lambda m: m.update(config=3), "is damaged"),
        (lambda m: m["files"].pop("catalog"), "names no 'catalog' file"),
        (lambda m: m["config"].update(hologram=1), "there is no setting 'hologram'"),
        (lambda m: m["config"].update(d="100"), "setting embedding_dim must be int"),
        (lambda m: m["config"].update(d=13), "contradicts itself"),
        (lambda m: m.update(n_items=0), "contradicts itself"),
        (lambda m: m.update(n_items=61), r"'item_embedding' must be float32\[61, 12\]"),
        (lambda m: m["files"]["items"].update(file="../x"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file="sub/x"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file="/etc/passwd"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file="a..b"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file=".hidden"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file="a\\b"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file="items\n"), "is named by a path"),
        (lambda m: m["files"]["items"].update(file=["x"]), "is named by a path"),
        (lambda m: m["files"].update(extra={"file": "../x", "sha256": ""}), "is named by a path"),
        (lambda m: m["files"].update(extra={"file": "gone.onnx", "sha256": ""}), "gone.onnx is missing"),
        (lambda m: m["files"]["items"].update(file="manifest.json"), "is damaged"),
        (lambda m: m["files"]["items"].update(file="x" * 300), "cannot read .*: File name too long"),
        (lambda m: m["files"].update({"a\nb": {"file": "../x", "sha256": ""}}), r"the 'a\\nb' file is named by a path"),
        (lambda m: m["config"].update(schedule=[10**40] * 2000), r"schedule must be str, not \[10+, .*\.\.\.;"),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    save_random(tmp_path)
    edit_manifest(tmp_path, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_number_too_long_to_read(tmp_path: Path) -> None:
    save_random(tmp_path)
    text = (tmp_path / "manifest.json").read_text().replace('"d": 12', '"d": ' + "9" * 5000, 1)
    (tmp_path / "manifest.json").write_text(text)
    assert "is not readable JSON" in refused(tmp_path)


def test_wrong_parts_are_refused(tmp_path: Path) -> None:
    bundle = save_random(tmp_path / "good")

    def with_part(part: str, arrays: dict[str, np.ndarray]) -> Path:
        folder = tmp_path / f"bad-{len(list(tmp_path.iterdir()))}"
        save_random(folder)
        replace_part(folder, part, arrays)
        return folder

    weights = {name: array.copy() for name, array in bundle.weights.items()}
    weights["norm_bias"][3] = np.nan
    spoilt = with_part("weights", weights)
    assert "'norm_bias' has a value that is not finite" in refused(spoilt)
    del weights["norm_bias"]
    assert "is missing" in refused(with_part("weights", weights))
    assert "'a\\nb' is not an array of this model" in refused(
        with_part("weights", {**weights, "a\nb": weights["norm_weight"]})
    )
    assert "'catalog' must be float32[60, 12]" in refused(with_part("catalog", {"catalog": np.zeros((60, 12))}))
    assert "'catalog' (float32[60, 12]) is missing" in refused(with_part("catalog", {"x": np.zeros(1)}))
    infinite = np.full((60, 12), np.inf, dtype=np.float32)
    assert "'catalog' has a value" in refused(with_part("catalog", {"catalog": infinite}))
    assert "'popularity' must be int64[60]" in refused(with_part("popularity", {"popularity": np.zeros(60, np.int32)}))
    clicks, order = bundle.popularity, bundle.most_clicked
    for lie in (order[::-1].copy(), np.zeros_like(order), np.where(order == 5, 60, order), np.full_like(order, -1)):
        lying = with_part("popularity", {"popularity": clicks, "most_clicked": lie.astype(np.int32)})
        assert "'most_clicked' is not the order of 'popularity'" in refused(lying)
    assert "'most_clicked' must be int32[60]" in refused(
        with_part("popularity", {"popularity": clicks, "most_clicked": order[1:]})
    )
    assert bundle.scan is not None
    few_blocks = {"blocks": bundle.scan["blocks"][1:], "summary": bundle.scan["summary"]}
    assert "'blocks' of the quantized catalog must be uint8[4, 4, 64]" in refused(with_part("scan", few_blocks))
    assert "not an item id table" in refused(with_part("items", {"x": np.zeros(1)}))
    few = ItemIds.from_list(["a", "b"])
    assert "has 2 item ids for 60 items" in refused(with_part("items", few.arrays))


def test_a_catalog_that_cannot_be_scanned(tmp_path: Path) -> None:
    """Without `verify` only the quantization at load finds values that are not finite."""
    save_as_format_1(tmp_path)
    replace_part(tmp_path, "catalog", {"catalog": np.full((60, 12), np.nan, np.float32)})
    with pytest.raises(BundleError, match=r"the bundle's catalog cannot be quantized: .* not finite"):
        Recommender.load(tmp_path, verify=False)


@pytest.mark.parametrize("text", [True, False])
def test_bundles_of_format_1_are_read(tmp_path: Path, text: bool) -> None:
    """No scan part, no order of popularity, text ids by sorted BLAKE2b hashes."""
    new = save_as_format_1(tmp_path, text=text)
    old = Bundle.load(tmp_path)
    assert old.scan is None
    assert old.most_clicked.tolist() == new.most_clicked.tolist()
    everything = np.arange(60)
    assert old.ids.external(everything) == new.ids.external(everything)
    assert old.ids.lookup(new.ids.external(everything)).tolist() == everything.tolist()


def test_bundles_of_format_2_are_read(tmp_path: Path) -> None:
    """Flat settings and the array `neighbours`, with their former names."""  # prose: ignore
    new = save_parts(tmp_path, **bundle_parts(recent_weight=1.5, train_step="cuda-graph", window=7), **memory_parts())
    flat = {name: value for group in new.config.as_dict().values() for name, value in group.items()}
    former = to_former(flat)
    assert (former["d"], former["recent"], former["step"]) == (12, 1.5, "graph")
    edit_manifest(tmp_path, lambda m: m.update(format_version=2, config=former))
    path = new.file("memory")
    assert path is not None
    arrays = map_tensors(path)
    replace_part(tmp_path, "memory", {"neighbours": arrays.pop("neighbors"), **arrays})  # prose: ignore
    old = Bundle.load(tmp_path)
    assert old.config == new.config
    assert old.memory is not None
    assert new.memory is not None
    assert [array.tobytes() for array in old.memory.arrays().values()] == [
        array.tobytes() for array in new.memory.arrays().values()
    ]


def test_the_most_clicked_come_first() -> None:
    clicks = np.array([3, 9, 0, 9, 3, 10**12])
    assert most_clicked_first(clicks).tolist() == [5, 1, 3, 0, 4, 2]


def test_files_are_plain_safetensors(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    path = save_random(tmp_path).file("weights")
    assert path is not None
    assert {name: array.shape for name, array in load_file(path).items()} == parameter_shapes(
        Config.of(embedding_dim=12), 60
    )
    assert set(map_tensors(path)) == set(load_file(path))
