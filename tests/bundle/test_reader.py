"""The bundle's reader: damage, manifests and parts that it refuses, other formats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.bundle import reader as bundle_reader
from mtaw_fast.bundle.format import MEMORY_PARTS, OPTIONAL_PARTS, PARTS
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.files import write_bytes
from tests.support.random_bundle import (
    bundle_parts,
    edit_manifest,
    memory_parts,
    refused,
    replace_part,
    save_parts,
    save_random,
)


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
    data = path.read_bytes()
    path.write_bytes(data[:-9])
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
        (
            lambda m: m.update(format_version=5),
            "has bundle format 5, this release reads 3 and 4; upgrade mtaw-fast or ",
        ),
        (lambda m: m.update(format_version=2), "has bundle format 2, .* or retrain the bundle"),
        (lambda m: m.update(format_version="1"), "has bundle format '1'"),
        (lambda m: m.pop("files"), "is damaged"),
        (lambda m: m.update(files=[]), "is damaged"),
        (lambda m: m["files"].update(weights=None), "is damaged"),
        (lambda m: m["files"]["weights"].pop("sha256"), "is damaged"),
        (lambda m: m.pop("metrics"), "is damaged"),
        (lambda m: m.update(config=3), "is damaged"),
        (lambda m: m["files"].pop("catalog"), "names no 'catalog' file"),
        (
            lambda m: m["config"].update(hologram=1),
            "{'hologram': 1} is no group of settings; the groups are model, loss",
        ),
        (lambda m: m["config"]["loss"].update(hologram=1), "there is no setting 'hologram'; loss has gamma"),
        (lambda m: m["config"]["model"].update(embedding_dim="100"), "setting embedding_dim must be int"),
        (lambda m: m["config"]["model"].update(embedding_dim=13), "contradicts itself"),
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
        (
            lambda m: m["config"]["optimizer"].update(schedule=[10**40] * 2000),
            r"schedule must be str, not \[10+, .*\.\.\.;",
        ),
    ],
)
def test_wrong_manifests_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str) -> None:
    save_random(tmp_path)
    edit_manifest(tmp_path, change)
    with pytest.raises(BundleError, match=message) as caught:
        Bundle.load(tmp_path)
    assert "\n" not in str(caught.value)


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
    save_random(tmp_path)
    edit_manifest(tmp_path, lambda m: m["files"].pop("scan"))
    replace_part(tmp_path, "catalog", {"catalog": np.full((60, 12), np.nan, np.float32)})
    with pytest.raises(BundleError, match=r"the bundle's catalog cannot be quantized: .* not finite"):
        Recommender.load(tmp_path, verify=False)


def test_a_reader_tries_again_where_an_equal_bundle_took_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest is equal, but the files of the first one are gone."""
    save_random(tmp_path / "bundle")
    real, calls = bundle_reader._read_model, 0

    def read_model(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= 2:
            manifest = (tmp_path / "bundle" / "manifest.json").read_bytes()
            write_bytes(tmp_path / "bundle" / "manifest.json", manifest)
            raise BundleError("a file of the bundle before is gone")
        return real(*arguments)

    monkeypatch.setattr(bundle_reader, "_read_model", read_model)
    Bundle.load(tmp_path / "bundle")
    assert calls == 3


def test_a_damaged_bundle_that_nobody_replaces_is_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_random(tmp_path / "bundle")
    calls: list[int] = []

    def read_model(*_: Any) -> Any:
        calls.append(1)
        raise BundleError("damaged")

    monkeypatch.setattr(bundle_reader, "_read_model", read_model)
    with pytest.raises(BundleError, match="damaged"):
        Bundle.load(tmp_path / "bundle")
    assert len(calls) == 1


# Damage that hashes do not show: every file has the hash of its manifest.


def ids_with(folder: Path, texts: list[bytes]) -> None:
    """Replace the ids of the bundle of 4 items by these bytes, with a hash table."""
    blob = np.frombuffer(b"".join(texts), np.uint8)
    offsets = np.cumsum([0, *map(len, texts)])
    slots = ItemIds.from_list(["a", "b", "c", "d"]).arrays["slots"]
    replace_part(folder, "items", {"blob": blob, "offsets": offsets, "slots": slots})


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([b"sku-1", b"\xff\xfe", b"c", b"d"], "is not UTF-8"),
        ([b"a\xc3", b"\xbc", b"c", b"d"], "is not UTF-8"),  # one character in two ids: the bytes as a whole are UTF-8
        ([b"a", b"b", b"b", b"d"], "an id occurs twice"),
        ([b"a", b"b", b"c", b"e"], "the hash table does not belong to the item ids"),
    ],
)
def test_texts_that_are_no_ids(tmp_path: Path, texts: list[bytes], message: str) -> None:
    save_random(tmp_path, n_items=4, max_session_length=6)
    ids_with(tmp_path, texts)
    assert message in refused(tmp_path)
    assert Bundle.load(tmp_path, verify=False).n_items == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"values": [7, 9, 9, 1], "sorted": [1, 7, 9, 9], "order": [3, 0, 1, 2]},
        {"values": [7, 9, 8, 1], "sorted": [1, 7, 8, 9], "order": [3, 1, 2, 0]},
        {"values": [7, 9, 8, 1], "sorted": [9, 8, 7, 1], "order": [1, 2, 0, 3]},
    ],
)
def test_numbers_that_are_no_ids(tmp_path: Path, changes: dict[str, Any]) -> None:
    save_random(tmp_path, n_items=4, max_session_length=6, text=False)
    arrays = {name: np.array(values, np.int64) for name, values in changes.items()}
    replace_part(tmp_path, "items", {**arrays, "order": arrays["order"].astype(np.int32)})
    assert "occurs twice or is not where it should be" in refused(tmp_path)


@pytest.mark.parametrize("name", ["w1", "b2", "mean", "scale", "bias"])
def test_ranker_numbers_that_are_not_finite(tmp_path: Path, name: str) -> None:
    saved = save_parts(tmp_path, **bundle_parts(n_items=20, max_session_length=6), **memory_parts(20))
    assert saved.model.ranker_net is not None
    arrays = {key: array.copy() for key, array in saved.model.ranker_net.arrays().items()}
    arrays[name].flat[-1] = np.inf
    names = np.frombuffer("\n".join(saved.model.ranker_net.features).encode(), np.uint8)
    replace_part(tmp_path, "ranker", {**arrays, "features": names})
    assert f"ranker: {name} has a value that is not finite" in refused(tmp_path)


@pytest.mark.parametrize(("part", "message"), [("catalog", "another model than"), ("scan", "other vectors")])
@pytest.mark.parametrize("n_items", [60, 5000])
def test_parts_of_another_bundle(tmp_path: Path, part: str, message: str, n_items: int) -> None:
    save_random(tmp_path / "one", n_items=n_items, max_session_length=6)
    other = save_random(tmp_path / "other", n_items=n_items, max_session_length=6, seed=5)
    arrays = {"catalog": {"catalog": other.item_vectors}, "scan": dict(other.model.scan or {})}[part]
    replace_part(tmp_path / "one", part, arrays)
    assert message in refused(tmp_path / "one")
