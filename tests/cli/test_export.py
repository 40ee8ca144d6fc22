"""`mtaw-fast export --onnx`: the graphs in a bundle, and misuse as one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.cli import main
from tests.support.export.bundles import SETTINGS
from tests.support.random_bundle import save_random

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")


class TestCommand:
    def test_export_info_recommend(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "bundle"
        save_random(folder, **SETTINGS)
        assert main(["export", str(folder), "--onnx", "--variants", "float32,int8", "--json"]) == 0
        report = json.loads(capsys.readouterr().out)
        nothing = dict.fromkeys(("onnx", "recommender", "places_equal", "variants"))
        assert report == {**nothing, "graphs": Bundle.load(folder).manifest["onnx"]}
        assert main(["info", str(folder), "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)["onnx"]
        assert list(facts) == ["encoder", "encoder_int8", "recommender", "recommender_int8"]
        assert facts["encoder"]["overlap"] == 1
        assert (folder / facts["recommender_int8"]["file"]).stat().st_size == facts["recommender_int8"]["bytes"]
        assert main(["recommend", str(folder), "sku-7", "sku-9", "--encoder", "onnx", "-k", "5", "--json"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert main(["recommend", str(folder), "sku-7", "sku-9", "-k", "5", "--json"]) == 0
        expected = json.loads(capsys.readouterr().out)
        assert answer["items"] == expected["items"]
        assert answer["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        assert main(["export", str(folder), "--onnx", "--variants", "none", "--index", "auto"]) == 0
        first, second = capsys.readouterr().out.splitlines()
        assert first == "onnx: the bundle has no graphs now"
        assert second.startswith("index: 400 items need no index")

    def test_misuse(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = str(tmp_path / "bundle")
        save_random(tmp_path / "bundle", **SETTINGS)
        for arguments, words in (
            ([], "nothing to export; give --onnx, --index auto or --page FOLDER"),
            (["--onnx", "--megabytes", "5"], "--megabytes needs --page FOLDER"),
            (["--index", "auto", "--overwrite"], "--overwrite needs --page FOLDER"),
            (["--page", folder, "--megabytes", "-1"], "--megabytes -1.0 must be positive"),
            (["--page", folder, "--trend-neighbors", "0"], "--trend-neighbors 0 must be at least 1"),
            (["--page", folder], "is the bundle itself"),
            (["--variants", "int8", "--index", "auto"], "--variants needs --onnx"),
            (["--onnx", "--variants", "int7"], "there is no variant 'int7'"),
            (["--part", "encoder", "--index", "auto"], "--part needs --onnx"),
            (["--triton-repository", folder, "--index", "auto"], "--triton-repository needs --onnx"),
            (["--onnx", "--part", "encoder", "--triton-repository", folder], "needs the whole graph"),
            (["--onnx", "--variants", "int8", "--triton-repository", folder], "needs the float32 graph"),
        ):
            assert main(["export", folder, *arguments]) == 2
            assert words in capsys.readouterr().err
        with pytest.raises(SystemExit):
            main(["export", "--help"])
        text = capsys.readouterr().out
        assert "mtaw-fast export shop.bundle --onnx" in text
        assert "ranks as the Recommender does" in " ".join(text.split())
