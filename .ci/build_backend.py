"""The build backend: scikit-build-core, after a look for the compiler, so that a missing one is one line.

pip builds in the quiet; `pip install -v` shows each file as it is compiled.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from typing import Any

from scikit_build_core import build as _builder
from scikit_build_core.build import (  # what PEP 517 and PEP 660 ask for
    build_sdist,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

COMPILERS = ("c++", "CC", "g++", "clang++")  # what CMake looks for, of those that can build this
NO_COMPILER = (
    "mtaw-fast is built from C++ here and found no compiler{tried}: install GCC 11 or Clang 14 or newer "
    "(Debian, Ubuntu: apt-get install g++; Fedora: dnf install gcc-c++), name one in CXX, or install a ready wheel"
)


def build_wheel(*arguments: Any, **named: Any) -> str:
    """As scikit-build-core does, where there is a compiler."""
    _look_for_a_compiler()
    return _builder.build_wheel(*arguments, **named)


def build_editable(*arguments: Any, **named: Any) -> str:
    """As scikit-build-core does, where there is a compiler."""
    _look_for_a_compiler()
    return _builder.build_editable(*arguments, **named)


def _look_for_a_compiler() -> None:
    settings = os.environ.get("CMAKE_ARGS", "") + os.environ.get("SKBUILD_CMAKE_ARGS", "")
    if "CMAKE_CXX_COMPILER" in settings or "CMAKE_TOOLCHAIN_FILE" in settings or "CMAKE_TOOLCHAIN_FILE" in os.environ:
        return
    command = shlex.split(os.environ.get("CXX", ""))
    if not any(shutil.which(name) for name in (command[:1] or COMPILERS)):
        sys.exit(NO_COMPILER.format(tried=f" (CXX is '{command[0]}')" if command else ""))
