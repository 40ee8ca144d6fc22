"""How ONNX Runtime is opened on CUDA, and why it cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.errors import BundleError, UsageError
from mtaw_fast.ranking.encoders import make_encoder
from tests.support.random_bundle import save_random
from tests.support.ranking.gpu_refusals import NO_CUDA_LIBRARIES, NO_DRIVER, PROVIDERS_THEN

for package, extra in (("torch", "train"), ("onnx", "train"), ("onnxruntime", "cpu")):
    pytest.importorskip(package, reason=f"{package} is not installed: pip install 'mtaw-fast[{extra}]'")

import onnxruntime  # noqa: E402

from mtaw_fast.export.onnx_model import export_onnx  # noqa: E402
from mtaw_fast.ranking.encoders import onnx_runtime  # noqa: E402

N, D = 200, 12


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("onnx") / "bundle"
    save_random(folder, n_items=N, embedding_dim=D, max_session_length=30)
    export_onnx(folder, ["float32"])
    return Bundle.load(folder)


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
        monkeypatch.setattr(onnx_runtime.ctypes, "CDLL", load)
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

        monkeypatch.setattr(onnx_runtime, "_missing_library", lambda: None)
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
