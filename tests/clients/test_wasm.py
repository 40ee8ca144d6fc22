"""libmtaw as WebAssembly ranks as Python's portable instruction set does, to the bit (`make wasm`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.export.page import export_page
from tests.clients.compare import compare, complete_bundle
from tests.native.builds import NATIVE
from tests.support.cache import ROOT
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.timed_model import timed_model

WASM = ROOT / "clients" / "wasm"
COMMAND = ["node", str(ROOT / "tests" / "clients" / "ask.mjs"), str(WASM)]
pytestmark = pytest.mark.skipif(
    not (WASM / "dist" / "mtaw.wasm").exists(), reason="the WebAssembly module is not built: run 'make wasm'"
)


@pytest.mark.parametrize("kind", ["memory", "times", "page"])
def test_it_ranks_as_python_does(tmp_path: Path, kind: str) -> None:
    """The page's bundle has context and types too, and pairs without sessions."""
    bundle = tmp_path / "bundle"
    if kind == "memory":
        save_parts(bundle, **bundle_parts(n_items=3000), **memory_parts(3000))
    elif kind == "times":
        Bundle.save(bundle, timed_model(), metrics={}, dataset={"name": "x", "fingerprint": "y"})
    else:
        export_page(complete_bundle(tmp_path / "whole"), bundle)
    assert "all answers equal" in compare("WebAssembly", COMMAND, bundle, 200)


def test_a_damaged_bundle_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_parts(folder, **bundle_parts(n_items=50), **memory_parts(50))
    part = next(folder.glob("weights-*"))
    data = bytearray(part.read_bytes())
    data[-3] ^= 1
    part.write_bytes(data)
    completed = subprocess.run([*COMMAND, str(folder)], input="", capture_output=True, text=True, check=False)
    assert completed.returncode == 1
    (line,) = completed.stderr.splitlines()
    assert part.name in line
    assert "damaged" in line


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("em++") is None, reason="em++ is not installed: apt-get install emscripten")
def test_its_kernels_give_the_bits_of_the_portable_ones(tmp_path: Path) -> None:
    """On numbers of every size: sums in the middle of two floats, and those that are no normal number."""
    program = tmp_path / "check.js"
    memory = NATIVE / "memory"
    sources = (
        memory / "kernels_portable.cpp",
        memory / "kernels_wasm.cpp",
        ROOT / "tests/native/wasm_kernels_check.cpp",
    )
    flags = ("-std=c++20", "-O3", "-ffp-contract=off", "-msimd128", f"-I{NATIVE}")
    subprocess.run(["em++", *flags, "-c", *map(str, sources)], check=True, timeout=300, cwd=tmp_path)
    objects = [f"{source.stem}.o" for source in sources]
    subprocess.run(["em++", "-O1", *objects, "-o", str(program)], check=True, timeout=300, cwd=tmp_path)
    completed = subprocess.run(["node", str(program)], capture_output=True, text=True, check=False, timeout=120)
    assert completed.stdout == "0 failures\n", completed.stdout + completed.stderr
