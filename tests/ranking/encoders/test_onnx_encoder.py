"""The encoder `onnx`, beyond what `test_encoders` asks of every encoder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, MissingPackageError, UsageError
from mtaw_fast.install_command import install_command
from mtaw_fast.ranking.encoders import NumpyEncoder, make_encoder
from mtaw_fast.storage.files import sha256_of
from tests.random_bundle import bundle_parts, edit_manifest, save_parts, save_random

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402
from mtaw_fast.ranking.encoders import onnx_encoder  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
N, D = 200, 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("onnx") / "bundle"
    save_random(folder, n_items=N, d=D, max_len=30)
    export_onnx(folder, ["float32"])
    return Bundle.load(folder)


def drawn(count: int, n_items: int = N) -> Sessions:
    rng = np.random.default_rng(4)
    return Sessions.from_lists([rng.integers(0, n_items, length) for length in rng.integers(1, 40, count)])


def test_many_threads(bundle: Bundle) -> None:
    encoder, sessions = make_encoder("onnx", bundle), drawn(60)
    alone = encoder.encode(sessions).tobytes()
    with ThreadPoolExecutor(max_workers=8) as pool:
        assert all(one == alone for one in pool.map(lambda _: encoder.encode(sessions).tobytes(), range(40)))


def test_read_only_and_mapped_clicks(bundle: Bundle, tmp_path: Path) -> None:
    sessions = drawn(5)
    np.save(tmp_path / "items.npy", sessions.items)
    mapped = Sessions(np.load(tmp_path / "items.npy", mmap_mode="r"), sessions.offsets)
    encoder = make_encoder("onnx", bundle)
    assert encoder.encode(mapped).tobytes() == encoder.encode(sessions).tobytes()


def test_enlarged(bundle: Bundle) -> None:
    added = np.random.default_rng(1).standard_normal((3, D)).astype(np.float32)
    encoder, sessions = make_encoder("onnx", bundle), drawn(40, N + 3)
    larger = encoder.enlarged(added)
    expected = NumpyEncoder(bundle.config, bundle.weights).enlarged(added).encode(sessions)
    np.testing.assert_allclose(larger.encode(sessions), expected, rtol=0, atol=2e-6)
    # What needs none of the added items keeps its bits, and so does the encoder that was enlarged.
    old = drawn(40)
    assert larger.encode(old).tobytes() == encoder.encode(old).tobytes()
    assert larger.enlarged(added[:1]).encode(old).tobytes() == encoder.encode(old).tobytes()


def test_a_bundle_without_graphs(tmp_path: Path) -> None:
    bundle = save_random(tmp_path / "bundle", n_items=N, d=D)
    with pytest.raises(UsageError, match="encoder 'onnx': the bundle has no graph; add it with 'mtaw-fast export"):
        make_encoder("onnx", bundle)
    export_onnx(bundle.folder, ["int8"])  # the encoder is the float32 one
    with pytest.raises(UsageError, match="has no graph in float32; add it"):
        make_encoder("onnx", Bundle.load(bundle.folder))


@pytest.mark.parametrize("data", [b"", b"no graph", b"\x08\x08"])
def test_a_file_that_is_no_graph(bundle: Bundle, tmp_path: Path, data: bytes) -> None:
    broken = save_random(tmp_path / "bundle", n_items=N, d=D)
    path = tmp_path / "bundle" / "encoder-0.onnx"
    path.write_bytes(data)
    edit_manifest(broken.folder, lambda m: m["files"].update(encoder={"file": path.name, "sha256": sha256_of(path)}))
    with pytest.raises(BundleError, match=r"encoder-0.onnx .*; export it anew with 'mtaw-fast export") as caught:
        make_encoder("onnx", Bundle.load(broken.folder))
    assert "\n" not in str(caught.value)


def test_the_graph_of_another_model(bundle: Bundle, tmp_path: Path) -> None:
    other = save_parts(tmp_path / "bundle", **bundle_parts(n_items=N, d=D, max_len=30, seed=9))
    graph = bundle.file("encoder")
    assert graph is not None
    (other.folder / graph.name).write_bytes(graph.read_bytes())
    edit_manifest(other.folder, lambda m: m["files"].update(encoder={"file": graph.name, "sha256": sha256_of(graph)}))
    with pytest.raises(BundleError, match="was exported from another model than the bundle's; export it anew"):
        make_encoder("onnx", Bundle.load(other.folder))


def test_cuda_is_refused_where_there_is_none(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime itself goes on with the CPU where CUDA is missing or does not load."""
    monkeypatch.setattr(onnx_encoder.onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UsageError, match=r"'onnx-cuda': this ONNX Runtime has no CUDA; install 'mtaw-fast\[gpu\]'"):
        make_encoder("onnx-cuda", bundle)
    monkeypatch.setattr(onnx_encoder.onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    made = onnx_encoder.onnxruntime.InferenceSession

    def without_gpu(*arguments: Any, providers: list[Any]) -> Any:
        assert providers[0] == ("CUDAExecutionProvider", {"use_tf32": "0"})
        return made(*arguments, providers=providers[1:])

    monkeypatch.setattr(onnx_encoder.onnxruntime, "InferenceSession", without_gpu)
    with pytest.raises(UsageError, match="'onnx-cuda': ONNX Runtime found no usable GPU"):
        make_encoder("onnx-cuda", bundle)


def test_without_onnxruntime(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("cpu"))):
        make_encoder("onnx", bundle)


def test_serving_needs_onnxruntime_alone(bundle: Bundle) -> None:
    script = (
        "import json, sys\n"
        "from mtaw_fast import Recommender\n"
        "rec = Recommender.load(sys.argv[1], encoder='onnx')\n"
        "print(json.dumps([rec.recommend(['sku-3', 'sku-4'], k=3).items,"
        " [name for name in ('torch', 'onnx', 'polars', 'faiss') if name in sys.modules]]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(bundle.folder)],
        capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    items, loaded = json.loads(done.stdout)
    assert len(items) == 3
    assert loaded == []
