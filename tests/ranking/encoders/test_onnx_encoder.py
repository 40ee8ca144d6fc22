"""The encoder `onnx`, in addition to the tests of every encoder, and why it cannot run on CUDA."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.sessions import Sessions
from mtaw_fast.errors import BundleError, DataError, MissingPackageError, MtawError, UsageError
from mtaw_fast.errors.install import install_command
from mtaw_fast.ranking.encoders import make_encoder
from mtaw_fast.storage.files import sha256_of
from tests.support.random_bundle import bundle_parts, edit_manifest, save_parts, save_random
from tests.support.ranking.gpu_refusals import NO_CUDA_LIBRARIES, NO_DRIVER, PROVIDERS_THEN

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

import onnxruntime  # noqa: E402

from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402
from mtaw_fast.ranking.encoders import onnx_encoder  # noqa: E402
from mtaw_fast.ranking.encoders.onnx_encoder import OnnxEncoder  # noqa: E402

N, D = 200, 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("onnx") / "bundle"
    save_random(folder, n_items=N, embedding_dim=D, max_session_length=30)
    export_onnx(folder, ["float32"])
    return Bundle.load(folder)


def drawn(count: int, n_items: int = N) -> Sessions:
    rng = np.random.default_rng(4)
    return Sessions.from_lists([rng.integers(0, n_items, length) for length in rng.integers(1, 40, count)])


def test_a_bundle_without_graphs(tmp_path: Path) -> None:
    bundle = save_random(tmp_path / "bundle", n_items=N, embedding_dim=D)
    with pytest.raises(UsageError, match="encoder 'onnx': the bundle has no graph; add it with 'mtaw-fast export"):
        make_encoder("onnx", bundle)
    export_onnx(bundle.folder, ["int8"])  # the encoder is the float32 one
    with pytest.raises(UsageError, match="has no graph in float32; add it"):
        make_encoder("onnx", Bundle.load(bundle.folder))


@pytest.mark.parametrize("data", [b"", b"no graph", b"\x08\x08"])
def test_a_file_that_is_no_graph(bundle: Bundle, tmp_path: Path, data: bytes) -> None:
    broken = save_random(tmp_path / "bundle", n_items=N, embedding_dim=D)
    path = tmp_path / "bundle" / "encoder-0.onnx"
    path.write_bytes(data)
    edit_manifest(broken.folder, lambda m: m["files"].update(encoder={"file": path.name, "sha256": sha256_of(path)}))
    with pytest.raises(BundleError, match=r"encoder-0.onnx .*; export it again with 'mtaw-fast export") as caught:
        make_encoder("onnx", Bundle.load(broken.folder))
    assert "\n" not in str(caught.value)


def test_the_graph_of_another_model(bundle: Bundle, tmp_path: Path) -> None:
    other = save_parts(tmp_path / "bundle", **bundle_parts(n_items=N, embedding_dim=D, max_session_length=30, seed=9))
    graph = bundle.file("encoder")
    assert graph is not None
    (other.folder / graph.name).write_bytes(graph.read_bytes())
    edit_manifest(other.folder, lambda m: m["files"].update(encoder={"file": graph.name, "sha256": sha256_of(graph)}))
    with pytest.raises(BundleError, match="was exported from another model than the bundle's; export it again"):
        make_encoder("onnx", Bundle.load(other.folder))


class Runs:
    """A session that counts its runs by the shape of their clicks."""

    def __init__(self, session: Any, error: str = "") -> None:
        self.session, self.error, self.shapes = session, error, []

    def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.shapes.append(feeds["ids"].shape)
        if self.error:
            raise RuntimeError(self.error)
        return self.session.run(outputs, feeds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """With a realistic width: matrix products take more than one register."""
    folder = tmp_path_factory.mktemp("onnx-wide") / "bundle"
    save_random(folder, n_items=N, embedding_dim=100, max_session_length=60)
    export_onnx(folder, ["float32"], part="encoder")
    return Bundle.load(folder)


def test_a_batch_has_the_bits_of_single_runs(tmp_path: Path) -> None:
    """With many sessions of one length: a run of 64 at d = 32 would sum in another order than one alone."""
    save_random(tmp_path / "bundle", n_items=N, embedding_dim=32, max_session_length=60)
    export_onnx(tmp_path / "bundle", ["float32"], part="encoder")
    encoder = make_encoder("onnx", Bundle.load(tmp_path / "bundle"))
    rng = np.random.default_rng(2)
    sessions = Sessions.from_lists([rng.integers(0, N, length) for length in [10] * 64 + [1] * 33 + [90, 2, 60]])
    alone = np.concatenate([encoder.encode(sessions.slice(b, b + 1)) for b in range(len(sessions))])
    assert encoder.encode(sessions).tobytes() == alone.tobytes()


@pytest.mark.parametrize("added", [0, 7])
def test_on_a_gpu_a_batch_is_one_padded_run(wide: Bundle, added: int) -> None:
    """Run the same graph on the CPU instead of the GPU."""
    alone = make_encoder("onnx", wide)
    runs = Runs(alone._session)  # type: ignore[attr-defined]
    padded = OnnxEncoder("onnx-cuda:1", runs, wide.config, wide.weights["item_embedding"])
    if added:
        rows = np.random.default_rng(5).standard_normal((added, 100)).astype(np.float32)
        alone, padded = alone.extended(rows), padded.extended(rows)
    sessions = drawn(200, N + added)
    assert padded.name == "onnx-cuda:1"
    np.testing.assert_allclose(padded.encode(sessions), alone.encode(sessions), rtol=0, atol=2e-6)
    assert runs.shapes == [(200, 39)]
    for part in (sessions.slice(0, 1), sessions.slice(0, 0)):
        np.testing.assert_allclose(padded.encode(part), alone.encode(part), rtol=0, atol=2e-6)
    with pytest.raises(DataError):
        padded.encode(Sessions.from_lists([[1, 2], [N + added]]))
    with pytest.raises(UsageError, match="session 1 to encode has no clicks"):
        padded.encode(Sessions.from_lists([[1, 2], []]))


def test_a_gpu_that_fails_while_it_encodes(wide: Bundle) -> None:
    session = Runs(make_encoder("onnx", wide)._session, "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION :\n CUDA failure 2")  # type: ignore[attr-defined]
    padded = OnnxEncoder("onnx-cuda", session, wide.config, wide.weights["item_embedding"])
    with pytest.raises(MtawError) as caught:
        padded.encode(drawn(3))
    assert str(caught.value) == (
        "encoder 'onnx-cuda': the GPU failed ([ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : CUDA failure 2); check what "
        "else runs on it, then load again"
    )


def test_without_onnxruntime(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=re.escape(install_command("cpu"))):
        make_encoder("onnx", bundle)


class TestCudaRefusals:
    """ONNX Runtime itself continues on the CPU if CUDA is missing or does not load."""

    @pytest.fixture(autouse=True)
    def _has_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])

    @pytest.mark.parametrize("name", ["onnx-cuda", "onnx-cuda:1"])
    def test_a_package_without_cuda(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
        with pytest.raises(UsageError, match=rf"'{name}': this ONNX Runtime has no CUDA; install 'mtaw-fast\[gpu\]'"):
            make_encoder(name, bundle)

    @pytest.mark.parametrize(
        ("said", "remedy"),
        [
            (NO_DRIVER, "install NVIDIA's driver if there is a GPU, or use encoder 'native'"),
            (NO_CUDA_LIBRARIES, "install 'mtaw-fast[gpu]', which brings CUDA's libraries"),
        ],
    )
    def test_a_library_that_is_missing(
        self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, remedy: str,
        capfd: pytest.CaptureFixture[str],
    ) -> None:  # fmt: skip
        provider = tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
        provider.parent.mkdir(parents=True)
        provider.touch()

        def load(path: str) -> None:
            assert path == str(provider)
            raise OSError(said)

        monkeypatch.setattr(onnxruntime, "__file__", str(tmp_path / "onnxruntime" / "__init__.py"))
        monkeypatch.setattr(
            onnxruntime, "preload_dlls", lambda: print("Failed to load libcublasLt.so.13"), raising=False
        )
        monkeypatch.setattr(onnx_encoder.ctypes, "CDLL", load)
        with pytest.raises(UsageError) as caught:
            make_encoder("onnx-cuda", bundle)
        assert str(caught.value) == f"encoder 'onnx-cuda': ONNX Runtime's CUDA does not load ({said}); {remedy}"
        assert capfd.readouterr() == ("", "")

    def opened_by(self, monkeypatch: pytest.MonkeyPatch, outcome: Exception | None) -> list[Any]:
        """Replace a CUDA session; return the options that were requested."""
        real, requested = onnxruntime.InferenceSession, []

        def open_session(*arguments: Any, providers: list[Any], enable_fallback: int) -> Any:
            requested.append((providers, enable_fallback))
            if outcome is not None:
                raise outcome
            session = real(*arguments, providers=providers[1:])
            assert session.get_providers() == PROVIDERS_THEN
            return session

        monkeypatch.setattr(onnx_encoder, "_missing_library", lambda: None)
        monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
        return requested

    def test_it_goes_on_without(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        requested = self.opened_by(monkeypatch, None)
        with pytest.raises(UsageError, match="'onnx-cuda:3': ONNX Runtime found no usable GPU"):
            make_encoder("onnx-cuda:3", bundle)
        options = {"device_id": "3", "use_tf32": "0", "arena_extend_strategy": "kSameAsRequested"}
        assert requested == [([("CUDAExecutionProvider", options), "CPUExecutionProvider"], 0)]

    def test_a_gpu_that_cannot_be_used(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened_by(monkeypatch, RuntimeError("CUDA failure 101:\ninvalid device ordinal"))
        with pytest.raises(UsageError, match=r"'onnx-cuda:9': ONNX Runtime cannot use GPU 9 .CUDA failure 101"):
            make_encoder("onnx-cuda:9", bundle)
        self.opened_by(monkeypatch, RuntimeError("Protobuf parsing failed."))
        with pytest.raises(BundleError, match="Protobuf parsing failed"):
            make_encoder("onnx-cuda", bundle)

    def test_no_such_name(self, bundle: Bundle) -> None:
        for name in ("onnx-cuda:", "onnx-cuda:x", "onnx:1", "onnx-cuda1"):
            with pytest.raises(UsageError, match="there is no encoder"):
                make_encoder(name, bundle)
