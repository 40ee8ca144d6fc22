"""`mtaw-fast config`: where the C library and its header are, as compilers take it."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import Any

from mtaw_fast.cli.common import add_command
from mtaw_fast.errors import UsageError
from mtaw_fast.kernels.native import _native


def add_to(commands: Any) -> None:
    """Add the command to the parser."""
    parser = add_command(commands, "config", run, "mtaw-fast config --cflags --libs    # cc shop.c $(..) -o shop")
    parser.add_argument("--cflags", action="store_true", help="print the flags of the compiler")
    parser.add_argument("--libs", action="store_true", help="print the flags of the linker")
    parser.add_argument("--library", action="store_true", help="print the path of the library, for dlopen and clients")


def run(arguments: argparse.Namespace) -> None:
    """Print how to compile a C program with libmtaw, which this package contains."""
    words = []
    if arguments.cflags:
        words.append(f"-I{shlex.quote(str(header_file().parent))}")
    if arguments.libs:
        folder = shlex.quote(str(library_file().parent))
        words.append(f"-L{folder} -Wl,-rpath,{folder} -lmtaw")
    if arguments.library:
        words.append(str(library_file()))
    if not words:
        raise UsageError("config: say what to print: --cflags, --libs or --library")
    print(" ".join(words))


def header_file() -> Path:
    """Return the path of mtaw.h. Raises UsageError if it is not installed."""
    return _installed("include", "mtaw.h")


def library_file() -> Path:
    """Return the path of libmtaw. Raises UsageError if it is not installed."""
    return _installed("lib", "libmtaw.so.1")


def _installed(folder: str, name: str) -> Path:
    path = Path(_native.__file__).resolve().parents[2] / folder / name
    if not path.exists():
        raise UsageError(f"{path} is missing; install mtaw-fast again")
    return path
