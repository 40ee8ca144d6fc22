"""The bundle's reader: damage, manifests and parts that it refuses, other formats."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.errors import BundleError
from mtaw_fast.system import host
from tests.support.random_bundle import edit_manifest, refused, replace_part, save_random


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
        (lambda m: m.update(format_version="1"), "has bundle format '1'"),
        (lambda m: m["files"].update(weights=None), "is damaged"),
        (lambda m: m.pop("metrics"), "is damaged"),
        (lambda m: m["files"].pop("catalog"), "names no 'catalog' file"),
        (
            lambda m: m["config"].update(hologram=1),
            "'hologram' is no group of settings; upgrade mtaw-fast or retrain the bundle",
        ),
        (lambda m: m["config"]["loss"].update(hologram=1), "there is no setting 'hologram' in loss; upgrade mtaw-fast"),
        (lambda m: m["config"]["model"].update(embedding_dim="100"), "setting embedding_dim must be a whole number"),
        (lambda m: m["config"]["model"].update(embedding_dim=13), "contradicts itself"),
        (lambda m: m.update(n_items=0), "contradicts itself"),
        (lambda m: m.update(n_items=61), r"'offsets' must be int64\[62\], not int64\[61\]"),
        (lambda m: m["files"]["items"].update(file="../x"), "is named by a path"),
        (lambda m: m["files"].update(extra={"file": "../x", "sha256": ""}), "is named by a path"),
        (lambda m: m["files"].update(extra={"file": "gone.onnx", "sha256": ""}), "gone.onnx is missing"),
        (lambda m: m["files"]["items"].update(file="manifest.json"), "is damaged"),
        (lambda m: m["files"]["items"].update(file="x" * 300), "cannot read .*: File name too long"),
        (lambda m: m["files"].update({"a\nb": {"file": "../x", "sha256": ""}}), "the 'a b' file is named by a path"),
        (
            lambda m: m["config"]["optimizer"].update(schedule=[10**40] * 2000),
            "schedule must be a text;",
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
    bundle = save_random(tmp_path)
    order = bundle.most_clicked
    for part, arrays, message in (
        ("weights", {**bundle.weights, "a\nb": np.zeros(3)}, "'a b' is not an array of this file"),
        (
            "weights",
            {**bundle.weights, "item_embedding": bundle.weights["item_embedding"].astype(np.float16)},
            "'item_embedding' must be float32[60, 12], not float16[60, 12]",
        ),
        ("catalog", {"catalog": np.zeros((60, 12))}, "'catalog' must be float32[60, 12], not float64[60, 12]"),
        ("catalog", {"x": np.zeros(1)}, "the array 'catalog' is missing"),
        ("catalog", {"catalog": np.full((60, 12), np.inf, np.float32)}, "the catalog has a value that is not finite"),
        ("popularity", {"popularity": bundle.popularity, "most_clicked": order[::-1].copy()}, "is not the order of"),
        ("items", ItemIds.from_list(["a", "b"]).arrays, "'offsets' must be int64[61], not int64[3]"),
    ):
        folder = tmp_path / f"bad-{len(list(tmp_path.iterdir()))}"
        save_random(folder)
        replace_part(folder, part, arrays)
        assert message in refused(folder)


def test_a_catalog_without_codes_must_be_finite(tmp_path: Path) -> None:
    """Codes are made of it, also without `verify`."""
    save_random(tmp_path)
    edit_manifest(tmp_path, lambda m: m["files"].pop("scan"))
    replace_part(tmp_path, "catalog", {"catalog": np.full((60, 12), np.nan, np.float32)})
    assert "the catalog has a value that is not finite" in refused(tmp_path, verify=False)


@pytest.mark.parametrize("replaced", [True, False])
def test_a_reader_tries_again_where_an_equal_bundle_took_the_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    """The manifest is equal, but the files of the first one are gone. Without a new one the bundle is damaged."""
    save_random(tmp_path)
    manifest, names, real = (tmp_path / "manifest.json").read_bytes(), [], host.open_file

    def open_file(path: Path, flags: int, mode: int = 0o777) -> int:
        names.append(path.name)
        if path.suffix == ".safetensors" and names.count("manifest.json") <= 2:
            if replaced:
                (tmp_path / "newer").write_bytes(manifest)
                (tmp_path / "newer").rename(tmp_path / "manifest.json")
            raise FileNotFoundError(errno.ENOENT, "gone")
        return real(path, flags, mode)

    monkeypatch.setattr(host, "open_file", open_file)
    if replaced:
        Bundle.load(tmp_path)
    else:
        assert "is missing" in refused(tmp_path)
    assert names.count("manifest.json") == (3 if replaced else 1)


def test_what_a_host_raises_comes_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_random(tmp_path)

    def open_file(path: Path, flags: int) -> int:
        raise KeyboardInterrupt("stop")

    monkeypatch.setattr(host, "open_file", open_file)
    with pytest.raises(KeyboardInterrupt, match="stop"):
        Bundle.load(tmp_path)


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
        ([b"a", b"b", b"c", b"e"], "the hash table does not belong to the ids"),
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


@pytest.mark.parametrize(("part", "message"), [("catalog", "another model than"), ("scan", "other vectors")])
@pytest.mark.parametrize("n_items", [60, 5000])
def test_parts_of_another_bundle(tmp_path: Path, part: str, message: str, n_items: int) -> None:
    save_random(tmp_path / "one", n_items=n_items, max_session_length=6)
    other = save_random(tmp_path / "other", n_items=n_items, max_session_length=6, seed=5)
    arrays = {"catalog": {"catalog": other.item_vectors}, "scan": dict(other.model.scan or {})}[part]
    replace_part(tmp_path / "one", part, arrays)
    assert message in refused(tmp_path / "one")
