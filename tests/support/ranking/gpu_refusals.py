"""The exact error messages of faiss-gpu and onnxruntime-gpu on a host without a card.

`python -m tests.gpu_extra` installs both and compares these with their messages; the stand-ins of the tests raise them.
 Recorded with faiss-gpu 1.15.1 and onnxruntime-gpu 1.31.1 on Linux, 2026-11-26.
"""

from __future__ import annotations

NO_GPUS = 0  # the result of faiss.get_num_gpus(); it does not raise


def invalid_device(device: int) -> str:
    """RuntimeError of faiss.GpuIndexFlatIP(resources, d, config) if config.device does not exist."""
    return (
        "Error in faiss::gpu::GpuIndex::GpuIndex(std::shared_ptr<faiss::gpu::GpuResources>, int, faiss::MetricType, "
        "float, faiss::gpu::GpuIndexConfig) at /project/faiss/gpu/GpuIndex.cu:65: Error: "
        f"'config_.device < getNumDevices()' failed: Invalid GPU device {device}"
    )


def out_of_memory(size: int) -> str:
    """RuntimeError of a failed allocation, from FAISS's StandardGpuResources.cpp; it needs a card."""
    return (
        "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const faiss::gpu::AllocRequest&) at "
        "/project/faiss/gpu/StandardGpuResources.cpp:530: Error: 'err == cudaSuccess' failed: StandardGpuResources: "
        f"alloc fail type FlatData dev 0 space Device stream 0x55d5a8e6f2a0 size {size} bytes (cudaMalloc error out of "
        "memory [2])\n"
    )


# OSError of loading libonnxruntime_providers_cuda.so, as ONNX Runtime does before it continues without CUDA: without
# the packages of CUDA 13, and with them but without NVIDIA's driver.
NO_CUDA_LIBRARIES = "libcublasLt.so.13: cannot open shared object file: No such file or directory"
NO_DRIVER = "libcuda.so.1: cannot open shared object file: No such file or directory"
PROVIDERS_THEN = ["CPUExecutionProvider"]  # of the session that it opens anyway
