"""The extra `gpu` as pip installs it, on a host without a GPU: real imports, real refusals, and its CPU paths.

By hand: python -m tests.gpu_extra [--venv FOLDER]. It makes a virtual environment of its own, since the packages
overwrite those of the extra `cpu`, and downloads some 2 GB into it. The checkout and its native module are used as they
are here; this environment makes the bundle, so it needs the extras `train` and `cpu`.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import importlib.util
import io
import logging
import subprocess
import sys
import tempfile
import tomllib
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.ranking.gpu_refusals import NO_CUDA_LIBRARIES, NO_DRIVER, NO_GPUS, PROVIDERS_THEN, invalid_device

ROOT = Path(__file__).resolve().parent.parent
NATIVE = "mtaw_fast.kernels.native._native"
NO_GPU_LINE = "index '{}': FAISS sees no GPU; install 'mtaw-fast[gpu]' on a host with a GPU"
NO_CUDA_LINE = (
    f"encoder '{{}}': ONNX Runtime's CUDA does not load ({NO_DRIVER}); install NVIDIA's driver if there is a GPU, "
    "or use encoder 'native'"
)


def main() -> int:
    """Install the extra, then check it from inside; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--venv", type=Path, default=ROOT / "runs" / "gpu-extra", metavar="FOLDER", help="kept")
    parser.add_argument("--inside", nargs=2, metavar=("BUNDLE", "NATIVE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside is not None:
        return check(Path(options.inside[0]), options.inside[1])
    python = install(options.venv)
    with tempfile.TemporaryDirectory(prefix="mtaw-gpu-extra-") as folder:
        save_bundle(Path(folder) / "bundle")
        spec = importlib.util.find_spec(NATIVE)
        assert spec is not None
        assert spec.origin is not None
        command = [python, "-m", "tests.gpu_extra", "--inside", str(Path(folder) / "bundle"), spec.origin]
        return subprocess.run(command, cwd=ROOT, check=False).returncode


def install(folder: Path) -> str:
    """The interpreter of an environment with numpy and the extra, as pyproject.toml names them and nothing else."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if not (folder / "bin" / "python").exists():
        venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    wanted = [*project["dependencies"], *project["optional-dependencies"]["gpu"]]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def save_bundle(folder: Path) -> None:
    from mtaw_fast.export.onnx_model import export_onnx
    from tests.support.random_bundle import save_random

    save_random(folder, n_items=60, embedding_dim=12, max_session_length=20)
    export_onnx(folder, ["float32"], part="encoder")


def load_native(path: str) -> None:
    """Put the checkout's native module where `mtaw_fast` looks for it; this environment has no build of its own."""
    spec = importlib.util.spec_from_file_location(NATIVE, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    sys.modules[NATIVE] = module


def check(bundle: Path, native: str) -> int:
    """Every check, within the environment of the extra."""
    load_native(native)
    import mtaw_fast

    early = {"faiss", "onnxruntime", "triton"} & set(sys.modules)
    assert not early, f"import mtaw_fast brings {early}"
    assert mtaw_fast.__version__
    import faiss
    import onnxruntime
    import triton

    print(f"faiss-gpu {faiss.__version__}, onnxruntime-gpu {onnxruntime.__version__}, triton {triton.__version__}")
    if faiss.get_num_gpus() > 0:
        print("there is a GPU here: run python -m bench.gpu")
        return 0
    # The first is about what is loaded so far, so the order matters.
    checks: tuple[Callable[[Path], None], ...] = (
        onnxruntime_says, faiss_says, indexes_refuse, encoders_refuse, the_cpu_paths_serve,
    )  # fmt: skip
    for work in checks:
        work(bundle)
        print(f"ok  {(work.__doc__ or work.__name__).splitlines()[0]}", flush=True)
    return 0


def onnxruntime_says(bundle: Path) -> None:
    """onnxruntime-gpu without a driver: the recorded messages, with and without CUDA's libraries, and it continues."""
    import onnxruntime

    assert "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    provider = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
    equal(NO_CUDA_LIBRARIES, message_of(OSError, lambda: ctypes.CDLL(str(provider))))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        onnxruntime.preload_dlls()
    equal("", printed.getvalue())  # the extra brings all that it looks for
    equal(NO_DRIVER, message_of(OSError, lambda: ctypes.CDLL(str(provider))))
    graph = next(bundle.glob("encoder-*.onnx"))
    onnxruntime.set_default_logger_severity(4)
    session = onnxruntime.InferenceSession(graph, providers=["CUDAExecutionProvider", "CPUExecutionProvider"])
    onnxruntime.set_default_logger_severity(2)
    equal(PROVIDERS_THEN, session.get_providers())


def faiss_says(bundle: Path) -> None:
    """faiss-gpu without a card: the recorded words, the calls that the index makes, no word on memory."""
    import faiss

    from mtaw_fast.ranking.retrieval.faiss_gpu import free_bytes

    equal(NO_GPUS, faiss.get_num_gpus())
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(64 << 20)
    resources.setPinnedMemory(0)
    for device in (0, 1):
        config = faiss.GpuIndexFlatConfig()
        assert {"device", "use_cuvs", "useFloat16"} <= set(dir(config))
        config.device, config.use_cuvs, config.useFloat16 = device, False, False
        equal(
            invalid_device(device),
            message_of(RuntimeError, lambda config=config: faiss.GpuIndexFlatIP(resources, 8, config)),
        )
    equal(None, free_bytes(0))


def indexes_refuse(bundle: Path) -> None:
    """index="faiss-gpu" and "faiss-gpu:1" are one line each; auto uses the CPU without a message."""
    import numpy as np

    from mtaw_fast import Recommender
    from mtaw_fast.errors import UsageError
    from mtaw_fast.ranking import retrieval
    from mtaw_fast.ranking.retrieval import faiss_gpu as gpu

    for name in ("faiss-gpu", "faiss-gpu:1"):
        equal(NO_GPU_LINE.format(name), message_of(UsageError, lambda name=name: Recommender.load(bundle, index=name)))
    rows = np.eye(8, dtype=np.float32)
    device_of, gpu.device_of = gpu.device_of, lambda _: 1  # type: ignore[assignment]
    try:
        line = message_of(UsageError, lambda: gpu.FaissGpuIndex(rows, retrieval.NumpyIndex(rows), "faiss-gpu:1"))
    finally:
        gpu.device_of = device_of
    equal("index 'faiss-gpu:1': FAISS cannot use GPU 1 (Invalid GPU device 1); use index 'native'", line)
    log = io.StringIO()
    logging.getLogger("mtaw_fast").addHandler(logging.StreamHandler(log))
    exact_items, retrieval.EXACT_ITEMS = retrieval.EXACT_ITEMS, 4
    try:
        equal("native", retrieval.make_index("auto", rows).name)
    finally:
        retrieval.EXACT_ITEMS = exact_items
    equal("", log.getvalue())


def encoders_refuse(bundle: Path) -> None:
    """encoder="onnx-cuda" and "onnx-cuda:1" are one line each, with the loader's own words."""
    from mtaw_fast import Recommender
    from mtaw_fast.errors import UsageError

    for name in ("onnx-cuda", "onnx-cuda:1"):
        equal(
            NO_CUDA_LINE.format(name), message_of(UsageError, lambda name=name: Recommender.load(bundle, encoder=name))
        )


def the_cpu_paths_serve(bundle: Path) -> None:
    """faiss-gpu's and onnxruntime-gpu's CPU paths rank as the engine does."""
    from mtaw_fast import Recommender

    sessions = [["sku-3"], ["sku-3", "sku-40", "sku-3"], ["sku-1", "sku-2", "sku-9", "sku-17"]]
    engine = Recommender.load(bundle)
    ways: list[dict[str, Any]] = [
        {"index": "faiss-flat"},
        {"encoder": "onnx"},
        {"index": "faiss-flat", "encoder": "onnx"},
    ]
    for options in ways:
        other = Recommender.load(bundle, **options)
        equal(
            [engine.recommend(session, k=9).items for session in sessions],
            [out.items for out in other.recommend_batch(sessions, k=9)],
        )


def message_of(kind: type[Exception], call: Callable[[], Any]) -> str:
    """The message that a call raises."""
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"no {kind.__name__}")


def equal(wanted: object, found: object) -> None:
    assert wanted == found, f"\nwanted {wanted!r}\nfound  {found!r}"


if __name__ == "__main__":
    sys.exit(main())
