"""libmtaw as WebAssembly ranks as Python's portable instruction set does, to the bit (`make wasm`)."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mtaw_fast.bundle import Bundle
from mtaw_fast.data.item_ids import ItemIds
from mtaw_fast.export.page import export_page
from mtaw_fast.recommender import Recommender
from tests.native.builds import NATIVE
from tests.support.cache import ROOT
from tests.support.random_bundle import bundle_parts, memory_parts, save_parts
from tests.support.ranking.timed_model import END, timed_model
from tests.support.ranking.typed_model import typed_model

WASM = ROOT / "clients" / "wasm"
SESSIONS = 200
PYTHON = """
import json, sys
from mtaw_fast import Recommender
rec = Recommender.load(sys.argv[1])
for line in sys.stdin:
    asked = json.loads(line)
    answer = rec.recommend(asked["session"], k=20, types=asked["types"], at=int(sys.argv[2]))
    print(json.dumps({"items": list(answer.items), "scores": [float(one) for one in answer.scores]}))
"""

pytestmark = pytest.mark.skipif(
    not (WASM / "dist" / "mtaw.wasm").exists(), reason="the WebAssembly module is not built: run 'make wasm'"
)


@pytest.mark.parametrize("kind", ["memory", "times", "page"])
def test_it_ranks_as_python_does(tmp_path: Path, kind: str) -> None:
    """The page's bundle has context and types too, and makes its tables itself."""
    if kind != "memory":
        model = timed_model() if kind == "times" else typed_model()
        Bundle.save(tmp_path / "bundle", model, metrics={}, dataset={"name": "x", "fingerprint": "y"})
        if kind == "page":
            (tmp_path / "bundle").rename(tmp_path / "whole")
            export_page(tmp_path / "whole", tmp_path / "bundle")
        n_items = model.n_items
    else:
        n_items = 3000
        save_parts(tmp_path / "bundle", **bundle_parts(n_items=n_items), **memory_parts(n_items))
    draw = random.Random(0)
    sessions = [[f"sku-{draw.randrange(n_items + 5)}" for _ in range(draw.randint(0, 40))] for _ in range(SESSIONS)]
    kinds = [*(Recommender.load(tmp_path / "bundle").click_types or ["view"]), None, "never-seen"]
    lines = [{"session": session, "types": [draw.choice(kinds) for _ in session]} for session in sessions]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    portable = {"env": {"MTAW_ISA": "portable", "PATH": "/usr/bin:/usr/local/bin"}}
    arguments = [str(tmp_path / "bundle"), str(END)]
    expected = _lines([sys.executable, "-c", PYTHON, *arguments], text, **portable)
    answers = _lines(["node", str(WASM / "rank.mjs"), *arguments], text)
    assert [answer["items"] for answer in answers] == [answer["items"] for answer in expected]
    assert [answer["scores"] for answer in answers] == [answer["scores"] for answer in expected]


def test_a_damaged_bundle_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    save_parts(folder, **bundle_parts(n_items=50), **memory_parts(50))
    part = next(folder.glob("weights-*"))
    data = bytearray(part.read_bytes())
    data[-3] ^= 1
    part.write_bytes(data)
    completed = subprocess.run(
        ["node", str(WASM / "rank.mjs"), str(folder)], input="", capture_output=True, text=True, check=False
    )
    assert completed.returncode == 1
    (line,) = completed.stderr.splitlines()
    assert part.name in line
    assert "damaged" in line


def test_wrong_numbers_and_ids_are_refused(tmp_path: Path) -> None:
    parts = bundle_parts(n_items=8)
    parts["ids"] = ItemIds.from_list([f"é-{i}" if i % 2 else f"a\0é-{i}" for i in range(8)])
    save_parts(tmp_path / "bundle", **parts)
    numbers = [2**60 + 1, 2**60 + 2, -(2**63), 2**63 - 1, -5, 5, 2**32, 2**53 + 1]
    save_parts(tmp_path / "numbers", **bundle_parts(n_items=8) | {"ids": ItemIds.from_list(numbers)})
    folders = map(str, (WASM, tmp_path / "bundle", tmp_path / "numbers"))
    completed = subprocess.run(
        ["node", str(Path(__file__).with_name("calls.mjs")), *folders], capture_output=True, text=True, check=False
    )
    assert completed.returncode == 0, completed.stderr
    texts, large = map(json.loads, completed.stdout.splitlines())
    assert texts == Recommender.load(tmp_path / "bundle").recommend(["é-1"], 8).items
    assert large == [str(item) for item in Recommender.load(tmp_path / "numbers").recommend([2**60 + 1], 8).items]


def _lines(command: list[str], asked: str, **options: object) -> list[dict[str, object]]:
    completed = subprocess.run(  # type: ignore[call-overload]
        command, input=asked, capture_output=True, text=True, timeout=300, cwd=ROOT, check=False, **options
    )
    assert completed.returncode == 0, completed.stderr
    return [json.loads(line) for line in completed.stdout.splitlines()]


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
