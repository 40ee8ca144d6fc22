"""The machine of a figure: processor, memory, system, versions, checkout. Nothing identifies its owner or site."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

FLAGS = (
    "avx2", "fma", "avx512f", "avx512bw", "avx512_vnni", "avx512_bf16", "avx_vnni",
    "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
PACKAGES = (
    "mtaw-fast", "numpy", "safetensors", "torch", "triton", "faiss-cpu", "faiss-gpu", "onnxruntime",
    "onnxruntime-gpu", "polars", "scipy", "usearch", "hnswlib", "scalable-vs", "cut-cross-entropy", "liger-kernel",
)  # fmt: skip
_FEATURES = {  # instruction sets that decide how fast kernels can be, the best first
    "amx_bf16": "amx",
    "avx512_bf16": "avx512bf16",
    "avx512_vnni": "avx512vnni",
    "avx512f": "avx512",
    "avx2": "avx2",
    "sve2": "sve2",
    "i8mm": "i8mm",
    "asimddp": "dotprod",
}
_ROOT = Path(__file__).resolve().parents[2]


def commit_of(folder: Path = _ROOT, ignoring: str | None = None) -> str | None:
    """Return the commit of a checkout, with '-dirty' if files differ from it, but for those below `ignoring`.

    None without git, or before the first commit.
    """
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD")
    pathspec = () if ignoring is None else ("--", ".", f":(exclude){ignoring}")
    dirty = bool(commit and _git(folder, "status", "--porcelain", *pathspec))
    return f"{commit}{'-dirty' * dirty}" if commit else None


def _git(folder: Path, *arguments: str) -> str:
    try:
        result = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""


def machine_record() -> dict[str, Any]:
    """Return the machine as plain JSON values.

    cpu: model name; cpu_family, cpu_model: numbers that distinguish generations of the same name.
    flags: those of FLAGS that the processor has. cores: logical cores that this process may use. cache_kib: L2 and L3
    of one core. memory_gib: memory of the whole machine. load_average: that of the last minute (above 0 something else
    was running too). gpus: CUDA devices, if PyTorch is loaded. packages: installed versions of PACKAGES.
    """
    info = _cpu_info(Path("/proc/cpuinfo"))
    present = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "cpu": info.get("model name") or platform.processor() or platform.machine(),
        "cpu_family": info.get("cpu family"),
        "cpu_model": info.get("model"),
        "flags": [flag for flag in FLAGS if flag in present],
        "cores": usable_cores(),
        "cache_kib": _caches(Path("/sys/devices/system/cpu/cpu0/cache")),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "gpus": _gpus(),
        "os": platform.system(),
        "kernel": platform.release().split("-")[0],
        "arch": platform.machine(),
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": _versions(),
    }


def usable_cores() -> int:
    """Return how many logical cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def describe(record: dict[str, Any]) -> str:
    """Return one line for people: processor, cores, instruction sets, memory."""
    flags = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if flag in record["flags"]]
    numbers = f" family {record['cpu_family']} model {record['cpu_model']}" if record["cpu_family"] else ""
    gpus = f", {', '.join(record['gpus'])}" if record["gpus"] else ""
    return (
        f"{record['cpu']}{numbers}, {record['cores']} cores, {' '.join(flags) or record['arch']}, "
        f"{record['memory_gib']} GiB{gpus}, load {record['load_average']}"
    )


def machine_class(record: Mapping[str, Any]) -> str:
    """Return the machine's class: maker, family, model, best instructions, cores, GPUs. Figures compare within a class.

    It names a kind of machine, not one machine: 'amd-f26-m2-avx512bf16-2c'.
    """
    maker = "arm" if str(record["arch"]).startswith(("aarch", "arm")) else _plain(str(record["cpu"]).split()[0])
    numbers = [f"f{record['cpu_family']}", f"m{record['cpu_model']}"] if record["cpu_family"] else []
    best = next((name for flag, name in _FEATURES.items() if flag in record["flags"]), _plain(str(record["arch"])))
    gpus = [f"{len(record['gpus'])}x{_plain(record['gpus'][0])}"] if record["gpus"] else []
    return "-".join([maker, *numbers, best, f"{record['cores']}c", *gpus])


def _cpu_info(path: Path) -> dict[str, str]:
    """Return the first processor's block of /proc/cpuinfo; empty on a system without it."""
    if not path.exists():
        return {}
    first = path.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, colon, value in pairs if colon}


def _caches(folder: Path) -> dict[str, int]:
    sizes = {}
    for index in sorted(folder.glob("index*")):
        level, size = (index / "level").read_text().strip(), (index / "size").read_text().strip()
        if level in ("2", "3") and size.endswith("K"):
            sizes[f"L{level}"] = int(size[:-1])
    return sizes


def _gpus() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [str(torch.cuda.get_device_name(index)) for index in range(torch.cuda.device_count())]


def _versions() -> dict[str, str]:
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _plain(text: str) -> str:
    """Return the letters and digits, without '(R)' and the like."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"\((r|tm)\)", "", text.lower())) or "unknown"
