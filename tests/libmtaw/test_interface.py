"""The C interface: its symbols, needs and size; a program in C; files and settings."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from ctypes import CFUNCTYPE, POINTER, Structure, c_char_p, c_int, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtaw_fast import __version__
from mtaw_fast.cli import main
from mtaw_fast.cli.config import header_file, library_file
from mtaw_fast.recommender import Recommender
from mtaw_fast.storage.tensor_file import map_tensors
from tests.libmtaw.test_answers import saved
from tests.support.cache import ROOT
from tests.support.libmtaw import BUNDLE, USAGE, CallError, Client, library
from tests.support.random_bundle import edit_manifest, replace_part

FOLDER = ROOT / "libmtaw"


def printed(*command: Any, env: Mapping[str, str] | None = None, cwd: Path = ROOT) -> str:
    completed = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, env=env, cwd=cwd)
    assert completed.returncode == 0, completed.stdout + completed.stderr
    return completed.stdout


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("interface") / "bundle", "withheld")


def test_only_the_listed_symbols_are_exported() -> None:
    names = [line.split()[-1] for line in printed("nm", "-D", "--defined-only", library_file()).splitlines()]
    listed = (FOLDER / "symbols.txt").read_text().split()
    assert sorted(names) == listed, "a change of the interface is also one of libmtaw/symbols.txt"
    declared = re.findall(r"MTAW_API [^;(]*?(mtaw_\w+)\(", header_file().read_text())
    assert sorted(declared) == listed


def test_it_needs_the_system_alone_and_is_small(tmp_path: Path) -> None:
    needed = re.findall(r"NEEDED.*\[(.*)\]", printed("readelf", "-d", library_file()))
    assert {name.split(".so")[0] for name in needed} <= {
        "libstdc++",
        "libm",
        "libgcc_s",
        "libc",
        "libpthread",
        "ld-linux-x86-64",
    }
    printed("strip", "-o", tmp_path / "stripped.so", library_file())
    assert (tmp_path / "stripped.so").stat().st_size <= 1_500_000


def test_versions_agree() -> None:
    abi = library().mtaw_abi()
    assert f"#define MTAW_ABI {abi}\n" in header_file().read_text()
    assert f"SONAME: [libmtaw.so.{abi}]" in printed("readelf", "-d", library_file()).replace("Library soname", "SONAME")
    assert f'#define MTAW_VERSION "{__version__}"' in header_file().read_text()
    assert library().mtaw_version().decode() == __version__
    assert library().mtaw_instruction_set() is not None


@pytest.mark.parametrize("compiler", [["gcc", "-std=c99"], ["g++", "-std=c++17", "-x", "c++"]])
def test_a_program_makes_every_call(
    compiler: list[str], bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if shutil.which(compiler[0]) is None:
        pytest.skip(f"there is no {compiler[0]}")
    source = Path(__file__).parent / "calls.c"
    strict = ["-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-D_POSIX_C_SOURCE=200809L"]
    if compiler[0] == "g++":  # the header alone, as C++ reads it
        (tmp_path / "header.cpp").write_text(
            '#include <mtaw.h>\nint main() { mtaw_id id = MTAW_TEXT("x"); return id.value == -1 ? 0 : 1; }\n'
        )
        source = tmp_path / "header.cpp"
    assert main(["config", "--cflags", "--libs"]) == 0
    flags = shlex.split(capsys.readouterr().out)
    printed(*compiler, *strict, source, "-x", "none", *flags, "-o", tmp_path / "program")
    lines = printed(tmp_path / "program", bundle, tmp_path / "log").splitlines()
    if compiler[0] == "g++":
        return
    assert lines[-1] == "ok"
    expected = Recommender.load(bundle).recommend(["sku-1", "sku-2"])
    assert [line.split()[0] for line in lines[:-1]] == expected.items


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_the_first_program_of_the_page_runs(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs" / "c-api.md").read_text()
    (tmp_path / "shop.c").write_text(page.partition("```c\n")[2].partition("```")[0])
    assert main(["config", "--cflags", "--libs"]) == 0
    flags = shlex.split(capsys.readouterr().out)
    printed("gcc", "-Wall", "-Wextra", "-Werror", tmp_path / "shop.c", *flags, "-o", tmp_path / "shop")
    completed = subprocess.run([tmp_path / "shop"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (completed.returncode, len(completed.stderr.splitlines())) == (1, 1)  # there is no bundle yet
    shutil.copytree(bundle, tmp_path / "shop.bundle")
    lines = [line.split() for line in printed(tmp_path / "shop", cwd=tmp_path).splitlines()]
    expected = Recommender.load(bundle).recommend(["sku-9", "sku-4"])
    assert lines == [[item, f"{score:.6f}"] for item, score in zip(expected.items, expected.scores, strict=True)]


_PROGRAM = "#include <mtaw.h>\n#include <stdio.h>\nint main(void) { return puts(mtaw_version()) < 0; }\n"
_CMAKE = """cmake_minimum_required(VERSION 3.20)
project(shop C)
find_package(mtaw 0.2 CONFIG REQUIRED)
add_executable(shop shop.c)
target_link_libraries(shop mtaw::mtaw)
"""


def test_pkg_config_finds_it(tmp_path: Path) -> None:
    if shutil.which("pkg-config") is None or shutil.which("gcc") is None:
        pytest.skip("there is no pkg-config, or no gcc")
    environment = os.environ | {"PKG_CONFIG_PATH": str(library_file().parent / "pkgconfig")}
    flags = printed("pkg-config", "--cflags", "--libs", "mtaw", env=environment).split()
    (tmp_path / "shop.c").write_text(_PROGRAM)
    printed("gcc", tmp_path / "shop.c", *flags, "-o", tmp_path / "shop")
    assert printed(tmp_path / "shop").strip() == __version__


@pytest.mark.slow
def test_cmake_finds_it(tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if cmake is None or shutil.which("gcc") is None or shutil.which("make") is None:
        pytest.skip("there is no cmake, make or gcc")
    (tmp_path / "shop.c").write_text(_PROGRAM)
    (tmp_path / "CMakeLists.txt").write_text(_CMAKE)
    option = f"-Dmtaw_DIR={library_file().parent / 'cmake' / 'mtaw'}"
    printed(cmake, "-G", "Unix Makefiles", "-S", tmp_path, "-B", tmp_path / "build", option)
    printed(cmake, "--build", tmp_path / "build")
    assert printed(tmp_path / "build" / "shop").strip() == __version__


def test_config_says_what_to_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "--library"]) == 0
    assert capsys.readouterr().out == f"{library_file()}\n"
    assert main(["config"]) == 2
    assert "--cflags" in capsys.readouterr().err


class FileMethods(Structure):
    _fields_ = (
        ("struct_size", c_size_t), ("context", c_void_p),
        ("open", CFUNCTYPE(c_int, c_void_p, c_char_p, POINTER(c_void_p), POINTER(c_uint64))),
        ("read", CFUNCTYPE(c_int, c_void_p, c_void_p, c_uint64, c_void_p, c_size_t)),
        ("map", c_void_p), ("close", CFUNCTYPE(None, c_void_p, c_void_p)),
    )  # fmt: skip


def test_files_come_from_the_caller(bundle: Path) -> None:
    content = {f"shop/{path.name}".encode(): path.read_bytes() for path in bundle.iterdir()}
    files: list[bytes] = []
    closed = []

    def open_file(_: Any, path: bytes, file: Any, size: Any) -> int:
        if path not in content:
            return errno.ENOENT
        files.append(content[path])
        file[0], size[0] = len(files), len(content[path])
        return 0

    def read_file(_: Any, file: int, offset: int, buffer: int, size: int) -> int:
        ctypes.memmove(buffer, files[file - 1][offset : offset + size], size)
        return 0

    kinds: dict[str, Any] = dict(FileMethods._fields_)
    methods = FileMethods(
        ctypes.sizeof(FileMethods), None, kinds["open"](open_file), kinds["read"](read_file), None,
        kinds["close"](lambda _, file: closed.append(file)),
    )  # fmt: skip
    with Client("shop", files=methods) as client:
        session = ["sku-4", "sku-9"]
        assert client.recommend(session, 9).equals(Recommender.load(bundle).recommend(session, 9), session)
    assert sorted(closed) == list(range(1, len(files) + 1))
    del content[b"shop/manifest.json"]
    with pytest.raises(CallError, match=r"shop/manifest\.json does not exist") as refused:
        Client("shop", files=methods)
    assert refused.value.status == BUNDLE


@pytest.mark.parametrize("kind", ["memory", "times"])
def test_a_ranker_of_other_features_is_refused(tmp_path: Path, kind: str) -> None:
    folder = saved(tmp_path / "bundle", kind)
    arrays = {name: array.copy() for name, array in map_tensors(next(folder.glob("ranker-*"))).items()}
    names = arrays["features"].tobytes().replace(b"\nsecond\n", b"\nsecond\nknn\nknn_fresh\n")
    replace_part(folder, "ranker", {**arrays, "features": np.frombuffer(names, np.uint8)})
    with pytest.raises(
        CallError, match=r"ranker-\w+\.safetensors: its features are not this release's; retrain the bundle$"
    ):
        Client(folder)


def test_a_wrong_instruction_set_is_no_fault_of_the_bundle(bundle: Path) -> None:
    program = (
        "import sys; from tests.support.libmtaw import CallError, Client\n"
        "try: Client(sys.argv[1])\n"
        "except CallError as error: print(error.status, error)"
    )
    output = printed(sys.executable, "-c", program, bundle, env=os.environ | {"MTAW_ISA": "mmx"})
    assert output.startswith(f"{USAGE} there is no instruction set 'mmx'")


def test_a_manifest_has_a_largest_size(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    edit_manifest(tmp_path / "bundle", lambda manifest: manifest.update(note="x" * (1 << 20)))
    with pytest.raises(CallError, match=r"manifest.json has [0-9,]+ bytes, a manifest at most 1,048,576") as refused:
        Client(tmp_path / "bundle")
    assert refused.value.status == BUNDLE


def test_of_members_with_one_name_the_last_counts(bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "bundle")
    path = tmp_path / "bundle" / "manifest.json"
    with Client(bundle) as client:
        version = client.info().version
    members = ", ".join(f'"n_items": {number}' for number in range(1000))
    path.write_text(f"{{{members}, {path.read_text().lstrip()[1:]}")
    with Client(tmp_path / "bundle") as client:
        assert client.info().version == version


@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
@pytest.mark.parametrize("name", ["no_memory", "cancel"])
def test_calls_that_end_early_leave_nothing_open_or_marked(name: str, bundle: Path, tmp_path: Path) -> None:
    """Without memory, or in a thread that is to be canceled after its call."""
    library_folder, header = library_file().parent, header_file().parent
    flags = ["-pthread", f"-I{header}", f"-L{library_folder}", f"-Wl,-rpath,{library_folder}", "-lmtaw"]
    printed("gcc", Path(__file__).parent / f"{name}.c", *flags, "-o", tmp_path / "program")
    timed = [saved(tmp_path / "timed", "context")] if name == "no_memory" else []
    assert printed(tmp_path / "program", bundle, tmp_path / "log", *timed) == "ok\n"
    stored = (tmp_path / "log" / "events-0000000000.log").read_text()
    assert stored.count('"item"') == 1, "an append that ended with MTAW_NO_MEMORY stored its event"
